"""The neighbour list against a sum over images that cannot be wrong."""

from itertools import product

import numpy as np
import pytest

from eqpot.core.errors import StructureError
from eqpot.graph import Structure, find_neighbors
from eqpot.graph.neighbors import complete_cell

MASKS = list(product([False, True], repeat=3))


def brute_force(positions, cell, pbc, cutoff):
    """Sorted (i, j, S) of every image within the cutoff of positions that lie within one cell of each other."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = np.where(pbc, np.ceil(cutoff / heights).astype(int) + 1, 0)
    images = np.array(list(product(*(range(-n, n + 1) for n in reach))))
    vectors = positions[None, None] - positions[None, :, None] + (images @ cell)[:, None, None]
    distances = np.linalg.norm(vectors, axis=-1)
    home = (images == 0).all(1)[:, None, None] & np.eye(len(positions), dtype=bool)
    s, i, j = np.nonzero((distances < cutoff) & ~home)
    return sorted(zip(i.tolist(), j.tolist(), map(tuple, images[s].tolist()), strict=True))


def assert_equal_to_brute_force(structure, cutoff):
    found = find_neighbors(structure, cutoff, min_distance=0.0)
    cell = complete_cell(structure.cell, structure.pbc)
    shift = (found.positions - structure.positions) @ np.linalg.inv(cell)
    np.testing.assert_allclose(shift[:, structure.pbc], np.round(shift[:, structure.pbc]), atol=1e-6)
    np.testing.assert_allclose(shift[:, ~structure.pbc], shift[:1, ~structure.pbc].repeat(len(shift), 0), atol=1e-6)
    edges = list(zip(found.receivers.tolist(), found.senders.tolist(), map(tuple, found.shifts.tolist()), strict=True))
    assert edges == sorted(edges)
    assert edges == brute_force(found.positions, cell, structure.pbc, cutoff)
    assert not found.shifts[:, ~structure.pbc].any()
    return found


def random_cell(rng, shortest, narrowest):
    """Lattice vectors of random lengths, none closer to the plane of the others than `narrowest` degrees; either hand."""
    while True:
        vectors = rng.normal(size=(3, 3))
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        inverse = np.linalg.norm(np.linalg.inv(vectors), axis=0) if abs(np.linalg.det(vectors)) > 1e-3 else np.array([99.0])
        if (1 / inverse > np.sin(np.radians(narrowest))).all():
            return vectors * rng.uniform(shortest, 2.0, size=(3, 1))


@pytest.mark.parametrize("seed", range(8))
def test_random_cells(seed):
    rng = np.random.default_rng(seed)
    for k in range(45):
        extreme = k % 9 == 0
        cell = random_cell(rng, 0.3 if extreme else 0.6, 15 if extreme else 35)
        n = int(rng.integers(1, 4 if extreme else 7))
        positions = rng.uniform(-3, 3, size=(n, 3)) @ cell + rng.normal(size=3) * rng.choice([0, 1, 100])
        assert_equal_to_brute_force(Structure(np.ones(n), positions, cell, MASKS[k % 8]), 1.0)


FCC = 0.5 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
BCC = 0.5 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])


@pytest.mark.parametrize("cutoff", [0.72, 1.3, 2.6, 3.7])
@pytest.mark.parametrize("name", ["fcc", "bcc", "diamond", "sc"])
def test_primitive_cells_and_cutoffs_of_several_lattice_constants(name, cutoff):
    cell = {"fcc": FCC, "bcc": BCC, "diamond": FCC, "sc": np.eye(3)}[name]
    positions = [[0, 0, 0], [0.25, 0.25, 0.25]] if name == "diamond" else [[0, 0, 0]]
    for hand in (cell, -cell, cell[[1, 0, 2]]):
        found = assert_equal_to_brute_force(Structure(np.ones(len(positions)), positions, hand, True), cutoff)
        if cutoff == 0.72 and name in ("fcc", "bcc"):
            assert found.max_count == {"fcc": 12, "bcc": 0}[name] or name == "bcc"


def test_coordination_numbers():
    assert find_neighbors(Structure([1], [[0, 0, 0]], 4 * FCC, True), 4 * 0.75).max_count == 12
    assert find_neighbors(Structure([1], [[0, 0, 0]], 4 * BCC, True), 4 * 0.9).max_count == 8
    assert find_neighbors(Structure([1, 1], [[0, 0, 0], [1, 1, 1]], 4 * FCC, True), 4 * 0.5).max_count == 4
    assert find_neighbors(Structure([1], [[0, 0, 0]], np.eye(3) * 3, True), 3.1).max_count == 6


@pytest.mark.parametrize("pbc", MASKS)
def test_rows_of_nonperiodic_directions_are_ignored(pbc):
    rng = np.random.default_rng(1)
    cell, positions = np.array([[2.0, 0.3, 0], [-0.4, 2.2, 0.1], [0.2, 0.5, 2.5]]), rng.uniform(-2, 4, size=(5, 3))
    pbc = np.array(pbc)
    expected = assert_equal_to_brute_force(Structure(np.ones(5), positions, cell, pbc), 2.1)
    for nonsense in (0.0, 9.0, 1e-9, np.nan):
        other = np.where(pbc[:, None], cell, nonsense)
        found = find_neighbors(Structure(np.ones(5), positions, other, pbc), 2.1, min_distance=0.0)
        for a, b in ((found.receivers, expected.receivers), (found.senders, expected.senders), (found.shifts, expected.shifts)):
            np.testing.assert_array_equal(a, b)


def test_one_atom_and_no_neighbour():
    for structure in (
        Structure([1], [[5e5, 0, 0]]),
        Structure([1], [[0, 0, 0]], 20 * np.eye(3), True),
        Structure([1, 1], [[0, 0, 0], [9, 0, 0]]),
    ):
        found = find_neighbors(structure, 5.0)
        assert found.max_count == 0
        assert found.shifts.shape == (0, 3)


def test_atoms_far_outside_the_cell_keep_their_distances():
    rng = np.random.default_rng(2)
    cell, positions = random_cell(rng, 0.8, 40), rng.random((4, 3))
    near = find_neighbors(Structure(np.ones(4), positions, cell, True), 1.5, min_distance=0.0)
    far = find_neighbors(Structure(np.ones(4), positions + rng.integers(-1000, 1000, (4, 3)) @ cell, cell, True), 1.5, min_distance=0.0)
    distances = [np.sort(np.linalg.norm(n.positions[n.senders] + n.shifts @ cell - n.positions[n.receivers], axis=1)) for n in (near, far)]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-9)


def test_molecules_are_centred_for_the_sake_of_float32():
    found = find_neighbors(Structure([1, 1], [[1e6, 0, 0], [1e6 + 1, 0, 0]]), 5.0)
    assert np.abs(found.positions).max() < 1


@pytest.mark.parametrize("distance", [0.0, 1e-9, 0.09])
def test_atoms_that_overlap_are_named(distance):
    with pytest.raises(StructureError, match=r"atoms [02] and [02] are .* Å apart .*expected at least 0.1 Å"):
        find_neighbors(Structure([1, 1, 1], [[0, 0, 0], [3, 0, 0], [0, 0, distance]]), 5.0)
    assert find_neighbors(Structure([1, 1], [[0, 0, 0], [0, 0, 0.11]]), 5.0).max_count == 1


def test_an_atom_doubled_by_a_lattice_vector_is_named():
    with pytest.raises(StructureError, match=r"atoms 0 and 1 are .* apart \(image"):
        find_neighbors(Structure([1, 1], [[0.2, 0, 0], [4.2, 0, 0]], 4 * np.eye(3), True), 3.0)


def test_a_pair_on_the_cutoff_is_outside_and_one_ulp_less_is_inside():
    for distance, expected in ((np.nextafter(3.0, 0), 1), (3.0, 0), (np.nextafter(3.0, 9), 0)):
        assert find_neighbors(Structure([1, 1], [[0, 0, -distance / 2], [0, 0, distance / 2]]), 3.0).max_count == expected


def test_a_long_chain_keeps_its_indices():
    n = 70_000
    found = find_neighbors(Structure(np.ones(n), np.arange(n)[:, None] * [1.0, 0, 0]), 1.5)
    assert (len(found.receivers), found.max_count) == (2 * (n - 1), 2)
    assert (np.abs(found.receivers - found.senders) == 1).all()
