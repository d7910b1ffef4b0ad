"""The neighbour list on the device: every pair once, in an order that its history cannot change, and no pair lost without a word.

Lengths are in units of the cutoff, or nearly so.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.graph import Structure
from eqpot.graph.cell_list import Box, Grid, covers, edges, search

from .edge_lists import SLOTS, both, distances, heights, listed, of_vesin, padded, random_structure, suitable, summed

WIDE = Grid((1, 1, 1), (2, 2, 2), per_bin=40, slots=SLOTS[40])
"""A grid that serves all random structures of up to 40 atoms."""
CUTOFF, RADIUS = 1.0, 1.2
listing = jax.jit(search, static_argnames="grid")
near = jax.jit(edges, static_argnames="slots")
covered = jax.jit(covers)


@pytest.fixture(autouse=True)
def double():
    """Positions in float64, as in dynamics."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(k, marks=pytest.mark.slow) for k in range(3, 10))])
@pytest.mark.parametrize("size", [4, 40])
def test_every_edge_of_random_structures(size, seed):
    """2,000 structures in all, against a sum over images and against vesin, in order."""
    rng, n_edges = np.random.default_rng([size, seed]), 0
    for _ in range(100):
        structure, cutoff = random_structure(rng, size), rng.uniform(0.8, CUTOFF)
        grid = suitable(rng, structure, size, RADIUS)
        candidates, table = both(*padded(structure, size), cutoff, RADIUS, grid=grid, slots=SLOTS[size])
        assert (np.asarray(candidates.needs) <= [size, SLOTS[size], 0]).all()
        expected = summed(structure, cutoff)
        np.testing.assert_array_equal(listed(structure, table), expected)
        np.testing.assert_array_equal(of_vesin(structure, cutoff), expected)
        assert int(table.needed) == max(np.bincount(expected[:, 0]), default=0)
        if len(expected):
            assert float(table.nearest) == pytest.approx(distances(structure, expected).min(), abs=1e-8)
        n_edges += len(expected)
    assert n_edges > 10 * size + 500


def test_float32_finds_the_same_edges():
    """Of atoms where float32 has them; pairs so near to the cutoff that rounding decides are avoided."""
    rng, compared = np.random.default_rng(7), 0
    while compared < 100:
        drawn = random_structure(rng, 40)
        positions, cell, pbc, real = padded(drawn, 40, np.float32)
        structure = Structure(drawn.numbers, positions[real].astype(float), np.where(pbc[:, None], cell, drawn.cell).astype(float), pbc)
        lengths = distances(structure, summed(structure, RADIUS + 0.01))
        if np.ptp(structure.positions, axis=0).max() > 100 or (np.abs(lengths - CUTOFF) < 1e-4).any():
            continue
        table = both(positions, cell, pbc, real, np.float32(CUTOFF), np.float32(RADIUS), grid=WIDE, slots=SLOTS[40])[1]
        assert table.positions.dtype == np.float32
        np.testing.assert_array_equal(listed(structure, table), summed(structure, CUTOFF))
        compared += 1


def test_when_the_list_was_made_cannot_be_seen():
    """Atoms move within the skin, over the faces of the cell, while the cell is strained: the edges are the same to the last bit."""
    rng, crossed = np.random.default_rng(11), 0
    for _ in range(100):
        structure = random_structure(rng, 40)
        positions, cell, pbc, real = padded(structure, 40)
        deform = np.eye(3) + rng.uniform(-0.003, 0.003, (3, 3))
        moves = rng.normal(size=positions.shape)
        moves *= 0.08 * rng.random((40, 1)) / np.linalg.norm(moves, axis=1)[:, None]
        then, now = (positions, cell), ((positions + moves) @ deform, cell @ deform)
        old, new = (listing(r, Box(c, pbc), real, RADIUS, grid=WIDE) for r, c in (then, now))
        assert bool(covered(old, *now, CUTOFF))
        tables = [near(c, now[0], Box(now[1], pbc), real, CUTOFF, slots=SLOTS[40]) for c in (old, new)]
        jax.tree.map(np.testing.assert_array_equal, *tables)
        crossed += (np.floor(then[0] @ np.linalg.inv(then[1])) != np.floor(now[0] @ np.linalg.inv(now[1])))[real][:, pbc].any()
    assert crossed > 20


def _approach(rng, structure):
    """Positions and cell with a pair just outside of the list, and with the same pair brought nearer by its atoms and by the cell, to about the cutoff."""
    positions, cell, pbc, _ = padded(structure, 40)
    rows = summed(structure, 1.3 * RADIUS)
    beyond = rows[distances(structure, rows) >= RADIUS]
    if not len(beyond):
        return None
    i, j, *image = beyond[np.argmin(distances(structure, beyond))]
    vector = positions[j] + image @ cell - positions[i]
    length = np.linalg.norm(vector)
    scale, along = RADIUS * (1 + 1e-9) / length, vector / length
    then = (positions * scale, cell * scale)
    share = rng.choice([0.0, 0.5, 1.0])
    strain = -share * rng.uniform(0.8, 1.2) * (1 - CUTOFF / RADIUS) * np.outer(along, along)
    moves = np.zeros_like(positions)
    moves[[i, j]] += (1 - share) * rng.uniform(0.8, 1.2) * (RADIUS - CUTOFF) / 2 * np.array([along, -along])
    now = (then[0] @ (np.eye(3) + strain) + moves, then[1] @ (np.eye(3) + strain))
    fits = (~pbc | (2 * heights(then[1]) >= RADIUS)).all() and (~pbc | (2 * heights(now[1]) >= RADIUS)).all()
    return (then, now) if fits else None


