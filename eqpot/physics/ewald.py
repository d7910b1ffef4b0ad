"""Electrostatic energy under periodic boundary conditions: Ewald's sum in reciprocal space, for Gaussian charges.

    E = 2πK/V Σ_{k≠0} e^{−σ²k²/2}/k² |S(k)|² − K Σ_i q_i²/(√(2π) σ) − πKσ²Q²/V        S(k) = Σ_i q_i e^{ik·r_i},  K = e²/4πε₀

This is the energy of point charges less K/2 Σ' q_i q_j erfc(r/(√2 σ))/r over pairs and images (`eqpot.physics.ewald_points` adds it back): at a
distance of several σ charges are points, near by they are soft. The last term is that of the uniform background that neutralises a charged cell,
Q = Σ_i q_i. The surroundings are a conductor ("tin foil"): a dipole of the cell has no surface charge.

Slabs have two lattice vectors. The potential of a plane wave is cut off in the third direction at half the height of a box that holds the slab twice
(Rozzi et al. 2006): exact for charges within it, without any vacuum to converge; they must be neutral.

How many reciprocal vectors there are depends on the cell, and is found where the cell is: by a loop of unknown length, so that one compiled program
serves all cells at one tolerance. Vectors fade out smoothly beyond the last that counts: a cell can be strained without jumps.

References: P. P. Ewald, Ann. Phys. 369, 253 (1921); S. W. de Leeuw, J. W. Perram, E. R. Smith, Proc. R. Soc. A 373, 27 (1980);
C. A. Rozzi et al., Phys. Rev. B 73, 205119 (2006), eq. 17; B. Cheng, npj Comput. Mater. 11, 80 (2025): Gaussian charges alone, beside a network.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.units import COULOMB
from eqpot.physics.coulomb import summed
from eqpot.physics.ewald_box import box_of

VECTORS = 64
"""Reciprocal vectors that are worked out together."""
FADE = 0.1
"""Vectors up to this much longer than the last that counts are faded out."""


def reach(tolerance: float) -> float:
    """x with e^{−x²/2} = tolerance: how many σ a Gaussian goes, and its transform in units of 1/σ."""
    return float(np.sqrt(-2 * np.log(tolerance)))


def periodic_energies(
    positions: Float[Array, "N 3"],
    cell: Float[Array, "G 3 3"],
    charges: Float[Array, " N"],
    index: Int[Array, " N"],
    mask: Bool[Array, " N"],
    smearing: float,
    tolerance: float = 1e-6,
) -> Float[Array, " N"]:
    """Energies of Gaussian charges [eV], K q_i φ_i/2 each; zero in structures without two or three lattice vectors.

    Args:
        positions: of the atoms of all structures [Å].
        cell: rows are lattice vectors [Å], zero in directions without periodicity.
        charges: of the atoms [e].
        index: structure of each atom, ascending.
        mask: which atoms are real.
        smearing: width σ of the charges [Å].
        tolerance: vectors count while e^{−σ²k²/2} is above it.
    """
    sum_of = _prepare(positions, cell, index, mask, smearing, tolerance)
    charges = jnp.where(jnp.any(sum_of.member, 0), charges, 0)
    waves: Any = summed(partial(_wave_energies, *sum_of.widths), sum_of.chunks, (*sum_of.moving, charges), sum_of.fixed)
    missing_wave = smearing**2 / 2 * jnp.where(sum_of.bulk, sum_of.per_volume * jnp.sum(jnp.where(sum_of.member, charges, 0), -1), 0)
    return COULOMB * (sum_of.per_volume[index] * waves - charges**2 / ((2 * np.pi) ** 0.5 * smearing) - charges * missing_wave[index])


def periodic_matrix(
    positions: Float[Array, "N 3"],
    cell: Float[Array, "G 3 3"],
    index: Int[Array, " N"],
    mask: Bool[Array, " N"],
    smearing: float,
    tolerance: float = 1e-6,
) -> Float[Array, "N N"]:
    """A with E = ½ Σ A_ij q_i q_j [eV/e²] for charges that sum to zero; positive semidefinite, for it holds every Gaussian's energy with itself,

        A_ij = 4πK/V Σ_{k≠0} e^{−σ²k²/2}/k² cos k·(r_i − r_j).

    Zero between structures and in those without two or three lattice vectors. See `periodic_energies`.
    """
    sum_of = _prepare(positions, cell, index, mask, smearing, tolerance)
    waves: Any = summed(partial(_wave_matrix, *sum_of.widths), sum_of.chunks, sum_of.moving, sum_of.fixed)
    taken = jnp.any(sum_of.member, 0)
    pair = (index[:, None] == index) & taken[:, None] & taken
    return jnp.where(pair, 2 * COULOMB * sum_of.per_volume[index][:, None] * waves, 0)


class _Sum(NamedTuple):
    """What a sum over waves is made of.

    Attributes:
        widths: σ [Å] and the length of the longest vector [1/Å].
        chunks: how many times `VECTORS` there are.
        moving: places in the box, 2π reciprocal vectors, half the height of the box.
        fixed: structure of each atom, atoms of each structure, largest integers of the vectors, missing directions.
        per_volume: 2π/V [1/Å³].
        bulk: structures with three lattice vectors.
    """

    widths: tuple[float, float]
    chunks: Int[Array, ""]
    moving: tuple[Array, Array, Array]
    fixed: tuple[Array, Array, Array, Array]
    per_volume: Float[Array, " G"]
    bulk: Bool[Array, " G"]

    @property
    def member(self) -> Bool[Array, "G N"]:
        """Atoms of each structure that has waves."""
        return self.fixed[1]


def _prepare(positions: Array, cell: Array, index: Array, mask: Array, smearing: float, tolerance: float) -> _Sum:
    box = box_of(positions, cell, index, mask, margin=reach(tolerance) * smearing)
    member = (jnp.arange(len(cell), dtype=index.dtype)[:, None] == index) & mask & box.periodic[:, None]  # [G, N]
    longest = (1 + FADE) * reach(tolerance) / (2 * np.pi * smearing)
    limits = jnp.floor(longest * jax.lax.stop_gradient(jnp.linalg.norm(box.vectors, axis=-1))).astype(jnp.int32)
    count = jnp.max(jnp.where(box.periodic, (2 * limits[:, 0] + 1) * (2 * limits[:, 1] + 1) * (limits[:, 2] + 1), 0))
    moving = (box.fractional, 2 * jnp.pi * box.reciprocal, box.half_height)
    fixed = (index, member, limits, box.missing)
    per_volume = 2 * jnp.pi * box.inverse_volume
    return _Sum((smearing, reach(tolerance) / smearing), -(-count // VECTORS), moving, fixed, per_volume, box.bulk)


def _waves(smearing: float, longest: float, c: Array, moving: tuple, fixed: tuple) -> tuple[Float[Array, "2 N K"], Float[Array, "G K"]]:
    """Cosine and sine of k·r_i, and w(k), of the vectors c·VECTORS to (c + 1)·VECTORS − 1 of every structure."""
    (fractional, reciprocal, half_height), (index, _, limits, missing) = moving, fixed
    n, times = _triples(c.astype(jnp.int32), limits)  # [G, K, 3] integers; [G, K]
    n_real = n.astype(fractional.dtype)
    weight = times.astype(fractional.dtype) * _weights(n_real, reciprocal, half_height, missing, smearing, longest)
    turns = jnp.einsum("na,nka->nk", fractional, n_real[index], precision="highest")
    phase = 2 * jnp.pi * (turns - jax.lax.stop_gradient(jnp.round(turns)))  # [N, K], small: no digits are lost in sine and cosine
    return jnp.stack([jnp.cos(phase), jnp.sin(phase)]), weight


def _wave_energies(smearing: float, longest: float, c: Array, moving: tuple, fixed: tuple) -> Float[Array, " N"]:
    """q_i Re Σ_k w(k) S(k)* e^{ik·r_i} over some vectors of every structure."""
    *places, charges = moving
    index, member = fixed[:2]
    waves, weight = _waves(smearing, longest, c, tuple(places), fixed)
    factors = jnp.einsum("gn,xnk->xgk", jnp.where(member, charges, 0), waves, precision="highest") * weight
    return charges * jnp.sum(waves * factors[:, index], (0, 2))


def _wave_matrix(smearing: float, longest: float, c: Array, moving: tuple, fixed: tuple) -> Float[Array, "N N"]:
    """Σ_k w(k) cos k·(r_i − r_j) over some vectors of the structure of atom i."""
    waves, weight = _waves(smearing, longest, c, moving, fixed)
    return jnp.einsum("xnk,xmk->nm", waves * weight[fixed[0]], waves, precision="highest")


def _triples(c: Int[Array, ""], limits: Int[Array, "G 3"]) -> tuple[Int[Array, "G K 3"], Int[Array, "G K"]]:
    """The integers n of some vectors of each structure, of n and −n only one, and how often each counts: twice, once where the third is zero, or never."""
    at = (c * VECTORS + jnp.arange(VECTORS, dtype=jnp.int32))[None]
    one, two, three = (limits[:, k, None] for k in range(3))
    rest, third = at // (three + 1), at % (three + 1)
    first, second = rest // (2 * two + 1) - one, rest % (2 * two + 1) - two
    n = jnp.stack([first, second, third], -1)
    times = jnp.where(third > 0, 2, 1)
    return n, jnp.where((first <= one) & jnp.any(n != 0, -1), times, 0)


def _weights(
    n: Float[Array, "G K 3"],
    reciprocal: Float[Array, "G 3 3"],
    half_height: Float[Array, " G"],
    missing: Int[Array, "G 3"],
    smearing: float,
    longest: float,
) -> Float[Array, "G K"]:
    """e^{−σ²k²/2}/k², faded out beyond the longest vector; times 1 − e^{−k_∥ L} cos(k_⊥ L) in slabs, where k_⊥ L is a multiple of π."""

    def square(n: Float[Array, "G K 3"]) -> Float[Array, "G K"]:
        return jnp.sum(jnp.einsum("gka,gab->gkb", n, reciprocal, precision="highest") ** 2, -1)

    here = jnp.any(n != 0, -1)
    k_square = jnp.where(here, square(n), 1)
    weight = jnp.exp(-(smearing**2) / 2 * k_square) / k_square * _fade(jnp.sqrt(k_square) / longest)
    across = missing[:, None].astype(n.dtype)  # [G, 1, 3]
    inside = n * (1 - across)
    flat = jnp.any(inside != 0, -1)
    k_parallel = jnp.where(flat, jnp.sqrt(jnp.where(flat, square(inside), 1)), 0)
    sign = 1 - 2 * jnp.mod(jnp.sum(n * across, -1), 2)
    cut = 1 - sign * jnp.exp(-k_parallel * half_height[:, None])
    return jnp.where(here, weight * jnp.where(jnp.any(missing, -1)[:, None], cut, 1), 0)


def _fade(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """One up to 1, zero from 1 + FADE on, with two continuous derivatives."""
    t = jnp.clip((x - 1) / FADE, 0, 1)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2)
