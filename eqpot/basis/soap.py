"""SOAP: the smoothed density of an atom's neighbours in radial functions and harmonics, and its power spectrum.

A. P. Bartók, R. Kondor, G. Csányi, Phys. Rev. B 87, 184115 (2013), with the Gaussian-type radial functions of DScribe (L. Himanen et al., Comput. Phys.
Commun. 247, 106949 (2020)): each neighbour is a Gaussian of width σ, and

    c_{a,nlm}     = Σ_{j∈a} f_c(r_j) R_nl(r_j) Y_lm(r̂_j)
    p_{(an)(bn')l} = √(8π²/(2l+1)) Σ_m c_{a,nlm} c_{b,n'lm}

for elements a, b of neighbours. R_nl is the integral of the smeared density with g_nl = Σ_k β_nkl r^l exp(−α_kl r²), which is closed:

    R_nl(r) = π^{3/2} Σ_k β_nkl (1 + 2σ²α_kl)^{−l−3/2} (√2 σ)³ r^l exp(−α_kl r²/(1 + 2σ²α_kl))

The sum over pairs of neighbours is a square of sums over neighbours, so that its cost and memory grow with their number.
"""

from functools import lru_cache
from math import gamma, pi

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.basis.symmetry_functions import directions
from eqpot.core.errors import ConfigError

DECAY = 1e-3
"""Value of r^l exp(−αr²) where a primitive function ends (DScribe's choice); these places are evenly spaced from 1 Å to the cutoff."""
ROUNDING = 1e-12
"""Largest error of the interpolated R_nl, relative to its largest value."""


@lru_cache(maxsize=32)
def primitive_set(cutoff: float, count: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Exponents α [L, n] of the primitive functions r^l exp(−αr²), and β [L, n, n] that make them orthonormal (Löwdin) under ∫ r² dr.

    Raises:
        ConfigError: for more functions than can be told apart within the cutoff in float64.
    """
    ends = np.linspace(1.0, cutoff, count)
    exponents, mixing = np.zeros((degree + 1, count)), np.zeros((degree + 1, count, count))
    for l in range(degree + 1):
        alpha = -np.log(DECAY / ends**l) / ends**2
        overlap = 0.5 * gamma(l + 1.5) * (alpha[:, None] + alpha) ** (-l - 1.5)
        values, vectors = np.linalg.eigh(overlap)
        if values[0] < 1e-13 * values[-1]:
            raise ConfigError(
                f"n_radial: {count} functions within {cutoff:g} Å are too alike to be told apart; expected fewer, 8 are usual"
            )
        exponents[l], mixing[l] = alpha, (vectors * values**-0.5) @ vectors.T
    return exponents, mixing


def density_integrals(distance: np.ndarray, cutoff: float, smearing: float, count: int, degree: int) -> Float[np.ndarray, "*n L k"]:
    """R_nl(r) in float64 from the formula: terms far larger than their sum cancel, which float32 would not survive."""
    exponents, mixing = primitive_set(cutoff, count, degree)
    l, r = np.arange(degree + 1)[:, None], np.asarray(distance, np.float64)[..., None, None]
    wide = 1 + 2 * smearing**2 * exponents
    primitives = wide ** (-l - 1.5) * r**l * np.exp(-exponents / wide * r**2)
    return pi**1.5 * (2**0.5 * smearing) ** 3 * np.einsum("...lk,lnk->...ln", primitives, mixing)


@lru_cache(maxsize=32)
def density_table(cutoff: float, smearing: float, count: int, degree: int, reach: float | None = None) -> Float[np.ndarray, "K L n"]:
    """Chebyshev coefficients of R_nl between 0 and `reach` (the cutoff unless given): as many as `ROUNDING` asks for.

    A series is exact to the digits of its dtype, and cheaper than its exponentials.
    """
    terms, end = 256, reach or cutoff
    nodes = np.cos(pi * (np.arange(terms) + 0.5) / terms)
    values = density_integrals(end * (nodes + 1) / 2, cutoff, smearing, count, degree)
    basis = np.polynomial.chebyshev.chebvander(nodes, terms - 1)
    table = np.tensordot(basis.T, values, 1) * (2 / terms)
    table[0] /= 2
    tails = np.cumsum(np.abs(table[::-1]), 0)[::-1].max((1, 2))
    return table[: int(np.sum(tails > ROUNDING * np.abs(values).max()))]


def density_functions(distance: Float[Array, "*n"], table: Float[np.ndarray, "K L n"], reach: float) -> Float[Array, "*n L k"]:
    """R_nl(r) for r up to `reach` from `density_table`, without a cutoff function."""
    x = 2 * distance / reach - 1
    series = [jnp.ones_like(x), x]
    for _ in range(2, len(table)):
        series.append(2 * x * series[-1] - series[-2])
    stacked = jnp.stack(series[: len(table)], -1)
    return jnp.tensordot(stacked, jnp.asarray(table, x.dtype), 1, precision=jax.lax.Precision.HIGHEST)


def density_harmonics(units: Float[Array, "*n 3"], degree: int) -> Float[Array, "*n S"]:
    """Real Y_lm of unit vectors, orthonormal on the sphere, m = −l … l, S = (degree + 1)²: e3nn's, but for a rotation of the axes that all degrees share."""
    norms = np.repeat(np.sqrt((2 * np.arange(degree + 1) + 1) / (4 * pi)), 2 * np.arange(degree + 1) + 1)
    order = [l**2 + k for l in range(degree + 1) for k in (*range(2 * l, 0, -2), 0, *range(1, 2 * l, 2))]
    return directions(units, degree)[..., np.array(order)] * jnp.asarray(norms, units.dtype)


def density_coefficients(
    radial: Float[Array, "R M L n"], harmonics: Float[Array, "R M S"], element: Float[Array, "R M Z"]
) -> Float[Array, "R S Z*n"]:
    """c of each row of neighbours: all degrees one after the other, then element-major channels (a, n).

    Args:
        radial: f_c R_nl of each neighbour.
        harmonics: Y_lm of its direction.
        element: one-hot.
    """
    parts = []
    for l in range(radial.shape[-2]):
        channels = (element[..., None] * radial[..., l, None, :]).reshape(*element.shape[:2], -1)  # [R, M, Z·n]
        parts.append(_product("rms,rmc->rsc", harmonics[..., l**2 : (l + 1) ** 2], channels))
    return jnp.concatenate(parts, 1)


def power_spectrum(coefficients: Float[Array, "N S C"]) -> Float[Array, "N L C C"]:
    """p_l between all channels, symmetric; no loop over pairs of neighbours."""
    degree = round(coefficients.shape[1] ** 0.5) - 1
    blocks = [coefficients[:, l**2 : (l + 1) ** 2] for l in range(degree + 1)]
    return jnp.stack([_product("nsc,nsd->ncd", c, c) * (8 * pi**2 / (2 * l + 1)) ** 0.5 for l, c in enumerate(blocks)], 1)


def _product(subscripts: str, *arrays: Array) -> Array:
    return jnp.einsum(subscripts, *arrays, precision=jax.lax.Precision.HIGHEST)
