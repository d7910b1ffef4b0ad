"""How steps are cut into windows, frames and checkpointed segments, and how cotangents are kept within bounds."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp

from eqpot.core.errors import SimulationError


@dataclass(frozen=True)
class Schedule:
    """Steps in all, windows that the gradient is stopped between, frames of a window, steps of a frame and of a segment."""

    n_steps: int
    windows: int
    frames: int
    every: int
    segment: int


def plan(n_steps: int, every: int | None, segment: int | None, truncate: int | None) -> Schedule:
    """Check the numbers of steps and fill in those not given.

    Raises:
        SimulationError: naming the number that is out of range, or does not divide what it must.
    """
    window = n_steps if truncate is None else truncate
    frame = window if every is None else every
    part = max(1, isqrt(window)) if segment is None else segment
    for name, value in (("n_steps", n_steps), ("truncate", window), ("every", frame), ("segment", part)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
            raise SimulationError(f"{name}: found {value!r}, expected a number of steps, at least 1")
    for name, part_, whole_name, whole in (("truncate", window, "n_steps", n_steps), ("every", frame, "truncate or n_steps", window)):
        if whole % part_:
            raise SimulationError(f"{name}: found {part_}, expected a divisor of {whole_name} ({whole})")
    return Schedule(n_steps, n_steps // window, window // frame, frame, part)


def segmented(body: Callable[..., Any], prepare: Callable[[Any], Any], carry: Any, length: int, segment: int) -> tuple[Any, Any]:
    """A scan of body(prepared, carry, None) → (carry, out), of which reverse mode remembers the first carry of each segment only.

    Args:
        body: one turn.
        prepare: from the carry at the start of a segment, what its turns share; never remembered.
        carry: at the start.
        length: turns in all.
        segment: turns of a segment; the last may be shorter.
    """
    whole, rest = divmod(length, min(segment, length))

    def run(carry: Any, turns: int) -> tuple[Any, Any]:
        def part(carry: Any) -> tuple[Any, Any]:
            prepared = prepare(carry)
            return jax.lax.scan(lambda c, x: body(prepared, c, x), carry, None, length=turns)

        return jax.checkpoint(part)(carry)

    carry, out = jax.lax.scan(lambda c, _: run(c, min(segment, length)), carry, None, length=whole)
    out = jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), out)
    if rest:
        carry, tail = run(carry, rest)
        out = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), out, tail)
    return carry, out


def bounded(state: Any, most: Any) -> Any:
    """The same state; on the way back, its cotangent scaled down to a norm (over all leaves) of at most `most`. None bounds nothing."""
    return state if most is None else _bounded(state, jnp.asarray(most, jax.tree.leaves(state)[0].dtype))


@jax.custom_vjp
def _bounded(state: Any, most: Any) -> Any:
    del most
    return state


def _forward(state: Any, most: Any) -> tuple[Any, Any]:
    return state, most


def _backward(most: Any, slope: Any) -> tuple[Any, Any]:
    square = sum(jnp.sum(x**2) for x in jax.tree.leaves(slope))
    factor = most / jnp.sqrt(jnp.maximum(square, most**2))
    return jax.tree.map(lambda x: x * factor, slope), jnp.zeros_like(most)


_bounded.defvjp(_forward, _backward)
