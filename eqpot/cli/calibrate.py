"""`eqpot calibrate`: make a potential's uncertainty one to believe."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import columns, console, facts, new_file, print_json
from eqpot.cli.selection import Keys, UnitsOf, read_for


class CalibrationMethod(StrEnum):
    """Choices of --method."""

    isotonic = "isotonic"
    scale = "scale"


def calibrate(
    potential: Annotated[Path, typer.Argument(help="Potential file (.safetensors).", show_default=False)],
    data: Annotated[
        list[str],
        typer.Argument(help="Labelled structures that the potential was not trained on, like those it is for.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Calibrated potential; by default <name>.calibrated.safetensors.", show_default=False),
    ] = None,
    method: Annotated[
        CalibrationMethod, typer.Option(help="isotonic: a growing function of σ per element; scale: a factor per element.")
    ] = CalibrationMethod.isotonic,
    domain: Annotated[
        list[str] | None, typer.Option(help="Structures that the potential was trained on, to fit its domain anew.", show_default=False)
    ] = None,
    key: Keys = None,
    unit: UnitsOf = None,
    index: Annotated[str | None, typer.Option(help="Which frames, as a Python slice such as ':100' or '::10'.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Fit the uncertainty of a potential to errors on structures that it was not trained on; an earlier calibration is replaced.

    The potential then states calibrated standard deviations and intervals that hold, everywhere: in predictions, dynamics and reports.
    Whether they hold is tested on structures left out of the fit.
    """
    from eqpot.potential import Potential
    from eqpot.uncertainty import calibrate as fit
    from eqpot.uncertainty import fit_domain

    target = new_file(output or potential.with_suffix(".calibrated.safetensors"), overwrite)
    model = Potential.load(potential)
    model = fit(model, read_for(model, data, key, unit, index), method.value)
    if domain:
        model = fit_domain(model, read_for(model, domain, key, unit, None, labelled=False))
    model.save(target)
    calibration = model.trust.calibration
    assert calibration is not None
    if as_json:
        print_json({"calibrated": calibration.calibrated, "fault": calibration.fault, "checks": calibration.checks, "output": target})
        return
    console.print(
        columns(
            "Tested on structures left out", ["", "structures", *(f"{p} %" for p in LEVELS), "ENCE", "error / σ"], _rows(calibration.checks)
        )
    )
    verdict = "calibrated" if calibration.calibrated else f"NOT calibrated: {calibration.fault}"
    console.print(facts("", [("verdict", verdict), ("method", calibration.method), ("potential", target)]))


LEVELS = ("50", "68", "90", "95")
"""Intervals of which it is shown how many errors they hold."""


def _rows(checks: Any) -> list[list[str]]:
    """One row per quantity: how many per cent of the errors the intervals of each level hold, and whether errors are as large as σ."""
    rows = []
    for name, found in checks.items():
        held = [f"{100 * found['coverage'][p]:.1f}" if p in found["coverage"] else "too few" for p in LEVELS]
        rows.append([name, str(found["structures"]), *held, f"{found['ence']:.3f}", f"{found['factor']:.2f}"])
    return rows
