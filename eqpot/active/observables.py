"""What a run measures on the way, with the statistical error that consecutive, correlated structures have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from eqpot.data.distances import pairs
from eqpot.graph.structure import Structure

Observable = dict[str, list[Any]]
"""'values' and their standard 'errors'; 'labels' where each has a name."""
REACH, BINS = 6.0, 30
"""Of the pair distribution [Å]."""
BLOCKS = 4
"""Parts of a series whose means are taken for independent."""
RESOLVED = {"lattice": 1e-4, "elastic constants": 5e-3}
"""Relative changes that relaxation and finite strains leave open: no error is smaller than that of the largest value."""
CONSTANTS = {
    "C11": (0, 0),
    "C22": (1, 1),
    "C33": (2, 2),
    "C44": (3, 3),
    "C55": (4, 4),
    "C66": (5, 5),
    "C12": (0, 1),
    "C13": (0, 2),
    "C23": (1, 2),
}


def series(runs: Sequence[Float[np.ndarray, "T *d"]]) -> Observable:
    """Mean over all runs and times and its standard error, from the scatter of block means (H. Flyvbjerg, H. G. Petersen, J. Chem. Phys. 91, 461 (1989))."""
    blocks = np.array([part.mean(0) for run in runs for part in np.array_split(run, BLOCKS) if len(part)])
    error = blocks.std(0, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else np.zeros_like(blocks[0])
    return {"values": np.round(np.atleast_1d(blocks.mean(0)), 6).tolist(), "errors": np.round(np.atleast_1d(error), 6).tolist()}


def pair_distribution(runs: Sequence[tuple[Any, Any, Structure]]) -> Observable:
    """g(r) of all pairs up to 6 Å in bins of 0.2 Å: pairs in a shell over those at the same density without any order.

    Where not all directions are periodic there is no density: then the number of neighbours per Å.

    Args:
        runs: positions [T, N, 3], cells [T, 3, 3], and the structure that they are of.
    """
    return series([np.array([_histogram(s, x, cell) for x, cell in zip(positions, cells, strict=True)]) for positions, cells, s in runs])


def stiffness(found: Any, members: int) -> dict[str, Observable]:
    """Lengths of the lattice [Å] and elastic constants [GPa], with the standard error of the mean of the members; nothing for a single one, which has none.

    Args:
        found: `eqpot.properties.ElasticConstants`.
        members: of the potential.
    """
    if members < 2:
        return {}
    i, j = np.transpose(list(CONSTANTS.values()))
    measured = {
        "lattice": (list("abc"), found.lattice[:3], found.lattice_std[:3]),
        "elastic constants": (list(CONSTANTS), found.stiffness_GPa[i, j], found.stiffness_std_GPa[i, j]),
    }
    return {
        name: {
            "values": np.round(values, 6).tolist(),
            "errors": np.round(np.maximum(std / np.sqrt(members), RESOLVED[name] * np.abs(values).max()), 6).tolist(),
            "labels": labels,
        }
        for name, (labels, values, std) in measured.items()
    }


def _histogram(structure: Structure, positions: np.ndarray, cell: np.ndarray) -> Float[np.ndarray, " B"]:
    now = Structure(structure.numbers, positions, cell, structure.pbc)
    distance = pairs(now, REACH)[-1]
    counts, edges = np.histogram(distance, BINS, (0, REACH))
    per_atom = counts / len(structure)
    if structure.pbc.all():
        return per_atom / (4 / 3 * np.pi * np.diff(edges**3) * len(structure) / now.volume)
    return per_atom / np.diff(edges)
