"""A run of active learning that is killed again and again, against one that nothing disturbed: the same ledger, and no label lost or paid for twice.

python -m benchmarks.active_kill [--kills 20] [--folder runs/benchmarks/active_kill]

Kills (signal 9) come at random times and hit the driver, all of its processes, or one process that computes labels. After each the same command is given
again; a run that comes to its end is compared, and the next one begins, until there were enough kills.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase.cluster import Octahedron
from ase.io import write as write_atoms

from benchmarks.common import table, write

TARGETS = ("driver", "all processes", "a worker")
CONFIG: dict[str, Any] = {
    "oracle": "emt",
    "start": {"structures": "cluster.xyz", "generate": [{"method": "rattle", "n": 9, "temperature_K": 300}]},
    "samplers": [{"kind": "md", "temperature_K": [300, 900], "time_ps": 0.2, "timestep_fs": 2, "interval_fs": 10}],
    "query": {"n": 4, "audit": 4},
    "fit": {
        "model": {"cutoff": 3.5, "hidden": "8x0e + 8x1o", "l_max": 1, "correlation": 2},
        "ensemble": {"members": 2},
        "training": {"epochs": 40, "batch_size": 4, "validate_every": 10},
    },
    "learner": {"epochs": 20},
    "stop": [{"rounds": 4}],
}


def main() -> None:
    """Kill, start again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/active_kill"))
    options = parser.parse_args()
    home = options.folder.absolute()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    write_atoms(home / "cluster.xyz", Octahedron("Cu", 2, 0))
    (home / "active.yaml").write_text(yaml.safe_dump(CONFIG))
    start(home, "compiles").wait()  # programs are on the disk from here on
    began = time.monotonic()
    start(home, "whole").wait()
    span = time.monotonic() - began
    reference = (home / "whole" / "ledger.jsonl").read_bytes()
    rng, kills, rows = np.random.default_rng(0), [], []
    while len(kills) < options.kills:
        name = f"killed-{len(rows)}"
        hits = one_run(home, name, rng, span, options.kills - len(kills))
        kills += hits
        labels = [json.loads(line)["record"]["key"] for line in (home / name / "labels" / "labels.jsonl").read_text().splitlines()]
        asked = [row["key"] for record in records(home / name) for row in record.get("asked", ())]
        same = (home / name / "ledger.jsonl").read_bytes() == reference
        rows.append(
            {
                "run": name,
                "kills": len(hits),
                "same_ledger": same,
                "lost": len(set(asked) - set(labels)),
                "paid_twice": len(labels) - len(set(labels)),
            }
        )
        print(rows[-1], flush=True)
    table(f"{len(kills)} kills", rows)
    write("active_kill", {"kills": kills, "seconds_undisturbed": round(span, 1), "runs": rows})


def start(home: Path, name: str) -> subprocess.Popen:
    """The command that a user gives, in a process group of its own."""
    command = [sys.executable, "-m", "eqpot.cli.main", "active", "active.yaml", "--folder", name]
    return subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=(home / f"{name}.log").open("a"), start_new_session=True)


def one_run(home: Path, name: str, rng: np.random.Generator, span: float, most: int) -> list[dict[str, Any]]:
    """A run to its end, killed on the way at most so many times."""
    hits: list[dict[str, Any]] = []
    while True:
        process = start(home, name)
        if len(hits) >= most:
            if process.wait():
                raise SystemExit(f"{name} ended with {process.returncode}; see {home / name}.log")
            return hits
        began, target = time.monotonic(), str(rng.choice(TARGETS))
        due = float(rng.uniform(0.02, 0.5)) * span
        while process.poll() is None and time.monotonic() < began + due:
            time.sleep(0.02)
        workers = children(process.pid)
        while target == "a worker" and not workers and process.poll() is None:
            time.sleep(0.005)
            workers = children(process.pid)
        if process.poll() is None:
            kill(process, target, workers, rng)
            hits.append(
                {"run": name, "target": target, "after_s": round(time.monotonic() - began, 2), "records": len(records(home / name))}
            )
        if target == "a worker" or process.poll() is not None:
            if process.wait() == 0:
                return hits
        else:
            process.wait()


def kill(process: subprocess.Popen, target: str, workers: list[int], rng: np.random.Generator) -> None:
    """Signal 9 to what was chosen."""
    if target == "a worker":
        for pid in rng.permutation(workers)[:1].tolist():
            os.kill(pid, signal.SIGKILL)
    elif target == "driver":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Processes that a driver has started, and those that they have."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    mine = [int(p) for p in found]
    return mine + [c for p in mine for c in children(p)]


def records(folder: Path) -> list[dict[str, Any]]:
    """What a ledger holds by now."""
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["record"] for line in lines]


if __name__ == "__main__":
    main()
