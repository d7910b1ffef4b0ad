"""Figures of the report. Each is a panel: a drawing as SVG, dense points as a picture in it, and one sentence that says what is seen.

Drawn by matplotlib's objects alone, in one style that is in force only while a figure is drawn: a program that plots on its own is not
disturbed. Inputs are plain arrays in eV and Å; outputs speak meV, GPa and ps. Backgrounds are clear, so that a page can be dark.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np

from eqpot.training.metrics import MagnitudeBin
from eqpot.training.page import Panel, number

BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#8b93a1", "#1f2733"
COLORS = (BLUE, ORANGE, GREEN, "#b8558f", "#8a6d00", "#2b3a67", "#4f9bc4")
"""From the palette of Okabe and Ito, distinct to colour-blind eyes and in print."""
SHADES = ("#dcebf6", "#8fc1e3", "#2f8cc7", "#00588c", "#062b45")
DENSE = 2500
"""From this many points on, a figure shows their density instead of each."""
BOX = {"facecolor": "white", "edgecolor": "#e1e5eb"}
"""Behind text that lies on data."""
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
    figure.savefig(out, format="svg", dpi=170, transparent=True, metadata={"Date": None, "Creator": None})
    return Panel(title, out.getvalue().decode(), caption, wide)


def finite(*columns: Any) -> list[np.ndarray]:
    """Flat float arrays without the rows in which any is not finite."""
    arrays = [np.ravel(np.asarray(c, float)) for c in columns]
    good = np.logical_and.reduce([np.isfinite(a) for a in arrays])
    return [a[good] for a in arrays]


@styled
def curves(title: str, epochs: Sequence[int], lines: Mapping[str, np.ndarray], label: str, best: int | None, caption: str) -> Panel:
    """Quantities over epochs, on a logarithmic axis unless one is negative; `best` marks the epoch that was kept."""
    figure, axes = canvas()
    marker = {"marker": "o", "markersize": 3.5} if len(epochs) < 12 else {}
    columns = {name: np.where(np.isfinite(values), values, np.nan) for name, values in lines.items()}
    logarithmic = all((values[np.isfinite(values)] >= 0).all() for values in columns.values())
    for (name, values), color in zip(columns.items(), COLORS, strict=False):
        values = np.where(values > 0, values, np.nan) if logarithmic else values
        axes.plot(epochs, values, color=color, label=name, **marker)
        if best is not None and best in epochs:
            axes.plot([best], [values[list(epochs).index(best)]], "o", color=color, markersize=6.5, mec="white", mew=1.2, zorder=5)
    if best is not None:
        axes.axvline(best, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label=f"best epoch ({best})", zorder=1)
    axes.set(yscale="log" if logarithmic else "linear", xlabel="epoch", ylabel=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if logarithmic:
        plain_log(axes.yaxis)
    if best is not None or len(lines) > 1:
        figure.legend(loc="outside upper left", ncols=3 if len(lines) > 2 else 4, columnspacing=1.2)
    return panel(title, figure, caption)


@styled
def parity(title: str, predicted: np.ndarray, reference: np.ndarray, unit: str, noun: str) -> Panel:
    """Predicted against reference values, already in `unit`."""
    x, y = finite(reference, predicted)
    figure, axes = canvas(5.4, 4.5)
    low, high = (min(x.min(), y.min()), max(x.max(), y.max())) if len(x) else (0.0, 1.0)
    pad = 0.04 * (high - low) or 1.0
    axes.axline((low, low), slope=1, color=GREY, linewidth=1, zorder=1)
    cloud(axes, x, y)
    limits = (low - pad, high + pad)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel=f"reference [{unit}]", ylabel=f"predicted [{unit}]")
    mae, rmse = (float(np.abs(y - x).mean()), float(np.sqrt(((y - x) ** 2).mean()))) if len(x) else (np.nan, np.nan)
    text, box = f"MAE {number(mae)} {unit}\nRMSE {number(rmse)} {unit}", {"boxstyle": "round,pad=0.45", **BOX}
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", linespacing=1.5, bbox=box)
    lost = np.size(predicted) - len(x)
    caption = (
        f"Predicted and reference {noun} differ by {number(mae)} {unit} on average over {number(len(x))} values; the line is agreement."
    )
    caption += f" {number(lost)} more are not finite." if lost else ""
    return panel(title, figure, caption)


@styled
def histogram(title: str, residuals: np.ndarray, unit: str, noun: str) -> Panel:
    """Distribution of signed errors, already in `unit`, beside the Gaussian of the same width."""
    (values,) = finite(residuals)
    figure, axes = canvas(5.4, 4.5)
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
        plain_log(axes.yaxis)
    half, most, worst = (np.quantile(size, q) if len(size) else np.nan for q in (0.5, 0.95, 1.0))
    caption = (
        f"Half of the {noun} are within {number(half)} {unit}, 95 % within {number(most)}, and the largest error is {number(worst)} {unit}."
    )
    return panel(title, figure, caption)


@styled
def against_magnitude(bins: Sequence[MagnitudeBin]) -> Panel:
    """Mean force error in bins of the force, with lines of equal relative error; `bins` as `Evaluation.forces_by_magnitude` gives them."""
    bins = [b for b in bins if b.count and np.isfinite(b.error) and b.error > 0]
    figure, axes = canvas()
    axes.set(xscale="log", yscale="log", xlabel="reference force of an atom [eV/Å]", ylabel="mean error of an atom's force [meV/Å]")
    if bins:
        edges = np.array([(b.low or b.high / 2, b.high if np.isfinite(b.high) else 2 * b.low) for b in bins])
        middle, error = np.sqrt(edges.prod(1)), 1000 * np.array([b.error for b in bins])
        left, right = edges.min() / 1.15, edges.max() * 1.15
        low, high = error.min() / 1.8, error.max() * 1.8
        for share in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0):
            axes.plot(
                [left, right], 1000 * share * np.array([left, right]), color="#b9c0ca", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1
            )
            _along(axes, share, (left, right), (low, high))
        axes.hlines(error, *edges.T, color=BLUE, linewidth=2.2)
        axes.plot(middle, error, "o", color=BLUE, markersize=5.5, mec="white", mew=1)
        axes.set(xlim=(left, right), ylim=(low, high))
    plain_log(axes.xaxis)
    plain_log(axes.yaxis)
    most = max(bins, key=lambda b: b.count, default=None)
    span = (
        "" if most is None else f": {100 * most.relative:.2g} % for the {number(most.count)} atoms from {most.low:g} to {most.high:g} eV/Å"
    )
    caption = f"How large the error is beside the force itself{span}; dashed lines are equal relative errors."
    return panel("Error beside the force", figure, caption)


def _along(axes: Any, share: float, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Name a line of equal relative error where it leaves the figure at the top or the right."""
    place = min(x[1], y[1] / (1000 * share))
    if x[0] * 1.3 < place and 1000 * share * place > y[0] * 1.1:
        text = {"color": "#5b6472", "fontsize": 8.5, "ha": "right", "va": "top", "textcoords": "offset points"}
        axes.annotate(f"{100 * share:g} %", (place, 1000 * share * place), xytext=(-8, -1), **text)


def cloud(axes: Any, x: np.ndarray, y: np.ndarray, log: bool = False) -> None:
    """Points, or their density where there are many; as a picture, so that the file stays small."""
    if len(x) < DENSE:
        axes.scatter(x, y, s=14, color=BLUE, alpha=0.45, linewidths=0, rasterized=True, zorder=2)
        return
    from matplotlib.colors import LinearSegmentedColormap

    scale = "log" if log else "linear"
    shades = LinearSegmentedColormap.from_list("density", SHADES)
    axes.hexbin(x, y, gridsize=70, bins="log", mincnt=1, cmap=shades, xscale=scale, yscale=scale, linewidths=0.2, rasterized=True, zorder=2)


def plain_log(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers, also between the decades when it spans few."""
    from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    narrow = not 0 < 160 * low < high
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}") if narrow or low >= 1e-3 else LogFormatterSciNotation())
    axis.set_minor_formatter(NullFormatter())
