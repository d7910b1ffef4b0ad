"""Frames of a simulation as data: what reweighting needs to know of them, and the energy that another potential gives them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.errors import SimulationError
from eqpot.core.tree import record
from eqpot.core.units import EV_PER_A3_TO_GPA, KB
from eqpot.graph import Graph, Structure, collate
from eqpot.graph.batching import Capacity, round_up
from eqpot.md.records import Run
from eqpot.potential import ModelSpec, Params, Potential, predict_members
from eqpot.potential.members import map_members


@record
class Samples:
    """F frames of one system.

    Attributes:
        graph: of each frame, with neighbours within the potential's cutoff; every array has a leading axis of frames.
        positions: as the simulation gave them, unwrapped [Å].
        cell: [Å].
        energy: potential energy by the potential that made the frames, without reference energies [eV].
        kT: temperature that they were made at [eV].
        dof: degrees of freedom of the kinetic energy.
    """

    graph: Graph
    positions: Float[Array, "F N 3"]
    cell: Float[Array, "F 3 3"]
    energy: Float[Array, " F"]
    kT: Float[Array, ""]
    dof: Float[Array, ""]

    def __len__(self) -> int:
        return len(self.positions)


def collect(
    potential: Potential,
    runs: Run | Sequence[Run],
    temperature_K: float | int,
    *,
    skip: int = 0,
    degrees_of_freedom: int | None = None,
) -> Samples:
    """Take the frames of simulations of one system (replicas, or one run), made by this potential.

    Args:
        potential: that drove the simulations; the frames are evaluated in its dtype.
        runs: with all frames in memory.
        temperature_K: of the ensemble [K].
        skip: frames left out at the start of each run, before equilibrium.
        degrees_of_freedom: of the kinetic energy; by default 3N − 3, as for all ensembles but Langevin's.

    Raises:
        SimulationError: when no frame is left.
        StructureError: see `Potential.prepare`.
    """
    runs = [runs] if isinstance(runs, Run) else list(runs)
    frames = [(run, k) for run in runs for k in range(skip, len(run.positions))]
    if not frames:
        raise SimulationError(
            f"collect: found no frames after leaving out {skip} of each run, expected at least one; simulate longer or skip fewer"
        )
    base = Structure.from_atoms(runs[0].final)
    hosts = [potential.prepare(replace(base, positions=run.positions[k], cell=run.cell[k])) for run, k in frames]
    capacity = Capacity(1, len(base), round_up(max(h.neighbors.max_count for h in hosts), ratio=1.1))
    graphs = [collate([h], capacity, potential.dtype) for h in hosts]
    dof = 3 * len(base) - 3 if degrees_of_freedom is None else degrees_of_freedom
    dtype = potential.dtype
    with jax.enable_x64(dtype == "float64"):
        graph = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *graphs)
        positions, cell = (jnp.asarray(np.stack([getattr(run, n)[k] for run, k in frames]), dtype) for n in ("positions", "cell"))
        zeros, numbers = jnp.zeros(len(positions), dtype), (jnp.asarray(x, dtype) for x in (KB * temperature_K, dof))
        samples = Samples(graph, positions, cell, zeros, *numbers)
        return replace(samples, energy=energies(potential.spec, jax.tree.map(jnp.asarray, potential.params), samples))


@partial(jax.jit, static_argnames="spec")
def energies(spec: ModelSpec, params: Params, samples: Samples) -> Float[Array, " F"]:
    """Potential energy of each frame, mean over members, without reference energies [eV]; differentiable, frame after frame, in the memory of one."""

    def one(graph: Graph) -> Float[Array, ""]:
        def of_member(graph: Graph) -> Any:
            geometry = spec.describe(graph)
            return lambda params: spec.evaluate(params, graph, geometry).energy

        return jnp.sum(graph.sum_atoms(map_members(of_member, params, graph).mean(0)))

    return jax.lax.map(jax.checkpoint(one), samples.graph)


@partial(jax.jit, static_argnames="spec")
def pressures(spec: ModelSpec, params: Params, samples: Samples) -> Float[Array, " F"]:
    """N_f·k_BT/3V − tr(σ)/3 of each frame, σ the mean over members [GPa]; the kinetic part is its mean, not that of the frame."""

    def one(graph: Graph) -> Float[Array, ""]:
        stress = predict_members(spec, params, graph, with_stress=True).stress
        assert stress is not None, "a conservative specification has a stress"
        return jnp.trace(stress.mean(0)[0]) / 3

    volume = jnp.abs(jnp.linalg.det(samples.cell))
    inside = samples.dof * samples.kT / (3 * volume) - jax.lax.map(jax.checkpoint(one), samples.graph)
    return inside * EV_PER_A3_TO_GPA
