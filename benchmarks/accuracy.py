"""How accurate a recipe becomes: fit it, test it, keep the learning curve. A run that was cut short goes on.

python -m benchmarks.accuracy train/recipes/rmd17_50.yaml
python -m benchmarks.accuracy train/recipes/3bpa.yaml --test 300K=../shared/data/3bpa/proxytest_300K.extxyz.gz training.epochs=80
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks.common import write
from eqpot.core.config import build, load_yaml, override
from eqpot.data import read
from eqpot.training import FitConfig, evaluate, fit
from eqpot.training.setup import load_data
from eqpot.uncertainty import summarise


def errors(evaluation) -> dict:
    """Errors of one test set, with the quality of the uncertainty where there are members."""
    row = evaluation.summary()
    if evaluation.forces and evaluation.results[0].member_energies.size > 1:
        row["uncertainty"] = summarise(*evaluation.force_uncertainty())
    return row


def main() -> None:
    """Fit, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*", help="section.key=value")
    parser.add_argument("--test", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--folder", help="folder of the run; by default runs/<name>")
    options = parser.parse_args()
    config = build(FitConfig, override(load_yaml(options.recipe), options.changes))
    curve: list[dict] = []

    def on_epoch(report) -> None:
        valid = {f"{name}_mae": row["mae"] for name, row in report.valid.items() if isinstance(row, dict)}
        curve.append({"epoch": report.epoch, "seconds": round(report.seconds, 1), "loss": report.loss, **valid})
        if len(curve) % 10 == 1:
            print(curve[-1], flush=True)

    potential = fit(config, folder=options.folder or f"runs/{config.name}", on_epoch=on_epoch)
    held_out = load_data(config).test
    sets = {"test": held_out} if held_out is not None else {}
    sets |= {name: read(path) for name, path in (item.split("=", 1) for item in options.test)}
    tests = {}
    for name, frames in sets.items():
        tests[name] = errors(evaluate(potential, frames))
        for label in ("energy", "forces", "stress"):
            if label in tests[name]:
                print(f"{name:12s} {label:7s} MAE {tests[name][label]['mae']:.5f}  RMSE {tests[name][label]['rmse']:.5f}")
    rows = {
        "recipe": Path(options.recipe).name,
        "config": config.model_dump(mode="json"),
        "parameters": potential.n_parameters,
        "best_epoch": potential.metadata["best_epoch"],
        "seconds": potential.metadata["seconds"],
        "test": tests,
        "learning_curve": curve,
        "normalization": asdict(potential.spec.normalization),
    }
    write(f"accuracy_{config.name}", rows)


if __name__ == "__main__":
    main()
