"""From one energy to everything else: the only place that differentiates.

    F = −∂E/∂r          σ = (1/V) ∂E/∂ε  under  r → r(1 + ε), cell → cell(1 + ε), ε symmetric

Both come from one reverse pass through the model and one linear map through its geometry, which the members of an ensemble share. Because
positions and cell (hence image shifts and any reciprocal lattice) are strained together, the stress of every energy term is right at once.

A specification that is not `conservative` gives its forces itself; then nothing is differentiated and there is no stress.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.errors import EqpotError
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
        force_noise: standard deviation of the label of a force component [eV/Å], [N]; one for padding atoms.
        energy_noise: standard deviation of the label of the energy, √Σ_i σ_i² over its atoms [eV], [G]; one for padding structures.
        charges: partial charges [e], [N].
        dipole: Σ_i q_i r_i [e·Å] with the positions as they were given, [G, 3]; zero for a structure with any periodicity, which has no one dipole.

    The last four are None unless the model was configured for them.
    """

    energy: Float[Array, "*K G"]
    forces: Float[Array, "*K N 3"]
    stress: Float[Array, "*K G 3 3"] | None
    atom_energy: Float[Array, "*K N"]
    features: Float[Array, "*K N F"]
    force_noise: Float[Array, "*K N"] | None = None
    energy_noise: Float[Array, "*K G"] | None = None
    charges: Float[Array, "*K N"] | None = None
    dipole: Float[Array, "*K G 3"] | None = None


def predictor(spec: ModelSpec, graph: Graph, with_stress: bool = False) -> Callable[[Params], Prediction]:
    """Work out the geometry of a graph once, and return the function that predicts with any member's parameters.

    The chain rule is cut at the geometry g: each member gives ∂E/∂g, and the one linear map (∂g/∂(r, ε))ᵀ takes it to forces and stress.
    """
    if not is_conservative(spec):
        geometry = spec.describe(graph)
        return lambda params: _read_forces(spec.evaluate(params, graph, geometry), graph)

    geometry, pull_back = describe_moving(spec, graph, with_stress)

    def predict_member(params: Params) -> Prediction:
        def total(geometry: Geometry) -> tuple[Array, AtomOutputs]:
            outputs = spec.evaluate(params, graph, geometry)
            return jnp.sum(outputs.energy), outputs

        slope, outputs = jax.grad(total, has_aux=True)(geometry)
        by_position, by_strain = pull_back(slope)
        stress = by_strain / volumes(graph)[:, None, None] if with_stress else None
        return _assemble(outputs, graph, -by_position, stress)

    return predict_member


def describe_moving(spec: ModelSpec, graph: Graph, with_stress: bool = False) -> tuple[Geometry, Callable[[Geometry], tuple[Array, Array]]]:
    """The geometry of a graph, and the linear map (∂g/∂(r, ε))ᵀ of what is differentiated by it."""

    def describe(positions: Array, strain: Array) -> Geometry:
        moved = graph.replace(positions=positions)
        return spec.describe(moved.strained((strain + strain.mT) / 2) if with_stress else moved)

    return jax.vjp(describe, graph.positions, jnp.zeros_like(graph.cell))


def is_conservative(spec: Any) -> bool:
    """Whether forces are derivatives; a specification that does not say has derivatives."""
    return getattr(spec, "conservative", True)


def _read_forces(outputs: AtomOutputs, graph: Graph) -> Prediction:
    assert outputs.forces is not None, "a specification that is not conservative must give forces"
    return _assemble(outputs, graph, outputs.forces, None)


def _assemble(outputs: AtomOutputs, graph: Graph, forces: Float[Array, "N 3"], stress: Float[Array, "G 3 3"] | None) -> Prediction:
    noise, charges = outputs.energy_noise, outputs.charges
    return Prediction(
        energy=graph.sum_atoms(outputs.energy),
        forces=forces,
        stress=stress,
        atom_energy=outputs.energy,
        features=outputs.features,
        force_noise=outputs.force_noise,
        energy_noise=None if noise is None else jnp.sqrt(jnp.where(graph.graph_mask, graph.sum_atoms(noise**2), 1)),
        charges=charges,
        dipole=None if charges is None else dipoles(charges, graph),
    )


def dipoles(charges: Float[Array, " N"], graph: Graph) -> Float[Array, "G 3"]:
    """Σ_i q_i r_i [e·Å] of each structure; the graph's positions are centred, and only a net charge remembers from where."""
    dipole = graph.sum_atoms(charges[:, None] * graph.positions) + graph.charge[:, None] * graph.origin
    periodic = jnp.any(graph.cell != 0, (1, 2))
    return jnp.where(periodic[:, None], 0, dipole)


def predict(spec: ModelSpec, params: Params, graph: Graph, with_stress: bool = False) -> Prediction:
    """Energy, forces and, if asked and conservative, stress of one member."""
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
    """Σ_j ∂²E/∂r_i∂r_j v_j [eV/Å² × unit of v] of one member, at the cost of a few gradients.

    Raises:
        EqpotError: for forces that are no derivatives.
    """
    if not is_conservative(spec):
        raise EqpotError("a Hessian needs forces that are derivatives of an energy; found a model with direct_forces")

    def along(positions: Array) -> Array:
        return -jnp.vdot(predict(spec, params, graph.replace(positions=positions)).forces, vector)

    return jax.grad(along)(graph.positions)
