"""What a cutoff leaves out of the dispersion of matter that is uniform beyond it.

    E = ½ Σ_ab N_a N_b/V ∫_{r_c}^∞ (−C_ab/rⁿ) 4πr² dr = −2π/(n − 3) · Σ_ab N_a N_b C_ab/(V r_c^{n−3})

For n = 6 and one kind of atoms of the density ρ that is −(2π/3) ρ C/r_c³ per atom. Its slope −∂E/∂V = E/V (n = 6) completes the pressure of an energy that
ends smoothly, or of one whose jump counts. The virial of a sum that is simply cut leaves out the jump, as many again: −(4π/3) ρ² C/r_c³ in all.

Reference: M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 2.8.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def fade(distance: Float[Array | np.ndarray, "*n"], reach: float, switch: float) -> Float[Array | np.ndarray, "*n"]:
    """One up to reach − switch, zero from the reach on, with two continuous derivatives between; a step for switch = 0."""
    t = ((distance - (reach - switch)) / switch).clip(0, 1) if switch else (distance >= reach).astype(distance.dtype)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2)


def tail_energy(strength: Float[Array, "*n"], volume: Float[Array, "*n"], cutoff: float, order: int = 6) -> Float[Array, "*n"]:
    """−2π/(n − 3) · S/(V r_c^{n−3}) [eV], for uniform matter beyond the cutoff.

    Args:
        strength: S = Σ_ab N_a N_b C_ab for the energy of all atoms, or Σ_b N_b C_ab for that of one atom a [eV Å^n].
        volume: that the N_a atoms fill [Å³].
        cutoff: r_c [Å].
        order: n, above 3.
    """
    return -2 * jnp.pi / (order - 3) * strength / (volume * cutoff ** (order - 3))


def tail_pressure(strength: Float[Array, "*n"], volume: Float[Array, "*n"], cutoff: float, order: int = 6) -> Float[Array, "*n"]:
    """−2π/3 · n/(n − 3) · S/(V² r_c^{n−3}) [eV/Å³]: what the virial of a sum that is simply cut lacks; arguments as for `tail_energy` of all atoms."""
    return order / 3 * tail_energy(strength, volume, cutoff, order) / volume


def effective_cutoff(reach: float, switch: float, order: int = 6) -> float:
    """The sharp cutoff [Å] beyond which there is as much as a sum leaves out that is faded out from reach − switch to reach.

    ∫_{r_c}^∞ r^{2−n} dr = ∫ (1 − w(r)) r^{2−n} dr,   w = `fade`
    """
    nodes, weights = np.polynomial.legendre.leggauss(32)
    r = reach - switch / 2 * (1 - nodes)
    lost = switch / 2 * np.sum(weights * (1 - fade(r, reach, switch)) * r ** (2.0 - order)) if switch else 0.0
    return float((reach ** (3.0 - order) + (order - 3) * lost) ** (1 / (3.0 - order)))
