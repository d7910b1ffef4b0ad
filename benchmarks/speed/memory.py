"""The most memory that an energy and force call holds, and how much of it XLA asks for; each model in a fresh process on one core."""

from functools import partial
from typing import Any

import jax

from benchmarks.speed.cases import MODELS, host_of, placed, spec_of
from benchmarks.speed.clocks import in_fresh_process, peak_of
from benchmarks.speed.structures import structure
from eqpot.nn import choose_backend
from eqpot.potential import predict_members


def measure(model: str, backend: str, name: str) -> dict[str, Any]:
    """Memory of one model's first call after compilation, in this process."""
    atoms = structure(name)
    host = host_of(atoms)
    spec = spec_of(model, atoms, host, backend)
    arguments = placed(spec, host, exact=True)
    compiled = jax.jit(partial(predict_members, spec)).lower(*arguments).compile()
    peak, plan = peak_of(lambda: compiled(*arguments)), compiled.memory_analysis()
    row = {"structure": name, "atoms": len(atoms), "model": model, "backend": choose_backend(backend)}
    return row | {
        "peak_mb": peak,
        "peak_kb_per_atom": 1e3 * peak / len(atoms),
        "xla_temporary_kb_per_atom": plan.temp_size_in_bytes / 1e3 / len(atoms) if plan else None,
    }


def table(quick: bool) -> list[dict[str, Any]]:
    """The backend of this device, and whole arrays at once."""
    backends = dict.fromkeys((choose_backend(), "dense"))
    rows = []
    print(f"{'model':8s} {'backend':8s} {'peak MB':>8s} {'kB/atom':>8s} {'XLA temporary kB/atom':>22s}")
    for model in list(MODELS)[: 1 if quick else None]:
        for backend in backends:
            rows.append(row := in_fresh_process(measure, model, backend, "si64" if quick else "si512", one_core=True))
            temporary = row["xla_temporary_kb_per_atom"] or float("nan")
            print(f"{model:8s} {backend:8s} {row['peak_mb']:8.1f} {row['peak_kb_per_atom']:8.1f} {temporary:22.1f}", flush=True)
    return rows
