"""From one energy to everything else: the only place that differentiates.

    F = −∂E/∂r          σ = (1/V) ∂E/∂ε  under  r → r(1 + ε), cell → cell(1 + ε), ε symmetric

Both come from one reverse pass. Because positions and cell (hence image shifts and any reciprocal lattice) are strained together,
the stress of every energy term is right at once. An ensemble is a leading axis of the parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.potential.spec import ModelSpec, Params


@record
class Prediction:
    """Results on a padded graph; with a leading member axis K when made by `predict_members`.

    Attributes:
        energy: energy of each structure without reference energies [eV], [G].
        forces: −∂E/∂r [eV/Å], [N, 3].
        stress: (1/V) ∂E/∂ε [eV/Å³], [G, 3, 3]; zero where a structure has no volume; None unless asked for.
        atom_energy: energy of each atom without reference energies [eV], [N].
        features: invariant descriptors of each atom, [N, F].
    """

    energy: Float[Array, "*K G"]
    forces: Float[Array, "*K N 3"]
    stress: Float[Array, "*K G 3 3"] | None
    atom_energy: Float[Array, "*K N"]
    features: Float[Array, "*K N F"]


def predict(spec: ModelSpec, params: Params, graph: Graph, with_stress: bool = False) -> Prediction:
    """Energy, forces and, if asked, stress of one member in one gradient."""

    def total(positions: Array, strain: Array):
        moved = graph.replace(positions=positions)
        outputs = spec.apply(params, moved.strained((strain + strain.mT) / 2) if with_stress else moved)
        return jnp.sum(outputs.energy), outputs

    gradient = jax.grad(total, argnums=(0, 1) if with_stress else (0,), has_aux=True)
    slopes, outputs = gradient(graph.positions, jnp.zeros_like(graph.cell))
    stress = slopes[1] / volumes(graph)[:, None, None] if with_stress else None
    return Prediction(graph.sum_atoms(outputs.energy), -slopes[0], stress, outputs.energy, outputs.features)


def volumes(graph: Graph) -> Float[Array, " G"]:
    """Cell volumes [Å³]; infinite where there is no full cell, so that what is divided by them vanishes."""
    a, b, c = (graph.cell[:, k] for k in range(3))
    volume = jnp.abs(jnp.sum(a * jnp.cross(b, c), -1))
    return jnp.where(volume > 0, volume, jnp.inf)


def map_members(function: Callable[[Any], Any], members: Any) -> Any:
    """Apply a function to each member of an ensemble, results stacked along a leading axis.

    What the function closes over (graph, geometry) is shared. On a CPU members run one after the other inside one program, because a batched
    product over members loses the cache blocking that makes a single member fast; elsewhere they run side by side (`vmap`).
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(function, members)
    return jax.vmap(function)(members)


def predict_members(spec: ModelSpec, params: Params, graph: Graph, with_stress: bool = False) -> Prediction:
    """`predict` for every member; all arrays gain a leading member axis."""
    return map_members(lambda p: predict(spec, p, graph, with_stress), params)


def hessian_vector_product(spec: ModelSpec, params: Params, graph: Graph, vector: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
    """Σ_j ∂²E/∂r_i∂r_j v_j [eV/Å² × unit of v] of one member, at the cost of about two gradients."""

    def slope(positions: Array) -> Array:
        return -predict(spec, params, graph.replace(positions=positions)).forces

    return jax.jvp(slope, (graph.positions,), (vector,))[1]
