"""A step of JAX-MD, with forces given from outside."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@contextmanager
def lenient() -> Iterator[None]:
    """JAX-MD's own habits with dtypes: it mixes them, and asks for float64 sums also where there is none."""
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):
        warnings.filterwarnings("ignore", "Explicitly requested dtype")
        yield


@cache
def jax_md() -> tuple[ModuleType, Callable[..., Array]]:
    """JAX-MD's integrators, and the shift function of free space. Imported here and only when needed: it takes a second.

    While it is imported JAX-MD computes, with mixed dtypes; it must not do so within our trace or under strict promotion.
    """
    with jax.ensure_compile_time_eval(), jax.enable_x64(False), lenient():
        from jax_md import simulate, space
    return simulate, space.free()[1]


@dataclass(frozen=True)
class Integrator:
    """An integrator of JAX-MD whose force function hands back what it is given.

    In velocity Verlet and in BAOAB the new positions do not depend on the new forces. A step is therefore taken in two halves:

        positions = propose(state)             # where the atoms go
        ...evaluate the potential there: forces, energies, spread over members...
        state = complete(state, forces)        # the same step, with the forces of its end

    So the potential is evaluated once per step, with all that it has to say, and one can look at a step before taking it.
    Both halves call the same function of JAX-MD; the arithmetic that this repeats is negligible beside any potential.

    Attributes:
        start: (key, positions, momenta, masses, forces) → state.
        step: (state, forces=...) → state.
        conserved: (state, total energy) → the quantity that the scheme conserves [eV]; NaN where there is none.
    """

    start: Callable[..., Any]
    step: Callable[..., Any]
    conserved: Callable[[Any, Float[Array, ""]], Float[Array, ""]]

    def begin(self, positions: Array, momenta: Array, masses: Array, seed: Array) -> Any:
        """The state before any force is known."""
        with lenient():
            state = self.start(jax.random.PRNGKey(seed), positions, momenta, masses, jnp.zeros_like(positions))
        return jax.tree.map(lambda leaf: _cast(leaf, positions.dtype), state)

    def propose(self, state: Any) -> Float[Array, "N 3"]:
        """Positions at the end of the next step."""
        return self.complete(state, state.force).position

    def complete(self, state: Any, forces: Float[Array, "N 3"]) -> Any:
        """The state at the end of the next step, `forces` being those at the positions proposed."""
        # JAX-MD rounds some constants (the timestep) to float32, a relative error of 6e-8 in time; leaves keep the state's dtype.
        with lenient():
            new = self.step(state, forces=forces)
        return jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), new, state)


def _cast(leaf: Any, dtype: Any) -> Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
