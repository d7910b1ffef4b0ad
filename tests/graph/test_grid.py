"""A grid chosen on the host has room for the structures it was chosen for, whatever they are, and not much more."""

import jax
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule

from eqpot.core.errors import StructureError
from eqpot.graph import Structure
from eqpot.graph.cell_list import Box, Grid, search
from eqpot.graph.grid import FREE_BINS, choose_grid

from .edge_lists import distances, of_vesin, padded, random_structure

listing = jax.jit(search, static_argnames="grid")
RADIUS = 6.0


@pytest.fixture(autouse=True)
def double():
    """Positions in float64, as in dynamics."""
    with jax.enable_x64(True):
        yield


def assert_serves(structures, grid, size=None):
    """The search with this grid has room, and finds every pair of each structure."""
    for structure in structures:
        positions, cell, pbc, real = padded(structure, size or len(structure))
        found = listing(positions, Box(cell, pbc), real, RADIUS, grid=grid)
        assert (np.asarray(found.needs) <= [grid.per_bin, grid.slots, 0]).all()
        receivers, slots = np.nonzero(np.asarray(found.senders) < len(positions))
        rows = np.column_stack([receivers, np.asarray(found.senders)[receivers, slots], np.asarray(found.images)[receivers, slots]])
        np.testing.assert_array_equal(rows, of_vesin(structure, RADIUS))
        assert distances(structure, rows).max(initial=0) < RADIUS


def drawn(seed):
    """A random structure of up to 40 atoms, none on top of each other, with lengths in Å."""
    rng = np.random.default_rng(seed)
    while True:
        small = random_structure(rng, 4 if seed % 3 == 0 else 40)
        structure = Structure(small.numbers, small.positions * 5, small.cell * 5, small.pbc)
        if distances(structure, of_vesin(structure, 1.0)).min(initial=9) > 0.1:
            return structure


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(k, marks=pytest.mark.slow) for k in range(5, 60))])
def test_room_for_random_structures(seed):
    structure = drawn(seed)
    assert_serves([structure], choose_grid([structure], RADIUS), 40)


WIRE = Structure(np.ones(3), [[0, 0, 0], [1, 0.5, 0], [0, 1, 1.5]], np.diag([0, 0, 2.5]), [False, False, True])
NAMED = {
    "primitive cell": bulk("Cu"),
    "left-handed primitive cell": bulk("Si"),
    "crystal": bulk("Cu", cubic=True) * 4,
    "slab": fcc111("Cu", (3, 3, 4), vacuum=8.0),
    "slab without a third vector": fcc111("Cu", (2, 2, 3)),
    "wire": WIRE.to_atoms(),
    "molecule": molecule("CH3CH2OH"),
    "atom": molecule("H"),
    "atom in a large cell": bulk("Cu", "sc", 500.0),
    "chain": Structure(np.ones(300), np.arange(300)[:, None] * [1.2, 0.3, 0]).to_atoms(),
}
NAMED["left-handed primitive cell"].cell = NAMED["left-handed primitive cell"].cell[[1, 0, 2]]


@pytest.mark.parametrize("name", NAMED)
def test_room_for(name):
    structure = Structure.from_atoms(NAMED[name])
    grid = choose_grid([structure], RADIUS)
    assert_serves([structure], grid)
    assert grid.slots <= 1.4 * max(10, np.bincount(of_vesin(structure, RADIUS)[:, 0], minlength=1).max())


def test_one_grid_for_unlike_systems():
    structures = [Structure.from_atoms(NAMED[name]) for name in ("primitive cell", "slab", "wire", "molecule", "crystal")]
    grid = choose_grid(structures, RADIUS)
    assert_serves(structures, grid, max(map(len, structures)))


def test_empty_space_costs_nothing():
    """Few atoms in a huge cell, or far apart, have no more bins than a small cell has."""
    for cell, positions in ((2000 * np.eye(3), [[0, 0, 0], [3, 0, 0]]), (np.zeros((3, 3)), [[0, 0, 0], [1e4, 1e4, 1e4]])):
        structure = Structure(np.ones(2), positions, cell, bool(cell.any()))
        grid = choose_grid([structure], RADIUS)
        assert np.prod(grid.bins) <= FREE_BINS
        assert_serves([structure], grid)


def test_work_for_an_atom_does_not_grow_with_the_crystal():
    def work(repeat):
        grid = choose_grid([Structure.from_atoms(bulk("Si", cubic=True) * repeat)], RADIUS)
        return np.prod(2 * np.array(grid.reach) + 1) * grid.per_bin, np.prod(grid.bins)

    (small, few), (large, many) = work(6), work(18)
    assert large < 1.5 * small
    assert many > 20 * few


def test_a_cell_that_is_too_thin():
    """Layers so near to each other that a sphere goes through hundreds; images as such would fit in the code of an image."""
    tall = np.array([[10.0, 0, 0], [0, 10.0, 0], [5.3, 4.7, 0.07]])
    structure = Structure([29], [[0, 0, 0]], tall, True)
    assert_serves([structure], choose_grid([structure], RADIUS))
    thin = Structure([29], [[0, 0, 0]], tall * [1, 1, 0.8], True)
    with pytest.raises(StructureError, match=r"the cell is 0.056 Å thin, expected at least a hundredth of 6 Å"):
        choose_grid([thin], RADIUS)


def test_room_does_not_shrink():
    structure = Structure.from_atoms(NAMED["molecule"])
    grown = choose_grid([structure], RADIUS, Grid((9, 9, 9), (9, 9, 9), per_bin=77, slots=99))
    assert (grown.per_bin, grown.slots) == (77, 99)
    assert grown.bins == choose_grid([structure], RADIUS).bins


def test_atoms_on_top_of_each_other_are_named():
    with pytest.raises(StructureError, match=r"atoms 0 and 1 are 0\.05 Å apart"):
        choose_grid([Structure([1, 1], [[0, 0, 0], [0.05, 0, 0]])], RADIUS)


def test_a_cell_that_shrinks_asks_for_another_grid():
    """The slack of the bins is used up by a twentieth; the list says so, and the next grid serves."""
    atoms = bulk("Cu", cubic=True) * 4
    grid = choose_grid([Structure.from_atoms(atoms)], RADIUS)
    needs = []
    for factor in (1.0, 0.97, 0.8):
        small = atoms.copy()
        small.set_cell(atoms.cell * factor, scale_atoms=True)
        structure = Structure.from_atoms(small)
        positions, cell, pbc, real = padded(structure, len(structure))
        needs.append(int(listing(positions, Box(cell, pbc), real, RADIUS, grid=grid).needs[2]))
    assert needs == [0, 0, 1]
    assert_serves([structure], choose_grid([structure], RADIUS, grid))
