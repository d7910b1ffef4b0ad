"""Neighbour lists on the device, for any cell, cutoff and periodicity, in linear time.

A long list (`search`) holds all pairs nearer than cutoff + skin and stays right until atoms or cell have moved by what the skin allows (`covers`);
from it, `edges` takes those within the cutoff, at every step. Their order depends on nothing but the atoms' numbers and images, so what is computed from
the edges is a function of positions and cell alone: when and from where the long list was made cannot be seen in a single bit.

The search sorts atoms into the bins of a grid along the lattice vectors. A bin may be narrower than the radius, and a cell narrower than a bin's
surroundings: the search then goes through as many bins, and round the cell as often, as it must. Along directions without periodicity the grid spans the
atoms. Positions are never folded: edges count images between the atoms as they are,

    vector = r_j + S·cell − r_i .

All sizes are static. Each result says how much room it needed (`needs`); where that is more than it had, it is wrong and must be made again with more.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record
from eqpot.graph.graph import Either

CHUNK = 512
"""Atoms searched at a time: enough to keep a device busy, few enough that memory stays small."""
CODE_BITS = 10
"""Bits for an image along one direction in the code that orders the images of a pair."""


@dataclass(frozen=True)
class Grid:
    """Static sizes of a search.

    Attributes:
        bins: number of bins along each lattice vector.
        reach: bins to search on either side; a bin's width × reach is at least the radius.
        per_bin: atoms that a bin can hold.
        slots: neighbours that an atom can have.
    """

    bins: tuple[int, int, int]
    reach: tuple[int, int, int]
    per_bin: int
    slots: int


@record
class Box:
    """Where atoms live.

    Attributes:
        cell: rows are lattice vectors [Å], the rows of directions without periodicity normal to the others (see `complete_cell`).
        pbc: which directions are periodic.
    """

    cell: Float[Either, "*S 3 3"]
    pbc: Bool[Either, "*S 3"]


@record
class Candidates:
    """All pairs that were nearer than a radius, sorted by (receiver, sender, image).

    Attributes:
        senders: sender in each slot of an atom, the number of atoms in an empty slot.
        images: image of that sender, in units of lattice vectors.
        positions, cell: where all this was so [Å].
        radius: of the list [Å].
        needs: atoms in the fullest bin, neighbours of the atom that has most, and 1 if the cell is too narrow for the grid's reach; see `Grid`.
    """

    senders: Int[Either, "*S N K"]
    images: Int[Either, "*S N K 3"]
    positions: Float[Either, "*S N 3"]
    cell: Float[Either, "*S 3 3"]
    radius: Float[Either, "*S"]
    needs: Int[Either, "*S 3"]


@record
class EdgeTable:
    """The pairs nearer than the cutoff.

    Attributes:
        positions: the atoms folded into the cell along periodic directions and about zero along others, where float32 has all its digits [Å].
        senders: sender in each slot of an atom; 0 in an empty slot.
        shifts: image of the sender in units of lattice vectors, for the positions given here.
        mask: which slots are used.
        needed: neighbours of the atom that has most.
        nearest: shortest distance of any pair [Å]; infinite where there is none.
    """

    positions: Float[Either, "*S N 3"]
    senders: Int[Either, "*S N M"]
    shifts: Int[Either, "*S N M 3"]
    mask: Bool[Either, "*S N M"]
    needed: Int[Either, "*S"]
    nearest: Float[Either, "*S"]


def heights(cell: Any) -> Any:
    """Distance between opposite faces of a cell [Å], along each lattice vector."""
    a, b, c = cell
    faces = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)])
    return jnp.abs(jnp.vdot(a, faces[0])) / jnp.sqrt(jnp.sum(faces**2, -1))


def fractional(positions: Float[Array, "N 3"], cell: Float[Array, "3 3"]) -> Float[Array, "N 3"]:
    """Positions in units of lattice vectors."""
    a, b, c = cell
    faces = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], -1)
    return jnp.sum(positions[:, :, None] * faces, 1) / jnp.vdot(a, faces[:, 0])


def to_cartesian(counts: Array, cell: Float[Array, "3 3"]) -> Array:
    """Σ_k n_k·a_k, in sums whose order is the same however they are compiled."""
    counts = counts.astype(cell.dtype)
    return counts[..., :1] * cell[0] + counts[..., 1:2] * cell[1] + counts[..., 2:] * cell[2]


def search(positions: Float[Array, "N 3"], box: Box, real: Bool[Array, " N"], radius: Float[Array, ""], grid: Grid) -> Candidates:
    """All pairs of real atoms nearer than `radius`, with every image.

    Args:
        positions: anywhere in space [Å].
        box: cell and periodicity.
        real: which atoms are not padding.
        radius: cutoff and skin [Å].
        grid: static sizes.
    """
    n_atoms, bins = len(positions), np.array(grid.bins, np.int32)
    inside = fractional(positions, box.cell)
    folds = jnp.where(box.pbc, jnp.floor(inside), 0).astype(jnp.int32)
    near = positions - to_cartesian(folds, box.cell)
    place, narrow = _bins_of(inside - folds.astype(inside.dtype), box, real, radius, grid)
    contents, fullest = _fill(place, real, grid)
    steps = np.array(list(product(*(range(-r, r + 1) for r in grid.reach))), np.int32)
    per_atom = len(steps) * grid.per_bin

    def neighbours(i: Array) -> tuple[Array, ...]:
        around = place[i] + steps
        turns = jnp.where(box.pbc, jnp.floor_divide(around, bins), 0).astype(jnp.int32)
        around = around - turns * bins
        exists = ((around >= 0) & (around < bins)).all(-1)
        flat = jnp.where(exists, (around[:, 0] * bins[1] + around[:, 1]) * bins[2] + around[:, 2], int(bins.prod()))
        senders = contents[flat]  # [steps, per_bin]
        vectors = near[senders] - near[i] + to_cartesian(turns, box.cell)[:, None]
        itself = (senders == i) & (turns == 0).all(-1)[:, None]
        wanted = (jnp.sum(vectors**2, -1) < radius**2) & (senders < n_atoms) & ~itself & real[i]
        code = jnp.broadcast_to(_encode(turns)[:, None], senders.shape)
        return _pack(wanted.reshape(per_atom), grid.slots, (senders.reshape(per_atom), n_atoms), (code.reshape(per_atom), 0))

    senders, codes, counts = jax.lax.map(neighbours, jnp.arange(n_atoms, dtype=jnp.int32), batch_size=min(CHUNK, n_atoms))
    # The images of a pair are in one order whether they are counted between the folded atoms, as here, or between the atoms as they are.
    senders, codes = jax.lax.sort((senders, codes), dimension=1, num_keys=2)
    images = _decode(codes) - folds.at[senders].get(mode="fill", fill_value=0) + folds[:, None]
    needs = jnp.stack([fullest, counts.max(), narrow.astype(jnp.int32)])
    return Candidates(senders, images, positions, box.cell, jnp.asarray(radius, positions.dtype), needs)


def covers(candidates: Candidates, positions: Float[Array, "N 3"], cell: Float[Array, "3 3"], cutoff: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether every pair now nearer than the cutoff must be in the list; false when a position is not a number.

    With D the deformation of the cell since then, u the displacements beyond it, every pair outside the list is now at least
    σ_min(D)·radius − 2·max|u| apart; and σ_min(D) ≥ 1 − ‖D − 1‖.
    """
    # D = C₀⁻¹C, of which D − 1 = C₀⁻¹(C − C₀) keeps more digits and is exactly zero in a fixed cell.
    change = fractional((cell - candidates.cell).T, candidates.cell.T).T
    moved = positions - candidates.positions - jnp.sum(candidates.positions[:, :, None] * change, 1)
    farthest = jnp.sqrt(jnp.max(jnp.sum(moved**2, -1)))
    return (1 - jnp.sqrt(jnp.sum(change**2))) * candidates.radius - 2 * farthest >= cutoff


