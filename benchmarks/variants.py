"""What the fast forms of the network cost in accuracy: equal data, epochs, seeds and (nearly) equal numbers of parameters.

python -m benchmarks.variants ethanol 3bpa silicon --epochs 40
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.accuracy import errors
from benchmarks.common import SHARED, write
from eqpot.core.config import build
from eqpot.data import read
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec
from eqpot.training import FitConfig, evaluate, fit

SETS = {
    "ethanol": {
        "data": {"train": [str(SHARED / "rmd17/ethanol_train_01.extxyz.gz")], "valid": 50},
        "test": SHARED / "rmd17/ethanol_test_01.extxyz.gz",
        "loss": {"energy": 1000, "forces": 10},
        "training": {"batch_size": 10},
    },
    "3bpa": {
        "data": {"train": [str(SHARED / f"3bpa/{name}.extxyz.gz") for name in ("train_300K", "isolated_atoms")], "valid": 50},
        "test": SHARED / "3bpa/proxytest_300K.extxyz.gz",
        "loss": {"energy": 1000, "forces": 10},
        "training": {"batch_size": 5},
    },
    "silicon": {
        "data": {"train": [str(SHARED / "mlearn/Si_train.extxyz.gz")], "valid": 20},
        "test": SHARED / "mlearn/Si_test.extxyz.gz",
        "loss": {"energy": 1000, "forces": 10, "stress": 10000},
        "training": {"batch_size": 2},
    },
}
VARIANTS = {
    "path radial, contraction": {},
    "degree radial, contraction": {"radial": "degree"},
    "path radial, grid": {"update": "grid"},
    "degree radial, grid": {"radial": "degree", "update": "grid"},
}
BASE = {"l_max": 3, "correlation": 3, "radial_hidden": [64, 64]}


def parameters(settings: dict, elements: tuple[str, ...]) -> int:
    """Number of parameters of one member."""
    import jax

    return sum(x.size for x in jax.tree.leaves(ModelSpec(EquivariantConfig(**settings), elements, Normalization()).shapes()))


def matched(settings: dict, elements: tuple[str, ...], target: int) -> dict:
    """The settings with the number of channels, a multiple of 4, that comes nearest to a number of parameters."""
    widths = [{**settings, "hidden": f"{c}x0e + {c}x1o"} for c in range(8, 129, 4)]
    return min(widths, key=lambda s: abs(parameters(s, elements) - target))


def run(name: str, settings: dict, epochs: int, seed: int) -> dict:
    """Train one variant on one set, and test it."""
    spec = SETS[name]
    training = {**spec["training"], "epochs": epochs, "checkpoint_every": epochs}
    config = build(
        FitConfig, {"name": name, "seed": seed, "data": spec["data"], "model": settings, "loss": spec["loss"], "training": training}
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        potential = fit(config, folder=Path(folder) / "run")
    row = errors(evaluate(potential, read(spec["test"])))
    return {
        "seconds": time.perf_counter() - began,
        "parameters": potential.n_parameters,
        **{k: row[k] for k in ("energy", "forces", "stress") if k in row},
    }


def main() -> None:
    """Train all variants on the named sets, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--channels", type=int, default=32, help="of the exact form")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    options = parser.parse_args()
    for name in options.sets:
        elements = read(SETS[name]["data"]["train"][0]).elements
        base = {**BASE, "hidden": f"{options.channels}x0e + {options.channels}x1o"}
        rows = []
        print(
            f"{name}, {options.epochs} epochs\n{'variant':30s} {'hidden':14s} {'parameters':>10s} {'F RMSE':>9s} {'F MAE':>9s} {'E MAE':>9s} {'s':>6s}"
        )
        for variant in options.only:
            settings = matched({**base, **VARIANTS[variant]}, elements, parameters(base, elements))
            for seed in range(options.seeds):
                row = {"variant": variant, "seed": seed, "hidden": settings["hidden"], **run(name, settings, options.epochs, seed)}
                rows.append(row)
                forces, energy = row["forces"], row["energy"]
                print(
                    f"{variant:30s} {row['hidden']:14s} {row['parameters']:10d} {forces['rmse']:9.5f} {forces['mae']:9.5f}"
                    f" {energy['mae']:9.5f} {row['seconds']:6.0f}",
                    flush=True,
                )
        write(f"variants_{name}", {"epochs": options.epochs, "rows": rows})


if __name__ == "__main__":
    main()
