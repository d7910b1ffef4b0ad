"""Numerics that stay finite in value and in every derivative."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def safe_norm(vectors: Float[Array, "*n 3"], mask: Bool[Array, "*n"], fill: float = 1.0) -> Float[Array, "*n"]:
    """|v| where `mask`, `fill` elsewhere; every derivative is finite in both places.

    The square is masked *before* the root: a mask after it would leave 0·∞ = NaN in the gradient.
    A vector of length zero under a true mask has no direction; such pairs are refused on the host.
    """
    square = jnp.sum(vectors * vectors, axis=-1)
    return jnp.sqrt(jnp.where(mask, square, jnp.asarray(fill * fill, square.dtype)))

