"""The ASE door: signs, order of the stress, and one calculator for everything."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.optimize import BFGS

from eqpot.core.errors import StructureError


@pytest.fixture(scope="module")
def double(potential):
    return potential.astype("float64")


@pytest.fixture(scope="module")
def diamond():
    atoms = bulk("C", cubic=False) * (1, 1, 2)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell[:] @ np.array([[1.02, 0.03, 0], [0, 0.99, 0.02], [0.01, 0, 1]]), scale_atoms=True)
    return atoms


def test_the_numbers_are_those_of_predict(potential, diamond):
    diamond.calc, r = potential.calculator(), potential.predict(diamond)
    assert diamond.get_potential_energy() == pytest.approx(r.energy, abs=1e-6)  # padded more finely than `predict` does
    np.testing.assert_allclose(diamond.get_forces(), r.forces, atol=1e-6)
    np.testing.assert_allclose(diamond.get_potential_energies(), r.atom_energies)
    for name in ("energy_std", "forces_std", "atom_std"):
        np.testing.assert_allclose(diamond.calc.results[name], getattr(r, name), atol=1e-6)


def test_stress_is_in_the_order_and_sign_of_ase(double, diamond):
    """ASE's own finite strain: σ = (1/V) ∂E/∂ε in Voigt order xx yy zz yz xz xy."""
    from ase.calculators.fd import calculate_numerical_stress

    diamond.calc = double.calculator()
    np.testing.assert_allclose(diamond.get_stress(), calculate_numerical_stress(diamond, eps=1e-5, voigt=True), atol=1e-8)


def test_forces_are_the_gradient(double, diamond):
    from ase.calculators.fd import calculate_numerical_forces

    diamond.calc = double.calculator()
    np.testing.assert_allclose(diamond.get_forces()[:1], calculate_numerical_forces(diamond, eps=1e-5, iatoms=[0]), atol=1e-7)


def test_pressure_has_the_sign_of_the_energy_slope(double):
    """Where energy falls with volume, the crystal pushes outward: negative stress."""
    energies = []
    for scale in (0.99, 1.0, 1.01):
        atoms = bulk("C")
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.calc = double.calculator()
        energies.append(atoms.get_potential_energy())
        if scale == 1.0:
            stress = atoms.get_stress()[:3].mean()
    assert np.sign(stress) == np.sign(energies[2] - energies[0])


def test_molecules_have_no_stress(potential):
    atoms = molecule("H2O")
    atoms.calc = potential.calculator()
    with pytest.raises(PropertyNotImplementedError, match="stress needs three periodic directions"):
        atoms.get_stress()
    assert np.isfinite(atoms.get_potential_energy())
    slab = Atoms("C2", [[0, 0, 0], [1.4, 0, 0]], cell=[2.5, 2.5, 0], pbc=(1, 1, 0))
    slab.calc = potential.calculator()
    slab.get_forces()
    with pytest.raises(PropertyNotImplementedError):
        slab.get_stress()


def test_one_calculator_for_changing_atoms(potential, diamond):
    calculator = potential.calculator()
    small = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    for atoms in (small, diamond.copy(), small, Atoms("HO", [[0, 0, 0], [0, 0, 0.8]])):
        atoms.calc = calculator
        r = potential.predict(atoms)
        assert atoms.get_potential_energy() == pytest.approx(r.energy, abs=1e-5)
        np.testing.assert_allclose(atoms.get_forces(), r.forces, atol=1e-5)


def test_a_cell_that_shrinks_to_half_gets_its_images(potential):
    atoms = Atoms("C2", [[0, 0, 0], [1.7, 1.7, 1.7]], cell=[3.6] * 3, pbc=True)
    atoms.calc = potential.calculator()
    wide = atoms.get_potential_energy()
    atoms.set_cell(atoms.cell * 0.5, scale_atoms=True)
    expected = potential.predict(atoms).energy
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-4)
    assert atoms.get_potential_energy() != wide


def test_periodicity_can_be_switched(potential):
    atoms = Atoms("C", cell=[2.5] * 3, pbc=True)
    atoms.calc = potential.calculator()
    periodic = atoms.get_potential_energy()
    atoms.pbc = False
    assert atoms.get_potential_energy() == potential.reference_energies[1]
    assert periodic != potential.reference_energies[1]


def test_bad_structures_are_named_and_do_no_harm(potential):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    atoms.calc = potential.calculator()
    energy = atoms.get_potential_energy()
    atoms.positions[1] = 0
    with pytest.raises(StructureError, match="atoms 0 and 1"):
        atoms.get_potential_energy()
    atoms.positions[1] = [0, 0, 0.8]
    assert atoms.get_potential_energy() == energy
    iron = Atoms("Fe")
    iron.calc = potential.calculator()
    with pytest.raises(StructureError, match="element Fe is unknown"):
        iron.get_potential_energy()


def test_ase_can_relax_with_it(double):
    atoms = Atoms("OH2", [[0, 0, 0], [0.9, 0.1, 0], [-0.3, 0.9, 0]])
    atoms.calc = double.calculator()
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=5)
    assert atoms.get_potential_energy() <= before
