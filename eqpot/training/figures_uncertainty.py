"""Figures about σ: against the errors that were made, and how many of them it covers."""

from typing import Any

import numpy as np

from eqpot.training.figures import BLUE, BOX, COLORS, GREEN, GREY, INK, ORANGE, canvas, cloud, finite, panel, plain_log, styled
from eqpot.training.page import Panel, number
from eqpot.uncertainty.scores import ause, ence, risk_coverage, sharpness, sigma_bins

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
def reliability(levels: np.ndarray, observed: np.ndarray, factor: float | None, before: np.ndarray | None = None) -> Panel:
    """Share of errors inside the region of each nominal level; `before`, the same without calibration, is drawn beside it."""
    figure, axes = canvas(5.4, 4.5)
    raw = None if before is None else 100 * np.asarray(before, float)
    nominal, (levels, observed) = 100 * np.asarray(levels, float), (100 * v for v in finite(levels, observed))
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, label="calibrated")
    if raw is not None:
        axes.plot(nominal, raw, "s--", color=BLUE, markersize=3.5, linewidth=1.2, label="before calibration")
    axes.fill_between(levels, levels, observed, color=ORANGE, alpha=0.15, linewidth=0)
    axes.plot(levels, observed, "o-", color=ORANGE, markersize=4, label="this potential" if raw is None else "after calibration")
    remark = {"transform": axes.transAxes, "color": "#5b6472", "fontsize": 9}
    axes.text(0.05, 0.95, "under-confident:\nσ too large", va="top", **remark)
    axes.text(0.95, 0.05, "over-confident:\nσ too small", ha="right", bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0}, **remark)
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal", xlabel="errors expected inside the region [%]", ylabel="errors found inside [%]")
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.32), frameon=True, framealpha=0.92, **BOX)
    return panel("Reliability", figure, _verdict(levels, observed, factor) + _without(nominal, raw))


def _without(levels: np.ndarray, before: np.ndarray | None) -> str:
    """What was found before calibration, from coverages in %."""
    if before is None or not np.isfinite(before).any():
        return ""
    near = int(np.nanargmin(np.where(np.isfinite(before), np.abs(levels - 90), np.nan)))
    return f" Before calibration it was {before[near]:.0f} %."


def _verdict(levels: np.ndarray, observed: np.ndarray, factor: float | None) -> str:
    """Whether σ is too small or too large, from coverages in %."""
    if not len(levels):
        return "There are too few errors to say whether σ is too small or too large."
    bias, near = float(np.mean(observed - levels)), int(np.argmin(np.abs(levels - 90)))
    tails = bias > 3 and levels[-1] >= 99 and observed[-1] < 0.99 * levels[-1]
    size = "over-confident" if bias < -3 else "under-confident" if bias > 3 else "well calibrated on the whole"
    word = "under-confident for most atoms and over-confident for a few, whose errors form a heavy tail" if tails else size
    scale = f"; {number(factor)} times σ would match them in the mean square" if factor and np.isfinite(factor) else ""
    return f"The potential is {word}: {observed[near]:.0f} % of the force errors lie where {levels[near]:.0f} % are expected{scale}."


@styled
def error_in_bins(error: np.ndarray, sigma: np.ndarray) -> Panel:
    """Root mean square error beside root mean variance in ten bins of σ [eV/Å]: the picture behind the ENCE."""
    error, sigma = finite(error, sigma)
    found = sigma_bins(error, sigma)
    x, y = 1000 * found.sigma, 1000 * found.error
    figure, axes = canvas(5.4, 4.5)
    axes.set(
        xscale="log", yscale="log", xlabel="σ of the bin, root mean square [meV/Å]", ylabel="error in the bin, root mean square [meV/Å]"
    )
    drawn = y > 0
    if drawn.any():
        low, high = min(x.min(), y[drawn].min()) / 1.3, max(x.max(), y.max()) * 1.3
        line = np.array([low, high])
        axes.plot(line, line, color=GREEN, label="calibrated: error = σ")
        axes.fill_between(line, line / 2, 2 * line, color=GREEN, alpha=0.1, linewidth=0, label="within a factor of two")
        axes.plot(x[drawn], y[drawn], "o-", color=ORANGE, mec="white", markersize=6.5, lw=1.2, label="bins of equally many atoms")
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.legend(loc="upper left", fontsize=8.5, frameon=True, borderaxespad=0.6, framealpha=0.92, **BOX)
    plain_log(axes.xaxis)
    plain_log(axes.yaxis)
    return panel("Error in bins of σ", figure, _of_bins(x, y, ence(error, sigma)))


def _of_bins(sigma: np.ndarray, error: np.ndarray, rest: float) -> str:
    """What the first and the last bin say, in meV/Å."""
    if not len(sigma):
        return "There are too few errors to compare them with σ."
    first, last = (
        f"{number(error[k] / sigma[k], 2)} times σ where σ is {word} ({number(sigma[k], 2)} meV/Å)"
        for k, word in ((0, "smallest"), (-1, "largest"))
    )
    return f"The error is {first} and {last}; on average over the bins the two differ by {100 * rest:.0f} % of σ (ENCE {rest:.2f})."


