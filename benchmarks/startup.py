"""How long imports take: eqpot against the libraries that it stands on, fresh processes in turn.

python -m benchmarks.startup
"""

import statistics
import subprocess
import sys
import time

from benchmarks.common import write

STATEMENTS = {"jax, flax, optax": "import jax, flax, optax", "eqpot": "import eqpot", "eqpot.Potential": "from eqpot import Potential"}


def main() -> None:
    """Time, print, write."""
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(7):
        for name, statement in STATEMENTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = {name: {"seconds": value, "ratio": value / medians["jax, flax, optax"]} for name, value in medians.items()}
    for name, row in rows.items():
        print(f"{name:20s} {row['seconds']:.2f} s  {row['ratio']:.2f} ×")
    write("startup", rows)


if __name__ == "__main__":
    main()
