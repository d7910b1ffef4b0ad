"""Repulsion of two atoms whose electron shells overlap: what no data set holds, and every simulation may meet.

    ZBL            screened repulsion of the nuclei, without free parameters; from about 1 Å down to where nuclear forces begin
    inverse power  A/r¹², a soft wall whose strength can be chosen or learned

Both end smoothly at an outer radius of each pair of elements, below the lengths of chemical bonds, so that they add to a network without
touching what it learns. Functions give the energy of a pair [eV]; an atom has half of each of its pairs.

References: J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter, vol. 1, Pergamon (1985); LAMMPS, `pair_style zbl`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.basis import polynomial_envelope
from eqpot.core.elements import symbol
from eqpot.core.errors import ConfigError
from eqpot.core.tree import record

Either = Any if TYPE_CHECKING else Array | np.ndarray
"""Tables are made with NumPy on the host, and looked up by JAX on the device."""
COULOMB = 14.399645
"""e²/4πε₀ [eV·Å]."""
SCREENING_LENGTH = 0.46850
"""0.8854 Bohr radii [Å]."""
SCREENING_POWER = 0.23
WEIGHTS = (0.02817, 0.28022, 0.50986, 0.18175)
RATES = (0.20162, 0.40290, 0.94229, 3.19980)
"""φ(x) = Σ_k WEIGHTS[k]·exp(−RATES[k]·x), the universal screening function."""

FACTOR = 0.75
"""Default outer radius in sums of covalent radii. The shortest bonds of main-group elements are those of N₂ (0.77), C₂H₂ and CO (0.79)."""
LARGEST_OUTER = 3.0
"""No default outer radius is larger [Å]: the neighbour table need not be wide for elements whose atoms never come that near."""
INNER = 0.5
"""Default inner radius in outer radii."""
LAST_RADIUS = 96
"""Curium is the last element with a covalent radius."""


@record
class ZBL:
    """Constants of the switched potential of each pair; any shape that broadcasts with the distances.

    Attributes:
        strength: Z_a Z_b e²/4πε₀ [eV·Å].
        inverse_length: 1/a [1/Å].
        inner, outer: radii r₁ and r₂ [Å].
        cubic, quartic: A/3 [eV/Å³] and B/4 [eV/Å⁴] of the switching polynomial.
        constant: C [eV].
    """

    strength: Float[Either, "*n"]
    inverse_length: Float[Either, "*n"]
    inner: Float[Either, "*n"]
    outer: Float[Either, "*n"]
    cubic: Float[Either, "*n"]
    quartic: Float[Either, "*n"]
    constant: Float[Either, "*n"]


def universal_screening(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """φ(x) of Ziegler, Biersack and Littmark; one at zero."""
    return sum((w * jnp.exp(-d * x) for w, d in zip(WEIGHTS, RATES, strict=True)), jnp.zeros_like(x))


def zbl(distance: Float[Array, "*n"], pairs: ZBL) -> Float[Array, "*n"]:
    """V(r) = Z_a Z_b e²/(4πε₀ r)·φ(r/a) [eV] with a = 0.4685 Å/(Z_a^0.23 + Z_b^0.23), without end.

    Args:
        distance: r > 0 [Å].
        pairs: constants of each pair.
    """
    return pairs.strength / distance * universal_screening(distance * pairs.inverse_length)


def zbl_switched(distance: Float[Array, "*n"], pairs: ZBL) -> Float[Array, "*n"]:
    """V(r) + S(r) [eV], zero from r₂ on, with S = C up to r₁ and S = A/3 (r − r₁)³ + B/4 (r − r₁)⁴ + C between.

    Value, first and second derivative are continuous at r₁ and vanish at r₂; up to r₁ the force is that of V. As in LAMMPS.

    Args:
        distance: r > 0 [Å].
        pairs: constants of each pair.
    """
    t = jnp.maximum(distance - pairs.inner, 0)
    energy = zbl(distance, pairs) + t**3 * (pairs.cubic + pairs.quartic * t) + pairs.constant
    return jnp.where(distance < pairs.outer, energy, jnp.zeros_like(energy))


def zbl_pairs(numbers: Sequence[int], inner: np.ndarray, outer: np.ndarray) -> ZBL:
    """Constants of all pairs of elements, [elements, elements]; NumPy arrays in float64.

    Args:
        numbers: atomic numbers.
        inner, outer: radii of each pair [Å], [elements, elements].
    """
    z = np.asarray(numbers, np.float64)
    strength = COULOMB * z[:, None] * z
    rate = (z[:, None] ** SCREENING_POWER + z**SCREENING_POWER) / SCREENING_LENGTH
    value, slope, curvature = (strength * f for f in _screened_coulomb(outer, rate))
    width = outer - inner
    cubic = (-3 * slope + width * curvature) / width**2 / 3
    quartic = (2 * slope - width * curvature) / width**3 / 4
    constant = -value + width / 2 * slope - width**2 / 12 * curvature
    return ZBL(strength, rate, np.asarray(inner, np.float64), np.asarray(outer, np.float64), cubic, quartic, constant)


def _screened_coulomb(r: np.ndarray, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """φ(r/a)/r and its first and second derivative; `rate` is 1/a."""
    decays = np.multiply.outer(np.array(RATES), rate)  # [4, …]
    terms = np.multiply.outer(np.array(WEIGHTS), np.ones_like(rate)) * np.exp(-decays * r)
    value, slope, curvature = (np.sum(terms * (-decays) ** n, 0) for n in range(3))
    return value / r, slope / r - value / r**2, curvature / r - 2 * slope / r**2 + 2 * value / r**3


def inverse_power(distance: Float[Array, "*n"], outer: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """u(r/r₂)/r¹² [1/Å¹²], to be multiplied by a strength A [eV·Å¹²]; u is the polynomial envelope of `eqpot.basis`.

    Value, first and second derivative vanish at the outer radius r₂.

    Args:
        distance: r > 0 [Å].
        outer: r₂ of each pair [Å].
    """
    squared = 1 / (distance * distance)
    cubed = squared * squared * squared
    return cubed * cubed * polynomial_envelope(distance / outer, 1.0)


def covalent_sums(numbers: Sequence[int]) -> np.ndarray:
    """r_a + r_b [Å] of all pairs of elements (Cordero et al., Dalton Trans. 2832 (2008), through ASE); NaN where one is not known."""
    from ase.data import covalent_radii

    radii = np.array([covalent_radii[z] if z <= LAST_RADIUS else np.nan for z in numbers])
    return radii[:, None] + radii


def pair_radii(
    numbers: Sequence[int],
    factor: float = FACTOR,
    inner: float | None = None,
    outer: float | None = None,
    pairs: dict[tuple[int, int], tuple[float, float]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Inner and outer radius [Å] of all pairs of elements, two arrays [elements, elements] in float64.

    Args:
        numbers: atomic numbers.
        factor: outer radius in sums of covalent radii, where `outer` is not given; at most `LARGEST_OUTER`.
        inner: of all pairs; by default `INNER` times the outer.
        outer: of all pairs.
        pairs: both, of pairs of atomic numbers in either order; these have the last word.

    Raises:
        ConfigError: for an element without covalent radius, or an inner radius that is not below the outer one.
    """
    outers = np.minimum(factor * covalent_sums(numbers), LARGEST_OUTER) if outer is None else np.full((len(numbers),) * 2, float(outer))
    inners = INNER * outers if inner is None else np.full(outers.shape, float(inner))
    for pair, (low, high) in (pairs or {}).items():
        for a, b in (pair, pair[::-1]):
            where = np.ix_([k for k, z in enumerate(numbers) if z == a], [k for k, z in enumerate(numbers) if z == b])
            inners[where], outers[where] = low, high
    for i, j in zip(*np.nonzero(~(inners < outers)), strict=True):
        _refuse(symbol(numbers[i]), symbol(numbers[j]), float(inners[i, j]), float(outers[i, j]))
    return inners, outers


def _refuse(a: str, b: str, inner: float, outer: float) -> None:
    if np.isnan(outer):
        raise ConfigError(f"{a}-{b}: no covalent radius is known for one of them; give inner and outer radius in pairs")
    raise ConfigError(f"{a}-{b}: found an inner radius of {inner:g} Å and an outer one of {outer:g} Å, expected inner below outer")
