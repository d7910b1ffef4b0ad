"""Figures about σ: against the errors that were made, and how many of them it covers."""

import numpy as np

from eqpot.training.figures import BOX, GREEN, GREY, ORANGE, canvas, cloud, finite, panel, plain_log, styled
from eqpot.training.page import Panel, number

TAIL = 0.921317731923561
"""⟨|e|⟩/√⟨|e|²⟩ of an isotropic Gaussian in three dimensions, √(8/3π)."""
BAND = (0.268217, 1.765312)
"""√(χ²₃⁻¹(p)/3) at p = 2.5 % and 97.5 %: between these multiples of σ lie 95 % of calibrated errors."""


@styled
def error_against_sigma(error: np.ndarray, sigma: np.ndarray, rho: float | None) -> Panel:
    """Per-atom force error against predicted σ [eV/Å], with binned means and what a calibrated Gaussian in three dimensions would show."""
    error, sigma = finite(error, sigma)
    good = (error > 0) & (sigma > 0)
    error, sigma = 1000 * error[good], 1000 * sigma[good]
    figure, axes = canvas(5.4, 4.5)
    axes.set(xscale="log", yscale="log", xlabel="predicted σ of an atom's force [meV/Å]", ylabel="error of an atom's force [meV/Å]")
    if len(sigma):
        (left, right), (low, high) = (np.quantile(v, (0.001, 0.999)) * (0.8, 1.25) for v in (sigma, error))
        line = np.array([left, right])
        cloud(axes, sigma, error, log=True)
        axes.fill_between(line, BAND[0] * line, BAND[1] * line, color=GREEN, alpha=0.1, linewidth=0, label="95 % of calibrated errors")
        axes.plot(line, TAIL * line, color=GREEN, label="calibrated: mean error = 0.92 σ")
        bins = np.array_split(np.argsort(sigma), max(1, min(12, len(sigma) // 10)))
        means = [(sigma[b].mean(), error[b].mean()) for b in bins]
        axes.plot(*zip(*means, strict=True), "o-", color=ORANGE, mec="white", markersize=6.5, lw=1.2, label="mean error in bins of σ")
        axes.set(xlim=(left, right), ylim=(low, high))
        axes.legend(loc="lower right", fontsize=8.5, frameon=True, borderaxespad=0.6, framealpha=0.92, **BOX)
    plain_log(axes.xaxis)
    plain_log(axes.yaxis)
    ratio = error.mean() / (TAIL * sigma.mean()) if len(sigma) else np.nan
    tail = f"the mean error is {number(ratio, 2)} times what a calibrated σ would give"
    if rho is None or not np.isfinite(rho):
        return panel("Error against σ", figure, f"Over {number(len(sigma))} atoms {tail}.")
    return panel("Error against σ", figure, f"σ ranks the errors of {number(len(sigma))} atoms with a Spearman ρ of {rho:.2f}, and {tail}.")


@styled
def reliability(levels: np.ndarray, observed: np.ndarray, factor: float | None) -> Panel:
    """Share of errors inside the region of each nominal level."""
    figure, axes = canvas(5.4, 4.5)
    levels, observed = (100 * v for v in finite(levels, observed))
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, label="calibrated")
    axes.fill_between(levels, levels, observed, color=ORANGE, alpha=0.15, linewidth=0)
    axes.plot(levels, observed, "o-", color=ORANGE, markersize=4, label="this potential")
    axes.text(0.05, 0.95, "under-confident:\nσ too large", transform=axes.transAxes, va="top", color="#5b6472", fontsize=9)
    axes.text(
        0.95,
        0.05,
        "over-confident:\nσ too small",
        transform=axes.transAxes,
        ha="right",
        color="#5b6472",
        fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0},
    )
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xlabel="errors expected inside the region [%]", ylabel="errors found inside [%]")
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.3))
    return panel("Reliability", figure, _verdict(levels, observed, factor))


def _verdict(levels: np.ndarray, observed: np.ndarray, factor: float | None) -> str:
    """Whether σ is too small or too large, from coverages in %."""
    if not len(levels):
        return "There are too few errors to say whether σ is too small or too large."
    bias, near = float(np.mean(observed - levels)), int(np.argmin(np.abs(levels - 90)))
    word = "over-confident" if bias < -3 else "under-confident" if bias > 3 else "well calibrated on the whole"
    scale = f"; {number(factor)} times σ would match them in the mean square" if factor and np.isfinite(factor) else ""
    return f"The potential is {word}: {observed[near]:.0f} % of the force errors lie where {levels[near]:.0f} % are expected{scale}."
