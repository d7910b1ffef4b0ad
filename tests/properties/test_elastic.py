"""Elastic constants against second differences of the energy, and the relations that symmetry and pair forces demand."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.units import GPa
from morse import morse

from eqpot.core.errors import EqpotError
from eqpot.graph import Structure
from eqpot.md import relax
from eqpot.properties import elastic_constants


@pytest.fixture(scope="module")
def potential():
    return morse(members=3).astype("float64")


@pytest.fixture(scope="module")
def fcc(potential):
    return elastic_constants(potential, bulk("Cu", "fcc", a=3.7), force_tolerance=1e-4)


def relaxed_energy(potential, rest, deformation):
    """Of a strained cell in which the atoms have come to rest."""
    strained = Structure(rest.numbers, rest.positions @ deformation, rest.cell @ deformation, rest.pbc)
    return relax(potential, strained, force_tolerance=1e-6, precision="float64").energy


def second_difference(potential, rest, direction, h=2e-3):
    """∂²E/∂ε² / V [GPa]."""
    energies = [relaxed_energy(potential, rest, np.eye(3) + e * direction) for e in (-h, 0, h)]
    return (energies[0] - 2 * energies[1] + energies[2]) / h**2 / rest.volume / GPa


def test_stiffness_is_the_curvature_of_the_energy(potential, fcc):
    pull, shear = np.diag([1.0, 0, 0]), np.zeros((3, 3))
    shear[0, 1] = shear[1, 0] = 0.5
    assert fcc.stiffness_GPa[0, 0] == pytest.approx(second_difference(potential, fcc.structure, pull), rel=2e-3)
    assert fcc.stiffness_GPa[5, 5] == pytest.approx(second_difference(potential, fcc.structure, shear), rel=2e-3)
    assert fcc.bulk_modulus_GPa == pytest.approx(second_difference(potential, fcc.structure, np.eye(3)) / 9, rel=2e-3)


def test_a_cubic_crystal_of_pair_forces_has_two_constants(fcc):
    """Three by symmetry, and C12 = C44 (A.-L. Cauchy) because all forces are central and each atom is a centre of inversion."""
    c = fcc.stiffness_GPa
    expected = np.zeros((6, 6))
    expected[:3, :3] = c[0, 1]
    np.fill_diagonal(expected, [c[0, 0]] * 3 + [c[0, 1]] * 3)
    np.testing.assert_allclose(c, expected, atol=2e-3 * c[0, 0])
    assert fcc.asymmetry_GPa < 1e-3 * c[0, 0]
    assert fcc.stable and fcc.shear_modulus_GPa == pytest.approx((c[0, 0] - c[0, 1] + 3 * c[3, 3]) / 5, rel=5e-3)
    np.testing.assert_allclose(fcc.lattice, [fcc.lattice[0]] * 3 + [60.0] * 3, rtol=1e-4)


def test_atoms_that_do_not_come_to_rest_under_strain_are_an_error(potential):
    """In hcp they move within the strained cell: without steps to do so the constants would be those of clamped atoms, 30 % off."""
    rest = relax(
        potential, bulk("Cu", "hcp", a=2.62, c=4.28), cell="flexible", force_tolerance=1e-4, stress_tolerance_GPa=0.01, precision="float64"
    )
    assert rest.converged
    with pytest.raises(EqpotError, match="of 12 strained structures did not come to rest in 0 steps"):
        elastic_constants(potential, rest.atoms, force_tolerance=1e-4, max_steps=0)


@pytest.mark.slow
def test_atoms_follow_the_strain(potential):
    """In hcp they move within the cell; without that C66 would be too large, and would differ from (C11 − C12) / 2."""
    found = elastic_constants(potential, bulk("Cu", "hcp", a=2.62, c=4.28), force_tolerance=1e-4)
    c, shear = found.stiffness_GPa, np.zeros((3, 3))
    shear[0, 1] = shear[1, 0] = 0.5
    assert c[5, 5] == pytest.approx((c[0, 0] - c[0, 1]) / 2, rel=2e-3)
    assert c[5, 5] == pytest.approx(second_difference(potential, found.structure, shear), rel=2e-3)
    clamped = [s.positions for s in found.strained[-2:]]
    assert not np.allclose(clamped[0] - clamped[0][0], (clamped[1] - clamped[1][0]), atol=1e-3)


def test_members_rest_and_resist_each_in_its_own_way(potential, fcc):
    """Depths that differ by 2 % change the stiffness by as much, and here not the lattice; wells of other widths would."""
    depths = np.asarray(potential.params["depth"], float)
    np.testing.assert_allclose(fcc.stiffness_std_GPa[0, 0] / fcc.stiffness_GPa[0, 0], depths.std(ddof=1) / depths.mean(), rtol=1e-3)
    assert fcc.lattice_std.max() < 1e-5
    params = potential.params | {"distance": np.array([2.79, 2.8, 2.81])}
    wells = type(potential)(potential.spec, params, potential.reference_energies, dtype="float64")
    together = elastic_constants(wells, bulk("Cu", "fcc", a=3.7), force_tolerance=1e-4)
    options = {"cell": "flexible", "stress_tolerance_GPa": 0.01, "precision": "float64"}
    alone = [relax(wells.member(k), bulk("Cu", "fcc", a=3.7), **options).atoms.cell.lengths()[0] for k in range(3)]
    assert together.lattice_std[0] == pytest.approx(np.std(alone, ddof=1), rel=0.02)


@pytest.mark.slow
def test_pressure_makes_it_stiffer(potential, fcc):
    pressed = elastic_constants(potential, bulk("Cu", "fcc", a=3.7), pressure_GPa=10.0, force_tolerance=1e-4)
    assert pressed.structure.volume < fcc.structure.volume
    assert pressed.bulk_modulus_GPa > fcc.bulk_modulus_GPa


@pytest.mark.parametrize(
    ("atoms", "changes", "message"),
    [
        (molecule("H2O"), {}, "those of crystals"),
        (bulk("Cu"), {"strain": 0.2}, "expected a number between 0 and 0.1"),
        (bulk("Cu", a=3.0), {"max_steps": 1}, "did not come to rest in 1 steps"),
    ],
)
def test_what_has_no_elastic_constants(potential, atoms, changes, message):
    with pytest.raises(EqpotError, match=message):
        elastic_constants(potential, atoms, **changes)
