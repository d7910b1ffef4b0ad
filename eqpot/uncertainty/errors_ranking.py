"""Whether σ knows where the errors are: scores that do not change when σ is multiplied with a constant."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from eqpot.uncertainty.errors_pairs import pairs, ranks


def spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Spearman's rank correlation: 1 when b grows whenever a does, 0 when they know nothing of each other.

    ρ = cov(rank a, rank b) / (std(rank a)·std(rank b)), where ties share their mean rank.

    Returns:
        ρ in [−1, 1]; NaN for fewer than two pairs, or when one of the arrays is constant.

    >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 100.0, 1000.0])), 12)
    1.0

    Reference: C. Spearman, Am. J. Psychol. 15, 72 (1904).
    """
    a, b = pairs(a, b)
    if len(a) < 2:
        return float("nan")
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / norm, -1, 1)) if norm else float("nan")


class RiskCoverage(NamedTuple):
    """Mean error of a share of the points, for three ways to choose them.

    Attributes:
        shares: k/n for k = 1 … n.
        by_sigma: mean error of the k points with the lowest σ, in the unit of the errors.
        oracle: mean error of the k points with the lowest error; no order is better.
        random: mean error of all points, which is what a choice without knowledge gives.
    """

    shares: np.ndarray
    by_sigma: np.ndarray
    oracle: np.ndarray
    random: float


def risk_coverage(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"]) -> RiskCoverage:
    """How small the mean error becomes when only the points of lowest σ are kept.

    r(k/n) = (1/k) Σ_{i≤k} ε_(i), with ε ordered by σ. Points of equal σ stand for the mean of all their orders, so that a constant σ gives
    the random level exactly.

    Reference: R. El-Yaniv, Y. Wiener, J. Mach. Learn. Res. 11, 1605 (2010); E. Ilg et al., ECCV (2018), arXiv:1802.07095.
    """
    errors, sigmas = pairs(errors, sigmas)
    n = len(errors)
    _, place, counts = np.unique(sigmas, return_inverse=True, return_counts=True)
    tied = np.repeat(np.bincount(place, errors) / counts, counts) if n else errors
    count = np.arange(1, n + 1)
    mean = float(errors.mean()) if n else float("nan")
    return RiskCoverage(count / max(n, 1), np.cumsum(tied) / count, np.cumsum(np.sort(errors)) / count, mean)


def ause(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"]) -> float:
    """Area under the sparsification error: what the order by σ loses against the order by the errors themselves.

    AUSE = ∫₀¹ (r_σ(q) − r_oracle(q)) dq / ⟨ε⟩ with the curves of `risk_coverage`; 0 when σ orders the points as their errors do.
    What a random order gives depends on how the errors are distributed: 1/2 for uniform ones, π²/6 − 1 = 0.645 for exponential ones.

    Returns:
        the area; NaN without pairs, or when all errors are zero.

    Reference: E. Ilg et al., ECCV (2018), arXiv:1802.07095; G. Scalia et al., J. Chem. Inf. Model. 60, 2697 (2020).
    """
    curve = risk_coverage(errors, sigmas)
    return float(np.mean(curve.by_sigma - curve.oracle) / curve.random) if len(curve.shares) and curve.random > 0 else float("nan")


def auroc(inside: Float[np.ndarray, " n"], outside: Float[np.ndarray, " m"]) -> float:
    """Probability that a score of `outside` is larger than one of `inside`: how well the score tells what is foreign.

    A = (#{o > i} + ½ #{o = i}) / (n·m): ½ for a score that knows nothing, 1 for one that separates the two. An infinite score is larger
    than all finite ones; NaN is left out.

    Returns:
        A in [0, 1]; NaN when one of the two is empty.

    >>> auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875

    Reference: H. B. Mann, D. R. Whitney, Ann. Math. Stat. 18, 50 (1947); J. A. Hanley, B. J. McNeil, Radiology 143, 29 (1982).
    """
    inside, outside = (np.asarray(v, float) for v in (inside, outside))
    inside, outside = inside[~np.isnan(inside)], outside[~np.isnan(outside)]
    n, m = len(inside), len(outside)
    if not n or not m:
        return float("nan")
    rank = ranks(np.concatenate([inside, outside]))
    return float((rank[n:].sum() - m * (m - 1) / 2) / (n * m))
