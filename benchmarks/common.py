"""What all benchmarks share: interleaved timing, and results that say where and with what they were made."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Reference data that are not part of the repository."""


def interleaved(functions: Mapping[str, Callable[[], Any]], repeats: int = 20) -> dict[str, list[float]]:
    """Seconds of each call, the functions taking turns so that a busy machine slows all alike; two calls each to warm up."""
    for function in functions.values():
        for _ in range(2):
            jax.block_until_ready(function())
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(time.perf_counter() - began)
    return times


def median_ms(times: list[float]) -> float:
    """Median in milliseconds."""
    return 1e3 * statistics.median(times)


def environment() -> dict[str, Any]:
    """Device, versions and commit of a measurement."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False).stdout.strip()
    packages = ("jax", "jaxlib", "flax", "optax", "jax-md", "numpy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores"
        if jax.default_backend() == "cpu"
        else jax.devices()[0].device_kind,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "commit": commit,
    }


def write(name: str, rows: Any, folder: Path = RESULTS) -> Path:
    """Write results with their environment."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), "results": rows}, indent=1) + "\n")
    print(f"\nwritten to {path}")
    return path


def table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows with the same keys, or more."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    cells = [names, *[[f"{v:.4g}" if isinstance(v := row.get(n, ""), float) else str(v) for n in names] for row in rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(names))]
    print(f"\n{title}")
    for row in cells:
        print(
            "  ".join(f"{cell:<{w}}" if k == 0 else f"{cell:>{w}}" for k, (cell, w) in enumerate(zip(row, widths, strict=True))), flush=True
        )
