"""What a call costs, and its compilation, for three models and four structures."""

import tempfile
from typing import Any

import jax

from benchmarks.speed.cases import CALLS, MODELS, call_of, copies_of, host_of, spec_of
from benchmarks.speed.clocks import in_fresh_process, seconds_of, take_turns
from benchmarks.speed.structures import structure
from eqpot.core.cache import use_compilation_cache

STRUCTURES = ("si64", "si216", "si512", "water192")
TRAINED = ("si64", "water192")
SECONDS = 5.0
"""For the timing of a call, all models together."""


def cases(quick: bool) -> list[tuple[str, str]]:
    """Structures and kinds of call."""
    if quick:
        return [("si64", "energy+forces")]
    return [(name, kind) for name in STRUCTURES for kind in CALLS if kind != "training gradient" or name in TRAINED]


def measure(cases: list[tuple[str, str]], cache: str, seconds: float) -> list[dict[str, Any]]:
    """First calls, which compile or find what was compiled, and times unless `seconds` is 0; in this process."""
    use_compilation_cache(cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    rows = []
    for name, kind in cases:
        atoms = structure(name)
        host = host_of(atoms)
        calls = {model: call_of(kind, spec_of(model, atoms, host), host) for model in MODELS}
        first = {model: seconds_of(call) for model, call in calls.items()}
        times = take_turns(calls, seconds) if seconds else {}
        for model in MODELS:
            size = {"atoms": len(host), "copies": copies_of(kind), "edges": len(host.neighbors.receivers)}
            rows.append({"structure": name, "call": kind, "model": model, **size, "first_s": first[model], **times.get(model, {})})
    return rows


def table(quick: bool) -> list[dict[str, Any]]:
    """Measure with an empty cache, then start again with what it holds."""
    with tempfile.TemporaryDirectory() as cache:
        rows = in_fresh_process(measure, cases(quick), cache, SECONDS)
        again = in_fresh_process(measure, cases(quick), cache, 0.0)
    print(f"{'':31s} {'model':8s} {'wall ms':>8s} {'CPU ms':>8s} {'µs/atom':>8s} {'first call':>10s} {'from cache':>10s}")
    for row, cached in zip(rows, again, strict=True):
        row["cached_s"] = cached["first_s"]
        row["us_per_atom"] = 1e3 * row["wall_ms"] / row["atoms"] / row["copies"]
        name = f"{row['copies']} × {row['structure']}" if row["copies"] > 1 else row["structure"]
        print(
            f"{name:>12s} {row['call']:18.18s} {row['model']:8s} {row['wall_ms']:8.1f} {row['cpu_ms']:8.1f} {row['us_per_atom']:8.0f}"
            f" {row['first_s']:8.1f} s {row['cached_s']:8.1f} s"
        )
    return rows