@styled
def kept_by_sigma(error: np.ndarray, sigma: np.ndarray) -> Panel:
    """Mean force error of the atoms that are kept [eV/Å], when those of the largest σ are given up first: risk against coverage."""
    error, sigma = finite(error, sigma)
    curve = risk_coverage(error, sigma)
    figure, axes = canvas(5.4, 4.5)
    axes.set(xlim=(0, 100), xlabel="atoms kept, those of lowest σ first [%]", ylabel="mean error of the kept atoms [meV/Å]")
    if not len(error):
        return panel("Error of what is kept", figure, "There are too few errors to order them by σ.")
    some = np.unique(np.linspace(0, len(error) - 1, 300).astype(int))
    x, by_sigma, oracle = (values[some] for values in (100 * curve.shares, 1000 * curve.by_sigma, 1000 * curve.oracle))
    axes.axhline(1000 * curve.random, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="at random")
    axes.fill_between(x, oracle, by_sigma, color=ORANGE, alpha=0.15, linewidth=0, label=f"lost (AUSE {ause(error, sigma):.2f})")
    axes.plot(x, by_sigma, color=ORANGE, label="ordered by σ")
    axes.plot(x, oracle, color=GREEN, label="ordered by the error itself")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", fontsize=8.5, frameon=True, borderaxespad=0.6, framealpha=0.92, **BOX)
    half, most = (1000 * v[(len(error) - 1) // 2] for v in (curve.by_sigma, curve.oracle))
    caption = (
        f"The half of the atoms with the lowest σ errs by {number(half)} meV/Å on average, all of them by {number(1000 * curve.random)}"
    )
    return panel("Error of what is kept", figure, caption + f", and the half that truly errs least by {number(most)}.")


@styled
def sigma_histogram(error: np.ndarray, sigma: np.ndarray, elements: np.ndarray | None = None) -> Panel:
    """Distribution of σ [eV/Å] on a logarithmic axis, of each of the commonest elements if given: its sharpness."""
    names = np.full(np.shape(sigma), "") if elements is None else np.asarray(elements)
    good = np.isfinite(error) & np.isfinite(sigma) & (np.asarray(sigma) > 0)
    error, sigma, names = 1000 * np.asarray(error, float)[good], 1000 * np.asarray(sigma, float)[good], names[good]
    figure, axes = canvas(5.4, 4.5)
    axes.set(xscale="log", xlabel="predicted σ of an atom's force [meV/Å]", ylabel="number of atoms")
    if not len(sigma):
        return panel("How large σ is", figure, "There is no σ to show.")
    low, high = np.log10(sigma.min()), np.log10(sigma.max())
    edges = np.logspace(low - 0.01, high + 0.01, int(np.clip(6 + 2 * len(sigma) ** 0.35, 10, 60)))
    kinds, counts = np.unique(names, return_counts=True)
    shown = kinds[np.argsort(-counts)][: len(COLORS) - 1]
    parts = {str(k): sigma[names == k] for k in shown} | ({"other": sigma[~np.isin(names, shown)]} if len(kinds) > len(shown) else {})
    axes.hist(list(parts.values()), bins=edges.tolist(), stacked=True, color=COLORS[: len(parts)], alpha=0.85, label=list(parts))
    size, rest = sharpness(sigma)
    rmse = float(np.sqrt(np.mean(error**2)))
    axes.axvline(size, color=INK, linewidth=1.2, label="√⟨σ²⟩")
    axes.axvline(rmse, color=INK, linewidth=1.2, linestyle=(0, (2, 2)), label="RMS error")
    plain_log(axes.xaxis)
    figure.legend(*_named(axes), loc="outside upper left", ncols=6, columnspacing=1.1, handlelength=1.4)
    caption = f"σ is {number(size)} meV/Å in the root mean square, and the error {number(rmse)}; from atom to atom σ varies by {100 * rest:.0f} % of its mean."
    return panel("How large σ is", figure, caption + (" A σ that hardly varies cannot tell where errors are." if rest < 0.1 else ""))


def _named(axes: Any) -> tuple[list[Any], list[str]]:
    """Handles and labels of a legend, without the empty name of atoms that have no element."""
    both = [(h, name) for h, name in zip(*axes.get_legend_handles_labels(), strict=True) if name]
    return [h for h, _ in both], [name for _, name in both]


@styled
def errors_in_sigmas(error: np.ndarray, sigma: np.ndarray, dimensions: int = 3) -> Panel:
    """Distribution of error/σ beside that of a calibrated Gaussian: √d·error/σ follows χ_d."""
    from scipy.special import gammaincc, gammaln

    error, sigma = finite(error, sigma)
    z, d = error[sigma > 0] / sigma[sigma > 0], dimensions
    figure, axes = canvas(5.4, 4.5)
    axes.set(xlabel="error / σ", ylabel="probability density")
    if not len(z):
        return panel("Errors in units of σ", figure, "There are no errors with a σ to divide them by.")
    reach = float(np.clip(np.quantile(z, 0.99), 2.5, 6))
    edges = np.linspace(0, reach, int(np.clip(6 + 2 * len(z) ** 0.35, 12, 60)))
    density = np.histogram(z, edges)[0] / (len(z) * np.diff(edges))
    axes.stairs(density, edges, fill=True, color=BLUE, alpha=0.85, label="this potential")
    grid = np.linspace(0, reach, 400)[1:]
    log = np.log(2) + d / 2 * np.log(d / 2) - gammaln(d / 2) + (d - 1) * np.log(grid) - d * grid**2 / 2
    axes.plot(grid, np.exp(log), color=ORANGE, linewidth=1.8, label="calibrated Gaussian")
    axes.set(xlim=(0, reach), ylim=(0, None))
    figure.legend(loc="outside upper left", ncols=2)
    expected, beyond = float(gammaincc(d / 2, 2 * d)), float(np.mean(z > 2))
    caption = f"{100 * beyond:.2g} % of the errors are larger than 2 σ, where a calibrated Gaussian has {100 * expected:.2g} %; half of them are within"
    cut = np.mean(z > reach)
    return panel(
        "Errors in units of σ",
        figure,
        caption + f" {np.median(z):.2g} σ." + (f" {100 * cut:.2g} % lie to the right of the figure." if cut else ""),
    )
