"""A small network trained on copper-like Morse crystals, and its lattice constant."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ase.build import bulk
from morse import morse

from eqpot.core.units import EV_PER_A3_TO_GPA
from eqpot.graph import Graph, collate
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential, predict_members

CUTOFF = 4.0
SMALL = EquivariantConfig(
    cutoff=CUTOFF, hidden="8x0e + 8x1o", l_max=1, n_radial=6, n_layers=1, correlation=2, radial_hidden=(16,), readout_hidden=8
)


@dataclass(frozen=True)
class Reference:
    """Structures with the teacher's forces [eV/Å], energies of each structure [eV] and stress [eV/Å³]."""

    graph: Graph
    forces: Any
    energy: Any
    stress: Any


def lattice_constant(potential: Potential) -> float:
    """Where the static pressure of the perfect crystal is zero, by bisection [Å]."""
    low, high = 3.4, 4.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if np.trace(potential.predict(bulk("Cu", "fcc", a=middle)).stress) < 0 else (low, middle)
    return middle


def reference(number: int, seed: int) -> Reference:
    """Four-atom crystals, displaced by 0.12 Å, at ±3 % of the teacher's lattice constant."""
    teacher, rng = morse(cutoff=CUTOFF), np.random.default_rng(seed)
    frames = []
    for _ in range(number):
        frames.append(bulk("Cu", "fcc", a=3.676 * rng.uniform(0.97, 1.03), cubic=True))
        frames[-1].positions += rng.normal(size=(4, 3)) * 0.12
    results = teacher.predict(frames)
    graph = jax.tree.map(jnp.asarray, collate([teacher.prepare(f) for f in frames]))
    forces = np.zeros(graph.positions.shape)
    forces[: 4 * number] = np.concatenate([r.forces for r in results])
    labels = (forces, np.array([r.energy for r in results]) + 4 * 3.0, np.stack([r.stress for r in results]))
    return Reference(graph, *(jnp.asarray(x, jnp.float32) for x in labels))


def mean_squares(spec: ModelSpec, params: Any, data: Reference) -> tuple[Any, Any, Any]:
    """Mean square errors of forces, energy per atom, stress."""
    found = predict_members(spec, params, data.graph, with_stress=True)
    forces = jnp.sum((found.forces[0] - data.forces) ** 2) / (3 * 4 * len(data.energy))
    return forces, jnp.mean((found.energy[0] - data.energy) ** 2) / 16, jnp.mean((found.stress[0] - data.stress) ** 2)


def minimised(loss: Any, params: Any, rate: float, n_steps: int) -> Any:
    """Adam with a cosine."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, n_steps))

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        with jax.numpy_dtype_promotion("standard"):
            change, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, change), state), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), None, length=n_steps)[0][0])(params)


def trained(data: Reference) -> Potential:
    """A network of one layer that has learnt forces, energies and stress."""
    spec = ModelSpec(SMALL, ("Cu",), Normalization(18.0, 1.0, (float(data.energy.mean()) / 4,)))

    def loss(params: Any) -> Any:
        forces, energy, stress = mean_squares(spec, params, data)
        return forces + 10 * energy + 100 * stress

    return made(spec, minimised(loss, spec.init_members([0]), 0.02, 1500))


def made(spec: ModelSpec, params: Any) -> Potential:
    """A potential with reference energies of the teacher."""
    return Potential(spec, jax.tree.map(np.asarray, params), (-3.0,))


def pressure_at(spec: ModelSpec, params: Any, graph: Graph) -> Any:
    """Static pressure of one crystal [GPa]."""
    stress = predict_members(spec, params, graph, with_stress=True).stress
    assert stress is not None
    return -jnp.trace(stress[0, 0]) / 3 * EV_PER_A3_TO_GPA


def force_rmse(potential: Potential, data: Reference) -> float:
    """Root mean square error of a force component [meV/Å]."""
    return 1e3 * float(np.sqrt(mean_squares(potential.spec, potential.params, data)[0]))
