"""Random structures, and their edges in one form whoever found them: our lists on the device, vesin, or a sum over images."""

from functools import partial

import jax
import numpy as np

from eqpot.graph import Structure, find_neighbors
from eqpot.graph.cell_list import Box, Grid, edges, search
from eqpot.graph.neighbors import complete_cell

from .test_neighbors import MASKS, brute_force, random_cell

EPS = np.finfo(float).eps
SHAPES = {
    4: [((1, 1, 1), (4, 4, 4)), ((2, 2, 2), (4, 4, 4)), ((3, 3, 3), (4, 4, 4)), ((1, 2, 3), (4, 4, 4)), ((3, 1, 2), (2, 4, 4))],
    40: [((1, 1, 1), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((2, 3, 1), (1, 2, 2)), ((1, 1, 3), (2, 1, 2))],
}
"""Bins and reach of a few grids for each padded number of atoms, so that few programs are compiled."""
SLOTS = {4: 1200, 40: 480}


@partial(jax.jit, static_argnames=("grid", "slots"))
def both(positions, cell, pbc, real, cutoff, radius, grid, slots):
    """A list and its edges."""
    candidates = search(positions, Box(cell, pbc), real, radius, grid)
    return candidates, edges(candidates, positions, Box(cell, pbc), real, cutoff, slots)


def heights(cell):
    return 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def random_structure(rng, most):
    """At most so many atoms in a cell skewed to 15°, of either hand, 0.31 of the cutoff thin at least, with atoms far outside and on its faces."""
    cell = random_cell(rng, 1.0, 15)
    cell *= (rng.uniform(*((0.31, 1.3) if most == 4 else (0.62, 2.5)), 3) / heights(cell))[:, None]
    pbc = np.array(MASKS[rng.integers(8)])
    n_atoms = int(rng.integers(1, min(most, 30 * abs(np.linalg.det(cell))) + 1)) if most > 4 else int(rng.integers(1, 5))
    places = rng.random((n_atoms, 3)) + rng.choice([0, 0, 3, 5000]) * rng.integers(-1, 2, (n_atoms, 3)) * np.where(pbc, 1, 1e-3)
    if rng.random() < 0.3:
        places[:, rng.integers(3)] = rng.choice([0.0, 1.0, 1 - EPS / 2, -EPS, EPS], n_atoms)
    return Structure(np.ones(n_atoms), places @ cell + rng.choice([0.0, 20.0]) * rng.normal(size=3), cell, pbc)


def padded(structure, size, dtype=np.float64):
    """Arguments of `both` for a structure with so many atoms, the rest of which are nonsense."""
    positions = np.full((size, 3), 0.1)
    positions[: len(structure)] = structure.positions
    cell = complete_cell(structure.cell, structure.pbc)
    return positions.astype(dtype), cell.astype(dtype), structure.pbc, np.arange(size) < len(structure)


def suitable(rng, structure, size, radius):
    """One of the grids that reach far enough for a structure."""
    tall = heights(complete_cell(structure.cell, structure.pbc))
    fits = [(b, r) for b, r in SHAPES[size] if (~structure.pbc | (np.array(r) * tall >= np.array(b) * radius)).all()]
    return Grid(*fits[rng.integers(len(fits))], per_bin=size, slots=SLOTS[size])


def unfolded(structure, positions, senders, receivers, shifts):
    """Edges as (receiver, sender, image) between the atoms where they are, from images between atoms that were folded."""
    cell = complete_cell(structure.cell, structure.pbc)
    folds = np.where(structure.pbc, np.rint((structure.positions - positions) @ np.linalg.inv(cell)), 0).astype(int)
    images = shifts - folds[senders] + folds[receivers]
    return np.column_stack([receivers, senders, images])


def listed(structure, table):
    """Edges of a table in its order; their vectors must be those of the atoms."""
    mask, positions, n_atoms = np.asarray(table.mask), np.asarray(table.positions), len(structure)
    receivers, slots = np.nonzero(mask)
    senders, shifts = np.asarray(table.senders)[receivers, slots], np.asarray(table.shifts)[receivers, slots]
    assert max([*receivers, *senders, -1]) < n_atoms
    assert not np.asarray(table.shifts)[~mask].any()
    return unfolded(structure, positions[:n_atoms], senders, receivers, shifts)


def summed(structure, cutoff):
    """Edges by brute force, sorted."""
    cell = complete_cell(structure.cell, structure.pbc)
    folds = np.where(structure.pbc, np.floor(structure.positions @ np.linalg.inv(cell)), 0)
    positions = structure.positions - folds @ cell
    found = brute_force(positions, cell, structure.pbc, cutoff)
    i, j, shifts = (np.array([e[k] for e in found], int).reshape(len(found), *(3,) * (k == 2)) for k in range(3))
    rows = unfolded(structure, positions, j, i, shifts)
    return rows[np.lexsort(rows.T[::-1])]


def of_vesin(structure, cutoff):
    """Edges by the list on the host, sorted."""
    found = find_neighbors(structure, cutoff, min_distance=0.0)
    rows = unfolded(structure, found.positions, found.senders, found.receivers, found.shifts)
    return rows[np.lexsort(rows.T[::-1])]


def distances(structure, rows):
    """Length of each edge."""
    cell = complete_cell(structure.cell, structure.pbc)
    vectors = structure.positions[rows[:, 1]] + rows[:, 2:] @ cell - structure.positions[rows[:, 0]]
    return np.linalg.norm(vectors, axis=1)
