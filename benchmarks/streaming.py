"""A million small structures written to a store and read as batches for one epoch, in memory that does not grow with them.

    python -m benchmarks.streaming [--structures 100000 1000000] [--batch-atoms 512] [--workers 0]

Each number of structures runs in a process of its own, in three stages: write (make, check, hash, write), count (neighbours, once for a
cutoff) and epoch (plan, read, find neighbours, collate). Structures and labels are made on the fly: molecules and crystals of 2 to 12 atoms with
energies, forces and, for crystals, stress.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ALLOWED = ("energy-outlier", "length-unit", "energy-unit", "force-unit", "energy-forces", "stress-sign", "large-force")
"""Made-up labels obey no physics."""
CUTOFF = 3.0
RATE = "structures per second"
"""By processor time without workers, so that a busy machine does not show; by the clock with them."""


def made_up(count: int) -> Iterator[Any]:
    """Structures on jittered lattices of 1.5 Å, a third of them periodic."""
    from eqpot.graph import Frame, Labels, Structure

    rng = np.random.default_rng(0)
    lattice = 1.5 * np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for k in range(count):
        size = int(rng.integers(2, 13))
        positions = lattice[:size] + rng.normal(0, 0.05, (size, 3))
        periodic = k % 3 == 0
        labels = Labels(float(-4.0 * size + rng.normal()), rng.normal(size=(size, 3)), np.eye(3) * 0.01 if periodic else None)
        structure = Structure(rng.choice([1, 6, 7, 8], size), positions, np.eye(3) * 4.5 if periodic else np.zeros((3, 3)), periodic)
        yield Frame(structure, labels, f"made up:frame {k}", "crystal" if periodic else "molecule")


def peak_mb() -> float:
    """Most memory that this process has had at once [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def clocks() -> tuple[float, float]:
    """Seconds on the wall and of this process's processor time."""
    return time.perf_counter(), time.process_time()


def measure(count: int, batch_atoms: int, workers: int) -> dict[str, Any]:
    """Seconds, structures per second and peak memory after each stage."""
    from eqpot.data import prepare_store
    from eqpot.training.batches import Batches
    from eqpot.training.samples import StoredSamples

    row: dict[str, Any] = {"structures": count, "batch_atoms": batch_atoms, "workers": workers, "MB after imports": round(peak_mb())}

    def done(stage: str, began: tuple[float, float]) -> tuple[float, float]:
        seconds, busy = (now - then for now, then in zip(clocks(), began, strict=True))
        rate = round(count / (seconds if workers else busy))
        row[stage] = {"seconds": round(seconds, 1), "CPU seconds": round(busy, 1), RATE: rate, "peak MB": round(peak_mb())}
        print(f"{count:>9,} structures, {stage}: {row[stage]}", file=sys.stderr, flush=True)
        return clocks()

    with tempfile.TemporaryDirectory(dir=os.environ.get("STREAMING_FOLDER")) as folder:
        began = clocks()
        store = prepare_store(made_up(count), Path(folder) / "set", allow=ALLOWED)
        row["store MB"] = round(sum(f.stat().st_size for f in store.folder.path.iterdir()) / 1e6)
        began = done("write", began)
        samples = StoredSamples(store, store.elements, CUTOFF, np.zeros(len(store.elements)), workers=workers)
        batches = Batches(samples, 1, np.ones((1, count)), batch_atoms=batch_atoms, workers=workers)
        began = done("count", began)
        steps = sum(len(chosen) > 0 for chosen, *_ in batches.epoch(0, 0))
        done("epoch", began)
        batches.close()
        row |= {
            "steps": steps,
            "padding of atoms": round(batches.padding[0], 4),
            "padding of neighbour slots": round(batches.padding[1], 4),
        }
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--batch-atoms", type=int, default=512)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--one", action="store_true", help="measure the first number here and print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.structures[0], options.batch_atoms, options.workers)))
        return
    from benchmarks.common import write

    rows = []
    for count in options.structures:
        command = [sys.executable, "-m", "benchmarks.streaming", "--one", "--structures", str(count)]
        command += ["--batch-atoms", str(options.batch_atoms), "--workers", str(options.workers)]
        rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout))
    per_structure = (
        (rows[-1]["epoch"]["peak MB"] - rows[0]["epoch"]["peak MB"]) / max(rows[-1]["structures"] - rows[0]["structures"], 1) * 1e6
    )
    for row in rows:
        print(json.dumps(row, indent=1))
    print(f"memory grows by {per_structure:.0f} bytes per structure (index, sizes, plan)")
    write("streaming", {"rows": rows, "bytes per further structure": round(per_structure)})


if __name__ == "__main__":
    main()
