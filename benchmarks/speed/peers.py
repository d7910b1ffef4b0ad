"""Energy+force calls and training gradients, against the packages that a user would take instead.

    python -m benchmarks.speed.peers --python mace_torch=/path/to/python --python nequix=/path/to/python …

Each package runs in a process of its own, by its own interpreter (3.11 or newer); see workers/serve.py for what is asked of it. Models have
random weights and agree in layers, channels, degrees and radial functions, not in every detail. A case gets fresh processes, all pinned to
the same cores, which take turns, so that a busy machine slows all alike. Times leave out neighbour lists and compilation. Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import write
from benchmarks.speed.structures import structure

WORKERS = Path(__file__).parent / "workers"
CUTOFF = 5.0
COPIES = 4
"""Structures in a training batch."""
TURN_MS = 500
"""A worker's turn ends after about this long, or after --repeats calls."""


@dataclass(frozen=True)
class Case:
    """What is computed."""

    kind: str
    structure: str
    mode: str

    def __str__(self) -> str:
        return f"{self.kind} {self.structure} {self.mode}"


STRUCTURES = ("si64", "si216", "si512", "water192")
CASES = [
    *(Case(kind, structure, "energy_forces") for kind in ("mace", "nequip") for structure in STRUCTURES),
    *(Case(kind, structure, "train") for kind in ("mace", "nequip") for structure in ("si64", "water192")),
]


def write_structures(folder: Path) -> None:
    """One .npz per structure."""
    for name in STRUCTURES:
        atoms = structure(name)
        arrays = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
        np.savez(folder / f"{name}.npz", **arrays, cutoff=CUTOFF)


class WorkerError(Exception):
    """A worker said that it cannot, or died."""


