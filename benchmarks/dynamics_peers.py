"""Steps of dynamics, against JAX packages that a user would take instead; models of equal size with random weights, constant energy.

    python -m benchmarks.dynamics_peers --mlip PYTHON --jax-md PYTHON [--cells 3]

Each package runs in a process of its own, by its own interpreter, all pinned to one core, and they take turns. mlip drives its MACE by its JAX-MD engine;
jax-md drives its NequIP with its own neighbour list. Times are per step, after compilation, with neighbour lists.
"""

import argparse
import statistics
import subprocess
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.common import write
from benchmarks.speed.structures import silicon

WORKERS = Path(__file__).parent / "speed" / "dynamics_workers"
STEPS = 20
TURNS = 5
PAIRS = {"mace": ("eqpot", "mlip"), "nequip": ("eqpot", "jax_md")}


def start(python: str, package: str, kind: str, structure: Path, stack: ExitStack) -> subprocess.Popen:
    """A worker, ready to take steps."""
    command = ["taskset", "-c", "0", "env", "OMP_NUM_THREADS=1", "JAX_NUM_CPU_DEVICES=1", "JAX_PLATFORMS=cpu", python, "-P"]
    arguments = [str(WORKERS / f"{package}.py"), kind, str(structure), str(STEPS)]
    process = subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stack.callback(process.kill)
    return process


def turn(process: subprocess.Popen) -> float:
    """Seconds of one round of steps."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    while line := process.stdout.readline():
        if line.startswith("seconds "):
            return float(line.split()[1])
    raise SystemExit("a worker died; its error is above")


def main() -> None:
    """Measure, print, write."""
    import sys
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlip", required=True)
    parser.add_argument("--jax-md", required=True)
    parser.add_argument("--cells", type=int, default=3, help="8 cells³ atoms; jax-md's list needs a cell of at least twice the range")
    options = parser.parse_args()
    pythons = {"eqpot": sys.executable, "mlip": options.mlip, "jax_md": options.jax_md}
    atoms, rows = silicon(options.cells), []
    with tempfile.TemporaryDirectory() as folder:
        structure = Path(folder) / "si.npz"
        np.savez(structure, numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array)
        for kind, packages in PAIRS.items():
            with ExitStack() as stack:
                workers = {name: start(pythons[name], name, kind, structure, stack) for name in packages}
                for worker in workers.values():
                    turn(worker)
                times = [[turn(worker) / STEPS for worker in workers.values()] for _ in range(TURNS)]
            mine, other = (1e3 * statistics.median(t[k] for t in times) for k in range(2))
            ratio = statistics.median(b / a for a, b in times)
            rows.append({"kind": kind, "atoms": len(atoms), "eqpot_ms": mine, "peer": packages[1], "peer_ms": other, "speedup": ratio})
            print(
                f"{kind:7s} {len(atoms)} atoms  eqpot {mine:8.2f} ms  {packages[1]} {other:8.2f} ms  {ratio:.2f} times as fast", flush=True
            )
    write("dynamics_peers", rows)


if __name__ == "__main__":
    main()
