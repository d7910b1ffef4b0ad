"""Figures of the report of an active-learning run: over rounds, and against the labels that were paid for. See `eqpot.training.figures`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eqpot.active.observables import BINS, REACH
from eqpot.active.query import ABSURD, CANDIDATE, KNOWN
from eqpot.training.figures import BLUE, COLORS, GREEN, GREY, ORANGE, canvas, panel, plain_log, styled
from eqpot.training.page import Panel, number

Round = Mapping[str, Any]
OTHERS, DOUBTFUL = "others", "doubtful"
SHARES = {KNOWN: "#a9d5c6", DOUBTFUL: "#f0b27a", ABSURD: "#a04a7c", "broken off": GREY}
"""Colours of what a potential knows, doubts and cannot be believed in."""
QUANTILES = ((0.5, "half of the structures"), (0.9, "90 %"), (1.0, "the largest"))


@styled
def errors(title: str, unit: str, calls: Sequence[int], values: Sequence[float | None], bounds: Mapping[str, Any], caption: str) -> Panel:
    """Errors on fresh structures against labels paid for; `bounds`: name → (calls, values), drawn dashed. All in `unit`; None is left out."""
    figure, axes = canvas()
    lines = {"audit, RMSE": (calls, values), **bounds}
    positive = False
    for (name, (x, y)), color in zip(lines.items(), COLORS, strict=False):
        points = np.array([(a, b) for a, b in zip(x, y, strict=True) if b is not None and np.isfinite(b)]).reshape(-1, 2)
        dashed = {"linestyle": (0, (4, 2)), "marker": "s", "markersize": 4} if name in bounds else {"marker": "o", "markersize": 5.5}
        axes.plot(*points.T, color=color, label=name, mec="white", mew=0.8, **dashed)
        positive |= bool((points[:, 1] > 0).any())
    axes.set(xlabel="labels paid for before the training", ylabel=f"{title.lower()} [{unit}]", yscale="log" if positive else "linear")
    axes.set_xlim(0, 1.06 * max((max(x) for x, _ in lines.values() if len(x)), default=1) or 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if positive:
        plain_log(axes.yaxis)
    if bounds:
        figure.legend(loc="outside upper left", ncols=3)
    return panel(title, figure, caption)


@styled
def doubt(rounds: Sequence[Round]) -> Panel:
    """Quantiles of σ over the structures of each round, between the edges of the band."""
    figure, axes = canvas()
    places = [r["round"] for r in rounds]
    sigma = [np.asarray(r["sampled"]["sigma_eV_A"], float) for r in rounds]
    low, high = (np.array([r["band_eV_A"][edge] for r in rounds]) for edge in ("low", "high"))
    positive = np.concatenate([*(s[np.isfinite(s) & (s > 0)] for s in sigma), high])
    floor = 0.7 * positive.min()  # where the lower edge is zero the band goes down to the axis
    steps = np.array([*places, places[-1] + 1]) - 0.5  # an edge holds for its whole round
    axes.fill_between(
        steps, np.maximum([*low, low[-1]], floor), [*high, high[-1]], step="post", color=SHARES[DOUBTFUL], alpha=0.3, linewidth=0
    )
    for edge, name, kind in ((np.where(low > 0, low, np.nan), "what is asked: σ from here …", "--"), (high, "… to here", "-")):
        axes.step(steps, [*edge, edge[-1]], where="post", label=name, linestyle=kind, color=ORANGE, linewidth=1.2)
    for (level, name), color in zip(QUANTILES, ("#062b45", BLUE, "#8fc1e3"), strict=True):
        values = [np.quantile(s[np.isfinite(s)], level) if np.isfinite(s).any() else np.nan for s in sigma]
        axes.plot(places, values, color=color, marker="o", markersize=5, mec="white", mew=0.8, label=name)
    axes.set(yscale="log", ylabel="σ of the most doubtful atom [eV/Å]")
    if not (low > 0).all():
        axes.set_ylim(bottom=floor)
    _rounds(axes, places)
    plain_log(axes.yaxis)
    figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2)
    last = sigma[-1][np.isfinite(sigma[-1])]
    found = (
        f"in the last round half of the structures are below {number(float(np.median(last)))} eV/Å" if len(last) else "nothing was judged"
    )
    caption = (
        f"How far the ensemble doubts what it sampled: {found}. Within the shaded band a label is worth its price: below lies what is known, above "
        "what cannot be believed."
    )
    caption += "" if (low > 0).all() else " As long as σ is not calibrated nothing counts as known."
    return panel("Doubt", figure, caption)


def shares(rounds: Sequence[Round]) -> Panel:
    """Known, candidate and absurd structures of each round, and runs that broke off."""
    names = {KNOWN: KNOWN, CANDIDATE: DOUBTFUL, ABSURD: ABSURD}
    counts = {name: [r["sampled"][kind] for r in rounds] for kind, name in names.items()}
    counts["broken off"] = [r["sampled"]["broken"] for r in rounds]
    totals = np.maximum(np.sum(list(counts.values()), axis=0), 1)
    layers = {name: 100 * np.array(values) / totals for name, values in counts.items() if any(values) or name != "broken off"}
    last = ", ".join(f"{number(float(values[-1]), 2)}\u00a0% {name}" for name, values in layers.items())
    caption = f"Of what was sampled in the last round: {last}. The edges move: a better potential calls less of the same known."
    return stacked("What is known", [r["round"] for r in rounds], layers, "structures [%]", caption, SHARES)


@styled
def elements(rounds: Sequence[Round]) -> Panel:
    """σ that 95 % of the atoms of an element do not exceed."""
    figure, axes = canvas()
    tables = [r["sampled"]["by_element_eV_A"] for r in rounds]
    names = sorted({name for row in tables for name in row}, key=lambda n: -tables[-1].get(n, 0.0))
    for name, color in zip(names, COLORS, strict=False):
        values = [row.get(name, np.nan) for row in tables]
        axes.plot([r["round"] for r in rounds], values, color=color, marker="o", markersize=5, mec="white", mew=0.8, label=name)
    axes.set(ylabel="σ of 95 % of the atoms, at most [eV/Å]", ylim=(0, None))
    _rounds(axes, [r["round"] for r in rounds])
    if names:
        figure.legend(loc="outside upper left", ncols=8)
    rest = f" {len(names) - len(COLORS)} more elements, with smaller σ, are not drawn." if len(names) > len(COLORS) else ""
    return panel("Doubt by element", figure, f"For each element the σ that 95 % of its atoms do not exceed.{rest}")


@styled
def stacked(
    title: str, places: Sequence[int], layers: Mapping[str, Any], label: str, caption: str, colors: Mapping[str, str] | None = None
) -> Panel:
    """Bars over rounds; `layers`: name → height in each of `places`. The smallest layers are one where there are too many for colours."""
    figure, axes = canvas()
    layers = {name: np.asarray(values, float) for name, values in layers.items()}
    if len(layers) > len(COLORS):
        order = sorted(layers, key=lambda name: -layers[name].sum())
        kept, rest = order[: len(COLORS) - 1], order[len(COLORS) - 1 :]
        layers = {name: layers[name] for name in kept} | {OTHERS: np.sum([layers[name] for name in rest], axis=0)}
    bottom = np.zeros(len(places))
    for k, (name, values) in enumerate(layers.items()):
        axes.bar(places, values, 0.62, bottom=bottom, color=(colors or {}).get(name, COLORS[k % len(COLORS)]), label=name)
        bottom = bottom + values
    axes.set(ylabel=label)
    axes.grid(False, axis="x")
    _rounds(axes, places)
    if layers:
        figure.legend(loc="outside upper left", ncols=4 if max(map(len, layers)) < 11 else 3, columnspacing=1.2)
    return panel(title, figure, caption)


@styled
def observable(name: str, first: tuple[int, Mapping[str, Any]], last: tuple[int, Mapping[str, Any]], label: str, caption: str) -> Panel:
    """A quantity in two rounds, (round, values and errors), with bands or bars of one standard error."""
    figure, axes = canvas()
    for (place, found), color in zip((first, last) if first[0] != last[0] else (last,), (GREY, BLUE), strict=False):
        values, spread = np.asarray(found["values"], float), np.asarray(found["errors"], float)
        if len(values) == 1:
            axes.errorbar([place], values, spread, fmt="o", color=color, capsize=4, label=f"round {place}")
            continue
        if names := found.get("labels"):
            axes.errorbar(range(len(names)), values, spread, fmt="o", color=color, capsize=4, label=f"round {place}")
            axes.set_xticks(range(len(names)), names)
            continue
        x = (np.arange(len(values)) + 0.5) * REACH / BINS
        axes.plot(x, values, color=color, label=f"round {place}", drawstyle="steps-mid")
        axes.fill_between(x, values - spread, values + spread, step="mid", color=color, alpha=0.25, linewidth=0)
        axes.set(xlabel="distance [Å]")
    if len(first[1]["values"]) == 1:
        _rounds(axes, [first[0], last[0]])
    axes.set(ylabel=label)
    figure.legend(loc="outside upper left", ncols=2)
    return panel(name, figure, caption)


def costs(seconds: Mapping[int, Mapping[str, float]], caption: str) -> Panel:
    """Wall time [s] of each round, {round: {what: seconds}}; −1 is what came before the first."""
    places = sorted(seconds)
    most = max((sum(row.values()) for row in seconds.values()), default=0.0)
    size, unit = (3600.0, "h") if most >= 2 * 3600 else (60.0, "min") if most >= 120 else (1.0, "s")
    names = {"train": "training", "sample": "sampling", "label": "labels"}
    kinds = dict.fromkeys((*names, *(what for row in seconds.values() for what in row)))
    layers = {names.get(what, what): [seconds[p].get(what, 0.0) / size for p in places] for what in kinds}
    colors = {"training": BLUE, "sampling": GREEN, "labels": ORANGE}
    return stacked("Wall time", places, layers, f"wall time [{unit}]", caption, colors)


def _rounds(axes: Any, places: Sequence[int]) -> None:
    """An axis of rounds, wide enough that a single one does not fill it."""
    middle, wide = (places[0] + places[-1]) / 2, max(places[-1] - places[0] + 1, 4) / 2
    axes.set(xlabel="round", xlim=(middle - wide - 0.1, middle + wide + 0.1))
    every = max(1, len(places) // 12)
    axes.set_xticks(places[::every], ["start" if p < 0 else str(p) for p in places[::every]])
