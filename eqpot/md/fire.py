"""How to go downhill: the interface of all methods, and FIRE.

A method asks and is told: given the point it last asked for, with energy and force there, it says whether the point is good, and where to look next.
It knows neither atoms nor cells; a point is a list of rows, generalised coordinates in Å.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record

LONGEST_STEP = 0.2
"""No row moves by more than this in one step [Å]: what a Morse bond forgives, and what ASE allows."""


@dataclass(frozen=True)
class Method(ABC):
    """Interface of all methods; static, so that two runs with the same method share a program."""

    @abstractmethod
    def start(self, point: Float[Array, "R 3"]) -> Any:
        """What the method remembers before anything is known."""

    @abstractmethod
    def following(
        self, memory: Any, point: Float[Array, "R 3"], energy: Float[Array, ""], force: Float[Array, "R 3"], noise: Float[Array, ""]
    ) -> tuple[Bool[Array, ""], Any, Float[Array, "R 3"]]:
        """Where to look after `point`.

        Args:
            memory: of `start`, or of the call before.
            point: the last that was asked for [Å].
            energy: there [eV].
            force: −∂energy/∂point [eV/Å].
            noise: differences of energy below this mean nothing [eV].

        Returns:
            whether `point` is kept, the new memory, and the next point.
        """


def limited(step: Float[Array, "R 3"]) -> Float[Array, "R 3"]:
    """A step shortened, not turned, until no row is longer than `LONGEST_STEP`."""
    longest = jnp.sqrt(jnp.max(jnp.sum(step**2, -1)))
    return step * jnp.minimum(1, LONGEST_STEP / jnp.maximum(longest, 1e-30))


@record
class Inertia:
    """What FIRE remembers: velocity, timestep, mixing α, and steps since it last went uphill."""

    velocity: Float[Array, "*G R 3"]
    timestep: Float[Array, "*G"]
    mixing: Float[Array, "*G"]
    downhill: Int[Array, "*G"]


@dataclass(frozen=True)
class Fire(Method):
    """Dynamics of unit masses that is steered along the force, and stopped when it goes uphill.

        v ← (1 − α)·v + α·|v|·F/|F|  while F·v ≥ 0, else v ← 0;  then v ← v + F·Δt, x ← x + v·Δt

    α shrinks and Δt grows while it goes downhill. Robust far from a minimum and with forces that are no derivatives, such as those of a band.

    Reference: Bitzek, Koskinen, Gähler, Moseler, Gumbsch, Phys. Rev. Lett. 97, 170201 (2006).
    """

    first_timestep: float = 0.1
    longest_timestep: float = 1.0
    patience: int = 5

    def start(self, point: Float[Array, "R 3"]) -> Inertia:
        first, mixing = (jnp.asarray(x, point.dtype) for x in (self.first_timestep, 0.1))
        return Inertia(jnp.zeros_like(point), first, mixing, jnp.zeros((), jnp.int32))

    def following(self, memory: Inertia, point: Array, energy: Array, force: Array, noise: Array) -> tuple[Array, Inertia, Array]:
        del energy, noise
        velocity, timestep, mixing = memory.velocity, memory.timestep, memory.mixing
        good = jnp.vdot(force, velocity) >= 0
        speed, pull = (jnp.sqrt(jnp.sum(x**2)) for x in (velocity, force))
        steered = (1 - mixing) * velocity + mixing * speed * force / jnp.maximum(pull, 1e-30)
        late = good & (memory.downhill > self.patience)
        timestep = jnp.where(late, jnp.minimum(timestep * 1.1, self.longest_timestep), jnp.where(good, timestep, timestep * 0.5))
        mixing = jnp.where(late, mixing * 0.99, jnp.where(good, mixing, jnp.asarray(0.1, mixing.dtype)))
        velocity = jnp.where(good, steered, 0) + timestep * force
        downhill = jnp.where(good, memory.downhill + 1, 0)
        return jnp.array(True), Inertia(velocity, timestep, mixing, downhill), point + limited(timestep * velocity)
