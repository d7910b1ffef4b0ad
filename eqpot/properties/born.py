"""Born effective charges: how the dipole moment answers when an atom moves."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqpot.core.errors import EqpotError
from eqpot.graph import Graph, Structure
from eqpot.graph.neighbors import complete_cell
from eqpot.potential import ModelSpec, Params, Potential


def born_effective_charges(potential: Potential, atoms: Any) -> np.ndarray:
    """Z*_iαβ = ∂μ_α/∂r_iβ = q_i δ_αβ + Σ_j (r_j − r_i)_α ∂q_j/∂r_iβ [e], mean over members, [atoms, 3, 3].

    The charges follow the atoms at once, so this is the answer without an electric field from outside. Σ_i Z*_i is the total charge times the unit matrix.
    In crystals r_j − r_i is less than half of each lattice vector, right where a charge depends only on atoms nearer than that; and what is missing from the
    sum is shared out equally, because charges that are shifted to keep the total have come from nowhere.

    One reverse pass for each atom.

    Args:
        potential: of a model with charges.
        atoms: an `ase.Atoms` or a `Structure`.

    Raises:
        EqpotError: for a potential without charges.
        StructureError: for a structure that the potential has no energy for.

    References: X. Gonze, C. Lee, Phys. Rev. B 55, 10355 (1997), eq. 39; for predicted charges P. Zhong et al., arXiv:2504.05169.
    """
    if not potential.spec.config.charges:
        raise EqpotError(
            "Born effective charges need a model that says charges: found none; train with charges: true and labels of charges or dipoles"
        )
    host = potential.prepare(atoms)
    ((_, graph),) = potential.batches([host])
    n, structure = len(host), host.structure
    with jax.enable_x64(potential.dtype == "float64"):
        found = [
            jax.device_get(_slopes(potential.spec, jax.tree.map(lambda x, k=k: x[k], potential.params), graph))
            for k in range(potential.n_members)
        ]
    charges, slopes = (np.mean([np.asarray(x, float) for x in each], 0) for each in zip(*found, strict=True))
    charges, slopes = charges[:n], slopes[:n, :n]  # [j], [j, i, β]
    found = charges[:, None, None] * np.eye(3) + np.einsum("ija,jib->iab", _between(structure), slopes)
    return found - (found.sum(0) - structure.charge * np.eye(3)) / n


def _between(structure: Structure) -> np.ndarray:
    """Vectors from i to j [Å], [i, j, 3], within half of each lattice vector; halfway there is no side to choose, and the component is zero."""
    vectors = structure.positions[None] - structure.positions[:, None]
    if not structure.pbc.any():
        return vectors
    cell = complete_cell(structure.cell, structure.pbc)
    turns = vectors @ np.linalg.inv(cell)
    nearest = turns - np.round(turns)
    nearest[np.abs(np.abs(nearest) - 0.5) < 1e-6] = 0
    return np.where(structure.pbc, nearest, turns) @ cell


@partial(jax.jit, static_argnums=0)
def _slopes(spec: ModelSpec, params: Params, graph: Graph) -> tuple[jax.Array, jax.Array]:
    """Charges, and ∂q_j/∂r_i as [j, i, 3]."""

    def charges(positions: jax.Array) -> jax.Array:
        moved = graph.replace(positions=positions)
        found = spec.evaluate(params, moved, spec.describe(moved)).charges
        assert found is not None
        return found

    values, pull_back = jax.vjp(charges, jnp.asarray(graph.positions))
    return values, jax.lax.map(lambda one: pull_back(one)[0], jnp.eye(len(values), dtype=values.dtype))
