"""How far forces see, and effective charges, against differences and sums that must hold."""

import jax
import numpy as np
import pytest
from ase.build import bulk

from eqpot.core.errors import EqpotError, StructureError
from eqpot.graph import Structure
from eqpot.potential import Potential
from eqpot.properties import born_effective_charges, locality

LINE = Structure([6, 8, 1, 1, 6, 1], [[0, 0, 0], [1.3, 0.2, 0], [-0.6, 0.9, 0.1], [2.4, -0.4, 0.5], [3.6, 0.4, 0.2], [4.7, 0.1, -0.3]])


def potential_of(make_spec, draw, members=1, **changes):
    spec = make_spec(tiny=True, **changes)
    params = [draw(spec, k) for k in range(members)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *params)
    return Potential(spec, stacked, (0.0,) * len(spec.elements)).astype("float64")


def forces(potential, structure):
    return potential.predict(structure).forces


def moved(structure, atom, step):
    positions = structure.positions.copy()
    positions[atom] += step
    return Structure(structure.numbers, positions, structure.cell, structure.pbc, structure.charge)


@pytest.mark.slow
def test_the_response_is_that_of_differences_of_forces(make_spec, draw):
    potential = potential_of(make_spec, draw)
    found = locality(potential, LINE, of=[1])
    expected = []
    for j in (0, 2, 3, 4, 5):
        columns = [
            (forces(potential, moved(LINE, j, 1e-4 * np.eye(3)[k])) - forces(potential, moved(LINE, j, -1e-4 * np.eye(3)[k])))[1] / 2e-4
            for k in range(3)
        ]
        expected.append((np.linalg.norm(LINE.positions[j] - LINE.positions[1]), np.linalg.norm(columns)))
    np.testing.assert_allclose(np.stack([found.distance, found.response], -1), sorted(expected), rtol=1e-5, atol=1e-9)


def test_nothing_is_seen_beyond_the_range(make_spec, draw):
    potential = potential_of(make_spec, draw)
    far = Structure([6, 8, 6], [[0, 0, 0], [1.2, 0, 0], [2 * potential.receptive_field + 1, 0, 0]])
    found = locality(potential, far, of=[0])
    assert found.response[0] > 1e-6 and found.response[1] == 0
    assert found.radius(1e-12) == pytest.approx(1.2) and found.force_noise(1.3) == 0
    assert found.force_noise(1.0, 0.2) == pytest.approx(0.2 * found.response[0] / 3**0.5)


@pytest.mark.slow
def test_images_are_as_near_as_they_can_be(make_spec, draw):
    """Atoms of a crystal; responses to all of them, with its own, sum to zero because a shift of everything changes nothing."""
    potential = potential_of(make_spec, draw, elements=("Si",))
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=0)
    found = locality(potential, atoms, of=3)
    assert len(found.distance) == 21 and found.distance.max() < 5.5 * 3**0.5 / 2 and (np.diff(found.distance) >= 0).all()
    assert sum(len(bin) for bin in found.binned()) == 3 * len(found.binned())


def test_effective_charges_are_slopes_of_the_dipole(make_spec, draw):
    """And sum to the total charge; for a mean of two members."""
    potential = potential_of(make_spec, draw, members=2, charges=True)
    ion = Structure(LINE.numbers, LINE.positions, charge=1.0)
    found = born_effective_charges(potential, ion)
    np.testing.assert_allclose(found.sum(0), np.eye(3), atol=1e-8)
    for i in (0, 3):
        for k in range(3):
            ends = [potential.predict(moved(ion, i, sign * 1e-4 * np.eye(3)[k])).dipole for sign in (1, -1)]
            np.testing.assert_allclose(found[i, :, k], (ends[0] - ends[1]) / 2e-4, rtol=1e-5, atol=1e-8)


def test_effective_charges_of_a_crystal_do_not_depend_on_the_cell(make_spec, draw):
    """Each copy of an atom in a supercell has the same; and they sum to nothing."""
    potential = potential_of(make_spec, draw, elements=("Na", "Cl"), charges=True, n_layers=1)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 2, 2)
    atoms.positions[np.arange(len(atoms)) % 8 == 1] += 0.2
    found = born_effective_charges(potential, atoms)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-8)
    assert np.abs(found).max() > 1e-4
    np.testing.assert_allclose(found[:8], found[8:16], atol=1e-6)


def test_what_makes_no_sense_is_refused(make_spec, draw):
    potential = potential_of(make_spec, draw)
    with pytest.raises(EqpotError, match="need a model that says charges"):
        born_effective_charges(potential, LINE)
    with pytest.raises(StructureError, match="found 1 atom, expected two or more"):
        locality(potential, Structure([6], [[0, 0, 0]]))
    with pytest.raises(StructureError, match=r"found the atoms \[9\], expected some of 0 to 5"):
        locality(potential, LINE, of=[9])
