"""Figures of the report. Each is a panel: a drawing as SVG, dense points as a picture in it, and one sentence that says what is seen.

Drawn by matplotlib's objects alone, in one style that is in force only while a figure is drawn: a program that plots on its own is not
disturbed. Inputs are plain arrays in eV and Å; outputs speak meV, GPa and ps.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np

from eqpot.training.page import Panel, number

BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#8b93a1", "#1f2733"
"""From the palette of Okabe and Ito, distinct to colour-blind eyes and in print."""
SHADES = ("#dcebf6", "#8fc1e3", "#2f8cc7", "#00588c", "#062b45")
DENSE = 2500
"""From this many points on, a figure shows their density instead of each."""
TAIL = 0.921317731923561
"""⟨|e|⟩/√⟨|e|²⟩ of an isotropic Gaussian in three dimensions, √(8/3π)."""
BAND = (0.268217, 1.765312)
"""√(χ²₃⁻¹(p)/3) at p = 2.5 % and 97.5 %: between these multiples of σ lie 95 % of calibrated errors."""
STYLE = {
    "font.size": 10, "font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#b9c0ca", "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "axes.formatter.useoffset": False,
    "grid.color": "#e8ebf0", "grid.linewidth": 0.8, "xtick.color": "#5b6472", "ytick.color": "#5b6472", "xtick.labelsize": 9,
    "ytick.labelsize": 9, "legend.frameon": False, "legend.fontsize": 9, "legend.borderaxespad": 0.2, "svg.hashsalt": "eqpot",
}  # fmt: skip


def styled(draw: Callable[..., Panel]) -> Callable[..., Panel]:
    """Draw in the report's style, and leave matplotlib's settings as they were."""

    @wraps(draw)
    def drawn(*args: Any, **rest: Any) -> Panel:
        import matplotlib

        settings: dict[Any, Any] = {**matplotlib.rcParamsDefault, **STYLE, "backend": matplotlib.rcParams["backend"]}
        with matplotlib.rc_context(settings):
            return draw(*args, **rest)

    return drawn


def canvas(width: float = 5.4, height: float = 3.7) -> tuple[Any, Any]:
    """An empty figure [inches] and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def panel(title: str, figure: Any, caption: str, wide: bool = False) -> Panel:
    """Close a drawing."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", dpi=170, metadata={"Date": None, "Creator": None})
    return Panel(title, out.getvalue().decode(), caption, wide)


def finite(*columns: Any) -> list[np.ndarray]:
    """Flat float arrays without the rows in which any is not finite."""
    arrays = [np.ravel(np.asarray(c, float)) for c in columns]
    good = np.logical_and.reduce([np.isfinite(a) for a in arrays])
    return [a[good] for a in arrays]


@styled
def curves(title: str, epochs: Sequence[int], lines: Mapping[str, np.ndarray], label: str, best: int | None, caption: str) -> Panel:
    """Quantities over epochs on a logarithmic axis; `best` marks the epoch that was kept."""
    figure, axes = canvas()
    marker = {"marker": "o", "markersize": 3.5} if len(epochs) < 12 else {}
    for (name, values), color in zip(lines.items(), (BLUE, ORANGE, GREEN), strict=False):
        values = np.where(np.asarray(values, float) > 0, values, np.nan)
        axes.plot(epochs, values, color=color, label=name, **marker)
        if best is not None and best in epochs:
            axes.plot([best], [values[list(epochs).index(best)]], "o", color=color, markersize=6.5, mec="white", mew=1.2, zorder=5)
    if best is not None:
        axes.axvline(best, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label=f"best epoch ({best})", zorder=1)
    axes.set(yscale="log", xlabel="epoch", ylabel=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _plain_log(axes.yaxis)
    figure.legend(loc="outside upper left", ncols=4, columnspacing=1.2)
    return panel(title, figure, caption)


@styled
def parity(title: str, predicted: np.ndarray, reference: np.ndarray, unit: str, noun: str) -> Panel:
    """Predicted against reference values, already in `unit`."""
    x, y = finite(reference, predicted)
    figure, axes = canvas(5.4, 4.5)
    low, high = (min(x.min(), y.min()), max(x.max(), y.max())) if len(x) else (0.0, 1.0)
    pad = 0.04 * (high - low) or 1.0
    axes.axline((low, low), slope=1, color=GREY, linewidth=1, zorder=1)
    _cloud(axes, x, y)
    limits = (low - pad, high + pad)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel=f"reference [{unit}]", ylabel=f"predicted [{unit}]")
    mae, rmse = (float(np.abs(y - x).mean()), float(np.sqrt(((y - x) ** 2).mean()))) if len(x) else (np.nan, np.nan)
    text, box = f"MAE {number(mae)} {unit}\nRMSE {number(rmse)} {unit}", {"boxstyle": "round,pad=0.45", **_BOX}
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", linespacing=1.5, bbox=box)
    caption = (
        f"Predicted and reference {noun} differ by {number(mae)} {unit} on average over {number(len(x))} values; the line is agreement."
    )
    return panel(title, figure, caption)


@styled
def histogram(title: str, residuals: np.ndarray, unit: str, noun: str) -> Panel:
    """Distribution of signed errors, already in `unit`, beside the Gaussian of the same width."""
    (values,) = finite(residuals)
    figure, axes = canvas()
    size, width = np.abs(values), float(values.std()) if len(values) else np.nan
    reach = float(size.max()) * 1.02 if len(values) and size.max() else 1.0
    counts, edges, _ = axes.hist(values, bins=min(81, 11 + 2 * int(len(values) ** 0.4)), range=(-reach, reach), color=BLUE, alpha=0.85)
    if width > 0:
        grid = np.linspace(-reach, reach, 400)
        bell = np.exp(-((grid - values.mean()) ** 2) / (2 * width**2)) * len(values) * (edges[1] - edges[0]) / (width * np.sqrt(2 * np.pi))
        axes.plot(grid, bell, color=ORANGE, linewidth=1.5, label="Gaussian of the same width")
        figure.legend(loc="outside upper left")
    axes.set(xlabel=f"predicted − reference [{unit}]", ylabel=f"number of {noun}")
    if len(values) >= DENSE:
        axes.set(yscale="log", ylim=(0.7, counts.max() * 1.6))
        _plain_log(axes.yaxis)
    half, most, worst = (np.quantile(size, q) if len(size) else np.nan for q in (0.5, 0.95, 1.0))
    caption = (
        f"Half of the {noun} are within {number(half)} {unit}, 95 % within {number(most)}, and the largest error is {number(worst)} {unit}."
    )
    return panel(title, figure, caption)


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
        _cloud(axes, sigma, error, log=True)
        axes.fill_between(line, BAND[0] * line, BAND[1] * line, color=GREEN, alpha=0.1, linewidth=0, label="95 % of calibrated errors")
        axes.plot(line, TAIL * line, color=GREEN, label="calibrated: mean error = 0.92 σ")
        bins = np.array_split(np.argsort(sigma), max(1, min(12, len(sigma) // 10)))
        means = [(sigma[b].mean(), error[b].mean()) for b in bins]
        axes.plot(*zip(*means, strict=True), "o-", color=ORANGE, mec="white", markersize=6.5, lw=1.2, label="mean error in bins of σ")
        axes.set(xlim=(left, right), ylim=(low, high))
        axes.legend(loc="lower right", fontsize=8.5, frameon=True, borderaxespad=0.6, framealpha=0.92, **_BOX)
    _plain_log(axes.xaxis)
    _plain_log(axes.yaxis)
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
    axes.text(0.95, 0.05, "over-confident:\nσ too small", transform=axes.transAxes, ha="right", color="#5b6472", fontsize=9)
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


@styled
def over_time(title: str, ps: np.ndarray, lines: Mapping[str, np.ndarray], label: str, caption: str, wide: bool = False) -> Panel:
    """Quantities along a trajectory; one number instead of an array is a level line."""
    figure, axes = canvas(11.2 if wide else 5.4, 3.4)
    for (name, values), color in zip(lines.items(), (BLUE, ORANGE, GREEN), strict=False):
        if np.ndim(values):
            axes.plot(ps, np.where(np.isfinite(values), values, np.nan), color=color, linewidth=1.2, label=name)
        else:
            axes.axhline(float(values), color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=name)
    axes.set(xlabel="time [ps]", ylabel=label)
    axes.margins(x=0.01)
    figure.legend(loc="outside upper left", ncols=4)
    return panel(title, figure, caption, wide)


def drift(run: Any) -> float | None:
    """Slope of the conserved energy [meV/atom/ps]; None where nothing is conserved or there is one frame."""
    energy = getattr(run, "conserved_energy", None)
    if energy is None or len(energy) < 2:
        return None
    ps, energy = finite(np.asarray(run.time_fs) / 1000, energy)
    return float(np.polyfit(ps, energy - energy.mean(), 1)[0]) * 1000 / np.shape(run.atom_std)[1] if len(ps) > 1 else None


def dynamics(run: Any, target_K: float | None) -> list[Panel]:
    """What a trajectory did: energies, temperature, and σ unless there is none. `run` is an `eqpot.md.Run` or has its arrays."""
    ps, sigma, warmth = np.asarray(run.time_fs) / 1000, 1000 * np.asarray(run.atom_std), np.asarray(run.temperature_K)
    names = {"potential": "potential_energy", "total": "total_energy", "conserved": "conserved_energy"}
    columns = {name: np.asarray(getattr(run, key)) for name, key in names.items() if getattr(run, key, None) is not None}
    if "conserved" in columns and np.allclose(columns["conserved"], columns["total"], rtol=0, atol=1e-9):
        del columns["conserved"]
    energies = {name: 1000 * (column - column[0]) / sigma.shape[1] for name, column in columns.items()}
    slope, swing = drift(run), number(float(np.nanstd(energies["potential"])))
    tail = "" if slope is None else f", and the conserved energy drifts by {number(slope, 2)} meV/atom/ps"
    caption = f"The potential energy fluctuates by {swing} meV/atom (standard deviation){tail}."
    panels = [over_time("Energies", ps, energies, "change since the start [meV/atom]", caption)]
    caption = (
        f"The temperature is {number(float(np.nanmean(warmth)))} ± {number(float(np.nanstd(warmth)), 2)} K (mean and standard deviation)"
    )
    caption += f"; the thermostat is set to {number(target_K)} K." if target_K else "."
    lines = {"temperature": warmth} | ({"target": np.asarray(target_K)} if target_K else {})
    panels.append(over_time("Temperature", ps, lines, "temperature [K]", caption))
    if (sigma > 0).any():
        top, mean = np.where(np.isfinite(sigma), sigma, 0).max(1), sigma.mean(1)
        peak = f"the most doubtful atom reached {number(float(top.max()))} meV/Å at {number(float(ps[top.argmax()]))} ps"
        caption = f"The mean σ of an atom's force is {number(float(np.nanmean(mean)))} meV/Å; {peak}."
        lines = {"largest of all atoms": top, "mean over atoms": mean}
        panels.append(over_time("Uncertainty along the way", ps, lines, "σ of an atom's force [meV/Å]", caption, wide=True))
    return panels


_BOX = {"facecolor": "white", "edgecolor": "#e1e5eb"}


def _cloud(axes: Any, x: np.ndarray, y: np.ndarray, log: bool = False) -> None:
    """Points, or their density where there are many; as a picture, so that the file stays small."""
    if len(x) < DENSE:
        axes.scatter(x, y, s=14, color=BLUE, alpha=0.45, linewidths=0, rasterized=True, zorder=2)
        return
    from matplotlib.colors import LinearSegmentedColormap

    scale = "log" if log else "linear"
    shades = LinearSegmentedColormap.from_list("density", SHADES)
    axes.hexbin(x, y, gridsize=70, bins="log", mincnt=1, cmap=shades, xscale=scale, yscale=scale, linewidths=0.2, rasterized=True, zorder=2)


def _plain_log(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers, also between the decades when it spans few."""
    from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    narrow = not 0 < 160 * low < high
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}") if narrow or low >= 1e-3 else LogFormatterSciNotation())
    axis.set_minor_formatter(NullFormatter())
