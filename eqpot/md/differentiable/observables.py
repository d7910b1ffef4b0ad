"""What can be compared with an experiment, smooth enough to be differentiated; each of one frame (`jax.vmap` makes an axis of frames)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.errors import SimulationError
from eqpot.core.numerics import safe_norm
from eqpot.core.units import KB
from eqpot.graph import Graph

G_PER_CM3 = 1.66053904
"""1 amu/Å³ in g/cm³."""
TAIL = 4.0
"""Widths of a Gaussian bin that must lie within the graph's cutoff."""


def radial_bins(first: float, last: float, number: int, cutoff: float) -> tuple[Float[np.ndarray, " B"], float]:
    """Centres of equally spaced bins and the width of their Gaussians, 0.7 of the spacing [Å].

    At this width Σ_b of the Gaussians is the same for every distance to 10⁻⁴, so that no pair counts for more than another.

    Raises:
        SimulationError: when the last bin reaches beyond the cutoff, within which a graph has its pairs.
    """
    if number < 2 or not 0 < first < last:
        raise SimulationError(
            f"radial_bins: found {number} bins from {first:g} to {last:g} Å, expected at least two, ascending and above 0"
        )
    centres = np.linspace(first, last, number)
    width = 0.7 * float(centres[1] - centres[0])
    if last + TAIL * width > cutoff:
        raise SimulationError(
            f"radial_bins: the last bin reaches to {last + TAIL * width:.3g} Å, expected at most the cutoff of {cutoff:g} Å; take a smaller last or more bins"
        )
    return centres, width


def radial_distribution(
    graph: Graph, centres: Float[Any, " B"], width: float, between: tuple[int, int] | None = None
) -> Float[Array, " B"]:
    """The radial distribution function in Gaussian bins.

        g(r_b) = V/(n_ab·v_b) · Σ_{i∈a} Σ_{j∈b, j≠i} exp(−(r_ij − r_b)²/2w²)/(√2π·w),     v_b = 4π·(r_b² + w²)

    The sum is over all images within the graph's cutoff but those of atom i itself; n_ab is the number of ordered pairs of different atoms, and v_b the
    integral of 4πr² under the Gaussian. Random points thus have g = 1 at all distances, for any number of atoms and any periodic cell.

    Args:
        graph: of one structure, periodic along all directions; masked slots and atoms do not count.
        centres: r_b [Å]; r_b + 4w must be within the graph's cutoff (`radial_bins`).
        width: w [Å].
        between: species a and b as indices of the potential's elements; all atoms by default.
    """
    dtype = graph.positions.dtype
    centres = jnp.asarray(centres, dtype)
    senders = graph.neighbors
    rows = jnp.arange(len(graph.positions), dtype=senders.dtype) if graph.receivers is None else graph.receivers
    first, second = (graph.atom_mask & ((graph.species == s) if between else True) for s in between or (0, 0))
    pair = graph.edge_mask & (senders != rows[:, None]) & first[rows][:, None] & second[senders]
    distance = safe_norm(graph.edge_vectors(), graph.edge_mask)
    in_bin = lambda r: jnp.sum(jnp.where(pair, jnp.exp(-(((distance - r) / width) ** 2) / 2), 0))  # noqa: E731
    counts = jax.lax.map(in_bin, centres) / (np.sqrt(2 * np.pi) * width)
    number = jnp.sum(first.astype(dtype)) * jnp.sum(second.astype(dtype)) - jnp.sum((first & second).astype(dtype))
    volume = jnp.abs(jnp.linalg.det(graph.cell[0]))
    return counts * volume / (number * 4 * np.pi * (centres**2 + width**2))


def pair_distance(positions: Float[Array, "N 3"], first: Any, second: Any) -> Float[Array, "*P"]:
    """|r_j − r_i| between atoms of one molecule, as unwrapped positions have them: no images are looked for [Å].

    Args:
        positions: unwrapped [Å].
        first, second: indices of atoms i and j, different ones.
    """
    vectors = positions[jnp.asarray(second)] - positions[jnp.asarray(first)]
    return safe_norm(vectors, jnp.ones(vectors.shape[:-1], bool))


def density(masses: Float[Array, " N"], cell: Float[Array, "3 3"]) -> Float[Array, ""]:
    """Σm/V [g/cm³]."""
    return jnp.sum(masses) / jnp.abs(jnp.linalg.det(cell)) * G_PER_CM3


def kinetic_temperature(momenta: Float[Array, "N 3"], masses: Float[Array, " N"], dof: Any) -> Float[Array, ""]:
    """Σ p²/m / (N_f·k_B) [K]."""
    return jnp.sum(momenta**2 / masses[:, None]) / (dof * KB)
