"""Speed and memory of eqpot itself; against other packages: benchmarks.speed.peers.

    python -m benchmarks.speed [TABLE …] [--quick] [--largest ATOMS] [--output FOLDER]

Prints each table and writes it to speed_TABLE.json with device, versions and commit (speed_TABLE_gpu.json on a GPU). --quick tries every path on
small systems and writes to a temporary folder. All tables take about ten minutes on two cores. Linux only.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU, and its memory is measured
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax

from benchmarks.common import RESULTS, write
from benchmarks.speed import calls, members, memory, scaling, stages

TABLES = ("calls", "memory", "scaling", "members", "stages")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small systems, few repeats")
    parser.add_argument("--largest", type=int, default=max(scaling.SIZES), metavar="ATOMS", help="where `scaling` stops")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for the results, by default benchmarks/results")
    options = parser.parse_args()
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"no table {', '.join(sorted(unknown))}: expected {', '.join(TABLES)}")
    make: dict[str, Callable[[bool], Any]] = {
        "calls": calls.table,
        "memory": memory.table,
        "scaling": lambda quick: scaling.table(quick, options.largest),
        "members": members.table,
        "stages": stages.table,
    }
    output = options.output or (Path(tempfile.mkdtemp(prefix="speed-")) if options.quick else RESULTS)
    suffix = "" if jax.default_backend() == "cpu" else f"_{jax.default_backend()}"
    for name in options.tables or TABLES:
        print(f"\n{name}", flush=True)
        write(f"speed_{name}{suffix}", make[name](options.quick), output)


if __name__ == "__main__":
    main()
