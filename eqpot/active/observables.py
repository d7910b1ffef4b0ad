"""What a run measures on the way, with the statistical error that consecutive, correlated structures have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student

from eqpot.data.distances import pairs
from eqpot.graph.structure import Structure

Observable = dict[str, list[Any]]
"""'values' and their standard 'errors'; 'labels' where each has a name."""
REACH, BINS = 6.0, 30
"""Of the pair distribution [Å]."""
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
    """Mean over all runs and times, and its standard error where neighbours in time are alike.

    With n values of variance s² and g = 1 + 2 Σ_t (1 − t/T) ρ(t), summed to the first zero of the autocorrelation ρ of all components together, n/g are as
    good as independent, and the error is s √(g/n), times the quantile of Student's distribution that takes the place of one standard deviation:
    few of them may all lie on one side. Deviations from a mean of the same values make ρ too small by about g/n; that is added once.

    Reference: J. D. Chodera, W. C. Swope, J. W. Pitera, C. Seok, K. A. Dill, J. Chem. Theory Comput. 3, 26 (2007), section 2.4.
    """
    values = np.concatenate(runs)
    mean, n = values.mean(0), len(values)
    deviations = [run - mean for run in runs]
    square = np.mean((values - mean) ** 2)
    times = np.arange(1, longest) if (longest := max(map(len, runs))) > 1 and square > 0 else np.zeros(0, int)
    rho = np.array([np.concatenate([d[:-t] * d[t:] for d in deviations]).mean() for t in times]) / max(square, np.finfo(float).tiny)
    g, missing = 1.0, 0.0
    for _ in range(2):
        true = rho * (1 - missing) + missing
        until = np.argmax(true <= 0) if (true <= 0).any() else len(true)
        g = 1 + 2 * float(np.sum((1 - times[:until] / longest) * true[:until]))
        missing = min(g / n, 0.5)
    independent = max(n / g, 1.5)  # of fewer nothing can be said
    error = values.std(0) / np.sqrt(independent - 1) * student.ppf(norm.cdf(1), independent - 1)
    return {"values": np.round(np.atleast_1d(mean), 6).tolist(), "errors": np.round(np.atleast_1d(error), 6).tolist()}


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
