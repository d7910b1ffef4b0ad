"""Numerics that stay finite in value and in every derivative."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def safe_norm(vectors: Float[Array, "*n 3"], mask: Bool[Array, "*n"], fill: float = 1.0) -> Float[Array, "*n"]:
    """|v| where `mask`, exactly `fill` elsewhere; every derivative is finite in both places.

    The square is masked *before* the root: a mask after it alone would leave 0·∞ = NaN in the gradient. It is masked again after it, because
    √(fill²) is not `fill` to the last bit, and a masked slot must lie exactly on the cutoff.
    A vector of length zero under a true mask has no direction; such pairs are refused on the host.
    """
    square = jnp.sum(vectors * vectors, axis=-1)
    root = jnp.sqrt(jnp.where(mask, square, jnp.ones_like(square)))
    return jnp.where(mask, root, jnp.asarray(fill, root.dtype))
