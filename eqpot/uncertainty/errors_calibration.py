"""Whether σ has the size of the errors: on the whole, for every share of them, and for small and large σ apart."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from eqpot.core.errors import DataError
from eqpot.uncertainty.errors_pairs import pairs


def calibration_factor(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"]) -> float:
    """The factor that σ must be multiplied with: √⟨(error/σ)²⟩.

    It maximises the likelihood of zero-mean Gaussian errors of standard deviation factor·σ. Above one, the prediction is over-confident.
    Heavy tails weigh in: with M members and three components, errors drawn from the same Gaussian as the members give
    √(ν/(ν−2)) with ν = 3(M−1), 1.13 for four members, because σ itself is estimated from few.

    Returns:
        the factor; NaN without a pair of positive σ.

    Reference: P. Pernot, J. Chem. Phys. 156, 114109 (2022); M. H. Rasmussen et al., J. Cheminform. 15, 121 (2023).
    """
    errors, sigmas = pairs(errors, sigmas, positive=True)
    return float(np.sqrt(np.mean((errors / sigmas) ** 2))) if len(errors) else float("nan")


def coverage(
    errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"], levels: Float[np.ndarray, " k"], dimensions: int = 3
) -> Float[np.ndarray, " k"]:
    """Share of errors inside the region that should hold the share `levels` of them.

    For a calibrated isotropic Gaussian in d dimensions, d·(error/σ)² follows χ²_d; the region of level p is error ≤ σ·√(χ²_d⁻¹(p)/d).

    Args:
        errors, sigmas: lengths, as in the head of `eqpot.uncertainty.scores`; for single numbers use dimensions = 1.
        levels: nominal coverages, in [0, 1].
        dimensions: components of an error, d.

    Returns:
        observed coverages; below `levels` where σ is too small. NaN without a pair of positive σ.

    Raises:
        DataError: when a level is not in [0, 1], or the arrays do not match.

    Reference: V. Kuleshov, N. Fenner, S. Ermon, ICML (2018), arXiv:1807.00263.
    """
    from scipy.special import gammaincinv  # χ²_d⁻¹(p) = 2·P⁻¹(d/2, p)

    if ((levels < 0) | (levels > 1)).any():
        raise DataError(f"levels: found {levels}, expected shares between 0 and 1")
    errors, sigmas = pairs(errors, sigmas, positive=True)
    if not len(errors):
        return np.full(len(levels), np.nan)
    radius = np.sqrt(2 * gammaincinv(dimensions / 2, levels) / dimensions)
    return np.searchsorted(np.sort(errors / sigmas), radius, side="right") / len(errors)


def miscalibration_area(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"], dimensions: int = 3) -> float:
    """Area between the coverage that was found and the one expected: ∫₀¹ |observed(p) − p| dp, without a grid.

    observed(p) is the step function of `coverage`: the share of points with u = P_χ²_d(d·(error/σ)²) ≤ p, so the integral is a sum of
    trapezia between the ordered u. It is 0 for a calibrated Gaussian and ½ when σ is infinitely too small or too large. Of n independent
    points from a calibrated Gaussian about 0.3/√n is left. Over- and under-confidence add up and do not cancel.

    Returns:
        the area in [0, ½]; NaN without a pair of positive σ.

    Reference: K. Tran et al., Mach. Learn. Sci. Technol. 1, 025006 (2020).
    """
    from scipy.special import gammainc

    errors, sigmas = pairs(errors, sigmas, positive=True)
    n = len(errors)
    if not n:
        return float("nan")
    steps = np.sort(gammainc(dimensions / 2, dimensions * (errors / sigmas) ** 2 / 2))
    left, right, height = np.append(0.0, steps), np.append(steps, 1.0), np.arange(n + 1) / n
    a, b = left - height, right - height  # ∫ₐᵇ |x| dx = (b|b| − a|a|)/2
    return float((b * np.abs(b) - a * np.abs(a)).sum() / 2)


class SigmaBins(NamedTuple):
    """Bins of equally many points, from the smallest σ to the largest.

    Attributes:
        sigma: root mean variance of each, √⟨σ²⟩, in the unit of the errors.
        error: root mean square error of each, √⟨ε²⟩.
        count: points of each.
    """

    sigma: np.ndarray
    error: np.ndarray
    count: np.ndarray


def sigma_bins(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"], bins: int = 10) -> SigmaBins:
    """Root mean square error beside root mean variance in bins of σ; there are never more bins than pairs of positive σ.

    Raises:
        DataError: when `bins` is below one, or the arrays do not match.
    """
    if bins < 1:
        raise DataError(f"bins: found {bins}, expected at least 1")
    errors, sigmas = pairs(errors, sigmas, positive=True)
    parts = np.array_split(np.argsort(sigmas, kind="stable"), min(bins, len(sigmas))) if len(sigmas) else []
    size, error = (np.array([np.sqrt(np.mean(values[p] ** 2)) for p in parts]) for values in (sigmas, errors))
    return SigmaBins(size, error, np.array([len(p) for p in parts], int))


def ence(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"], bins: int = 10) -> float:
    """Expected normalised calibration error: how far σ is from the error where σ is small and where it is large.

    ENCE = ⟨|RMV_b − RMSE_b| / RMV_b⟩ over bins of equally many points, ordered by σ; RMV = √⟨σ²⟩, RMSE = √⟨ε²⟩. A factor that is right on
    the whole does not make it small. With d components, about √(bins/(π·d·n)) is left of n independent points that are calibrated.

    Returns:
        the mean; NaN without a pair of positive σ.

    Reference: D. Levi et al., Sensors 22, 5540 (2022), arXiv:1905.11659; P. Pernot, arXiv:2305.11905 (its dependence on the bins).
    """
    found = sigma_bins(errors, sigmas, bins)
    return float(np.mean(np.abs(found.sigma - found.error) / found.sigma)) if len(found.sigma) else float("nan")
