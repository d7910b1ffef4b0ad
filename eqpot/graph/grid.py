"""How large the grid of a neighbour search must be: chosen on the host, from structures as they are."""

import numpy as np

from eqpot.core.errors import StructureError
from eqpot.graph.batching import round_up
from eqpot.graph.cell_list import Grid
from eqpot.graph.neighbors import MIN_DISTANCE, complete_cell, find_neighbors
from eqpot.graph.structure import Structure

SLACK = 1.04
"""Bins are made this much wider than they must be, so that a cell may shrink a little before another grid is needed."""
FREE_BINS = 64
"""Bins that any system may have; beyond, no more than there are atoms, so that nothing is spent on empty space."""
GROWTH = 1.1
"""Room is given for this many times what is needed."""


def choose_grid(structures: list[Structure], radius: float, at_least: Grid | None = None) -> Grid:
    """A grid that serves each of the structures.

    Args:
        structures: checked, with atoms that do not overlap.
        radius: of the search [Å].
        at_least: a grid whose room for atoms and neighbours must not shrink.

    Raises:
        StructureError: when atoms overlap, naming them.
    """
    bins, reach = _bins(structures, radius)
    per_bin = max(_fullest(s, bins, radius) for s in structures)
    slots = max(find_neighbors(s, radius).max_count for s in structures)
    most = max(len(s) for s in structures)
    per_bin = most if bins == (1, 1, 1) else min(most, round_up(int(np.ceil(per_bin * GROWTH)), 2, 1.1))
    slots = round_up(int(np.ceil(slots * GROWTH)), ratio=1.1)
    if at_least:
        per_bin, slots = (max(a, b) for a, b in ((per_bin, at_least.per_bin), (slots, at_least.slots)))
    return Grid(bins, reach, per_bin, slots)


def require_apart(structure: Structure, cutoff: float) -> int:
    """Largest number of neighbours of any atom within the cutoff.

    Raises:
        StructureError: when atoms overlap, naming them.
    """
    return find_neighbors(structure, cutoff, MIN_DISTANCE).max_count


def _heights(structure: Structure) -> np.ndarray:
    """Distances between opposite faces of the completed cell [Å]."""
    return 1 / np.linalg.norm(np.linalg.inv(complete_cell(structure.cell, structure.pbc)), axis=0)


def _extents(structure: Structure) -> np.ndarray:
    """Length that the bins of each direction share [Å]: of the cell, or of the atoms where there is none."""
    cell = complete_cell(structure.cell, structure.pbc)
    inside = np.linalg.solve(cell.T, structure.positions.T).T
    return np.where(structure.pbc, 1.0, np.ptp(inside, axis=0)) * _heights(structure)


def _bins(structures: list[Structure], radius: float) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Number of bins, and how many to search on either side."""
    bins = np.min([np.maximum(1, _extents(s) / (SLACK * radius)) for s in structures], axis=0).astype(int)
    most = max(FREE_BINS, *(len(s) for s in structures))
    while bins.prod() > most:
        bins = np.maximum(1, (bins * 0.9).astype(int))
    round_the_cell = [np.ceil(bins * SLACK * radius / _heights(s) - 1e-9) for s in structures if s.pbc.any()]
    open_ = np.any([~s.pbc for s in structures], axis=0)
    reach = np.where(open_ & (bins > 1), 1, 0)
    for s, turns in zip([s for s in structures if s.pbc.any()], round_the_cell, strict=True):
        reach = np.maximum(reach, np.where(s.pbc, turns, 0))
    thinnest = min((h for s in structures for h in _heights(s)[s.pbc]), default=np.inf)
    if thinnest < radius / 100:
        raise StructureError(f"the cell is {thinnest:.3g} Å thin, expected at least a hundredth of {radius:g} Å")
    a, b, c = (int(n) for n in bins)
    x, y, z = (int(n) for n in reach)
    return (a, b, c), (x, y, z)


def _fullest(structure: Structure, bins: tuple[int, int, int], radius: float) -> int:
    """Atoms in the fullest bin, as the search on the device will count them."""
    inside = np.linalg.solve(complete_cell(structure.cell, structure.pbc).T, structure.positions.T).T
    low = np.where(structure.pbc, 0, inside.min(0))
    inside = np.where(structure.pbc, inside % 1, inside)
    width = np.where(structure.pbc, 1 / np.array(bins), np.maximum(np.ptp(inside, axis=0) / bins, radius / _heights(structure)))
    place = np.clip((inside - low) // width, 0, np.array(bins) - 1).astype(int)
    return int(np.unique(place, axis=0, return_counts=True)[1].max())
