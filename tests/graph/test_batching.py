"""Padding: in few shapes, and without a trace in the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.core.errors import EqpotError, StructureError
from eqpot.graph import Capacity, Structure, collate, prepare
from eqpot.graph.batching import GRID, best_slots, bucket, capacity_of, needed, round_up, species_index

ELEMENTS, CUTOFF = ("H", "O"), 3.0


@pytest.fixture(scope="module")
def hosts():
    rng = np.random.default_rng(0)
    crystal = Structure([8, 1, 1], [[0, 0, 0], [1, 0.2, 0], [0, 1.1, 1.9]], 3.0 * np.eye(3) + 0.3 * rng.normal(size=(3, 3)), True)
    slab = Structure([8, 8], [[0, 0, 0], [1, 1, 1]], [[3, 0, 0], [0, 3, 0], [7, 7, 7]], (True, True, False))
    return [prepare(s, ELEMENTS, CUTOFF) for s in (Structure([1, 8], [[0, 0, 0], [0, 0, 1]]), crystal, slab)]


def test_charge_head_and_origin_stand_with_their_structure():
    """Positions in the graph plus the origin are those given, for molecules; a crystal has no origin, and padding has nothing."""
    ion = Structure([1, 8], [[50.0, 3, -7], [50, 3, -6]], charge=-1)
    crystal = Structure([8], [[7.0, 0, 0]], 3 * np.eye(3), True, charge=2)
    graph = collate([prepare(ion, ELEMENTS, CUTOFF, head=1), prepare(crystal, ELEMENTS, CUTOFF)], Capacity(4, 8, 64), "float64")
    assert graph.charge.tolist() == [-1, 2, 0, 0]
    assert graph.head.tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(graph.positions[:2] + graph.origin[0], ion.positions, atol=1e-12)
    assert np.abs(graph.origin[0]).max() > 1
    assert not graph.origin[1:].any()


@pytest.mark.parametrize("capacity", [None, Capacity(3, 7, 200), Capacity(6, 40, 128)])
def test_every_edge_is_in_its_place(hosts, capacity):
    graph = collate(hosts, capacity, "float64")
    first = 0
    for g, host in enumerate(hosts):
        rows = slice(first, first + len(host))
        edges = host.neighbors
        images = edges.shifts @ np.where(host.structure.pbc[:, None], host.structure.cell, 0)
        expected = edges.positions[edges.senders] + images - edges.positions[edges.receivers]
        found = np.asarray(jax.device_get(_vectors(graph)))[rows][graph.edge_mask[rows]]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert (graph.graph_index[rows] == g).all()
        assert graph.atom_mask[rows].all()
        first += len(host)
    assert not graph.atom_mask[first:].any()
    assert not graph.edge_mask[first:].any()
    assert graph.graph_mask.sum() == len(hosts)
    assert graph.edge_mask.sum() == sum(len(h.neighbors.receivers) for h in hosts)
    assert (np.diff(graph.graph_index) >= 0).all()


def _vectors(graph):
    with jax.enable_x64(True):
        return jax.jit(lambda g: g.edge_vectors())(graph)


def test_dtypes(hosts):
    for dtype in ("float32", "float64"):
        graph = collate(hosts, dtype=dtype)
        assert graph.positions.dtype == graph.cell.dtype == dtype
        assert graph.neighbors.dtype == graph.shifts.dtype == graph.species.dtype == np.int32


def test_rows_of_nonperiodic_directions_do_not_reach_the_device(hosts):
    graph = collate(hosts)
    assert not graph.cell[0].any()
    assert not graph.cell[2, 2].any()
    assert graph.cell[2, :2].any()


@pytest.mark.parametrize("small", [Capacity(2, 100, 200), Capacity(3, 6, 200), Capacity(3, 100, 3)])
def test_a_capacity_that_is_too_small_is_an_error(hosts, small):
    with pytest.raises(EqpotError, match="does not fit the capacity"):
        collate(hosts, small)


def test_an_empty_batch_is_an_error():
    with pytest.raises(EqpotError, match="no structures"):
        collate([])


def test_the_rounding_grid():
    sizes = [round_up(n) for n in range(5000)]
    assert all(s >= n for n, s in enumerate(sizes))
    assert sizes == sorted(sizes)
    assert all(round_up(s) == s for s in set(sizes))
    assert all(s % 4 == 0 for s in sizes)
    assert all(s <= GRID * n + 8 for n, s in enumerate(sizes))
    assert len(set(sizes)) < 40


def test_capacity(hosts):
    exact = capacity_of(hosts, exact=True)
    assert exact == Capacity(3, 7, max(h.neighbors.max_count for h in hosts))
    assert capacity_of(hosts).fits(exact)
    assert not Capacity(3, 7, 1).fits(exact)
    assert capacity_of(hosts[:1]).neighbors == 4


def test_species():
    assert species_index(Structure([8, 1], [[0, 0, 0], [1, 0, 0]]), ELEMENTS).tolist() == [1, 0]
    with pytest.raises(StructureError, match="element C, N is unknown to this potential; it was trained on H, O"):
        species_index(Structure([7, 1, 6], np.eye(3)), ELEMENTS)
    with pytest.raises(StructureError, match="not a chemical element"):
        species_index(Structure([1], [[0, 0, 0]]), ("Hx",))


def test_one_compilation_per_bucket(hosts):
    count = jax.jit(lambda g: g.edge_vectors().sum())
    for chosen in (hosts, hosts[::-1], [hosts[1]] * 3):
        count(collate(chosen, Capacity(3, 16, 64)))
    assert count._cache_size() == 1
    count(collate(hosts, Capacity(3, 20, 64)))
    assert count._cache_size() == 2


def test_strain_moves_positions_cell_and_images_together(hosts):
    graph = collate(hosts, dtype="float64")
    strain = np.zeros((3, 3, 3))
    strain[1] = [[0.01, 0.02, 0], [0.02, -0.03, 0.005], [0, 0.005, 0.04]]
    with jax.enable_x64(True):
        before, after = graph.edge_vectors(), jax.jit(lambda g, e: g.strained(e).edge_vectors())(graph, strain)
    rows = graph.edge_mask & (graph.graph_index == 1)[:, None]
    np.testing.assert_allclose(np.asarray(after)[rows], np.asarray(before)[rows] @ (np.eye(3) + strain[1]), atol=1e-12)
    others = graph.edge_mask & (graph.graph_index != 1)[:, None]
    np.testing.assert_array_equal(np.asarray(after)[others], np.asarray(before)[others])


def test_sums_leave_padding_out(hosts):
    graph = collate(hosts, Capacity(5, 20, 64))
    sums = np.asarray(graph.sum_atoms(jnp.ones(20, jnp.float32)))
    assert sums.tolist() == [2, 3, 2, 0, 0]


def lopsided():
    """A dense crystal with far neighbours and many lone pairs of atoms beside it."""
    cluster = 2.0 * np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    pairs = np.concatenate([[[20.0 + 6 * k, 0, 0], [20.0 + 6 * k, 0, 1]] for k in range(30)])
    positions = np.concatenate([cluster, pairs])
    return prepare(Structure([8] * len(positions), positions), ELEMENTS, 4.1)


def edge_set(graph):
    """(receiver, sender, shift) of every edge."""
    rows, slots = np.nonzero(graph.edge_mask)
    receivers = rows if graph.receivers is None else graph.receivers[rows]
    return sorted(
        zip(receivers.tolist(), graph.neighbors[rows, slots].tolist(), map(tuple, graph.shifts[rows, slots].tolist()), strict=True)
    )


@pytest.mark.parametrize("slots", [1, 2, 7, 16, 500])
def test_rows_of_any_length_hold_the_same_edges(hosts, slots):
    """From a list of edges (one slot per row) to a row per atom."""
    dense, split = collate(hosts), collate(hosts, capacity_of(hosts, slots=slots))
    assert edge_set(split) == edge_set(dense)
    assert split.neighbors.shape[1] == slots
    assert (np.diff(split.receivers) >= 0).all()
    with jax.enable_x64(True):
        counts = jax.jit(lambda g: g.sum_rows(g.edge_mask.sum(1).astype(float)))(split)
    expected = np.concatenate([np.bincount(h.neighbors.receivers, minlength=len(h)) for h in hosts])
    np.testing.assert_array_equal(np.asarray(counts)[: len(expected)], expected)
    assert not np.asarray(counts)[len(expected) :].any()


def test_the_layout_follows_the_neighbours(hosts):
    """Equal numbers of neighbours: a row per atom. A few atoms with many more: short rows, and less room."""
    assert best_slots([hosts[0]]) is None
    host = lopsided()
    capacity = bucket([host])
    assert capacity.rows is not None
    assert capacity.rows * capacity.neighbors < len(host) * host.neighbors.max_count
    assert capacity.fits(needed([host], capacity))
    assert not capacity.fits(capacity_of([host], exact=True))  # another layout
    assert edge_set(collate([host], capacity)) == edge_set(collate([host]))


def test_no_structure_without_neighbours_is_lost():
    """A lone atom takes no row where rows are shared."""
    lone = prepare(Structure([8], [[0.0, 0, 0]]), ELEMENTS, CUTOFF)
    graph = collate([lone], Capacity(1, 2, 4, 3))
    assert not graph.edge_mask.any()
    assert graph.atom_mask.sum() == 1
