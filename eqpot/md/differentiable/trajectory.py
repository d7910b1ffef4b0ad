"""A trajectory as a differentiable function of all that it depends on, in memory that grows with the root of its length.

Reverse mode needs the states of all steps in reverse. Keeping them all costs n; keeping the first of each of √n segments, and computing a segment again
when its turn comes, costs 2·√n states and one more pass (Griewank and Walther, Evaluating Derivatives, SIAM (2008), ch. 12). A step's own intermediate
results (messages, bases) are many times its state and are computed again as well, one step at a time.

Which atoms are neighbours is an integer and has no derivative; the vectors between them are differentiable functions of positions and cell. Since
the potential and its forces vanish smoothly at the cutoff, nothing is lost by that.
"""

from collections.abc import Callable
from enum import IntFlag
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from eqpot.core.errors import SimulationError
from eqpot.core.tree import record
from eqpot.graph.cell_list import Box, Candidates, covers, search
from eqpot.md.differentiable.schedule import Schedule, bounded, plan, segmented
from eqpot.md.differentiable.start import Start
from eqpot.md.forces import evaluate, has_room
from eqpot.md.state import Push, State


class Fault(IntFlag):
    """Why a path means nothing."""

    NO_ROOM = 1
    LEFT_LIST = 2
    NOT_FINITE = 4


CURES = {
    Fault.NO_ROOM: "atoms had more neighbours than there was room for; begin(..., room=) with more than now",
    Fault.LEFT_LIST: "atoms or cell moved too far for the neighbour list of a segment; give begin a larger skin=, or trajectory a shorter segment=",
    Fault.NOT_FINITE: "positions or energy are no longer finite; take a shorter timestep or a better start",
}


@record
class Moment:
    """A system at the end of a step.

    Attributes:
        state: positions [Å], momenta [amu·Å·√(eV/amu)], cell [Å].
        push: forces [eV/Å], zero on fixed atoms, and stress [eV/Å³] there.
        energy: potential energy there, without reference energies [eV].
    """

    state: State
    push: Push
    energy: Float[Array, ""]


@record
class Path:
    """A trajectory.

    Attributes:
        frames: what was observed at steps every, 2·every, …, with a leading axis of frames.
        final: the state at the end.
        faults: bits of `Fault`; unless zero, every number of the path, and of any gradient through it, is NaN.
    """

    frames: Any
    final: State
    faults: Int[Array, ""]

    def check(self) -> "Path":
        """The same path, if it means something; call it outside of compiled functions.

        Raises:
            SimulationError: naming what went wrong and what to do.
        """
        if isinstance(self.faults, Tracer):
            raise SimulationError(
                "Path.check: found a traced path, expected a computed one; return the path from the compiled function, check it outside"
            )
        found = Fault(int(self.faults))
        if found:
            raise SimulationError("trajectory: " + "; ".join(cure for fault, cure in CURES.items() if fault in found))
        return self


@record
class Carry:
    """What goes from step to step."""

    moment: Moment
    step: Int[Array, ""]
    faults: Int[Array, ""]


def trajectory(
    start: Start,
    n_steps: int,
    *,
    observe: Callable[[Moment], Any] = lambda moment: moment,
    every: int | None = None,
    segment: int | None = None,
    truncate: int | None = None,
    clip: Any = None,
) -> Path:
    """Integrate the equations of motion, differentiably.

        def loss(params):
            path = trajectory(start.having(params=params), 200, every=20, observe=lambda moment: moment.energy)
            return jnp.mean(path.frames), path

        (value, path), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(start.field.params)
        path.check()

    It is the path of `eqpot.md.simulate` from the same seed, as a pure function of the start: parameters, masses, positions, momenta, cell, and the numbers
    of the ensemble. Gradients of a chaotic system grow as exp(t/t_Lyapunov); `truncate` and `clip` bound them, at the price of a bias (docs/differentiable.md).

    Args:
        start: made by `begin`.
        n_steps: steps to take.
        observe: what to keep of a frame; a pytree of arrays.
        every: steps between frames, a divisor of `n_steps`; by default the last step is the only frame.
        segment: steps between checkpoints, which is also how long a neighbour list lasts; by default √n_steps.
        truncate: steps of a window, a multiple of `every` and a divisor of `n_steps`: the gradient goes through the state within a window and is stopped
            between windows. The path itself is the same.
        clip: most that the norm of the state's cotangent may be; larger ones are scaled down at each step [loss per internal units].

    Raises:
        SimulationError: for numbers that do not divide each other, or a float64 start without `jax.enable_x64(True)`.
    """
    schedule = plan(n_steps, every, segment, truncate)
    if start.state.positions.dtype == "float64" and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise SimulationError("trajectory: found a start in float64 without x64 mode; call it within `with jax.enable_x64(True):`")
    start = jax.tree.map(jnp.asarray, start)
    kept = jax.checkpoint(observe)

    def window(carry: tuple[State, Array, Array], _: Any) -> tuple[tuple[State, Array, Array], Any]:
        state, step, faults = carry
        state = bounded(jax.lax.stop_gradient(state) if truncate else state, clip)
        moment, found = _arrive(start, _search(start, state), state)
        end, frames = _frames(start, schedule, kept, clip, Carry(moment, step, faults | found))
        return (end.moment.state, end.step, end.faults), frames

    zero = jnp.zeros((), jnp.int32)
    body = jax.checkpoint(window) if truncate else window
    (final, _, faults), frames = jax.lax.scan(body, (start.state, zero, zero), None, length=schedule.windows)
    frames = jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), frames)
    return Path(_spoilt(frames, faults, start), _spoilt(final, faults, start), faults)


