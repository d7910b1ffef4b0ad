"""Charges that minimise an energy: charge equilibration, and what the charges depend on at any distance.

    E(q) = Σ_i (χ_i q_i + ½ η_i q_i²) + ½ Σ_ij A_ij q_i q_j        Σ_i q_i = Q in each structure

χ are electronegativities [eV/e], η hardnesses [eV/e²] above zero; A is the interaction of Gaussian charges, that of each with itself included, and so
positive semidefinite. Hence there is one minimum, (A + η) q = −χ − λ, and λ makes the charges sum to Q.

Two ways to it: "dense" makes A and factorises A + η, for atoms up to about a thousand; "iterative" asks only for products A q, by conjugate gradients among
charges that sum to zero. Derivatives of any order are those of the minimum, not of the way: by the implicit function theorem, each costs one more solution.

References: A. K. Rappé, W. A. Goddard III, J. Phys. Chem. 95, 3358 (1991); S. A. Ghasemi et al., Phys. Rev. B 92, 045131 (2015);
T. W. Ko, J. A. Finkler, S. Goedecker, J. Behler, Nat. Commun. 12, 398 (2021). There, widths differ between elements; here they do not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.units import COULOMB
from eqpot.physics.coulomb import open_energies, open_matrix
from eqpot.physics.ewald import periodic_energies, periodic_matrix

Solver = Literal["dense", "iterative"]
MOST_ITERATIONS = 500
ENOUGH = {"float32": 1e-6, "float64": 1e-12}
"""Conjugate gradients end at this residual, relative to the right-hand side."""


def self_interaction(smearing: float) -> float:
    """A_ii in vacuum: twice the energy of a unit charge of Gaussian shape [eV/e²], K √(2/π)/σ."""
    return COULOMB * float(np.sqrt(2 / np.pi)) / smearing


def equilibrated(
    positions: Float[Array, "N 3"],
    cell: Float[Array, "G 3 3"],
    electronegativity: Float[Array, " N"],
    hardness: Float[Array, " N"],
    total_charge: Float[Array, " G"],
    index: Int[Array, " N"],
    mask: Bool[Array, " N"],
    smearing: float,
    tolerance: float = 1e-6,
    solver: Solver = "dense",
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Charges [e] that minimise the energy of each structure, and the energies of the atoms [eV], q_i (χ_i + ½ η_i q_i + ½ Σ_j A_ij q_j).

    Args:
        positions: of the atoms of all structures [Å].
        cell: rows are lattice vectors [Å], zero in directions without periodicity; two, three or none.
        electronegativity: χ [eV/e].
        hardness: η [eV/e²], above zero.
        total_charge: Q [e].
        index: structure of each atom, ascending.
        mask: which atoms are real; others have no charge.
        smearing: width σ of the charges [Å].
        tolerance: of the sum over waves, see `periodic_energies`.
        solver: "dense" or "iterative".
    """
    product: Callable
    if solver == "dense":
        matrix = interactions(positions, cell, index, mask, smearing, tolerance) + jnp.diag(jnp.where(mask, hardness, 1))
        product, moving = _times_matrix, (matrix,)
    else:
        product, moving = partial(_times_potential, smearing, tolerance), (positions, cell, hardness)
    fixed = (index, mask)
    wanted = jnp.where(mask, electronegativity, 0)
    share = total_charge / jnp.maximum(_of_each(jnp.ones_like(hardness), index, mask, len(cell)), 1)
    shared = jnp.where(mask, share[index], 0)
    # Charges are q = Q/n + p, where p sums to zero: (A + η) p = −χ − (A + η) Q/n − λ.
    solve = partial(_solve_matrix if solver == "dense" else partial(_solve_iteratively, product), len(cell))
    charges = shared + solve(moving, fixed, -wanted - product(moving, fixed, shared))
    energies = charges * (wanted + product(moving, fixed, charges) / 2)
    background = 2 * jnp.pi * COULOMB * smearing**2 / 2 * total_charge * _inverse_volume(cell)
    return charges, jnp.where(mask, energies - charges * background[index], 0)


def interactions(
    positions: Float[Array, "N 3"],
    cell: Float[Array, "G 3 3"],
    index: Int[Array, " N"],
    mask: Bool[Array, " N"],
    smearing: float,
    tolerance: float,
) -> Float[Array, "N N"]:
    """A of all structures [eV/e²], zero between them; that of a crystal is right for charges that sum to zero."""
    isolated = ~jnp.any(cell != 0, (1, 2))
    open_part = open_matrix(positions, index, mask & isolated[index], smearing)
    return open_part + periodic_matrix(positions, cell, index, mask, smearing, tolerance)


def _times_matrix(moving: tuple, fixed: tuple, charges: Float[Array, " N"]) -> Float[Array, " N"]:
    del fixed
    return jnp.einsum("nm,m->n", moving[0], charges, precision="highest")