class Worker:
    """A package in its own process."""

    def __init__(self, name: str, python: str, cores: int) -> None:
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        threads = {variable: str(cores) for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.process = subprocess.Popen(
            [python, "-P", str(WORKERS / "serve.py"), name],
            env={**os.environ, **threads, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.stderr.close()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        try:
            print(json.dumps({"command": command, **arguments}), file=self.process.stdin, flush=True)
            answer = json.loads(self.process.stdout.readline())
        except (OSError, json.JSONDecodeError):
            self.stderr.seek(0)
            last = self.stderr.read().strip().splitlines()[-1:]
            raise WorkerError(f"ended with code {self.process.wait()}: {' '.join(last)}") from None
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer


@dataclass(frozen=True)
class Contender:
    """A package, or a variant of its use, with one kind of model."""

    worker: str
    python: str
    package: str
    version: str
    model: str

    @property
    def kind(self) -> str:
        """ "mace" or "nequip"."""
        return self.model.split(", ")[0]

    @property
    def label(self) -> str:
        """Package and variant."""
        return " ".join([self.package, *self.model.split(", ")[1:]])


def contenders(pythons: dict[str, str]) -> list[Contender]:
    """What the packages offer; those that do not start are left out."""
    found = []
    for name, python in pythons.items():
        try:
            with Worker(name, python, 1) as worker:
                offer = worker.ask("hello")
        except (WorkerError, OSError) as error:
            print(f"left out: {name}: {error}")
            continue
        found += [Contender(name, python, offer["package"], offer["version"], model) for model in offer["models"]]
    return found


def prepared(case: Case, field: list[Contender], cores: int, folder: Path, stack: ExitStack) -> dict[str, tuple[Worker, dict[str, Any]]]:
    """For each label a worker that has called once, and what it said."""
    arguments = {"structure": str(folder / f"{case.structure}.npz"), "mode": case.mode, "copies": COPIES if case.mode == "train" else 1}
    result = {}
    for one in field:
        worker = stack.enter_context(Worker(one.worker, one.python, cores))
        try:
            result[one.label] = worker, {"version": one.version, **worker.ask("prepare", model=one.model, **arguments)}
        except WorkerError as error:
            print(f"left out of {case}: {one.label}: {error}")
    edges = {label: facts["n_edges"] for label, (_, facts) in result.items()}
    if len(set(edges.values())) > 1:
        raise WorkerError(f"{case}: not the same edges: {edges}")
    return result


def measure(case: Case, field: list[Contender], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time a case, the contenders taking turns; one that dies on the way, for want of memory say, is left out."""
    with ExitStack() as stack:
        workers = prepared(case, field, options.cores, folder, stack)
        times = {label: {"cpu_ms": [], "wall_ms": []} for label in workers}
        for _ in range(1 + options.rounds):  # the first turn, a single call, tells how many calls a turn has room for
            for label, (worker, _) in list(workers.items()):
                seen = times[label]["wall_ms"]
                repeats = max(1, min(options.repeats, int(TURN_MS / seen[0]))) if seen else 1
                try:
                    for clock, values in worker.ask("run", repeats=repeats).items():
                        times[label][clock] += values
                except WorkerError as error:
                    print(f"left out of {case}: {label}: {error}")
                    del workers[label]
        packages = {}
        for label, (worker, facts) in workers.items():
            medians = {clock: statistics.median(values) for clock, values in times[label].items()}
            packages[label] = {**facts, **medians, "calls": len(times[label]["cpu_ms"]), **worker.ask("memory")}
    return {"cores": options.cores, **asdict(case), "packages": packages, "ratios": ratios(packages)}


def ratios(packages: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Time of each variant of ours over that of the fastest other package: {label: {clock: ratio}}."""
    ours = [label for label in packages if label.split()[0] == "eqpot"]
    peers = packages.keys() - ours
    if not peers:
        return {}
    fastest = {clock: min(packages[peer][clock] for peer in peers) for clock in ("cpu_ms", "wall_ms")}
    return {label: {clock: packages[label][clock] / fastest[clock] for clock in fastest} for label in ours}


def show(row: dict[str, Any]) -> None:
    """One table per case."""
    edges = next(iter(row["packages"].values()), {"n_edges": 0})["n_edges"]
    print(f"\n{row['kind']}, {row['structure']}, {row['mode']}, {edges} edges, {row['cores']} core{'s' * (row['cores'] > 1)}")
    print(f"  {'package':16s} {'version':>12s} {'parameters':>10s} {'CPU ms':>9s} {'wall ms':>9s} {'first s':>8s} {'peak MB':>8s}")
    for label, of in sorted(row["packages"].items(), key=lambda item: item[1]["cpu_ms"]):
        print(
            f"  {label:16s} {of['version']:>12s} {of['n_parameters']:10d} {of['cpu_ms']:9.1f} {of['wall_ms']:9.1f}"
            f" {of['seconds_first_call']:8.1f} {of['peak_mb']:8.0f}"
        )
    for label, ratio in row["ratios"].items():
        print(f"  {label} / fastest peer: {ratio['cpu_ms']:.2f} CPU, {ratio['wall_ms']:.2f} wall", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="interpreter of a package")
    parser.add_argument("--cores", type=int, default=1, help="cores that all workers are pinned to")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=5, help="calls per turn, fewer if they are long")
    parser.add_argument("--only", nargs="*", default=[""], metavar="TEXT", help="cases whose name has one of these in it")
    parser.add_argument("--skip", nargs="*", default=[], metavar="TEXT", help="packages or variants to leave out, such as compiled")
    parser.add_argument("--name", default="speed_peers", help="of the results file")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    options = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    pythons = {"eqpot": sys.executable, "jax_md": sys.executable}
    for choice in options.python:
        name, path = choice.split("=", 1)
        pythons[name.replace("-", "_")] = path
    field = [one for one in contenders(pythons) if not any(text in one.label for text in options.skip)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_structures(Path(folder))
        for case in CASES:
            if any(text in str(case) for text in options.only):
                rows.append(measure(case, [one for one in field if one.kind == case.kind], options, Path(folder)))
                show(rows[-1])
                write(options.name, rows)  # after every case: a run of half an hour may be cut short


if __name__ == "__main__":
    main()
