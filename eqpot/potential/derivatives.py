"""From one energy to everything else: the only place that differentiates.

    F = −∂E/∂r          σ = (1/V) ∂E/∂ε  under  r → r(1 + ε), cell → cell(1 + ε), ε symmetric

Both come from one reverse pass through the model and one linear map through its geometry, which the members of an ensemble share. Because
positions and cell (hence image shifts and any reciprocal lattice) are strained together, the stress of every energy term is right at once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.models import AtomOutputs, Geometry
from eqpot.potential.members import map_members
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


def predictor(spec: ModelSpec, graph: Graph, with_stress: bool = False) -> Callable[[Params], Prediction]:
    """Work out the geometry of a graph once, and return the function that predicts with any member's parameters.

    The chain rule is cut at the geometry g: each member gives ∂E/∂g, and the one linear map (∂g/∂(r, ε))ᵀ takes it to forces and stress.
    """

    def describe(positions: Array, strain: Array) -> Geometry:
        moved = graph.replace(positions=positions)
        return spec.describe(moved.strained((strain + strain.mT) / 2) if with_stress else moved)

    geometry, pull_back = jax.vjp(describe, graph.positions, jnp.zeros_like(graph.cell))

    def predict_member(params: Params) -> Prediction:
        def total(geometry: Geometry) -> tuple[Array, AtomOutputs]:
            outputs = spec.evaluate(params, graph, geometry)
            return jnp.sum(outputs.energy), outputs

        slope, outputs = jax.grad(total, has_aux=True)(geometry)
        by_position, by_strain = pull_back(slope)
        stress = by_strain / volumes(graph)[:, None, None] if with_stress else None
        return Prediction(graph.sum_atoms(outputs.energy), -by_position, stress, outputs.energy, outputs.features)

    return predict_member


def predict(spec: ModelSpec, params: Params, graph: Graph, with_stress: bool = False) -> Prediction:
    """Energy, forces and, if asked, stress of one member."""
    return predictor(spec, graph, with_stress)(params)


def volumes(graph: Graph) -> Float[Array, " G"]:
    """Cell volumes [Å³]; infinite where there is no full cell, so that what is divided by them vanishes."""
    a, b, c = (graph.cell[:, k] for k in range(3))
    volume = jnp.abs(jnp.sum(a * jnp.cross(b, c), -1))
    return jnp.where(volume > 0, volume, jnp.inf)


def predict_members(spec: ModelSpec, params: Params, graph: Graph, with_stress: bool = False) -> Prediction:
    """`predict` for every member; all arrays gain a leading member axis."""
    return map_members(lambda graph: predictor(spec, graph, with_stress), params, graph)


def hessian_vector_product(spec: ModelSpec, params: Params, graph: Graph, vector: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
    """Σ_j ∂²E/∂r_i∂r_j v_j [eV/Å² × unit of v] of one member, at the cost of a few gradients."""

    def along(positions: Array) -> Array:
        return -jnp.vdot(predict(spec, params, graph.replace(positions=positions)).forces, vector)

    return jax.grad(along)(graph.positions)
