"""Memory and time of gradients through trajectories, by the number of steps.

python -m benchmarks.trajectory_gradient

Copper-like Morse crystal in float64, gradient of a function of the final positions with respect to the potential's parameters: with checkpoints every
√n steps, and in one segment (a checkpoint at every step), which is
what a plain scan needs at the very least. A neighbour list does not last that long a segment: its faults are not zero, its memory is what is asked for.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.build import bulk

from benchmarks.common import write
from eqpot.basis import polynomial_envelope
from eqpot.core.numerics import safe_norm
from eqpot.md import Langevin
from eqpot.md.differentiable import Start, begin, trajectory
from eqpot.models import AtomOutputs, EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential


@dataclass(frozen=True)
class MorseSpec(ModelSpec):
    """E = ½ Σ D·[(1 − exp(−a(r − r₀)))² − 1]·envelope(r)."""

    def describe(self, graph: Any) -> Any:
        cutoff, mask = self.config.cutoff, graph.edge_mask
        away = jnp.asarray([cutoff, 0, 0], graph.positions.dtype)
        return safe_norm(jnp.where(mask[..., None], graph.edge_vectors(), away), mask, fill=cutoff)

    def evaluate(self, params: Any, graph: Any, geometry: Any) -> AtomOutputs:
        well = (1 - jnp.exp(-params["width"] * (geometry - params["distance"]))) ** 2 - 1
        energy = params["depth"] * well * polynomial_envelope(geometry, self.config.cutoff, 5)
        return AtomOutputs(jnp.sum(jnp.where(graph.edge_mask, energy, 0), -1) / 2, jnp.zeros_like(geometry[:, :1]))


def made(repeat: int) -> Start:
    """A warm crystal under Langevin dynamics, with a skin that lasts for the longest segment."""
    spec = MorseSpec(EquivariantConfig(cutoff=5.0, n_layers=1), ("Cu",), Normalization())
    potential = Potential(spec, {k: np.array([v], np.float32) for k, v in (("depth", 0.35), ("width", 1.4), ("distance", 2.8))}, (0.0,))
    atoms = bulk("Cu", "fcc", a=3.75, cubic=True) * repeat
    return begin(potential, atoms, Langevin(300.0, timestep_fs=2.0, friction_per_fs=0.01), skin=2.0)


def measure(start: Start, n_steps: int, segment: int | None) -> dict[str, Any]:
    """Temporary bytes of the compiled gradient, and seconds of the path and of the gradient."""

    def loss(params: Any) -> Any:
        path = trajectory(start.having(params=params), n_steps, segment=segment)
        return jnp.sum(path.final.positions**2), path.faults

    params, row = jax.tree.map(jnp.asarray, start.field.params), {"n_steps": n_steps, "segment": segment or int(n_steps**0.5)}
    for name, function in (("path", loss), ("gradient", jax.value_and_grad(loss, has_aux=True))):
        compiled = jax.jit(function).lower(params).compile()
        began = time.perf_counter()
        result = jax.block_until_ready(compiled(params))
        memory: Any = compiled.memory_analysis()
        row |= {f"{name}_seconds": time.perf_counter() - began, f"{name}_bytes": memory.temp_size_in_bytes}
        row["faults"] = int(result[1] if name == "path" else result[0][1])
    print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return row


def exponent(rows: list[dict[str, Any]], floor: float) -> float:
    """Slope of log(bytes − floor) over log(steps)."""
    steps, memory = (np.array([r[k] for r in rows], float) for k in ("n_steps", "gradient_bytes"))
    return float(np.polyfit(np.log(steps), np.log(memory - floor), 1)[0])


def fit_root(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Least squares of bytes = floor + c·√n."""
    steps, memory = (np.array([r[k] for r in rows], float) for k in ("n_steps", "gradient_bytes"))
    c, floor = np.polyfit(np.sqrt(steps), memory, 1)
    return float(floor), float(c)


def main() -> None:
    """Measure, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=2, help="cubic cells of four atoms along each direction")
    parser.add_argument("--longest", type=int, default=4096)
    options = parser.parse_args()
    with jax.enable_x64(True):
        start = made(options.repeat)
        lengths = [n for n in (64, 256, 1024, 4096, 16384) if n <= options.longest]
        rows = [measure(start, n, None) for n in lengths]
        plain = [measure(start, n, n) for n in lengths[:: len(lengths) - 1]]
    floor, root = fit_root(rows)
    summary = {
        "atoms": len(start.state.positions),
        "state_bytes": int(2 * start.state.positions.nbytes),
        "bytes_at_zero_steps": floor,
        "bytes_per_root_step": root,
        "exponent": exponent(rows, 0.0),
        "exponent_beyond_floor": exponent(rows, min(floor, 0.999 * rows[0]["gradient_bytes"])),
        "bytes_per_step_in_one_segment": (plain[-1]["gradient_bytes"] - plain[0]["gradient_bytes"]) / (lengths[-1] - lengths[0]),
    }
    print(summary)
    write("trajectory_gradient", {**summary, "rows": rows, "one_segment": plain})


if __name__ == "__main__":
    main()
