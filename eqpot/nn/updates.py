"""From an aggregated message to an atom's new features: the place where the network is nonlinear in its surroundings.

All kinds take (message, kept, species), where `kept` is what the self-connection carries over (degrees may be missing).
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int

from eqpot.nn.contraction import SymmetricContraction
from eqpot.nn.layers import Features, Gate, Linear, SpeciesLinear
from eqpot.nn.sphere import GridProduct


def add(first: Features, second: Features) -> Features:
    """Sum of features; `second` may lack the higher degrees."""
    return (*(a + b for a, b in zip(first, second, strict=False)), *first[len(second) :])


class ContractionUpdate(nnx.Module):
    """h = W B(message) + kept, with the exact symmetric contraction (MACE)."""

    def __init__(self, l_in: int, l_out: int, channels: int, n_species: int, correlation: int, *, rngs: nnx.Rngs) -> None:
        self.product = SymmetricContraction(l_in, l_out, channels, n_species, correlation, rngs=rngs)
        self.linear = Linear(l_out + 1, channels, channels, rngs=rngs)

    def __call__(self, message: Features, kept: Features, species: Int[Array, " N"]) -> Features:
        product = self.product(tuple(jnp.moveaxis(x, 1, 0) for x in message), species)  # it works on components
        return add(self.linear(tuple(jnp.moveaxis(x, 0, 1) for x in product)), kept)


class GridUpdate(nnx.Module):
    """h = W B(message) + kept, with powers on a spherical grid."""

    def __init__(self, l_in: int, l_out: int, channels: int, n_species: int, correlation: int, *, rngs: nnx.Rngs) -> None:
        self.product = GridProduct(l_in, l_out, channels, n_species, correlation, rngs=rngs)
        self.linear = Linear(l_out + 1, channels, channels, rngs=rngs)

    def __call__(self, message: Features, kept: Features, species: Int[Array, " N"]) -> Features:
        return add(self.linear(self.product(message, species)), kept)


class GateUpdate(nnx.Module):
    """h = gate(W_species message + kept): pair messages and gates (NequIP)."""

    def __init__(self, l_out: int, channels: int, n_species: int, *, rngs: nnx.Rngs) -> None:
        self.linear = SpeciesLinear(l_out + 1, n_species, channels, channels, rngs=rngs)
        self.gate = Gate(l_out, channels, rngs=rngs)

    def __call__(self, message: Features, kept: Features, species: Int[Array, " N"]) -> Features:
        return self.gate(add(self.linear(message, species), kept))
