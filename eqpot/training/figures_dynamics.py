"""Figures about a trajectory. `run` is an `eqpot.md.Run`, or anything that has its arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqpot.training.figures import BLUE, GREEN, INK, ORANGE, canvas, finite, panel, styled
from eqpot.training.page import Panel, number


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
