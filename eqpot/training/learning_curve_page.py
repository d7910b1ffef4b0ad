"""The page about learning curves: figures, the fitted laws, and all points as a table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.training.figures import COLORS, canvas, panel, plain_log, styled
from eqpot.training.learning_curve_points import LearningCurve
from eqpot.training.metrics import QUANTITIES, Quantity
from eqpot.training.page import Panel, contents, gallery, header, number, page, paragraph, replace_file, section, table
from eqpot.training.power_law import PowerLaw
from eqpot.training.report_run import as_yaml

METHOD = (
    "Each line is error = a·N^(−b), fitted to the mean absolute errors of all sizes and seeds by least squares in logarithms; ± is the standard error "
    "of b, the interval holds b with 95 % if the errors scatter log-normally about the law. Bands are one standard error of the line."
)
READING = (
    "Where the error is high on training frames too, the model is too small or trained too briefly (bias): more channels help. Where it is low on "
    "training frames and high on others (variance), more data help: the law says how much."
)


def write_page(folder: Path, name: str, curve: LearningCurve, same_steps: bool, config: Mapping[str, Any]) -> None:
    """Write learning_curve.html and learning_curve.json into the folder of a study.

    Raises:
        TrainingError: when a file cannot be written; an older one is kept.
    """
    document = {**curve.as_dict(), "same_steps": same_steps, "config": config}
    replace_file(folder / "learning_curve.json", json.dumps(document, indent=1) + "\n")
    quantities = [q for q in QUANTITIES if q.key in curve.quantities]
    sections = {
        "Error and data": gallery([_figure(curve, q) for q in quantities]) + paragraph(READING),
        "Power laws": _laws(curve, quantities) + paragraph(METHOD, "dim"),
        "Points": _points(curve, quantities),
        "Configuration": as_yaml(config),
    }
    head = header(f"Learning curves: {name}", [_study(curve), _length(same_steps)])
    parts = [head, contents(sections), *(section(title, inner) for title, inner in sections.items())]
    replace_file(folder / "learning_curve.html", page(f"Learning curves: {name}", parts))


def _study(curve: LearningCurve) -> str:
    sizes, seeds = sorted({p.size for p in curve.points}), {p.seed for p in curve.points}
    models = f"{len(curve.models)} model{'s' * (len(curve.models) > 1)}"
    return f"{models}, {', '.join(map(number, sizes))} frames, {len(seeds)} seed{'s' * (len(seeds) > 1)}"


def _length(same_steps: bool) -> str:
    return "all trainings take the same number of steps" if same_steps else "all trainings take the same number of epochs"


@styled
def _figure(curve: LearningCurve, quantity: Quantity) -> Panel:
    """Training and held-out errors side by side against the number of frames, one colour per model."""
    figure, _ = canvas(11.2, 4.6)
    figure.clear()
    left, right = figure.subplots(1, 2, sharey=True)
    shown = "test" if any(p.test for p in curve.points) else "validation"
    for (axes, part), title in zip(((left, "train"), (right, "held out")), ("training frames", f"{shown} frames"), strict=True):
        for model, color in zip(curve.models, _colors(curve), strict=True):
            name = _as_text(model)
            sizes, errors = curve.columns(model, part, quantity.key)
            means = [(n, np.exp(np.log(errors[sizes == n]).mean())) for n in np.unique(sizes)]
            middle = quantity.size * np.array(means).reshape(-1, 2)[:, 1]
            axes.plot(sizes, quantity.size * errors, "o", color=color, markersize=4, alpha=0.4, mew=0)
            law = curve.law(model, quantity.key) if part == "held out" else None
            kind = {"linestyle": "none"} if law else {"linewidth": 1.3, "linestyle": (0, (4, 2))}
            axes.plot(
                np.unique(sizes), middle, marker="o", color=color, markersize=7, mec="white", mew=1, label=None if law else name, **kind
            )
            if law:
                _line(axes, law, np.unique(sizes), quantity.size, color, f"{name}: b = {_exponent(law)}")
        ticks = np.unique([p.size for p in curve.points])
        axes.set(xscale="log", yscale="log", xlabel="training frames N", title=f"error on {title}", xticks=ticks, xticklabels=ticks)
        axes.minorticks_off()
        axes.legend(loc="best", frameon=False)
    left.set_ylabel(f"{quantity.name} MAE [{quantity.unit}]")
    plain_log(left.yaxis)
    return panel(f"{quantity.name.capitalize()} error", figure, _caption(curve, quantity), wide=True)


def _as_text(name: str) -> str:
    """A name that matplotlib takes neither for a formula nor, for its first character, as not to be shown."""
    return ("\u200b" if name.startswith("_") else "") + name.replace("$", r"\$")


def _colors(curve: LearningCurve) -> list[str]:
    return [COLORS[k % len(COLORS)] for k in range(len(curve.models))]


def _line(axes: Any, law: PowerLaw, sizes: np.ndarray, unit: float, color: str, label: str) -> None:
    """The law from the smallest to the largest size, with its band."""
    grid = np.geomspace(sizes.min(), sizes.max(), 50)
    values, spread = unit * law(grid), law.spread(grid)
    axes.plot(grid, values, color=color, linewidth=1.6, label=label)
    if np.isfinite(spread).all():
        axes.fill_between(grid, values / spread, values * spread, color=color, alpha=0.13, linewidth=0)


def _exponent(law: PowerLaw) -> str:
    return _plain(law.b) + (f" ± {law.b_error:.2f}" if np.isfinite(law.b_error) else "")


def _plain(value: float) -> str:
    """Two decimals and a true minus."""
    return f"{value:.2f}".replace("-", "−")


def _caption(curve: LearningCurve, quantity: Quantity) -> str:
    """The best model at the largest size, in words."""
    most = max(p.size for p in curve.points)
    ends = {m: [p for p in curve.points if (p.model, p.size) == (m, most)] for m in curve.models}
    means = {m: float(np.mean([p.error("held out", quantity.key) for p in rows])) for m, rows in ends.items() if rows}
    best = min(means, key=lambda m: means[m] if np.isfinite(means[m]) else np.inf)
    trained = float(np.mean([p.error("train", quantity.key) for p in ends[best]]))
    size, unit = quantity.size, quantity.unit
    return (
        f"With {number(most)} frames, {best} errs least: {number(size * means[best])} {unit} on frames that it has not seen, "
        f"{number(size * trained)} {unit} on those that it was trained on."
    )


def _laws(curve: LearningCurve, quantities: list[Quantity]) -> str:
    rows = []
    for quantity in quantities:
        for model in curve.models:
            if (law := curve.law(model, quantity.key)) is None:
                continue
            interval = f"{_plain(law.b_low)} … {_plain(law.b_high)}" if np.isfinite(law.b_low) else "needs three points"
            more = f"× {number(2 ** (1 / law.b))}" if law.b > 0.02 and not law.b_low <= 0 else "–"
            unit = f"{number(quantity.size * law.a)} {quantity.unit}"
            rows.append((quantity.name, model, number(_parameters(curve, model)), unit, _exponent(law), interval, more))
    heads = ("quantity", "model", "parameters", "a", "b", "95 % interval of b", "frames for half the error")
    return table(heads, rows, text=(0, 1)) if rows else paragraph("A law needs two sizes.")


def _parameters(curve: LearningCurve, model: str) -> int:
    return next(p.parameters for p in curve.points if p.model == model)


def _points(curve: LearningCurve, quantities: list[Quantity]) -> str:
    """Means over seeds, and their standard deviations."""

    def cell(points: list[Any], part: str, quantity: Quantity) -> str:
        values = quantity.size * np.array([p.error(part, quantity.key) for p in points])
        spread = f" ± {number(float(values.std(ddof=1)), 2)}" if len(values) > 1 else ""
        return "–" if np.isnan(values).all() else number(float(values.mean())) + spread

    parts = [part for part in ("train", "valid", "test") if any(getattr(p, part) for p in curve.points)]
    heads = [f"{q.name} {part} [{q.unit}]" for q in quantities for part in parts]
    rows = []
    for model in curve.models:
        for size in sorted({p.size for p in curve.points if p.model == model}):
            points = [p for p in curve.points if (p.model, p.size) == (model, size)]
            cells = [cell(points, part, q) for q in quantities for part in parts]
            rows.append((model, number(size), str(len(points)), number(points[0].epochs), *cells))
    return table(("model", "frames", "seeds", "epochs", *heads), rows)
