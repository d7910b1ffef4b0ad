"""Scores of a predicted uncertainty against the errors that were made.

All take two arrays of the same length: the sizes of the errors (≥ 0) and the predicted σ, in the same unit. For vectors (forces), an error
is the length |ΔF| and σ the length √(σ_x² + σ_y² + σ_z²), so that ⟨|ΔF|²⟩ = σ² where the prediction is calibrated; numbers (energies) are
the case of one dimension. Pairs in which either number is not finite carry no information and are left out; without enough pairs a score
is NaN, never a guess. Scores that divide by σ leave out pairs whose σ is zero; `summarise` counts them.

This file is the summary of all; one group of scores each is in `errors_ranking`, `errors_calibration` and `errors_proper`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from eqpot.core.errors import DataError
from eqpot.uncertainty.errors_calibration import SigmaBins, calibration_factor, coverage, ence, miscalibration_area, sigma_bins
from eqpot.uncertainty.errors_pairs import pairs
from eqpot.uncertainty.errors_proper import crps, nll, sharpness
from eqpot.uncertainty.errors_ranking import RiskCoverage, auroc, ause, risk_coverage, spearman

__all__ = [
    "LEVELS", "PLAIN_LEVELS", "RiskCoverage", "SigmaBins", "auroc", "ause", "bootstrap", "calibration_factor", "coverage", "crps", "ence",
    "miscalibration_area", "nll", "risk_coverage", "sharpness", "sigma_bins", "spearman", "summarise",
]  # fmt: skip

LEVELS = np.array([*np.arange(1, 20) / 20, 0.99])
"""Nominal coverages of the curve in `summarise`: 5 %, 10 %, … 95 %, 99 %."""
PLAIN_LEVELS = (50, 68, 90, 95)
"""Nominal coverages [%] that `summarise` also gives by name."""


def bootstrap(
    score: Callable[[Any, Any], Any],
    errors: Float[np.ndarray, " n"],
    sigmas: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    n: int = 200,
    seed: int = 0,
) -> tuple[Any, Any]:
    """The 90 % range of a score, by drawing whole groups (structures) again and again.

    Errors of atoms of one structure are alike; drawing single atoms would pretend that they are independent and give too small a range.

    Args:
        score: of (errors, sigmas), a number or an array of several.
        groups: what belongs together has the same entry: the structure of each atom, or the run of each frame.
        n: draws.

    Returns:
        (5 %, 95 %) quantiles over the draws, of the shape of the score; NaN with fewer than two groups.

    Raises:
        DataError: when there is not one group for each pair.

    Reference: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """
    if not len(errors) == len(sigmas) == len(groups):
        raise DataError(f"bootstrap: found {len(errors)} errors, {len(sigmas)} sigmas, {len(groups)} groups, expected equally many")
    names, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        empty = np.full(np.shape(score(errors, sigmas)), np.nan)[()]
        return empty, empty
    members, generator = np.split(np.argsort(place, kind="stable"), np.cumsum(counts)[:-1]), np.random.default_rng(seed)
    drawn = (np.concatenate([members[k] for k in generator.integers(len(names), size=len(names))]) for _ in range(n))
    values = np.array([score(errors[rows], sigmas[rows]) for rows in drawn])
    low, high = np.quantile(values, (0.05, 0.95), axis=0)
    return low, high


def summarise(
    errors: Float[np.ndarray, " n"],
    sigmas: Float[np.ndarray, " n"],
    dimensions: int = 3,
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """All scores as a JSON-able mapping.

    Args:
        errors, sigmas: lengths, as in the module's head.
        dimensions: components of an error: 3 for forces, 1 for numbers.
        groups: the structure of each pair, as for `bootstrap`; adds `ranges`.

    Returns:
        spearman, ause: whether σ ranks the errors;
        factor, miscalibration_area, ence, coverage_50, _68, _90, _95 (shares): whether it has their size;
        coverage: (levels, observed), the curve;
        nll (nats per component), crps (per component, unit of the errors): both at once;
        sharpness (√⟨σ²⟩), dispersion (std(σ)/⟨σ⟩), rmse (√⟨ε²⟩, to compare with): in the unit of the errors, but for the dispersion;
        count: finite pairs; zero_sigma: those among them with σ = 0, which only spearman, ause, sharpness, dispersion and rmse see;
        ranges: with `groups`, score → (low, high), 90 % ranges of all of the numbers above but the counts.
    """
    kept, positive = pairs(errors, sigmas)[0], pairs(errors, sigmas, positive=True)[0]
    found: dict[str, Any] = _numbers(errors, sigmas, dimensions)
    names = list(found)
    found["coverage"] = (LEVELS.tolist(), coverage(errors, sigmas, LEVELS, dimensions).tolist())
    found |= {"count": len(kept), "zero_sigma": len(kept) - len(positive)}
    if groups is not None:
        ranges = bootstrap(lambda e, s: np.array(list(_numbers(e, s, dimensions).values())), errors, sigmas, groups)
        found["ranges"] = dict(zip(names, zip(*(end.tolist() for end in ranges), strict=True), strict=True))
    return found


def _numbers(errors: np.ndarray, sigmas: np.ndarray, dimensions: int) -> dict[str, float]:
    """The scores that are one number each."""
    plain = coverage(errors, sigmas, np.array(PLAIN_LEVELS) / 100, dimensions)
    size, dispersion = sharpness(sigmas)
    good, _ = pairs(errors, sigmas)
    return {
        "spearman": spearman(errors, sigmas),
        "ause": ause(errors, sigmas),
        "factor": calibration_factor(errors, sigmas),
        "miscalibration_area": miscalibration_area(errors, sigmas, dimensions),
        "ence": ence(errors, sigmas),
        **{f"coverage_{level}": float(found) for level, found in zip(PLAIN_LEVELS, plain, strict=True)},
        "nll": nll(errors, sigmas, dimensions),
        "crps": crps(errors, sigmas, dimensions),
        "sharpness": size,
        "dispersion": dispersion,
        "rmse": float(np.sqrt(np.mean(good**2))) if len(good) else float("nan"),
    }
