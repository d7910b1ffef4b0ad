"""The compiled heart: steps of all systems, from frame to frame, without a word to the host."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record
from eqpot.core.units import KB
from eqpot.graph.cell_list import Candidates
from eqpot.graph.graph import Either
from eqpot.md.ensembles import Ensemble
from eqpot.md.forces import Evaluation, Field, Sizes, blank, evaluate, has_room, refresh
from eqpot.md.maps import kinetic_energy
from eqpot.md.state import Particles, State
from eqpot.md.status import Status
from eqpot.potential import ModelSpec

TRACED: list[tuple[Any, ...]] = []
"""One entry for each time that `advance` was compiled; runs count the difference."""


@record
class Bounds:
    """What stops a system: temperature above `hottest` [K], a pair below `closest` [Å], an atom's σ above `unsurest` [eV/Å]."""

    hottest: Float[Either, ""]
    closest: Float[Either, ""]
    unsurest: Float[Either, ""]
    strangest: Float[Either, ""]


@record
class Motion:
    """All that is carried from step to step. `state`, `evaluation` and `step` of a system belong together and are always good.

    Attributes:
        step: steps taken; −1 before the potential has been evaluated at the start.
        status: bits of `Status`; a system with one set stands still.
        state: at `step`.
        evaluation: of the potential, at `step`.
        trouble: positions of the step that set a bit [Å].
        candidates: neighbours; what they are besides right has no influence.
        searches: how often they were searched for.
        slots: neighbours that the atom with most had, at the last evaluation; more than there is room for ends a segment.
    """

    step: Int[Either, " S"]
    status: Int[Either, " S"]
    state: State
    evaluation: Evaluation
    trouble: Float[Either, "S N 3"]
    candidates: Candidates
    searches: Int[Either, ""]
    slots: Int[Either, ""]


@record
class Sample:
    """What a frame holds, beside the state: kinetic energy and conserved quantity [eV], temperature [K]."""

    kinetic: Float[Either, "*S"]
    temperature: Float[Either, "*S"]
    conserved: Float[Either, "*S"]


@record
class Shot:
    """A frame as it leaves the device."""

    step: Int[Either, "*S"]
    state: State
    evaluation: Evaluation
    sample: Sample


