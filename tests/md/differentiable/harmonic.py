"""Independent harmonic wells, of which every average is known, and frames drawn from them without any dynamics."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from eqpot.core.units import KB
from eqpot.graph import Graph
from eqpot.md.differentiable import Samples
from eqpot.models import AtomOutputs, EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential


@dataclass(frozen=True)
class HarmonicSpec(ModelSpec):
    """E = ½k Σ r²."""

    def describe(self, graph):
        return graph.positions

    def evaluate(self, params, graph, geometry):
        return AtomOutputs(params["stiffness"] / 2 * jnp.sum(geometry**2, -1), jnp.zeros_like(geometry[:, :1]))


def harmonic(stiffness: float) -> Potential:
    """A well of this stiffness [eV/Å²]."""
    spec = HarmonicSpec(EquivariantConfig(cutoff=3.0, n_layers=1), ("Ar",), Normalization())
    return Potential(spec, {"stiffness": np.array([stiffness], np.float32)}, (0.0,))


def thermal(potential: Potential, kelvin: float, frames: int, atoms: int, seed: int = 0) -> Samples:
    """Independent frames at a temperature."""
    stiffness = float(potential.params["stiffness"][0])
    normal = np.random.default_rng(seed).normal(size=(frames, atoms, 3))
    positions = jnp.asarray(normal * np.sqrt(KB * kelvin / stiffness), jnp.float32)
    one = Graph(
        positions=np.zeros((atoms, 3), np.float32),
        cell=np.eye(3, dtype=np.float32)[None] * 10,
        species=np.zeros(atoms, np.int32),
        neighbors=np.zeros((atoms, 1), np.int32),
        shifts=np.zeros((atoms, 1, 3), np.int32),
        edge_mask=np.zeros((atoms, 1), bool),
        atom_mask=np.ones(atoms, bool),
        graph_index=np.zeros(atoms, np.int32),
        graph_mask=np.ones(1, bool),
        charge=np.zeros(1, np.float32),
        head=np.zeros(1, np.int32),
        origin=np.zeros((1, 3), np.float32),
    )
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (frames, *x.shape)), one)
    graph = jax.tree.unflatten(jax.tree.structure(stacked), [positions, *jax.tree.leaves(stacked)[1:]])
    energy = stiffness / 2 * jnp.sum(positions**2, (-1, -2))
    numbers = (jnp.asarray(x, jnp.float32) for x in (KB * kelvin, 3 * atoms))
    return Samples(graph, positions, graph.cell[:, 0], energy, *numbers)
