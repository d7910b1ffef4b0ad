"""Joins what several rooms know into one report: errors from training, scores from uncertainty, a run from md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_run_report(
    path: Path,
    title: str,
    potential: Any,
    history: Sequence[dict] | None,
    evaluations: Mapping[str, Any],
    dynamics: Any = None,
    target_K: float | None = None,
) -> Path:
    """One HTML file about a fit; `dynamics` is an `eqpot.md.Run` of the potential, if there is one, thermostatted at `target_K`."""
    from eqpot.training.report import write_report
    from eqpot.uncertainty import summarise

    scores = None
    if evaluations:
        errors, sigmas = evaluations.get("test", list(evaluations.values())[-1]).force_uncertainty()
        scores = summarise(errors, sigmas) if (sigmas > 0).any() else None
    parts = {"history": history, "evaluations": evaluations, "scores": scores, "dynamics": dynamics, "target_K": target_K}
    return write_report(path, title=title, potential=potential, **parts)
