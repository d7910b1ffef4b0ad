"""Pairs of atoms closer than a cutoff, on the host, for checks and statistics of data."""

from collections.abc import Sequence

import numpy as np

from eqpot.graph.structure import Frame, Structure


def pairs(structure: Structure, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All pairs within `cutoff` [Å], periodic images included: i, j, r_j − r_i [pairs, 3], distance [pairs].

    Every pair is given in both directions.
    """
    from vesin import NeighborList

    search = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    box = _completed(structure.cell, structure.pbc)
    i, j, vectors, distances = search.compute(structure.positions, box, structure.pbc, quantities="ijDd")
    return np.asarray(i, int), np.asarray(j, int), vectors, distances


def _completed(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with unit vectors for non-periodic directions, orthogonal to the periodic ones (vesin crashes on zero rows)."""
    if pbc.all() or not pbc.any():
        return cell
    _, _, rotation = np.linalg.svd(cell[pbc])
    full = np.array(cell)
    full[~pbc] = rotation[pbc.sum() :]
    return full


def sample(frames: Sequence[Frame], limit: int) -> list[Frame]:
    """At most `limit` frames, evenly spread over the sequence."""
    step = max(1, -(-len(frames) // limit))
    return list(frames[::step])
