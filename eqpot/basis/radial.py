"""Radial basis and cutoff envelope of Gasteiger, Groß & Günnemann, ICLR 2020 (arXiv:2003.03123), eqs. 7 and 8."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def polynomial_envelope(distance: Float[Array, "*n"], cutoff: float, order: int = 5) -> Float[Array, "*n"]:
    """u(x) = 1 − (p+1)(p+2)/2 xᵖ + p(p+2) xᵖ⁺¹ − p(p+1)/2 xᵖ⁺² with x = r/r_c; zero beyond the cutoff.

    u, u′ and u″ vanish at the cutoff, so energy, forces and force derivatives are continuous there. It is evaluated in the equal form
    (1 − x)³ Σ_{k<p} (k+1)(k+2)/2 xᵏ: the first has terms of size p² that cancel near the cutoff and leave noise of 3e-6 in float32.

    Args:
        distance: r [Å].
        cutoff: r_c [Å].
        order: p; larger values keep u near one for longer.
    """
    x = distance / cutoff
    series = jnp.zeros_like(x)
    for k in reversed(range(order)):
        series = series * x + (k + 1) * (k + 2) / 2
    return jnp.where(x < 1, (1 - x) ** 3 * series, jnp.zeros_like(x))


def bessel(distance: Float[Array, "*n"], cutoff: float, count: int) -> Float[Array, "*n count"]:
    """b_k(r) = √(2/r_c) sin(kπ r/r_c)/r for k = 1 … count, orthonormal on the sphere of radius r_c.

    Args:
        distance: r > 0 [Å].
        cutoff: r_c [Å].
        count: number of functions.
    """
    k = jnp.arange(1, count + 1, dtype=distance.dtype) * jnp.asarray(jnp.pi / cutoff, distance.dtype)
    r = distance[..., None]
    return jnp.asarray((2 / cutoff) ** 0.5, distance.dtype) * jnp.sin(k * r) / r
