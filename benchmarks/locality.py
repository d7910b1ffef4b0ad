"""What cutoff and layers do to how far forces see, and to their error: aspirin (rMD17), small networks, short equal runs.

python -m benchmarks.locality [--epochs 40] [--potential NAME=FILE STRUCTURES …]

Per model: test force MAE; and the RMS change of a force component when all atoms beyond a radius move by 0.1 Å at random (`eqpot.properties.locality`),
mean over ten test frames. With --potential, that of potentials that exist, for the first ten structures of a file.
"""

import argparse
from typing import Any

import numpy as np

import eqpot
from benchmarks.common import SHARED, table, write
from eqpot.data import read
from eqpot.properties import locality
from eqpot.training import evaluate

MODELS = ((3.0, 1), (3.0, 2), (3.0, 3), (5.0, 1), (5.0, 2), (5.0, 3), (7.0, 1))
"""Cutoff [Å] and layers."""
RADII = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
FRAMES = 10


def main() -> None:
    """Fit each model, look how far it sees, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--potential", nargs=2, action="append", default=[], metavar=("NAME=FILE", "STRUCTURES"))
    options = parser.parse_args()
    rows = []
    for named, structures in options.potential:
        name, path = named.split("=", 1)
        rows.append({"model": name, **noises(eqpot.Potential.load(path), list(read(structures))[:FRAMES])})
        print(rows[-1], flush=True)
    for cutoff, layers in () if options.potential else MODELS:
        potential, frames = trained(cutoff, layers, options.epochs)
        error = 1e3 * evaluate(potential, frames).summary()["forces"]["mae"]
        rows.append({"model": f"{cutoff:g} Å × {layers}", "force_mae": error, **noises(potential, list(frames)[:FRAMES])})
        print(rows[-1], flush=True)
    table("meV/Å: force MAE, and what is felt from beyond a radius", rows)
    write("locality" + ("_potentials" if options.potential else ""), {"epochs": options.epochs, "rows": rows})


def trained(cutoff: float, layers: int, epochs: int) -> tuple[Any, Any]:
    """A potential of 300 frames of aspirin, and 200 test frames."""
    folder = SHARED / "rmd17"
    config = {
        "name": "locality",
        "data": {
            "train": [str(folder / f"{name}.extxyz.gz") for name in ("aspirin_train_01", "isolated_atoms")],
            "valid": 50,
            "max_train": 300,
        },
        "model": {"cutoff": cutoff, "n_layers": layers, "hidden": "16x0e + 16x1o", "l_max": 2, "correlation": 2},
        "optimizer": {"learning_rate": 0.01},
        "training": {"epochs": epochs, "batch_size": 5, "validate_every": 5},
    }
    return eqpot.fit(config), read(folder / "aspirin_test_01.extxyz.gz", index=slice(0, 200))


def noises(potential: Any, frames: list[Any]) -> dict[str, float]:
    """Force noise from beyond each radius [meV/Å], root mean square over frames."""
    found = [locality(potential, frame.structure, of=len(frame.structure)) for frame in frames]
    return {f"beyond {r:g} Å": 1e3 * float(np.sqrt(np.mean([one.force_noise(r) ** 2 for one in found]))) for r in RADII}


if __name__ == "__main__":
    main()