def _times_potential(smearing: float, tolerance: float, moving: tuple, fixed: tuple, charges: Float[Array, " N"]) -> Float[Array, " N"]:
    """(A + η) q without A: the derivative of the energy by the charges, with that of each Gaussian with itself put back."""
    (positions, cell, hardness), (index, mask) = moving, fixed

    def energy(charges: Float[Array, " N"]) -> Array:
        isolated = ~jnp.any(cell != 0, (1, 2))
        found = open_energies(positions, charges, index, mask, isolated, smearing)
        return jnp.sum(found + periodic_energies(positions, cell, charges, index, mask, smearing, tolerance))

    own = jnp.where(mask, (hardness + self_interaction(smearing)) * charges, 0)
    background = 2 * jnp.pi * COULOMB * smearing**2 * _inverse_volume(cell) * _of_each(charges, index, mask, len(cell))
    return own + jnp.where(mask, jax.grad(energy)(charges) + background[index], 0)


def _solve_matrix(n_structures: int, moving: tuple, fixed: tuple, right: Float[Array, " N"]) -> Float[Array, " N"]:
    """p with matrix·p = right − λ, p summing to zero in each structure."""
    index, mask = fixed
    ones = jnp.where(mask, jnp.ones_like(right), 0)
    factor = jax.scipy.linalg.cho_factor(moving[0])
    found, response = jnp.moveaxis(jax.scipy.linalg.cho_solve(factor, jnp.stack([right, ones], -1)), -1, 0)
    answer = _of_each(response, index, mask, n_structures)  # above zero where there are atoms
    excess = _of_each(found, index, mask, n_structures) / jnp.where(answer > 0, answer, 1)
    return _neutral(found - jnp.where(mask, excess[index] * response, 0), index, mask, n_structures)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _solve_iteratively(product: Callable, n_structures: int, moving: tuple, fixed: tuple, right: Float[Array, " N"]) -> Float[Array, " N"]:
    """p with product(p) = right − λ, p summing to zero in each structure, by conjugate gradients among such charges."""
    index, mask = fixed

    def inside(x: Array) -> Array:
        return _neutral(x, index, mask, n_structures)

    smallest = ENOUGH[right.dtype.name] ** 2 * jnp.vdot(right, right)
    residual = inside(right)
    start = (jnp.zeros_like(right), residual, residual, jnp.vdot(residual, residual), 0)

    def unfinished(state: tuple) -> Array:
        return (state[3] > smallest) & (state[4] < MOST_ITERATIONS)

    def step(state: tuple) -> tuple:
        x, residual, direction, square, count = state
        image = inside(product(moving, fixed, direction))
        length = square / jnp.vdot(direction, image)
        residual = residual - length * image
        new = jnp.vdot(residual, residual)
        return x + length * direction, residual, residual + new / square * direction, new, count + 1

    return inside(jax.lax.while_loop(unfinished, step, start)[0])


def _solve_forward(product: Callable, n_structures: int, moving: tuple, fixed: tuple, right: Array) -> tuple[Array, tuple]:
    found: Any = _solve_iteratively(product, n_structures, moving, fixed, right)
    return found, (moving, fixed, found)


def _solve_backward(product: Callable, n_structures: int, residuals: tuple, slope: Array) -> tuple:
    moving, fixed, found = residuals
    adjoint: Any = _solve_iteratively(product, n_structures, moving, fixed, slope)
    (by_moving,) = jax.vjp(lambda moving: product(moving, fixed, found), moving)[1](-adjoint)
    return by_moving, None, adjoint


_solve_iteratively.defvjp(_solve_forward, _solve_backward)


def _of_each(values: Float[Array, " N"], index: Int[Array, " N"], mask: Bool[Array, " N"], n_structures: int) -> Float[Array, " G"]:
    """Sums over the atoms of each structure."""
    return jax.ops.segment_sum(jnp.where(mask, values, 0), index, n_structures, indices_are_sorted=True)


def _neutral(values: Float[Array, " N"], index: Int[Array, " N"], mask: Bool[Array, " N"], n_structures: int) -> Float[Array, " N"]:
    """The nearest values that sum to zero in each structure."""
    count = jnp.maximum(_of_each(jnp.ones_like(values), index, mask, n_structures), 1)
    mean = _of_each(values, index, mask, n_structures) / count
    return jnp.where(mask, values - mean[index], 0)


def _inverse_volume(cell: Float[Array, "G 3 3"]) -> Float[Array, " G"]:
    """1/V [1/Å³]; zero where there are not three lattice vectors."""
    volume = jnp.abs(jnp.sum(cell[:, 0] * jnp.cross(cell[:, 1], cell[:, 2]), -1))
    return jnp.where(volume > 0, 1 / jnp.where(volume > 0, volume, 1), 0)
