"""Joins what several rooms know into one report: errors and scores from training, a run from md."""

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
    scores_before: Mapping[str, Any] | None = None,
) -> Path:
    """One HTML file about a fit; `dynamics` is an `eqpot.md.Run` of the potential, if there is one, thermostatted at `target_K`, and
    `scores_before` are the scores of the forces' σ on the set that is shown, before it was calibrated."""
    from eqpot.training.report import write_report

    parts = {"history": history, "evaluations": evaluations, "scores_before": scores_before, "dynamics": dynamics, "target_K": target_K}
    return write_report(path, title=title, potential=potential, **parts)
