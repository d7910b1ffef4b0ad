"""The reciprocal sum of Gaussian charges on a mesh: N log N instead of N², for one large crystal.

Charges are spread onto the points of a mesh by B-splines of order p, the potential is found by fast Fourier transforms, and read where the charges are by the
same splines (smooth particle-mesh Ewald):

    E = 2πK/V Σ_{m≠0} e^{−σ²k²/2}/k² B(m) |FFT[Q](m)|²  − self energy − background        B = Π_a |b_a(m_a)|²

The energy is differentiated as everywhere, so dynamics conserves it; the forces sum to zero up to the error of the mesh. Splines
have p − 2 continuous derivatives.

Reference: U. Essmann et al., J. Chem. Phys. 103, 8577 (1995), eqs. 3.14, 4.1 to 4.8.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from eqpot.core.errors import StructureError
from eqpot.core.units import COULOMB
from eqpot.physics.ewald import reach

ORDER = 8
"""Default order of the splines; a charge touches ORDER³ points."""
SPACING = 0.5
"""Default spacing of the points in σ; with splines of order 8, errors are 3e-6 of the RMS force (order 6: 5e-5, order 4: 2e-3)."""
PRIMES = (2, 3, 5)
"""Factors of the numbers of points, which the transforms like."""


def mesh_points(cell: np.ndarray, smearing: float, tolerance: float = 1e-6, spacing: float | None = None) -> tuple[int, int, int]:
    """Numbers of points along the vectors of a cell; products of 2, 3 and 5.

    Args:
        cell: rows are lattice vectors [Å], three of them.
        smearing: width σ of the charges [Å].
        tolerance: of the waves that a mesh is too coarse for.
        spacing: of the points, at most [Å]; by default σ/2.

    Raises:
        StructureError: for a cell without volume, and a spacing at which waves that count are lost.
    """
    cell = np.asarray(cell, np.float64)
    if not abs(np.linalg.det(cell)) > 0:
        raise StructureError(f"a mesh of charges: found lattice vectors {cell.tolist()}, expected three with a volume")
    coarsest = coarsest_spacing(smearing, tolerance)
    spacing = SPACING * smearing if spacing is None else spacing
    if spacing > coarsest:
        raise StructureError(
            f"mesh too coarse: found a spacing of {spacing:g} Å, expected at most {coarsest:.3g} Å for charges of {smearing:g} Å "
            f"at a tolerance of {tolerance:g}"
        )
    counts = np.maximum(np.ceil(np.linalg.norm(cell, axis=1) / spacing).astype(int), 2 * ORDER)
    one, two, three = (_smooth(int(n)) for n in counts)
    return one, two, three


def coarsest_spacing(smearing: float, tolerance: float) -> float:
    """Spacing [Å] beyond which a mesh loses waves that count."""
    return np.pi * smearing / reach(tolerance)


def _smooth(n: int) -> int:
    """The smallest even number from n on without other factors than 2, 3 and 5."""
    while True:
        rest = n
        for prime in PRIMES:
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and n % 2 == 0:
            return n
        n += 1


def mesh_energies(
    positions: Float[Array, "N 3"],
    cell: Float[Array, "3 3"],
    charges: Float[Array, " N"],
    smearing: float,
    points: tuple[int, int, int],
    order: int = ORDER,
) -> Float[Array, " N"]:
    """Energies of Gaussian charges in one crystal [eV], as `eqpot.physics.periodic_energies` up to the error of the mesh.

    Args:
        positions: anywhere [Å].
        cell: rows are lattice vectors [Å]; right for strains of a few per cent of the cell that the points were chosen for.
        charges: [e].
        smearing: width σ of the charges [Å].
        points: of the mesh along each vector, see `mesh_points`.
        order: of the splines, even, at least 4.
    """
    faces = jnp.cross(jnp.roll(cell, -1, 0), jnp.roll(cell, -2, 0))
    signed = jnp.sum(cell[0] * faces[0])
    reciprocal, volume = faces / signed, jnp.abs(signed)
    counts = jnp.asarray(points, positions.dtype)
    scaled = jnp.einsum("na,ka->nk", positions, reciprocal, precision="highest")
    index, weights = _splines((scaled - jax.lax.stop_gradient(jnp.floor(scaled))) * counts, points, order)
    mesh = jnp.zeros(points, positions.dtype).at[index].add(charges[:, None, None, None] * weights)
    waves = jnp.fft.rfftn(mesh)
    potential = jnp.fft.irfftn(waves * _influence(reciprocal, smearing, points, order).astype(waves.dtype), points)
    here = jnp.sum(potential[index] * weights, (1, 2, 3)) * int(np.prod(points))
    wave = 2 * jnp.pi / volume
    missing_wave = smearing**2 / 2 * wave * jnp.sum(charges)
    return COULOMB * charges * (wave * here - charges / ((2 * np.pi) ** 0.5 * smearing) - missing_wave)


def _splines(
    places: Float[Array, "N 3"], points: tuple[int, int, int], order: int
) -> tuple[tuple[Int[Array, "N ..."], ...], Float[Array, "N p p p"]]:
    """The p³ points that each charge touches, and how much of it they get."""
    whole = jax.lax.stop_gradient(jnp.floor(places))
    along = _cardinal(places - whole, order)  # [N, 3, p]
    steps = jnp.arange(order, dtype=jnp.int32)
    index = [jnp.mod(whole[:, a, None].astype(jnp.int32) - steps, points[a]) for a in range(3)]
    grid = (index[0][:, :, None, None], index[1][:, None, :, None], index[2][:, None, None, :])
    return grid, along[:, 0, :, None, None] * along[:, 1, None, :, None] * along[:, 2, None, None, :]


def _cardinal(x: Any, order: int) -> Any:
    """M_p(x + k) for k = 0 … p − 1 and 0 ≤ x < 1, by the recursion (p − 1) M_p(u) = u M_{p−1}(u) + (p − u) M_{p−1}(u − 1)."""
    values = [x, 1 - x]  # M_2(x), M_2(x + 1)
    for p in range(3, order + 1):
        last = [*values, 0 * x]
        values = [((x + k) * last[k] + (p - x - k) * (last[k - 1] if k else 0 * x)) / (p - 1) for k in range(p)]
    return jnp.stack(values, -1)


def _influence(reciprocal: Float[Array, "3 3"], smearing: float, points: tuple[int, int, int], order: int) -> Float[Array, "a b c"]:
    """e^{−σ²k²/2}/k² B on the points of a half-complex transform."""
    dtype = reciprocal.dtype
    waves = [np.fft.fftfreq(points[0]) * points[0], np.fft.fftfreq(points[1]) * points[1], np.fft.rfftfreq(points[2]) * points[2]]
    n = jnp.stack(jnp.meshgrid(*(jnp.asarray(w, dtype) for w in waves), indexing="ij"), -1)
    here = jnp.any(n != 0, -1)
    square = jnp.sum((2 * jnp.pi * jnp.einsum("xyza,ab->xyzb", n, reciprocal, precision="highest")) ** 2, -1)
    square = jnp.where(here, square, 1)
    one, two, three = (jnp.asarray(_damping(w, m, order), dtype) for w, m in zip(waves, points, strict=True))
    spline = one[:, None, None] * two[:, None] * three
    return jnp.where(here, jnp.exp(-(smearing**2) / 2 * square) / square * spline, 0)


def _damping(waves: np.ndarray, n: int, order: int) -> np.ndarray:
    """|b(m)|² = 1/|Σ_k M_p(k + 1) e^{2πi m k/n}|², on the host."""
    knots = _knots(order)
    return 1 / np.abs(np.exp(2j * np.pi * np.outer(waves, np.arange(len(knots))) / n) @ knots) ** 2


def _knots(order: int) -> np.ndarray:
    """M_p(1) … M_p(p − 1)."""
    values = np.array([1.0])  # M_2(1)
    for p in range(3, order + 1):
        last, u = np.concatenate([[0], values, [0]]), np.arange(1, p)
        values = (u * last[1:] + (p - u) * last[:-1]) / (p - 1)
    return values
