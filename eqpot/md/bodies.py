"""Atoms and cell as one set of coordinates: what is relaxed.

Atoms are given in the frame of the first cell, q_i, and the cell by a symmetric strain U:

    r_i = q_i·exp(U),   cell = cell₀·exp(U),   H = E + P·V

so that atoms follow the cell while their own coordinates rest. U is measured in units of √N·(V/N)^⅓ [Å], with which stretching the cell is
about as stiff as moving an
atom: V·C·U² against C·(V/N)^⅓·q², C being an elastic constant. (ASE's UnitCellFilter and FrechetCellFilter take N Å; the minima are the same.)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.tree import record, static
from eqpot.md.descent import Landscape, Slope
from eqpot.md.forces import Evaluation
from eqpot.md.state import volume

CELLS = ("fixed", "isotropic", "flexible")
"""What of a cell may change: nothing, its size, or size and shape."""
SQUARINGS = 4
"""exp(U) is exp(U/16), a Taylor polynomial, squared so many times: exact to 1e-14 up to strains of one half."""


@record
class Bodies(Landscape):
    """Structures, each a group of its own: N rows of q, and three of the strain where the cell is not fixed.

    Attributes:
        cell: the first [Å].
        scale: what a strain is multiplied with to become a coordinate [Å].
        pressure: P [eV/Å³].
        tolerances: largest force [eV/Å] and stress [eV/Å³] that count as none.
        shape: one of `CELLS`.
    """

    cell: Float[Array, "S 3 3"]
    scale: Float[Array, " S"]
    pressure: Float[Array, ""]
    tolerances: Float[Array, " 2"]
    shape: str = static(default="fixed")

    def place(self, point: Float[Array, "S R 3"]) -> tuple[Float[Array, "S N 3"], Float[Array, "S 3 3"]]:
        if self.shape == "fixed":
            return point, self.cell
        deform = jax.vmap(exponential)(self._strain(point))
        return product(point[:, :-3], deform), product(self.cell, deform)

    def slope(self, point: Float[Array, "S R 3"], cell: Float[Array, "S 3 3"], evaluation: Evaluation) -> Slope:
        forces, tensions = largest(evaluation.push.forces), jnp.zeros_like(evaluation.energy)
        if self.shape == "fixed":
            return Slope(evaluation.energy, evaluation.push.forces, forces / self.tolerances[0])
        tension = self.tension(evaluation.push.stress)
        tensions = jnp.abs(tension).max((1, 2))
        volumes = jax.vmap(volume)(cell)

        def pulled(strain: Array, slope: Array) -> tuple[Array, Array]:
            """exp(U), and ∂H/∂U from V·(σ + P): a change of exp(U) by D is the strain exp(−U)·D."""
            deform, back = jax.vjp(exponential, strain)
            return deform, back(product(exponential(-strain), slope))[0]

        deform, by_strain = jax.vmap(pulled)(self._strain(point), volumes[:, None, None] * tension)
        rows = jnp.concatenate(
            [product(evaluation.push.forces, deform), -projected(by_strain, self.shape) / self.scale[:, None, None]], axis=1
        )
        excess = jnp.maximum(forces / self.tolerances[0], tensions / self.tolerances[1])
        return Slope(evaluation.energy + self.pressure * volumes, rows, excess)

    def tension(self, stress: Float[Array, "S 3 3"]) -> Float[Array, "S 3 3"]:
        """σ + P, as far as the cell may give way to it."""
        return projected(stress + self.pressure * jnp.eye(3, dtype=stress.dtype), self.shape)

    def _strain(self, point: Array) -> Float[Array, "S 3 3"]:
        return point[:, -3:] / self.scale[:, None, None]


def largest(forces: Float[Array, "S N 3"]) -> Float[Array, " S"]:
    """max_i |F_i| of each system."""
    return jnp.sqrt(jnp.max(jnp.sum(forces**2, -1), -1))


def projected(tensor: Float[Array, "*S 3 3"], shape: str) -> Float[Array, "*S 3 3"]:
    """The part of a tensor that a cell of this shape can follow."""
    if shape == "fixed":
        return jnp.zeros_like(tensor)
    if shape == "flexible":
        return (tensor + tensor.mT) / 2
    unit = jnp.eye(3, dtype=tensor.dtype)
    return jnp.trace(tensor, axis1=-2, axis2=-1)[..., None, None] / 3 * unit


def product(a: Array, b: Array) -> Array:
    """a·b with all its digits, on any device."""
    return jnp.matmul(a, b, precision="highest")


def exponential(matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """exp of a matrix."""
    small = matrix / 2**SQUARINGS
    result = unit = jnp.eye(3, dtype=matrix.dtype)
    for k in range(8, 0, -1):
        result = unit + product(small, result) / k
    for _ in range(SQUARINGS):
        result = product(result, result)
    return result


def strain_scale(n_atoms: int, cell: Float[np.ndarray, "3 3"]) -> float:
    """√N·(V/N)^⅓ [Å]."""
    return float(np.sqrt(n_atoms) * (abs(np.linalg.det(cell)) / n_atoms) ** (1 / 3))
