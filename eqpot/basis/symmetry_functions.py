"""Atom-centred symmetry functions: radial and angular fingerprints of an atom's surroundings.

J. Behler, J. Chem. Phys. 134, 074106 (2011). Radial functions are its G², angular ones its G⁵:

    G²_i(b)   = Σ_{j∈b} exp(−η(r_ij − r_s)²) f_c(r_ij)
    G⁵_i(a,b) = 2^{1−ζ} Σ_{pairs j∈a, k∈b} (1 + λ cos θ_jik)^ζ exp(−η(r_ij² + r_ik²)) f_c(r_ij) f_c(r_ik)

with one set per element b, and per unordered pair of elements (a, b), of the neighbours; every pair of neighbours counts once.

G⁵ rather than G⁴, which has r_jk besides: for a whole number ζ the angular part is a sum of Legendre polynomials, and each of these splits into products of
spherical harmonics of j and k (addition theorem). The sum over pairs is then a square of sums over neighbours: its cost and memory grow with the number of
neighbours and not with its square, it does not matter in which rows of the table neighbours stand, and no angle is ever taken, so that atoms in a row are
nowhere singular.

The cutoff function is the house's envelope of order 3, 1 − 10x³ + 15x⁴ − 6x⁵ (n2p2's CT_POLY2; A. Singraber, J. Behler, C. Dellago, J. Chem. Theory
Comput. 15, 1827 (2019)): nearest to Behler's cosine, but its second derivative vanishes at the cutoff too, where the cosine's jumps and with it the slope
of the force.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.basis.radial import polynomial_envelope

NEAREST = 0.8
"""Centre of the first radial function [Å]."""


def cutoff_function(distance: Float[Array, "*n"], cutoff: float) -> Float[Array, "*n"]:
    """f_c = 1 − 10x³ + 15x⁴ − 6x⁵ with x = r/r_c [Å]; zero beyond, where f_c, f_c′ and f_c″ are continuous."""
    return polynomial_envelope(distance, cutoff, 3)


def radial_set(cutoff: float, count: int) -> tuple[np.ndarray, float]:
    """Centres r_s [Å] and η [Å⁻²] of evenly spaced Gaussians, each as wide (σ) as they are apart: η = 1/(2Δ²).

    The recipe for shifted functions of M. Gastegger et al., J. Chem. Phys. 148, 241709 (2018). The last centre is Δ short of the cutoff.
    """
    step = (cutoff - NEAREST) / count
    return NEAREST + step * np.arange(count), 1 / (2 * step**2)


def angular_set(cutoff: float, count: int) -> np.ndarray:
    """η [Å⁻²] of Gaussians about the atom, 1/(2σ²) with σ = r_c/2, r_c/4, … (centred functions of the same work)."""
    return 1 / (2 * (cutoff / 2.0 ** np.arange(1, count + 1)) ** 2)


def radial_functions(distance: Float[Array, "*n"], cutoff: float, count: int) -> Float[Array, "*n count"]:
    """exp(−η(r − r_s)²) f_c(r) of a pair for the default set; exactly zero from the cutoff on."""
    centers, width = radial_set(cutoff, count)
    apart = distance[..., None] - jnp.asarray(centers, distance.dtype)
    return jnp.exp(-width * apart**2) * cutoff_function(distance, cutoff)[..., None]


def angular_weights(distance: Float[Array, "*n"], cutoff: float, count: int) -> Float[Array, "*n count"]:
    """exp(−ηr²) f_c(r): what each of two neighbours contributes to G⁵, for the default set."""
    widths = jnp.asarray(angular_set(cutoff, count), distance.dtype)
    return jnp.exp(-widths * distance[..., None] ** 2) * cutoff_function(distance, cutoff)[..., None]


def directions(units: Float[Array, "*n 3"], degree: int) -> Float[Array, "*n S"]:
    """Real harmonics y_lm of unit vectors with Σ_m y_lm(u) y_lm(v) = P_l(u·v), S = (degree + 1)², degrees one after the other.

    Schmidt's normalisation by the recursion of S. A. Holmes, W. E. Featherstone, J. Geodesy 76, 279 (2002), eqs. 11 and 12: polynomials of the components, so
    that all derivatives are finite in every direction.
    """
    x, y, z = units[..., 0], units[..., 1], units[..., 2]
    around = [(jnp.ones_like(z), jnp.zeros_like(z))]  # Re and Im of (x + iy)^m
    for _ in range(degree):
        c, s = around[-1]
        around.append((x * c - y * s, x * s + y * c))
    table: dict[tuple[int, int], Array] = {}
    for m in range(degree + 1):
        sectoral = float(np.prod([np.sqrt((2 * k - 1) / (2 * k)) for k in range(2, m + 1)]))
        table[m, m] = jnp.full_like(z, sectoral)
        for l in range(m + 1, degree + 1):
            term = (2 * l - 1) * z * table[l - 1, m]
            if l - 2 >= m:
                term = term - float(np.sqrt((l - 1) ** 2 - m**2)) * table[l - 2, m]
            table[l, m] = term / float(np.sqrt(l**2 - m**2))
    columns = [table[l, m] * around[m][part] for l in range(degree + 1) for m in range(l + 1) for part in range(1 if m == 0 else 2)]
    return jnp.stack(columns, -1)


@lru_cache(maxsize=32)
def legendre_table(powers: tuple[int, ...]) -> Float[np.ndarray, "S Q"]:
    """Coefficients of 2^{1−ζ}(1 + λx)^ζ in P_l(x), repeated for each m; columns are ζ of `powers` with λ = 1 and −1 in turn."""
    degree = max(powers)
    columns = []
    for power in powers:
        for sign in (1, -1):
            polynomial = 2.0 ** (1 - power) * np.polynomial.polynomial.polypow([1, sign], power)
            series = np.polynomial.legendre.poly2leg(polynomial)
            columns.append(np.pad(series, (0, degree + 1 - len(series))))
    return np.repeat(np.array(columns).T, 2 * np.arange(degree + 1) + 1, axis=0)


def element_pairs(n_elements: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second of all unordered pairs of elements, equal ones included."""
    return np.triu_indices(n_elements)


def angular_functions(moments: Float[Array, "N S Z B"], squares: Float[Array, "N Z B"], powers: tuple[int, ...]) -> Float[Array, "N P B Q"]:
    """G⁵ of all unordered pairs P of Z elements, B widths η and Q = 2·len(powers) pairs of ζ and λ.

    Args:
        moments: Σ_j y_s(j) w_j of the neighbours of each element, `directions` times `angular_weights`.
        squares: Σ_j w_j² of the same; a neighbour makes no pair with itself.
        powers: whole numbers ζ.
    """
    table, (first, second) = legendre_table(powers), element_pairs(moments.shape[2])
    dtype = moments.dtype
    # [N, S, P, B] · [S, Q] → [N, P, B, Q]
    products = moments[:, :, first] * moments[:, :, second]
    sums = jnp.einsum("nspb,sq->npbq", products, jnp.asarray(table, dtype), precision=jax.lax.Precision.HIGHEST)
    alone = jnp.asarray(np.where(first == second, 1.0, 0.0), dtype)[:, None, None]
    at_zero = jnp.asarray([2.0, 0.0] * len(powers), dtype)  # 2^{1−ζ}(1 + λ)^ζ
    halved = jnp.asarray(np.where(first == second, 0.5, 1.0), dtype)[:, None, None]
    return (sums - alone * squares[:, first][..., None] * at_zero) * halved