def edges(
    candidates: Candidates, positions: Float[Array, "N 3"], box: Box, real: Bool[Array, " N"], cutoff: Float[Array, ""], slots: int
) -> EdgeTable:
    """The candidates that are now nearer than the cutoff, in the candidates' order.

    Args:
        candidates: a list that `covers` these positions.
        positions: anywhere in space [Å].
        box: cell and periodicity, now.
        real: which atoms are not padding.
        cutoff: radius of the edges [Å].
        slots: static number of neighbours that an atom can have.
    """
    inside = fractional(positions, box.cell)
    middle = jnp.sum(jnp.where(real[:, None], inside, 0), 0) / jnp.maximum(jnp.sum(real.astype(inside.dtype)), 1)
    folds = jnp.where(box.pbc, jnp.floor(inside), 0).astype(jnp.int32)
    near = positions - to_cartesian(jnp.where(box.pbc, folds.astype(inside.dtype), middle), box.cell)
    senders = candidates.senders
    shifts = candidates.images + folds.at[senders].get(mode="fill", fill_value=0) - folds[:, None]
    vectors = near.at[senders].get(mode="fill", fill_value=jnp.inf) - near[:, None] + to_cartesian(shifts, box.cell)
    square = jnp.sum(vectors**2, -1)
    wanted = square < cutoff**2
    pack = jax.vmap(lambda w, j, c: _pack(w, slots, (j, 0), (c, 0)))
    chosen, codes, counts = pack(wanted, senders, _encode(shifts))
    mask = jnp.arange(slots, dtype=jnp.int32) < counts[:, None]
    nearest = jnp.sqrt(jnp.min(square, initial=jnp.inf))
    return EdgeTable(near, chosen, jnp.where(mask[..., None], _decode(codes), 0), mask, counts.max(), nearest)


