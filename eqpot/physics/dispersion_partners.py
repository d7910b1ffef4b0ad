"""Sums over the partners of atoms: all atoms of the same structure, and in periodic structures their images within a reach.

No table of neighbours is needed, so a reach of many ångström makes none larger. How many images there are is found from the cell as the program
runs, and the sum is a loop of that length; the cost is that of atoms × atoms × images of the costliest structure, for each of its atoms.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record
from eqpot.physics.coulomb import Tree, summed

ROUNDING = 1e-3
"""By how much of a lattice vector the reach is taken too long, so that rounding loses no image."""
PARTNERS, IMAGES = 4, 8
"""Of every atom, and of each of these, that are worked out together: finding a partner takes longer than adding an image of it."""
Kernel = Callable[[Float[Array, "N P I"], Tree, Tree], Float[Array, "N P I"]]


@record
class Lattice:
    """How far images must be looked for; nothing here is differentiated.

    Attributes:
        fractional: positions in units of the lattice vectors, zero in directions without periodicity.
        extent: reach in units of the heights of the cell, zero likewise.
        spans: images that may lie within the reach, in each direction, at least one.
    """

    fractional: Float[Array, "N 3"]
    extent: Float[Array, "G 3"]
    spans: Int[Array, "G 3"]


def lattice_of(positions: Float[Array, "N 3"], cell: Float[Array, "G 3 3"], index: Int[Array, " N"], reach: float) -> Lattice:
    """The images that lie within a reach [Å], for any number of lattice vectors in any direction.

    |f + n| heights ≤ reach holds for at most ⌊2 reach/height⌋ + 1 integers n, where f is how far a partner is away along a lattice vector.
    """
    positions, cell = jax.lax.stop_gradient((positions, cell))
    given = jnp.any(cell != 0, -1)
    metric = jnp.einsum("gka,gla->gkl", cell, cell, precision="highest")
    metric = jnp.where(given[:, :, None] & given[:, None, :], metric, jnp.eye(3, dtype=cell.dtype))
    dual = jnp.einsum("gkl,gla->gka", jnp.linalg.inv(metric), cell, precision="highest")  # a_k·b_l = δ_kl; zero where none is given
    extent = jnp.where(given, reach * jnp.linalg.norm(dual, axis=-1) + ROUNDING, 0)
    return Lattice(jnp.sum(dual[index] * positions[:, None], -1), extent, jnp.floor(2 * extent).astype(jnp.int32) + 1)


def partner_sums(
    kernel: Kernel,
    positions: Float[Array, "N 3"],
    cell: Float[Array, "G 3 3"],
    index: Int[Array, " N"],
    mask: Bool[Array, " N"],
    reach: float,
    species: Int[Array, " N"],
    own: Tree = (),
    theirs: Tree = (),
) -> Float[Array, " N"]:
    """Σ_j k(r_ij²) over all partners and images of each atom i, itself left out but not its images; zero for masked atoms.

    Args:
        kernel: of squares of distances [Å²], and of what is known of an atom [N, 1, 1, …] and of its partners [N, P, 1, …]: the pairs
            (species, own) and (species, theirs). It must be finite for any square, zero included, and zero beyond the reach.
        positions: of the atoms of all structures [Å].
        cell: rows are lattice vectors [Å], zero in directions without periodicity.
        index: structure of each atom, ascending.
        mask: which atoms are real.
        reach: how far partners count [Å].
        species: of the atoms.
        own: pytree of floating-point arrays, what a pair depends on of the atom itself.
        theirs: the same of the partner.
    """
    lattice = lattice_of(positions, cell, index, reach)
    images = jnp.prod(lattice.spans, -1, dtype=jnp.int32)
    rows = jnp.arange(len(positions), dtype=index.dtype)
    first = jax.ops.segment_min(jnp.where(mask, rows, len(positions)), index, len(cell), indices_are_sorted=True)
    last = jax.ops.segment_max(jnp.where(mask, rows, -1), index, len(cell), indices_are_sorted=True)
    atoms = jnp.maximum(last - first + 1, 0)
    blocks = -(-images // IMAGES)
    count = jnp.max(jnp.where(last >= 0, -(-atoms // PARTNERS) * blocks.astype(atoms.dtype), 0))
    fixed = (lattice, index, mask, jnp.where(mask, first[index], 0), blocks[index], species)
    total: Any = summed(partial(_terms, kernel), count, (positions, cell[index], own, theirs), fixed)
    return total


def _terms(kernel: Kernel, c: Array, moving: tuple, fixed: tuple) -> Float[Array, " N"]:
    """The terms of a block of partners, counted from the first of each structure, and a block of their images."""
    (positions, vectors, own, theirs), (lattice, index, taken, first, blocks, species) = moving, fixed
    rows = jnp.arange(len(positions), dtype=index.dtype)[:, None]
    block, image = c.astype(blocks.dtype) // blocks, c.astype(blocks.dtype) % blocks
    partner = first[:, None] + block[:, None].astype(index.dtype) * PARTNERS + jnp.arange(PARTNERS, dtype=index.dtype)
    partner, inside = jnp.minimum(partner, len(positions) - 1), partner < len(positions)
    pair = inside & taken[:, None] & taken[partner] & (index[partner] == index[:, None])  # [N, P]

    spans = lattice.spans[index][:, None]
    step, there = _steps(image[:, None] * IMAGES + jnp.arange(IMAGES, dtype=image.dtype), spans)  # [N, I, 3]; [N, I]
    away = lattice.fractional[partner] - lattice.fractional[:, None]
    start = jnp.ceil(-lattice.extent[index][:, None] - away).astype(jnp.int32)  # [N, P, 3]: the first image that may be near
    itself = (partner == rows)[..., None] & ~jnp.any(start[:, :, None] + step[:, None], -1)
    counts = pair[..., None] & there[:, None] & ~itself  # [N, P, I]

    base = positions[partner] - positions[:, None] + _shift(start, vectors)
    square = jnp.sum((base[:, :, None] + _shift(step, vectors)[:, None]) ** 2, -1)
    mine = jax.tree.map(lambda x: x[:, None, None], (species, own))
    others = jax.tree.map(lambda x: x[partner][:, :, None], (species, theirs))
    return jnp.sum(jnp.where(counts, kernel(square, mine, others), 0), (1, 2))


def _steps(at: Int[Array, "N I"], spans: Int[Array, "N 1 3"]) -> tuple[Int[Array, "N I 3"], Bool[Array, "N I"]]:
    """The images of some numbers, counted along one direction after the other, and whether there are that many."""
    second, third = spans[..., 1], spans[..., 2]
    first = at // (second * third)
    return jnp.stack([first, at // third % second, at % third], -1), first < spans[..., 0]


def _shift(n: Int[Array, "N K 3"], vectors: Float[Array, "N 3 3"]) -> Float[Array, "N K 3"]:
    """n·vectors as a sum that no accelerator makes in fewer digits."""
    return jnp.sum(n.astype(vectors.dtype)[..., None] * vectors[:, None], -2)