def begin(state: State, candidates: Candidates) -> Motion:
    """The motion before its start."""
    systems = len(state.positions)
    step = jnp.full(systems, -1, jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    return Motion(step, jnp.zeros_like(step), state, blank(state.positions), state.positions, candidates, zero, zero)


@partial(jax.jit, static_argnames=("spec", "sizes"))
def advance(
    spec: ModelSpec,
    sizes: Sizes,
    field: Field,
    ensemble: Ensemble,
    particles: Particles,
    bounds: Bounds,
    key: Array,
    length: Array,
    motion: Motion,
    ends: Int[Array, " F"],
) -> tuple[Motion, Shot]:
    """Take steps to each of `ends` in turn, and a frame there.

    A step that sets a bit of `Status` for a system is not taken by it; one for which there was not enough room is taken by none, and ends the segment.

    Args:
        spec, field: the potential and how it is evaluated.
        sizes: static room for neighbours.
        ensemble: how the systems move; its numbers have a leading axis of systems, as all that follows.
        particles: what they consist of.
        bounds: what stops them.
        key: of each system; the random numbers of a step depend on it and on the number of the step.
        length: steps that ramps are spread over.
        motion: where to go on from.
        ends: numbers of steps, ascending; what is behind a segment's end has no frame.

    Returns:
        the motion, and a frame for each of `ends`. A frame is good for a system if its `step` is the one asked for.
    """
    TRACED.append((spec, motion.trouble.shape, sizes))

    def take(m: Motion) -> Motion:
        progress = jnp.maximum(m.step, 0).astype(length.dtype) / length
        keys = jax.vmap(jax.random.fold_in)(key, m.step)
        now, then = (jax.vmap(type(ensemble).at)(ensemble, p) for p in (progress, progress + 1 / length))
        moved = jax.vmap(type(ensemble).first)(now, m.state, m.evaluation.push, particles, keys)
        sane = (m.step < 0) | within_reach(m.state, moved, field.cutoff / 2)
        moved = choose((m.step >= 0) & sane, moved, m.state)
        candidates, fresh = refresh(m.candidates, field, particles, moved.positions, moved.cell, sizes)
        result, slots = evaluate(spec, field, particles, candidates, moved.positions, moved.cell, sizes, jnp.max(m.step) + 1)
        done = jax.vmap(type(ensemble).second)(then, moved, result.push, particles, keys)
        done = choose(m.step >= 0, done, m.state)
        new = replace(m, candidates=candidates, searches=m.searches + fresh.astype(jnp.int32), slots=slots)
        status = judge(done, result, temperature(done, particles), bounds) | jnp.where(sane, 0, int(Status.TOO_FAR))
        going = (m.status == 0) & has_room(new.candidates, new.slots, sizes)
        good = going & (status == 0)
        return replace(
            new,
            step=jnp.where(good, m.step + 1, m.step),
            status=jnp.where(going, status, m.status),
            state=choose(good, done, m.state),
            evaluation=choose(good, result, m.evaluation),
            trouble=choose(going & ~good, moved.positions, m.trouble),
        )

    def run_to(m: Motion, end: Array) -> tuple[Motion, Shot]:
        m = jax.lax.while_loop(lambda m: ((m.step < end) & (m.status == 0)).any() & has_room(m.candidates, m.slots, sizes), take, m)
        return m, Shot(m.step, m.state, m.evaluation, observe(ensemble, particles, length, m))

    return jax.lax.scan(run_to, motion, ends)


def observe(ensemble: Ensemble, particles: Particles, length: Either, motion: Motion) -> Sample:
    """Observables of the last good state."""
    state, evaluation = motion.state, motion.evaluation
    now = jax.vmap(type(ensemble).at)(ensemble, motion.step.astype(length.dtype) / length)
    kinetic = jax.vmap(kinetic_energy)(state.momenta, particles.masses)
    extended = jax.vmap(type(ensemble).extended)(now, state, particles)
    conserved = evaluation.energy + evaluation.bias + kinetic + extended
    return Sample(kinetic, temperature(state, particles), conserved)


def temperature(state: State, particles: Particles) -> Float[Array, " S"]:
    """2·E_kin / (N_f·k_B) [K]."""
    return 2 * jax.vmap(kinetic_energy)(state.momenta, particles.masses) / (particles.dof * KB)


def within_reach(old: State, new: State, most: Array) -> Bool[Array, " S"]:
    """Whether a step goes somewhere, and not too far; false for what is no number."""
    moved = jnp.max(jnp.sum((new.positions - old.positions) ** 2, -1), -1)
    return (moved <= most**2) & jnp.isfinite(new.cell).all((1, 2))


def judge(state: State, result: Evaluation, kelvin: Array, bounds: Bounds) -> Int[Array, " S"]:
    """Bits of `Status` for each system."""
    finite = (
        jnp.isfinite(result.energy + result.bias + kelvin)
        & jnp.isfinite(result.push.forces).all((1, 2))
        & jnp.isfinite(state.cell).all((1, 2))
    )
    faults = {
        Status.NOT_FINITE: ~finite,
        Status.TOO_HOT: kelvin > bounds.hottest,
        Status.TOO_CLOSE: result.nearest < bounds.closest,
        Status.TOO_UNSURE: result.atom_std.max(-1) > bounds.unsurest,
        Status.TOO_NOVEL: result.novelty.max(-1) > bounds.strangest,
    }
    return sum((jnp.where(found, int(bit), 0) for bit, found in faults.items()), jnp.zeros(len(kelvin), jnp.int32)).astype(jnp.int32)


def choose(condition: Bool[Array, " S"], yes: Any, no: Any) -> Any:
    """One or the other for each system."""
    return jax.tree.map(lambda a, b: jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b), yes, no)
