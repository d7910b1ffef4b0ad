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
) -> Path:
    """One HTML file about a fit; `dynamics` is an `eqpot.md.Run` of the potential, if there is one, thermostatted at `target_K`."""
    from eqpot.training.report import write_report

    parts = {"history": history, "evaluations": evaluations, "dynamics": dynamics, "target_K": target_K}
    return write_report(path, title=title, potential=potential, **parts)


def calibration_line(potential: Any, path: Path) -> str:
    """Whether σ can be taken at its word, and if not, the command that may mend it; `path` is the potential's file."""
    from eqpot.training.report_uncertainty import calibrated_on

    calibration = potential.trust.calibration
    if calibration is not None and calibration.calibrated:
        return f"calibrated on {calibrated_on(calibration)} structures"
    if not potential.has_sigma:
        return "not calibrated: no σ; set ensemble.members or ensemble.last_layer"
    why = f" ({calibration.fault}, of {calibrated_on(calibration)})" if calibration is not None else ""
    return f"not calibrated{why}: eqpot calibrate {path} HELD_OUT_STRUCTURES"