def value_and_gradient(loss: Callable[[Any], tuple[Array, Path]]) -> Callable[[Any], tuple[Array, Any, Path]]:
    """A compiled function that gives value, gradient and path of loss(argument) → (value, path), and checks the path.

    Raises:
        SimulationError: when called, as `Path.check`.
    """
    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def call(argument: Any) -> tuple[Array, Any, Path]:
        (value, path), slope = compiled(argument)
        return value, slope, path.check()

    return call


def _frames(start: Start, schedule: Schedule, observe: Callable[[Moment], Any], clip: Any, carry: Carry) -> tuple[Carry, Any]:
    """The steps of one window, and its frames; neighbours are searched for at the start of each segment."""
    step = jax.checkpoint(partial(_step, start, schedule.n_steps, clip), prevent_cse=False)
    listed = lambda c: _search(start, c.moment.state)  # noqa: E731
    if schedule.segment > schedule.every:

        def frame(candidates: Candidates, carry: Carry, _: Any) -> tuple[Carry, Any]:
            carry, _ = jax.lax.scan(partial(step, candidates), carry, None, length=schedule.every)
            return carry, observe(carry.moment)

        return segmented(frame, listed, carry, schedule.frames, schedule.segment // schedule.every)

    def long_frame(carry: Carry, _: Any) -> tuple[Carry, Any]:
        carry, _ = segmented(step, listed, carry, schedule.every, schedule.segment)
        return carry, observe(carry.moment)

    return jax.lax.scan(long_frame, carry, None, length=schedule.frames)


def _step(start: Start, n_steps: int, clip: Any, candidates: Candidates, carry: Carry, _: Any) -> tuple[Carry, None]:
    """One step: half of it, the potential, the other half."""
    key, dtype = jax.random.fold_in(start.key, carry.step), start.state.positions.dtype
    progress = carry.step.astype(dtype) / n_steps
    now, then = start.ensemble.at(progress), start.ensemble.at(progress + 1 / n_steps)
    moved = now.first(bounded(carry.moment.state, clip), carry.moment.push, start.particles, key)
    moment, faults = _arrive(start, candidates, moved)
    done = then.second(moved, moment.push, start.particles, key)
    return Carry(Moment(done, moment.push, moment.energy), carry.step + 1, carry.faults | faults), None


def _arrive(start: Start, candidates: Candidates, state: State) -> tuple[Moment, Int[Array, ""]]:
    """The potential at a state, and bits of `Fault`."""
    one = lambda tree: jax.tree.map(lambda x: x[None], tree)  # noqa: E731
    particles, listed = one(start.particles), one(candidates)
    result, slots = evaluate(start.spec, start.field, particles, listed, state.positions[None], state.cell[None], start.sizes)
    positions, cell = jax.lax.stop_gradient((state.positions, state.cell))
    room = has_room(listed, slots, start.sizes)
    finite = jnp.isfinite(positions).all() & jnp.isfinite(result.energy[0])
    covered = covers(candidates, positions, cell, start.field.cutoff) | ~finite
    flags = ((room, Fault.NO_ROOM), (covered, Fault.LEFT_LIST), (finite, Fault.NOT_FINITE))
    faults = sum((jnp.where(good, 0, int(bit)) for good, bit in flags), jnp.zeros((), jnp.int32)).astype(jnp.int32)
    return Moment(state, jax.tree.map(lambda x: x[0], result.push), result.energy[0] + result.bias[0]), faults


def _search(start: Start, state: State) -> Candidates:
    """The neighbour list of a state, which has no derivative."""
    positions, cell = jax.lax.stop_gradient((state.positions, state.cell))
    return search(positions, Box(cell, start.particles.pbc), start.particles.real, start.field.radius, start.sizes.grid)


def _spoilt(tree: Any, faults: Int[Array, ""], start: Start) -> Any:
    """The tree, or NaN where there are faults; by a term that depends on all of the start, so that every gradient is NaN as well.

    A product alone would not do: atoms whose positions are no numbers have no neighbours, and what has no neighbours has slope zero.
    """
    numbers = [x for x in jax.tree.leaves(start) if jnp.issubdtype(x.dtype, jnp.floating)]
    total = sum((jnp.sum(x).astype(start.state.positions.dtype) for x in numbers), jnp.zeros((), start.state.positions.dtype))
    shade = jnp.where(faults == 0, 0, jnp.nan).astype(total.dtype) * total
    return jax.tree.map(lambda x: x + shade.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
