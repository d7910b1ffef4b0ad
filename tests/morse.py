"""Analytic potentials that many tests share: pairs under the models' envelope, of Morse as an ensemble of slightly different wells."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.build import bulk

from eqpot.basis import polynomial_envelope
from eqpot.core.numerics import safe_norm
from eqpot.models import AtomOutputs, EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential


class PairSpec(ModelSpec):
    """E = ½ Σ pair(r)·envelope(r), for a formula that a subclass gives."""

    @staticmethod
    def pair(params, distance):
        """The energy of a pair [eV] before it is cut off."""
        raise NotImplementedError

    def describe(self, graph):
        cutoff, mask = self.config.cutoff, graph.edge_mask
        away = jnp.asarray([cutoff, 0, 0], graph.positions.dtype)
        return safe_norm(jnp.where(mask[..., None], graph.edge_vectors(), away), mask, fill=cutoff)

    def evaluate(self, params, graph, geometry):
        energy = self.pair(params, geometry) * polynomial_envelope(geometry, self.config.cutoff, 5)
        return AtomOutputs(jnp.sum(jnp.where(graph.edge_mask, energy, 0), -1) / 2, jnp.zeros_like(geometry[:, :1]))


@dataclass(frozen=True)
class MorseSpec(PairSpec):
    """D·[(1 − exp(−a(r − r₀)))² − 1]."""

    @staticmethod
    def pair(params, distance):
        return params["depth"] * ((1 - jnp.exp(-params["width"] * (distance - params["distance"]))) ** 2 - 1)


def morse(members: int = 1, cutoff: float = 5.0, depth: float = 0.35) -> Potential:
    """A copper-like potential; members differ by 2 % in depth."""
    spec = MorseSpec(EquivariantConfig(cutoff=cutoff, n_layers=1), ("Cu",), Normalization())
    values = {"depth": depth * (1 + 0.02 * np.arange(members)), "width": np.full(members, 1.4), "distance": np.full(members, 2.8)}
    return Potential(spec, {k: v.astype(np.float32) for k, v in values.items()}, (-3.0,))


def crystal(repeat: int = 2, noise: float = 0.05, seed: int = 0) -> Atoms:
    """Copper, 4·repeat³ atoms, a little displaced."""
    atoms = bulk("Cu", "fcc", a=3.75, cubic=True) * repeat
    atoms.positions += np.random.default_rng(seed).normal(size=atoms.positions.shape) * noise
    return atoms


def cluster() -> Atoms:
    """An octahedron of copper in free space."""
    return Atoms("Cu6", 1.95 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float))
