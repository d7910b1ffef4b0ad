"""Leverage and leave-one-out residuals of a linear fit, in closed form and in the presence of wrong labels.

For the ridge fit of y [n] on X [n, p] with the hat matrix

    H = X (XᵀX + λI)⁻¹ Xᵀ,   e = y − H y,   h_i = H_ii

the residual of a row in the fit without that row is e_i/(1 − h_i) (Hoaglin & Welsch, Am. Stat. 32, 17 (1978)); no refit is needed. The leverage
h_i, between 0 and 1, says how much the fit at a row is decided by the row's own label; a wrong label of high leverage hides itself in e_i but not in
e_i/(1 − h_i) (Cook, Technometrics 19, 15 (1977)). λ is chosen by generalised cross validation, min n Σ e²/(n − Σ h)² (Golub, Heath & Wahba,
Technometrics 21, 215 (1979)), among the values with Σh ≤ n/4: a fit that follows
most labels cannot judge them. Wrong labels are kept from bending the fit by leaving them out and fitting anew until the same rows stay out; their
residuals are then true predictions.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

CUT: Final = 4.5
"""Rows beyond this many robust standard deviations take no part in the fit."""
GRID: Final = 10.0 ** np.arange(-12, 0.1, 0.5)
"""Values of λ to choose from, relative to the largest eigenvalue of XᵀX."""

FREEDOM: Final = 0.75
"""Least share of the freedom of the rows that the fit leaves to the residuals."""


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """What a linear fit says about each of its rows.

    Attributes:
        leverage: h_i, [rows]; for a row outside the fit the value that it would have in it.
        residuals: label minus the prediction of the fit without the row, [rows], unit of the labels.
        studentised: residuals over their expected robust standard deviation s/√(1 − h), [rows].
        scale: robust standard deviation s of a label about the true fit.
        kept: rows that took part in the fit, [rows].
        penalty: λ.
    """

    leverage: np.ndarray
    residuals: np.ndarray
    studentised: np.ndarray
    scale: float
    kept: np.ndarray
    penalty: float


def robust_scale(values: np.ndarray) -> float:
    """1.4826 × the median of |values|: the standard deviation of normal values about zero, whatever a minority of them is."""
    return 1.4826 * float(np.median(np.abs(values))) if len(values) else 0.0


def ridge(design: np.ndarray, labels: np.ndarray, penalty: float | None = None) -> tuple[np.ndarray, np.ndarray, float]:
    """The ridge fit: (XᵀX + λI)⁻¹ as a factor A with A Aᵀ equal to it [p, p], coefficients [p], and λ.

    Args:
        design: X, [rows, p].
        labels: y, [rows].
        penalty: λ; by default chosen by generalised cross validation.
    """
    values, vectors = np.linalg.eigh(design.T @ design)
    values = np.maximum(values, 0)
    rotated = design @ vectors  # [rows, p]; its columns are orthogonal
    along = rotated.T @ labels
    if penalty is None:
        penalty = _cross_validated(values, along, float(labels @ labels), len(labels))
    factor = vectors / np.sqrt(values + penalty)
    return factor, vectors @ (along / (values + penalty)), penalty


def _cross_validated(values: np.ndarray, along: np.ndarray, square: float, n: int) -> float:
    """λ of least n Σe²/(n − Σh)², from the eigenvalues of XᵀX and Xᵀy along its eigenvectors."""
    candidates = GRID * max(float(values.max()), 1e-300)
    shrink = 1 / (values + candidates[:, None])  # [λ, p]
    loss = square - 2 * (along**2 * shrink).sum(1) + (along**2 * values * shrink**2).sum(1)
    freedom = n - (values * shrink).sum(1)
    score = np.where(freedom >= FREEDOM * n, np.maximum(loss, 0) / np.maximum(freedom, 1e-9) ** 2, np.inf)
    return float(candidates[np.argmin(score)] if np.isfinite(score).any() else candidates[-1])


def leave_one_out(design: np.ndarray, labels: np.ndarray, penalty: float | None = None, kept: np.ndarray | None = None) -> LeaveOneOut:
    """Leverage and leave-one-out residuals of one ridge fit to the rows `kept` (by default all); see the text of this module.

    Rows outside the fit get the leverage that they would have in it, h = g/(1 + g) with g = xᵀ(XᵀX + λI)⁻¹x, so that 1/(1 − h) = 1 + g holds for all.
    """
    kept = np.ones(len(labels), bool) if kept is None else kept
    factor, coefficients, penalty = ridge(design[kept], labels[kept], penalty)
    reach = np.minimum(np.sum((design @ factor) ** 2, 1), np.where(kept, 1 - 1e-9, np.inf))
    leverage = np.where(kept, reach, reach / (1 + reach))
    residuals = labels - design @ coefficients
    residuals = np.where(kept, residuals / (1 - leverage), residuals)
    standard = residuals * np.sqrt(1 - leverage)
    scale = max(robust_scale(standard[kept]), 1e-12 * float(np.abs(labels).max(initial=0)), 1e-300)
    return LeaveOneOut(leverage, residuals, standard / scale, scale, kept, penalty)


def robust_leave_one_out(design: np.ndarray, labels: np.ndarray, rounds: int = 20) -> LeaveOneOut:
    """`leave_one_out` with the rows left out that do not follow the rest, until it is always the same rows.

    Args:
        design: X, [rows, p].
        labels: y, [rows]; with a median near zero, because the first rows left out are those that are far from it.
        rounds: most fits.
    """
    kept = np.abs(labels - np.median(labels)) <= 10 * max(robust_scale(labels - np.median(labels)), 1e-300)
    found = leave_one_out(design, labels, kept=kept)
    for _ in range(rounds):
        kept = np.abs(found.studentised) <= CUT
        if np.array_equal(kept, found.kept):
            break
        found = leave_one_out(design, labels, kept=kept)
    return found
