"""Channel-wise layers on equivariant features.

Features are tuples over the degree l of arrays [atoms, 2l+1, channels]: what belongs to an atom is contiguous, so it can be gathered as one
row and cut into blocks of atoms. All layers are without bias: an atom with no neighbours keeps features of exactly zero beyond its embedding,
which makes its energy exactly its reference energy.
"""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int

Features = tuple[Float[Array, "N _ _"], ...]
"""Degree l at index l; atom, component, channel (their number is not bound to a name: a layer may change it)."""

Planes = tuple[Float[Array, "_ N _"], ...]
"""Features with the component first, for products of components over long contiguous rows; degree l at index l."""

SILU_GAIN = 1.6765324703310907
"""1/√⟨silu(x)²⟩ for standard normal x: keeps the second moment of a hidden layer at one."""


def einsum(subscripts: str, *arrays: Array) -> Array:
    """Products with fixed tables, harmonics or features: in full precision, whatever is chosen for products with parameters."""
    return jnp.einsum(subscripts, *arrays, precision=jax.lax.Precision.HIGHEST)


def normal_param(rngs: nnx.Rngs, *shape: int, scale: float = 1.0) -> nnx.Param:
    """A parameter drawn from a normal distribution of the given width.

    The draw is NumPy's, seeded by the key: JAX would compile one program per shape, which takes longer than a short fit.
    """
    key = rngs.params()
    if isinstance(key, Tracer):  # only shapes are asked for
        return nnx.Param(jnp.zeros(shape, jnp.float32))
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(0.0, scale, shape)
    return nnx.Param(jnp.asarray(draw, jnp.float32))


def scaled_silu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """silu with unit second moment under a standard normal argument; zero at zero."""
    return jax.nn.silu(x) * jnp.asarray(SILU_GAIN, x.dtype)


class Linear(nnx.Module):
    """y_l = x_l W_l for each degree l: mixes channels, never components."""

    def __init__(self, n_degrees: int, fan_in: int, fan_out: int, *, rngs: nnx.Rngs) -> None:
        self.weights = nnx.List([normal_param(rngs, fan_in, fan_out, scale=fan_in**-0.5) for _ in range(n_degrees)])

    def __call__(self, features: Features) -> Features:
        return tuple(jnp.matmul(x, w[...]) for x, w in zip(features, self.weights, strict=False))


class SpeciesLinear(nnx.Module):
    """y_l = x_l W_l[species]: a linear layer with its own weights for each element (the self-connection)."""

    def __init__(self, n_degrees: int, n_species: int, fan_in: int, fan_out: int, *, rngs: nnx.Rngs) -> None:
        scale = fan_in**-0.5
        self.weights = nnx.List([normal_param(rngs, n_species, fan_in, fan_out, scale=scale) for _ in range(n_degrees)])
        self.n_species = n_species

    def __call__(self, features: Features, species: Int[Array, " N"]) -> Features:
        """One product per element, masked: with few elements this is far cheaper than gathering a matrix per atom."""

        def mix(x: Array, weight: Array) -> Array:
            masks = species == jnp.arange(self.n_species, dtype=species.dtype)[:, None]
            return sum(jnp.matmul(jnp.where(m[:, None, None], x, 0), w) for m, w in zip(masks, weight, strict=True))  # type: ignore[return-value]

        return tuple(mix(x, w[...]) for x, w in zip(features, self.weights, strict=False))


class MLP(nnx.Module):
    """Fully connected network without biases: x → silu(x W₁) → … → x Wₙ."""

    def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs) -> None:
        self.weights = nnx.List([normal_param(rngs, a, b, scale=a**-0.5) for a, b in pairwise(sizes)])

    def hidden(self, x: Float[Array, "*n _"]) -> Float[Array, "*n _"]:
        """All layers but the last."""
        for weight in self.weights[:-1]:
            x = scaled_silu(jnp.matmul(x, weight[...]))
        return x

    def __call__(self, x: Float[Array, "*n _"]) -> Float[Array, "*n _"]:
        return jnp.matmul(self.hidden(x), self.weights[-1][...])


class Gate(nnx.Module):
    """Nonlinearity of the NequIP kind: silu on scalars; each vector and tensor channel times a gate made from the scalars.

    Batzner et al., Nat. Commun. 13, 2453 (2022).
    """

    def __init__(self, l_max: int, channels: int, *, rngs: nnx.Rngs) -> None:
        self.gates = nnx.List([normal_param(rngs, channels, channels, scale=channels**-0.5) for _ in range(l_max)])

    def __call__(self, features: Features) -> Features:
        scalars = features[0]
        gated = tuple(x * scaled_silu(jnp.matmul(scalars, w[...])) for x, w in zip(features[1:], self.gates, strict=False))
        return scaled_silu(scalars), *gated
