"""Scores of a predicted uncertainty against the errors that were made.

All take two arrays of the same length: the sizes of the errors (≥ 0) and the predicted σ, in the same unit. For vectors (forces), an error
is the length |ΔF| and σ the length √(σ_x² + σ_y² + σ_z²), so that ⟨|ΔF|²⟩ = σ² where the prediction is calibrated. Pairs in which either
number is not finite carry no information about the ranking and are left out; without enough pairs a score is NaN, never a guess.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from eqpot.core.errors import DataError

LEVELS = np.array([*np.arange(1, 20) / 20, 0.99])
"""Nominal coverages of `summarise`: 5 %, 10 %, … 95 %, 99 %."""


def spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Spearman's rank correlation: 1 when b grows whenever a does, 0 when they know nothing of each other.

    ρ = cov(rank a, rank b) / (std(rank a)·std(rank b)), where ties share their mean rank.

    Returns:
        ρ in [−1, 1]; NaN for fewer than two pairs, or when one of the arrays is constant.

    >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 100.0, 1000.0])), 12)
    1.0

    Reference: C. Spearman, Am. J. Psychol. 15, 72 (1904).
    """
    a, b = _pairs(a, b)
    if len(a) < 2:
        return float("nan")
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / norm, -1, 1)) if norm else float("nan")


def calibration_factor(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"]) -> float:
    """The factor that σ must be multiplied with: √⟨(error/σ)²⟩.

    It maximises the likelihood of zero-mean Gaussian errors of standard deviation factor·σ. Above one, the prediction is over-confident.
    Heavy tails weigh in: with M members and three components, errors drawn from the same Gaussian as the members give
    √(ν/(ν−2)) with ν = 3(M−1), 1.13 for four members, because σ itself is estimated from few.

    Returns:
        the factor; NaN without a pair of positive σ.

    Reference: P. Pernot, J. Chem. Phys. 156, 114109 (2022); M. H. Rasmussen et al., J. Cheminform. 15, 121 (2023).
    """
    errors, sigmas = _pairs(errors, sigmas, positive=True)
    return float(np.sqrt(np.mean((errors / sigmas) ** 2))) if len(errors) else float("nan")


def coverage(
    errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"], levels: Float[np.ndarray, " k"], dimensions: int = 3
) -> Float[np.ndarray, " k"]:
    """Share of errors inside the region that should hold the share `levels` of them.

    For a calibrated isotropic Gaussian in d dimensions, d·(error/σ)² follows χ²_d; the region of level p is error ≤ σ·√(χ²_d⁻¹(p)/d).

    Args:
        errors, sigmas: lengths, as in the module's head; for single numbers use dimensions = 1.
        levels: nominal coverages, in [0, 1].
        dimensions: components of an error, d.

    Returns:
        observed coverages; below `levels` where σ is too small. NaN without a pair of positive σ.

    Reference: V. Kuleshov, N. Fenner, S. Ermon, ICML (2018), arXiv:1807.00263.
    """
    from scipy.special import gammaincinv  # χ²_d⁻¹(p) = 2·P⁻¹(d/2, p)

    if ((levels < 0) | (levels > 1)).any():
        raise DataError(f"levels: found {levels}, expected shares between 0 and 1")
    errors, sigmas = _pairs(errors, sigmas, positive=True)
    if not len(errors):
        return np.full(len(levels), np.nan)
    radius = np.sqrt(2 * gammaincinv(dimensions / 2, levels) / dimensions)
    return np.searchsorted(np.sort(errors / sigmas), radius, side="right") / len(errors)


def summarise(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"]) -> dict[str, Any]:
    """All scores of per-atom force errors as a JSON-able mapping: spearman, factor, coverage = (levels, observed), count."""
    return {
        "spearman": spearman(errors, sigmas),
        "factor": calibration_factor(errors, sigmas),
        "coverage": (LEVELS.tolist(), coverage(errors, sigmas, LEVELS).tolist()),
        "count": len(_pairs(errors, sigmas)[0]),
    }


def _pairs(a: np.ndarray, b: np.ndarray, positive: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of finite numbers; with `positive`, those with b > 0."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"scores: found arrays of shapes {a.shape} and {b.shape}, expected two lists of the same length")
    good = np.isfinite(a) & np.isfinite(b) & ((b > 0) | (not positive))
    return a[good], b[good]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 0, 1, …; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[place]
