"""From a hundred atoms to a hundred thousand: time and memory per atom, of the network and of the neighbour list on the host."""

from functools import partial
from typing import Any

import jax

from benchmarks.speed.cases import host_of, placed, spec_of
from benchmarks.speed.clocks import in_fresh_process, peak_of, seconds_of, take_turns
from benchmarks.speed.structures import structure
from eqpot.potential import predict_members

SIZES = (64, 216, 1000, 4096, 13824, 32768, 97336)
MODELS = ("exact", "fast")
FLAT_FROM = 1000
"""From this size on, time per atom should no longer depend on it."""
SECONDS = 6.0


def measure(size: int, seconds: float) -> list[dict[str, Any]]:
    """Energy and forces of one size, without padding, in this process."""
    atoms = structure(f"si{size}")
    lists = sorted(seconds_of(lambda: host_of(atoms)) for _ in range(3))
    host, calls, rows = host_of(atoms), {}, []
    for model in MODELS:
        spec = spec_of(model, atoms, host)
        arguments = placed(spec, host, exact=True)
        calls[model] = partial(jax.jit(partial(predict_members, spec)).lower(*arguments).compile(), *arguments)
        row = {"atoms": size, "model": model, "peak_kb_per_atom": 1e3 * peak_of(calls[model]) / size}
        rows.append(row | {"neighbors_us_per_atom": 1e6 * lists[1] / size})
    times = take_turns(calls, seconds, least=2)
    return [row | times[row["model"]] | {"us_per_atom": 1e3 * times[row["model"]]["wall_ms"] / size} for row in rows]


def deviation(rows: list[dict[str, Any]], model: str) -> float | None:
    """Largest relative deviation of the time per atom from its mean over the sizes where it should be constant."""
    times = [row["us_per_atom"] for row in rows if row["model"] == model and row["atoms"] >= FLAT_FROM]
    mean = sum(times) / max(len(times), 1)
    return max(abs(time / mean - 1) for time in times) if len(times) > 1 else None


def table(quick: bool, largest: int) -> dict[str, Any]:
    """Sizes up to the largest, each in a fresh process."""
    rows = []
    print(f"{'atoms':>7s} {'model':8s} {'wall ms':>9s} {'µs/atom':>8s} {'peak kB/atom':>13s} {'neighbour list µs/atom':>23s}")
    for size in SIZES:
        if size <= (min(largest, 1000) if quick else largest):
            rows += (new := in_fresh_process(measure, size, 1.0 if quick else SECONDS))
            for row in new:
                time = f"{row['wall_ms']:9.1f} {row['us_per_atom']:8.1f}"
                memory = f"{row['peak_kb_per_atom']:13.1f} {row['neighbors_us_per_atom']:23.2f}"
                print(f"{size:7d} {row['model']:8s} {time} {memory}", flush=True)
    deviations = {model: deviation(rows, model) for model in MODELS}
    for model, value in deviations.items():
        if value is not None:
            print(f"{model}: time per atom from {FLAT_FROM} to {rows[-1]['atoms']} atoms is within {100 * value:.0f} % of its mean")
    return {"sizes": rows, "flat_from_atoms": FLAT_FROM, "largest_deviation": deviations}