def test_a_list_that_covers_has_every_edge():
    """The worst case: a pair that was just too far for the list comes straight to the cutoff, by moving, by strain of the cell, and by both."""
    rng, kept, lost = np.random.default_rng(13), 0, 0
    while kept + lost < 300:
        structure = random_structure(rng, 40)
        path = _approach(rng, structure)
        if path is None:
            continue
        (then, now), (_, _, pbc, real) = path, padded(structure, 40)
        old, new = (listing(r, Box(c, pbc), real, RADIUS, grid=WIDE) for r, c in (then, now))
        tables = [near(c, now[0], Box(now[1], pbc), real, CUTOFF, slots=SLOTS[40]) for c in (old, new)]
        complete = np.asarray(tables[0].mask).sum() == np.asarray(tables[1].mask).sum()
        covers_now = bool(covered(old, *now, CUTOFF))
        assert complete or not covers_now
        kept, lost = kept + covers_now, lost + (not complete)
    assert kept > 50
    assert lost > 50


def test_a_list_covers_small_motions_and_no_others():
    structure = Structure(np.ones(2), [[0.2, 0, 0], [1.5, 0, 0]], 4 * np.eye(3), True)
    positions, cell, pbc, real = padded(structure, 40)
    made = listing(positions, Box(cell, pbc), real, RADIUS, grid=WIDE)
    move = np.eye(40)[:, :1] * [1.0, 0, 0]
    assert bool(covered(made, positions, cell, CUTOFF))
    assert bool(covered(made, positions + 0.0999 * move, cell, CUTOFF))
    assert not bool(covered(made, positions + 0.1001 * move, cell, CUTOFF))
    for strain, fine in ((0.16, True), (0.17, False)):
        squeeze = np.diag([1 - strain, 1, 1])
        assert bool(covered(made, positions @ squeeze, cell @ squeeze, CUTOFF)) == fine
    assert not bool(covered(made, positions * np.where(move == 1, np.nan, 1), cell, CUTOFF))
    assert not bool(covered(made, positions, cell * np.nan, CUTOFF))


@pytest.mark.parametrize("room", [pytest.param((3, SLOTS[40], SLOTS[40]), marks=pytest.mark.slow), (40, 12, 8)], ids=["bins", "slots"])
def test_what_does_not_fit_is_always_said(room):
    """Of 2,000 lists more than 1,000 have too little room of some kind, or a reach too short: none is wrong and says that it fits."""
    per_bin, listed_slots, slots = room
    grid = Grid((2, 2, 2), (1, 1, 1) if per_bin == 3 else (2, 2, 2), per_bin, listed_slots)
    many = jax.jit(jax.vmap(partial(both, grid=grid, slots=slots), in_axes=(0, 0, 0, 0, None, None)))
    rng, wrong, kinds = np.random.default_rng(17), 0, np.zeros(4, int)
    for _ in range(10):
        structures = [random_structure(rng, 40) for _ in range(100)]
        results = jax.device_get(many(*map(np.stack, zip(*(padded(s, 40) for s in structures), strict=True)), CUTOFF, RADIUS))
        for k, structure in enumerate(structures):
            candidates, table = jax.tree.map(lambda x, k=k: x[k], results)
            expected, listable = (of_vesin(structure, r) for r in (CUTOFF, RADIUS))
            short = np.append(candidates.needs > [per_bin, listed_slots, 0], table.needed > slots)
            right = np.array_equal(listed(structure, table), expected)
            assert right or short.any()
            if not short[[0, 2]].any():
                assert candidates.needs[1] == max(np.bincount(listable[:, 0]), default=0)
            if not short[:3].any():
                assert table.needed == max(np.bincount(expected[:, 0]), default=0)
            wrong, kinds = wrong + (not right), kinds + short * (short.sum() == 1)
    assert wrong > 500
    assert (kinds > 20).sum() == 2, kinds


def test_many_at_once_and_along_a_path():
    """Under vmap and scan each list is that of a call by itself."""
    rng = np.random.default_rng(19)
    structures = [random_structure(rng, 40) for _ in range(8)]
    arguments = [np.stack(a) for a in zip(*(padded(s, 40) for s in structures), strict=True)]
    alone = [both(*(a[k] for a in arguments), CUTOFF, RADIUS, grid=WIDE, slots=SLOTS[40])[1] for k in range(8)]
    function = partial(both, grid=WIDE, slots=SLOTS[40])
    together = jax.jit(jax.vmap(function, in_axes=(0, 0, 0, 0, None, None)))(*arguments, CUTOFF, RADIUS)[1]

    def step(carry, inputs):
        return carry, function(*inputs, CUTOFF, RADIUS)[1]

    scanned = jax.jit(lambda a: jax.lax.scan(step, 0, a)[1])(tuple(map(jnp.asarray, arguments)))
    for k, structure in enumerate(structures):
        for result in (together, scanned):
            table = jax.tree.map(lambda x, k=k: x[k], result)
            np.testing.assert_array_equal(table.mask, alone[k].mask)
            np.testing.assert_array_equal(listed(structure, table), listed(structure, alone[k]))


def test_padding_is_nobodys_neighbour():
    """Atoms that are not real change nothing, wherever they are."""
    structure = random_structure(np.random.default_rng(23), 40)
    assert 0 < len(structure) < 40
    positions, cell, pbc, real = padded(structure, 40)
    for place in (positions[0] + 0.1, 1e6, -3.0):
        moved = np.where(real[:, None], positions, place)
        table = both(moved, cell, pbc, real, CUTOFF, RADIUS, grid=WIDE, slots=SLOTS[40])[1]
        np.testing.assert_array_equal(table.mask[~real], False)
        np.testing.assert_array_equal(listed(structure, table), summed(structure, CUTOFF))
