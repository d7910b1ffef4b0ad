"""How far forces see: what an atom notices of others, by their distance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.geometry import find_mic

from eqpot.core.errors import StructureError
from eqpot.graph import Graph
from eqpot.potential import ModelSpec, Params, Potential, hessian_vector_product


@dataclass(frozen=True, eq=False)
class Locality:
    """Answers of the forces on some atoms to displacements of all others.

    Attributes:
        distance: of pairs of atoms, to the nearest image, ascending [Å], [pairs].
        response: ‖∂F_i/∂r_j‖ (Frobenius) of each pair [eV/Å²], [pairs].
        atoms: atoms i that were asked.
        range: beyond this the model's energy has no pairs at all [Å]; infinite with electrostatics.
    """

    distance: np.ndarray
    response: np.ndarray
    atoms: tuple[int, ...]
    range: float

    def force_noise(self, radius: float, displacement: float = 0.1) -> float:
        """RMS change of a force component [eV/Å] when all atoms beyond a radius [Å] move at random by `displacement` per direction [Å].

        What a model that sees no further than the radius must miss, to first order: u √(Σ_j ‖∂F_i/∂r_j‖² / 3), mean square over atoms i.

        Reference: V. L. Deringer, G. Csányi, Phys. Rev. B 95, 094203 (2017), section II.
        """
        beyond = self.response[self.distance > radius]
        return float(displacement * np.sqrt((beyond**2).sum() / (3 * len(self.atoms))))

    def radius(self, noise: float, displacement: float = 0.1) -> float:
        """Smallest radius [Å] beyond which `force_noise` is at most `noise` [eV/Å]."""
        outside = np.sqrt(np.cumsum(self.response[::-1] ** 2)[::-1] / (3 * len(self.atoms))) * displacement
        within = np.flatnonzero(outside > noise)
        return float(self.distance[within[-1]]) if len(within) else 0.0

    def binned(self, width: float = 1.0) -> list[tuple[float, float, float]]:
        """(distance, median, largest response) in shells of a width [Å]; shells without pairs are left out."""
        shells = np.floor(self.distance / width).astype(int)
        rows = [(k, self.response[shells == k]) for k in np.unique(shells)]
        return [((k + 0.5) * width, float(np.median(found)), float(found.max())) for k, found in rows]


def locality(potential: Potential, atoms: Any, of: Sequence[int] | int = 8, seed: int = 0, member: int = 0) -> Locality:
    """How strongly the forces on some atoms answer to displacements of each other atom: rows of the Hessian, three gradients of forces for each atom.

    In a crystal the answer to all images of an atom is one number, at the distance of the nearest: take a cell wider than twice the distances of interest.

    Args:
        potential: with forces that are derivatives.
        atoms: an `ase.Atoms` or a `Structure`.
        of: indices of the atoms that are asked, or how many to draw.
        seed: of the draw.
        member: of the ensemble.

    Raises:
        StructureError: for fewer than two atoms, an index that is none, and a structure that the potential has no energy for.
        EqpotError: for direct forces.
    """
    host = potential.prepare(atoms)
    n = len(host)
    if n < 2:
        raise StructureError(f"locality: found {n} atom, expected two or more")
    chosen = np.random.default_rng(seed).permutation(n)[:of] if isinstance(of, int) else np.asarray(of, int)
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= n:
        raise StructureError(f"locality: found the atoms {chosen.tolist()}, expected some of 0 to {n - 1}")
    ((_, graph),) = potential.batches([host])
    params = jax.tree.map(lambda x: x[0], potential.member(member).params)
    with jax.enable_x64(potential.dtype == "float64"):
        rows = np.array([jax.device_get(_row(potential.spec, params, graph, int(i))) for i in chosen], float)[:, :, :n]  # [i, α, j, β]
    response = np.sqrt((rows**2).sum((1, 3)))
    structure = host.structure
    vectors = structure.positions[None] - structure.positions[chosen][:, None]
    if structure.pbc.any():
        vectors = find_mic(vectors.reshape(-1, 3), structure.cell, structure.pbc)[0].reshape(vectors.shape)  # type: ignore[arg-type]
    distance = np.linalg.norm(vectors, axis=-1)
    others = np.arange(n) != chosen[:, None]
    order = np.argsort(distance[others], kind="stable")
    return Locality(distance[others][order], response[others][order], tuple(int(i) for i in chosen), potential.receptive_field)


@partial(jax.jit, static_argnums=0)
def _row(spec: ModelSpec, params: Params, graph: Graph, atom: Any) -> jax.Array:
    """∂²E/∂r_iα∂r_jβ of one atom i as [α, j, β]."""
    zero = jnp.zeros_like(jnp.asarray(graph.positions))
    return jnp.stack([hessian_vector_product(spec, params, graph, zero.at[atom, k].set(1)) for k in range(3)])
