"""What each preset costs, on one core: parameters, energy and forces, training gradient. Writes the table of docs/models.md.

JAX_NUM_CPU_DEVICES=1 taskset -c 0 python -m benchmarks.presets
"""

import re
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ase.build import bulk

from benchmarks.common import write
from eqpot.graph import Structure, collate, prepare
from eqpot.graph.batching import capacity_of
from eqpot.models import EquivariantConfig, Normalization
from eqpot.models.config import PRESETS
from eqpot.potential import ModelSpec, predict

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
REPEATS = 12


def loss(spec, params, graph):
    """A loss of energy and forces."""
    prediction = predict(spec, params, graph)
    return jnp.mean(prediction.energy**2) + jnp.mean(prediction.forces**2)


def cpu_ms(function, *arguments) -> tuple[float, float]:
    """Milliseconds of CPU per call (median), and seconds of the first call."""
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    first = time.perf_counter() - began
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        jax.block_until_ready(function(*arguments))
        times.append(time.process_time() - start)
    return 1e3 * float(np.median(times)), first


def main() -> None:
    """Time, print, write JSON and the table."""
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=0)
    host = prepare(Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc), ("Si",), 5.0)
    graph = jax.device_put(collate([host], capacity_of([host], exact=True)))
    rows, lines = (
        [],
        ["| preset | hidden, l_max, layers | parameters | energy + forces | training gradient |", "| --- | --- | --- | --- | --- |"],
    )
    for name in PRESETS:
        config = EquivariantConfig.model_validate({"preset": name})
        spec = ModelSpec(config, ("Si",), Normalization(average_neighbors=28.0))
        params = jax.tree.map(jnp.asarray, spec.init(0))
        forces, first = cpu_ms(jax.jit(partial(predict, spec)), params, graph)
        training, _ = cpu_ms(jax.jit(jax.grad(partial(loss, spec))), params, graph)
        count = sum(x.size for x in jax.tree.leaves(params))
        row = {"preset": name, "parameters": count, "energy_forces_ms": forces, "training_ms": training, "first_call_s": first}
        rows.append(row)
        shape = f"`{config.hidden}`, {config.l_max}, {config.n_layers}"
        lines.append(f"| `{name}` | {shape} | {count:,} | {1e3 * forces / 64:.0f} µs/atom | {1e3 * training / 64:.0f} µs/atom |")
        print(lines[-1], flush=True)
    write("presets", rows)
    table = "<!-- presets -->\n" + "\n".join(lines) + "\n<!-- /presets -->"
    PAGE.write_text(re.sub(r"<!-- presets -->.*<!-- /presets -->", lambda _: table, PAGE.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    main()
