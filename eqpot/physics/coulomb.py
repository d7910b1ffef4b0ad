"""Electrostatic energy without periodicity, and sums whose length is known only when they are worked out.

    E = K/2 Σ_{i≠j} q_i q_j erf(r_ij/(√2 σ))/r_ij        K = e²/4πε₀

is that of Gaussian charges: at distances of several σ that of point charges, and finite at zero. An atom has half of each of its pairs.
Lengths in Å, charges in e, energies in eV.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.numerics import safe_norm
from eqpot.core.units import COULOMB

Tree = Any
OFFSETS = 16
"""Partners of every atom that are worked out together."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def summed(term: Callable[[Array, Tree, Tree], Tree], count: Int[Array, ""], moving: Tree, fixed: Tree) -> Tree:
    """Σ_c term(c, moving, fixed) for c = 0 … count − 1, with a count that may depend on the structure.

    JAX does not differentiate a loop of unknown length in reverse. The slope of a sum is the sum of the slopes, however, so the rule here is this
    function again, which gives reverse derivatives of every order and keeps nothing between the terms.

    Args:
        term: pure function; it closes over no traced array.
        count: number of terms, at least zero.
        moving: pytree of floating-point arrays that may be differentiated.
        fixed: pytree of integers and booleans.
    """
    total = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(term, count, moving, fixed))
    return jax.lax.fori_loop(0, count, lambda c, total: jax.tree.map(jnp.add, total, term(c, moving, fixed)), total)


def _forward(term: Callable, count: Any, moving: Tree, fixed: Tree) -> tuple[Tree, tuple]:
    return summed(term, count, moving, fixed), (count, moving, fixed)


def _backward(term: Callable, residuals: tuple, slope: Tree) -> tuple:
    count, moving, fixed = residuals
    return None, summed(partial(_pullback, term), count, (moving, slope), fixed), None


def _pullback(term: Callable, c: Any, moving: Tree, fixed: Tree) -> Tree:
    arguments, slope = moving
    return jax.vjp(lambda x: term(c, x, fixed), arguments)[1](slope)[0]


summed.defvjp(_forward, _backward)


def gaussian_kernel(distance: Float[Array, "*n"], smearing: float) -> Float[Array, "*n"]:
    """erf(r/(√2 σ))/r [1/Å], or 1/r for σ = 0; distances [Å] are above zero."""
    return jax.lax.erf(distance / (2**0.5 * smearing)) / distance if smearing else 1 / distance


def open_energies(
    positions: Float[Array, "N 3"],
    charges: Float[Array, " N"],
    index: Int[Array, " N"],
    mask: Bool[Array, " N"],
    chosen: Bool[Array, " G"],
    smearing: float = 0.0,
) -> Float[Array, " N"]:
    """Energies of the atoms of the chosen structures [eV], each K q_i/2 Σ_{j≠i} q_j erf(r_ij/(√2 σ))/r_ij; zero for all others.

    The atoms of a structure are neighbours in the arrays, so each looks for partners only between the first and the last of them: the cost is that of
    atoms × atoms of the largest chosen structure.

    Args:
        positions: of the atoms of all structures [Å].
        charges: of the same [e].
        index: structure of each atom, ascending.
        mask: which atoms are real.
        chosen: structures without periodicity.
        smearing: width σ of the charges [Å]; zero for point charges.
    """
    rows = jnp.arange(len(positions), dtype=index.dtype)
    taken = mask & chosen[index]
    first = jax.ops.segment_min(jnp.where(taken, rows, len(positions)), index, len(chosen), indices_are_sorted=True)
    last = jax.ops.segment_max(jnp.where(taken, rows, -1), index, len(chosen), indices_are_sorted=True)
    most = jnp.max(jnp.where(chosen & (last >= 0), last - first + 1, 0))
    most = jnp.where(most > 1, most, 0)  # atoms alone have no partners
    fixed = (index, taken, jnp.where(taken, first[index], 0))
    energies: Any = summed(partial(_open_terms, smearing), -(-most // OFFSETS), (positions, charges), fixed)
    return COULOMB / 2 * energies


def _open_terms(smearing: float, c: Array, moving: tuple[Array, Array], fixed: tuple[Array, Array, Array]) -> Float[Array, " N"]:
    """The terms of the partners c·OFFSETS to (c + 1)·OFFSETS − 1 of every atom, counted from the first of its structure."""
    (positions, charges), (index, taken, first) = moving, fixed
    rows = jnp.arange(len(positions), dtype=index.dtype)[:, None]
    partner = first[:, None] + c.astype(index.dtype) * OFFSETS + jnp.arange(OFFSETS, dtype=index.dtype)
    partner, inside = jnp.minimum(partner, len(positions) - 1), partner < len(positions)
    pair = inside & (partner != rows) & taken[:, None] & taken[partner] & (index[partner] == index[:, None])
    distance = safe_norm(positions[partner] - positions[:, None], pair)
    return charges * jnp.sum(jnp.where(pair, charges[partner] * gaussian_kernel(distance, smearing), 0), -1)


def open_matrix(positions: Float[Array, "N 3"], index: Int[Array, " N"], mask: Bool[Array, " N"], smearing: float) -> Float[Array, "N N"]:
    """A with E = ½ Σ A_ij q_i q_j [eV/e²]: A_ij = K erf(r_ij/(√2 σ))/r_ij between atoms of one structure, and its limit K √(2/π)/σ for
    each with itself; zero for all others. Positive semidefinite, as the interaction of Gaussians is."""
    diagonal = jnp.eye(len(positions), dtype=bool)
    taken = (index[:, None] == index) & mask[:, None] & mask
    distance = safe_norm(positions[:, None] - positions, taken & ~diagonal)
    own = jnp.asarray((2 / np.pi) ** 0.5 / smearing, positions.dtype)
    return COULOMB * jnp.where(taken, jnp.where(diagonal, own, gaussian_kernel(distance, smearing)), 0)
