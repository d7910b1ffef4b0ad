"""Ewald's sum for point charges in a crystal: the reference that others are measured by.

    E = E_Gauss(σ) + K/2 Σ'_{i,j,L} q_i q_j erfc(r/(√2 σ))/r,   r = |r_j + L − r_i|, images L as far as erfc counts

The sum does not depend on σ, which is chosen so that both parts take about as long.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.errors import StructureError
from eqpot.core.numerics import safe_norm
from eqpot.core.tree import record, static
from eqpot.core.units import COULOMB
from eqpot.physics.ewald import periodic_energies, reach


@record
class EwaldPlan:
    """What is settled on the host before a sum; it holds for cells that are strained by a few per cent.

    Attributes:
        images: of a cell, in units of its vectors, [images, 3].
        smearing: width σ that divides the sum [Å].
        tolerance: of the Gaussians that are left out.
    """

    images: Float[np.ndarray | Array, "L 3"]
    smearing: float = static()
    tolerance: float = static()


def plan_ewald(cell: np.ndarray, n_atoms: int, tolerance: float = 1e-10) -> EwaldPlan:
    """Choose smearing and images: σ = (V²/n)^{1/6}/√(2π), and all images nearer than 1.1 × reach(tolerance) σ of any two points of the cell.

    Args:
        cell: rows are lattice vectors [Å], three of them.
        n_atoms: in the cell.
        tolerance: between 1e-15 and 0.1.

    Raises:
        StructureError: for a cell without volume.
    """
    cell = np.asarray(cell, np.float64)
    volume = abs(np.linalg.det(cell))
    if not volume > 0:
        raise StructureError(f"Ewald's sum of point charges: found lattice vectors {cell.tolist()}, expected three with a volume")
    smearing = float((volume**2 / n_atoms) ** (1 / 6) / np.sqrt(2 * np.pi))
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    counts = np.ceil(1.1 * reach(tolerance) * smearing / heights).astype(int) + 1  # one more: two atoms may be a cell apart
    axes = [np.arange(-n, n + 1) for n in counts]
    return EwaldPlan(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.float64), smearing, tolerance)


def point_energies(
    positions: Float[Array, "N 3"], cell: Float[Array, "3 3"], charges: Float[Array, " N"], plan: EwaldPlan
) -> Float[Array, " N"]:
    """Energies of point charges in a crystal [eV], half of each pair; with a uniform background where they are not neutral.

    Args:
        positions: anywhere within the cell or at most half a cell outside [Å].
        cell: rows are lattice vectors [Å].
        charges: [e].
        plan: by `plan_ewald`.
    """
    index, mask = jnp.zeros(len(positions), jnp.int32), jnp.ones(len(positions), bool)
    soft = periodic_energies(positions, cell[None], charges, index, mask, plan.smearing, plan.tolerance)
    images = jnp.asarray(plan.images, positions.dtype)
    vectors = (positions[None, :] - positions[:, None])[:, :, None] + images @ cell  # [N, N, L, 3]
    itself = jnp.eye(len(positions), dtype=bool)[..., None] & ~jnp.any(images != 0, -1)
    distance = safe_norm(vectors, ~itself)
    sharp = jnp.where(itself, 0, jax.lax.erfc(distance / (2**0.5 * plan.smearing)) / distance)
    return soft + COULOMB / 2 * charges * jnp.einsum("ijl,j->i", sharp, charges, precision="highest")
