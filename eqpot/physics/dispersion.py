"""Dispersion by Grimme's D3 with the damping of Becke and Johnson, pairs alone.

    E = −½ Σ_ij C6_ij [ s6/(r⁶ + f⁶) + 3 s8 Q_ij/(r⁸ + f⁸) ],   f = a1 √(3 Q_ij) + a2,   Q_ij = √Q_i √Q_j

C6 follows the surroundings: CN_i = Σ_j 1/(1 + e^{−16 (R_ij/r − 1)}) counts the neighbours of an atom, R = 4/3 of the sum of covalent radii, and

    C6_ij = Σ_ab w_ia w_jb C6_ab,   w_ia ∝ e^{−4 (CN_i − CN_a)²},  Σ_a w_ia = 1

is a mean over reference compounds a of the element of i, b of that of j. Energy and coordination fade out at their reaches: two continuous derivatives.

References: S. Grimme, J. Antony, S. Ehrlich, H. Krieg, J. Chem. Phys. 132, 154104 (2010); S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.units import ENERGY_UNITS, LENGTH_UNITS
from eqpot.physics.d3_functionals import Damping
from eqpot.physics.d3_table import load_table
from eqpot.physics.dispersion_partners import partner_sums
from eqpot.physics.dispersion_tail import effective_cutoff, fade, tail_energy

BOHR, HARTREE = LENGTH_UNITS["Bohr"], ENERGY_UNITS["Hartree"]
NEAREST = 1e-4
"""Squares of distances below this [Å²] count as this; there, nothing depends on them."""


class D3Elements(NamedTuple):
    """Constants of some elements, as NumPy arrays.

    Attributes:
        radii: 4/3 of covalent radii [Å].
        sizes: √Q [Å], with C8 = 3 C6 √Q_a √Q_b.
        owner: element of each reference, an index into the elements.
        coordination: of each reference.
        c6: of pairs of references [eV Å⁶].
    """

    radii: np.ndarray
    sizes: np.ndarray
    owner: np.ndarray
    coordination: np.ndarray
    c6: np.ndarray


class Range(NamedTuple):
    """How far D3 sees [Å].

    Attributes:
        energy: where pairs end.
        coordination: where neighbours of an atom end.
        switch: length over which both fade out; zero ends them at once.
        tail: whether a crystal gets the energy of the pairs beyond, as if it were uniform there.
    """

    energy: float = 20.0
    coordination: float = 21.2
    switch: float = 2.0
    tail: bool = False


def d3_elements(numbers: Sequence[int]) -> D3Elements:
    """Constants of elements by atomic number, each at most 94."""
    table, rows = load_table(), np.asarray(numbers, int) - 1
    owner, place = np.nonzero(~np.isnan(table.coordination[rows]))
    c6 = table.c6[rows[owner][:, None], rows[owner], place[:, None], place]
    coordination = table.coordination[rows][owner, place]
    return D3Elements(4 / 3 * table.radii[rows], table.sizes[rows] * BOHR, owner, coordination, c6 * HARTREE * BOHR**6)


def d3_energies(
    positions: Float[Array, "N 3"],
    cell: Float[Array, "G 3 3"],
    species: Int[Array, " N"],
    index: Int[Array, " N"],
    mask: Bool[Array, " N"],
    elements: D3Elements,
    damping: Damping,
    within: Range,
) -> Float[Array, " N"]:
    """Dispersion energies of the atoms of all structures [eV], half of each pair; zero for masked atoms.

    Args:
        positions: [Å].
        cell: rows are lattice vectors [Å], zero in directions without periodicity; none to three may be given.
        species: index into `elements`.
        index: structure of each atom, ascending.
        mask: which atoms are real.
        elements: by `d3_elements`.
        damping: s6, s8, a1, and a2 [bohr].
        within: reaches.
    """
    count = partial(_coordination, elements.radii, within)
    coordination = partner_sums(count, positions, cell, index, mask, within.coordination, species)
    weights = _weights(coordination, species, elements)
    mixed = jnp.matmul(weights, jnp.asarray(elements.c6, weights.dtype), precision="highest")  # C6_ij = mixed_i · weights_j
    pairs = partial(_pair, elements.sizes, damping, within)
    energy = -partner_sums(pairs, positions, cell, index, mask, within.energy, species, mixed, weights) / 2
    return energy + _tail(cell, species, index, mask, elements, damping, within, weights, mixed) if within.tail else energy


def _coordination(radii: np.ndarray, within: Range, square: Float[Array, "N P I"], own: tuple, theirs: tuple) -> Float[Array, "N P I"]:
    """1/(1 + e^{−16 (R/r − 1)}), faded out."""
    known = jnp.asarray(radii, square.dtype)
    distance = jnp.sqrt(jnp.maximum(square, NEAREST))
    count = jax.nn.sigmoid(16 * ((known[own[0]] + known[theirs[0]]) / distance - 1))
    return count * fade(distance, within.coordination, within.switch)


def _pair(
    sizes: np.ndarray, damping: Damping, within: Range, square: Float[Array, "N P I"], own: tuple, theirs: tuple
) -> Float[Array, "N P I"]:
    """C6 [s6/(r⁶ + f⁶) + 3 s8 Q/(r⁸ + f⁸)], faded out."""
    known = jnp.asarray(sizes, square.dtype)
    c6 = jnp.sum(own[1] * theirs[1], -1)
    ratio = 3 * known[own[0]] * known[theirs[0]]  # C8/C6
    damped = (damping.a1 * jnp.sqrt(ratio) + damping.a2 * BOHR) ** 2
    sixth = damping.s6 / (square**3 + damped**3)
    eighth = damping.s8 * ratio / (square**4 + damped**4)
    return c6 * (sixth + eighth) * fade(jnp.sqrt(jnp.maximum(square, NEAREST)), within.energy, within.switch)


def _weights(coordination: Float[Array, " N"], species: Int[Array, " N"], elements: D3Elements) -> Float[Array, "N R"]:
    """Weights of all references for each atom; those of other elements are zero, the rest adds up to one however far away they are."""
    exponent = -4 * (coordination[:, None] - jnp.asarray(elements.coordination, coordination.dtype)) ** 2
    return jax.nn.softmax(jnp.where(species[:, None] == jnp.asarray(elements.owner, species.dtype), exponent, -jnp.inf), -1)


def _tail(
    cell: Float[Array, "G 3 3"],
    species: Int[Array, " N"],
    index: Int[Array, " N"],
    mask: Bool[Array, " N"],
    elements: D3Elements,
    damping: Damping,
    within: Range,
    weights: Float[Array, "N R"],
    mixed: Float[Array, "N R"],
) -> Float[Array, " N"]:
    """What is beyond the reach, in structures with three lattice vectors, for atoms that are spread evenly there; undamped."""
    bulk = jnp.all(jnp.any(cell != 0, -1), -1)
    vectors = jnp.where(bulk[:, None, None], cell, jnp.eye(3, dtype=cell.dtype))
    volume = jnp.abs(jnp.sum(vectors[:, 0] * jnp.cross(vectors[:, 1], vectors[:, 2]), -1))[index]
    sizes = jnp.asarray(elements.sizes, weights.dtype)[species][:, None]
    energy = jnp.zeros(len(index), weights.dtype)
    for order, own, theirs in (
        (6, damping.s6 * mixed, weights),
        (8, 3 * damping.s8 * sizes * mixed, sizes * weights),
    ):
        others = jax.ops.segment_sum(jnp.where(mask[:, None], theirs, 0), index, len(cell), indices_are_sorted=True)
        cutoff = effective_cutoff(within.energy, within.switch, order)
        energy += tail_energy(jnp.sum(own * others[index], -1), volume, cutoff, order)
    return jnp.where(mask & bulk[index], energy, 0)
