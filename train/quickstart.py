"""The whole path in one script: train an ensemble on the shipped data, evaluate it, run dynamics, write a report.

Run by `make quickstart` from the top of the repository; writes runs/quickstart/.
"""

import time
from pathlib import Path

import eqpot
from eqpot.cli.console import console, error_table, status
from eqpot.cli.fit import evaluate_held_out, read_history, run_fit
from eqpot.cli.md import md_progress
from eqpot.cli.reporting import calibration_line, write_run_report
from eqpot.core.config import build, load_yaml

RECIPE = Path("train/recipes/quickstart.yaml")
HOME = Path("runs/quickstart")
STEPS = 4000  # of 0.5 fs: 2 ps


def main() -> None:
    """Fit, evaluate, simulate, report."""
    began = time.monotonic()
    config = build(eqpot.FitConfig, load_yaml(RECIPE), where=str(RECIPE))
    status.rule("1 of 3 · train four members on ethanol, labelled with GFN2-xTB")
    potential = run_fit(config, HOME, overwrite=True)
    status.rule("2 of 3 · evaluate on frames that were held out")
    evaluations = evaluate_held_out(potential, config)
    console.print(error_table("Errors of the 4-member mean", evaluations))
    status.rule("3 of 3 · 2 ps of dynamics at 300 K, with the uncertainty of every atom")
    start = evaluations["test"].frames[0].structure
    with md_progress(STEPS) as progress:
        run = eqpot.simulate(
            potential, start, eqpot.NVT(temperature_K=300), STEPS, trajectory=HOME / "md.extxyz", overwrite=True, progress=progress
        )
    report = write_run_report(HOME / "report.html", "Quickstart: ethanol", potential, read_history(HOME), evaluations, run, 300)
    status.rule(f"done in {(time.monotonic() - began) / 60:.1f} minutes")
    console.print(
        f"potential    {HOME / 'potential.safetensors'}\ntrajectory   {HOME / 'md.extxyz'}\nreport       {report}   (open it in a browser)\n"
        f"σ            {calibration_line(potential, HOME / 'potential.safetensors')}\n\n"
        f"next:  eqpot inspect {HOME / 'potential.safetensors'}\n"
        f"       eqpot evaluate {HOME / 'potential.safetensors'} train/data/ethanol_gfn2.extxyz.xz\n"
        f"       eqpot md {HOME / 'potential.safetensors'} {HOME / 'md.extxyz'} --temperature 500 --time-ps 1\n"
        f"       eqpot fit {RECIPE} name=mine training.epochs=200\n"
        "(these commands are in .venv/bin; activate it with: source .venv/bin/activate)"
    )


if __name__ == "__main__":
    main()
