"""L-BFGS: the curvature of the last few steps, and a step back where the energy rose."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record
from eqpot.md.fire import Method, limited

STIFFNESS = 70.0
"""Curvature to start with [eV/Å²], that of a stiff bond: the first step is short; ASE's value."""
PATIENCE = 3
"""How often a step is taken back before its direction is given up for that of the force."""


@record
class History:
    """What L-BFGS remembers.

    Attributes:
        point, force, energy: of the last point that was kept; the energy is infinite before there is one.
        step: that is being tried from there [Å].
        moves, turns: differences of points [Å] and of slopes [eV/Å] between points kept, the newest last.
        weights: 1/(move·turn) of each pair [1/eV]; zero where there is none.
        tries: how often the step has been taken back.
    """

    point: Float[Array, "*G R 3"]
    force: Float[Array, "*G R 3"]
    energy: Float[Array, "*G"]
    step: Float[Array, "*G R 3"]
    moves: Float[Array, "*G M R 3"]
    turns: Float[Array, "*G M R 3"]
    weights: Float[Array, "*G M"]
    tries: Int[Array, "*G"]


@dataclass(frozen=True)
class Lbfgs(Method):
    """Quasi-Newton steps from the last `length` pairs of moves and changes of slope, by the two-loop recursion.

    A step after which the energy is higher is taken back to a quarter; if that does not help either, the history is forgotten. Pairs without positive curvature
    are not remembered, and a direction that is not downhill is replaced by the force.

    Reference: Liu and Nocedal, Math. Program. 45, 503 (1989); the recursion: Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4.
    """

    length: int = 20

    def start(self, point: Float[Array, "R 3"]) -> History:
        zero, several = jnp.zeros_like(point), jnp.zeros((self.length, *point.shape), point.dtype)
        return History(point, zero, jnp.asarray(jnp.inf, point.dtype), zero, several, several, several[:, 0, 0], jnp.zeros((), jnp.int32))

    def following(self, memory: History, point: Array, energy: Array, force: Array, noise: Array) -> tuple[Bool[Array, ""], History, Array]:
        good = energy <= memory.energy + noise
        new = jax.tree.map(lambda a, b: jnp.where(good, a, b), _advanced(memory, point, energy, force), _withdrawn(memory))
        return good, new, new.point + new.step


def _advanced(memory: History, point: Array, energy: Array, force: Array) -> History:
    """The point is kept; on along a new direction."""
    move, turn = point - memory.point, memory.force - force
    bend = jnp.vdot(move, turn)
    curved = jnp.isfinite(memory.energy) & (bend > 1e-8 * jnp.sqrt(jnp.sum(move**2) * jnp.sum(turn**2)))
    weight = 1 / jnp.where(curved, bend, 1)
    pairs = (memory.moves, memory.turns, memory.weights)
    moves, turns, weights = (
        jnp.where(curved, jnp.roll(old, -1, 0).at[-1].set(new), old) for old, new in zip(pairs, (move, turn, weight), strict=True)
    )
    step = _direction(force, moves, turns, weights)
    downhill = jnp.vdot(step, force) > 0
    step = jnp.where(downhill, step, force / STIFFNESS)
    return History(point, force, energy, limited(step), moves, turns, jnp.where(downhill, weights, 0), jnp.zeros_like(memory.tries))


def _withdrawn(memory: History) -> History:
    """The point is not kept: try nearer to the one before; and when that has not helped either, along the force."""
    lost = memory.tries + 1 == PATIENCE
    step = jnp.where(lost, limited(memory.force / STIFFNESS), memory.step / 4)
    return replace(memory, step=step, weights=jnp.where(lost, 0, memory.weights), tries=memory.tries + 1)


def _direction(force: Float[Array, "R 3"], moves: Array, turns: Array, weights: Array) -> Float[Array, "R 3"]:
    """H·F with H the inverse Hessian that the pairs are consistent with."""

    def back(rest: Array, pair: Any) -> tuple[Array, Array]:
        move, turn, weight = pair
        part = weight * jnp.vdot(move, rest)
        return rest - part * turn, part

    def forth(step: Array, pair: Any) -> tuple[Array, None]:
        move, turn, weight, part = pair
        return step + (part - weight * jnp.vdot(turn, step)) * move, None

    rest, parts = jax.lax.scan(back, force, (moves, turns, weights), reverse=True)
    newest = jnp.sum(turns[-1] ** 2) * weights[-1]
    softness = jnp.where(weights[-1] > 0, 1 / jnp.where(newest > 0, newest, 1), 1 / STIFFNESS).astype(force.dtype)
    return jax.lax.scan(forth, softness * rest, (moves, turns, weights, parts))[0]