def _bins_of(
    inside: Float[Array, "N 3"], box: Box, real: Bool[Array, " N"], radius: Float[Array, ""], grid: Grid
) -> tuple[Int[Array, "N 3"], Bool[Array, ""]]:
    """Bin of each atom along each direction, and whether the grid's reach is too short for the radius.

    Along a direction without periodicity bins are as wide as they must be, or as wide as it takes to span the atoms.
    """
    bins, reach = (jnp.asarray(x, inside.dtype) for x in (grid.bins, grid.reach))
    span = radius / heights(box.cell)
    low = jnp.where(box.pbc, 0, jnp.min(jnp.where(real[:, None], inside, jnp.inf), 0))
    high = jnp.where(box.pbc, 1, jnp.max(jnp.where(real[:, None], inside, -jnp.inf), 0))
    width = jnp.where(box.pbc, 1 / bins, jnp.maximum((high - low) / bins, span / reach))
    place = jnp.clip(jnp.floor((inside - low) / width), 0, bins - 1).astype(jnp.int32)
    # Along open directions bins are wide enough as they are made; to multiply again could round to less.
    return place, jnp.any(box.pbc & (width * reach < span))


def _fill(place: Int[Array, "N 3"], real: Bool[Array, " N"], grid: Grid) -> tuple[Int[Array, "B P"], Int[Array, ""]]:
    """Atoms in each bin, with one more bin that stays empty, and the number of atoms in the fullest."""
    n_atoms, n_bins = len(place), int(np.prod(grid.bins))
    flat = (place[:, 0] * grid.bins[1] + place[:, 1]) * grid.bins[2] + place[:, 2]
    flat, order = jax.lax.sort((jnp.where(real, flat, n_bins), jnp.arange(n_atoms, dtype=jnp.int32)), num_keys=1, is_stable=True)
    starts = jnp.searchsorted(flat, jnp.arange(n_bins + 1, dtype=flat.dtype)).astype(jnp.int32)
    rank = jnp.arange(n_atoms, dtype=jnp.int32) - starts[flat]
    contents = jnp.full((n_bins + 1, grid.per_bin), n_atoms, jnp.int32)
    contents = contents.at[jnp.where(flat < n_bins, flat, n_bins + 1), rank].set(order, mode="drop")
    return contents, jnp.max(starts[1:] - starts[:-1])


def _pack(wanted: Bool[Array, " C"], slots: int, *columns: tuple[Array, int]) -> tuple[Array, ...]:
    """The wanted entries of each (column, fill), moved to the front in their order; at last, how many there are."""
    rank = jnp.cumsum(wanted.astype(jnp.int32)) - 1
    target = jnp.where(wanted, rank, slots)
    packed = [jnp.full(slots, fill, column.dtype).at[target].set(column, mode="drop") for column, fill in columns]
    return (*packed, rank[-1] + 1)


def _encode(images: Int[Array, "*n 3"]) -> Int[Array, "*n"]:
    """One integer for an image, in the order of images."""
    half, wide = 1 << (CODE_BITS - 1), 1 << CODE_BITS
    return ((images[..., 0] + half) * wide + images[..., 1] + half) * wide + images[..., 2] + half


def _decode(codes: Int[Array, "*n"]) -> Int[Array, "*n 3"]:
    """The image that a code stands for."""
    half, wide = 1 << (CODE_BITS - 1), 1 << CODE_BITS
    return jnp.stack([codes // wide**2, codes // wide % wide, codes % wide], -1) - half
