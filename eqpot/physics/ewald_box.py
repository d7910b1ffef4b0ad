"""The box that an Ewald sum is made in: that of the lattice, and for a slab one that is high enough."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record


@record
class Box:
    """Boxes of G structures and where their N atoms are in them.

    Attributes:
        vectors: rows are the lattice vectors, or what stands for those that are missing [Å].
        reciprocal: rows b with a_i·b_j = δ_ij [1/Å]; a wave vector is 2π n·reciprocal.
        fractional: positions in units of the vectors.
        inverse_volume: 1/V [1/Å³].
        missing: 1 for a vector that a slab lacks, else 0.
        half_height: of the box of a slab along its normal [Å].
        periodic: structures with three or two lattice vectors.
        bulk: those with three.
    """

    vectors: Float[Array, "G 3 3"]
    reciprocal: Float[Array, "G 3 3"]
    fractional: Float[Array, "N 3"]
    inverse_volume: Float[Array, " G"]
    missing: Int[Array, "G 3"]
    half_height: Float[Array, " G"]
    periodic: Bool[Array, " G"]
    bulk: Bool[Array, " G"]


def box_of(
    positions: Float[Array, "N 3"], cell: Float[Array, "G 3 3"], index: Int[Array, " N"], mask: Bool[Array, " N"], margin: float
) -> Box:
    """The boxes of structures; those of slabs are twice as high as the atoms and a margin [Å], along the normal.

    Nothing depends on how high a slab's box is, once it is high enough, so no derivative is taken of that. Structures with fewer than two lattice
    vectors get a unit cube, so that all numbers are finite.
    """
    given = jnp.any(cell != 0, -1)
    vectors_given = jnp.sum(given, -1)
    slab, bulk = vectors_given == 2, vectors_given == 3
    missing = slab[:, None] & ~given
    normals = _unit(_crosses(cell), missing)  # [G, 3, 3]: of the faces of the other two vectors
    normal = jnp.sum(jnp.where(missing[..., None], normals, 0), 1)  # [G, 3]: zero but for slabs
    height = jax.lax.stop_gradient(2 * (_thickness(positions, normal, index, mask) + margin))
    cube = jnp.eye(3, dtype=cell.dtype)
    vectors = jnp.where(missing[..., None], normals * height[:, None, None], jnp.where((slab | bulk)[:, None, None], cell, cube))
    faces = _crosses(vectors)
    inverse_volume = 1 / jnp.sum(vectors[:, 0] * faces[:, 0], -1)  # of either sign
    reciprocal = faces * inverse_volume[:, None, None]
    fractional = jnp.einsum("na,nka->nk", positions, reciprocal[index], precision="highest")
    return Box(
        vectors, reciprocal, fractional, jnp.abs(inverse_volume), missing.astype(jnp.int32), height / 2, periodic=slab | bulk, bulk=bulk
    )


def _crosses(vectors: Float[Array, "G 3 3"]) -> Float[Array, "G 3 3"]:
    """Cross product of the other two vectors, for each."""
    return jnp.cross(jnp.roll(vectors, -1, 1), jnp.roll(vectors, -2, 1))


def _unit(vectors: Float[Array, "G 3 3"], mask: Bool[Array, "G 3"]) -> Float[Array, "G 3 3"]:
    """Vectors of length one where `mask`, elsewhere those of a cube."""
    vectors = jnp.where(mask[..., None], vectors, jnp.eye(3, dtype=vectors.dtype))
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def _thickness(
    positions: Float[Array, "N 3"], normal: Float[Array, "G 3"], index: Int[Array, " N"], mask: Bool[Array, " N"]
) -> Float[Array, " G"]:
    """How far the atoms of each structure extend along a direction [Å]; zero without atoms."""
    along, far = jnp.sum(positions * normal[index], -1), jnp.asarray(jnp.inf, positions.dtype)
    top = jax.ops.segment_max(jnp.where(mask, along, -far), index, len(normal), indices_are_sorted=True)
    bottom = jax.ops.segment_min(jnp.where(mask, along, far), index, len(normal), indices_are_sorted=True)
    return jnp.where(top >= bottom, top - bottom, 0)
