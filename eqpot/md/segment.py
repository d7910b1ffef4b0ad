"""The compiled heart: from one frame to the next with a fixed neighbour table."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from eqpot.core.tree import record
from eqpot.core.units import KB
from eqpot.md.ensembles import Ensemble
from eqpot.md.forces import Evaluation, Table, blank, evaluate
from eqpot.md.status import Status
from eqpot.potential import ModelSpec, Params

TRACED: list[tuple[Any, ...]] = []
"""One entry for each time that `advance` was compiled; runs count the difference."""


@record
class Motion:
    """All that is carried from step to step. `state`, `evaluation` and `step` belong together and are always good.

    Attributes:
        step: steps taken; −1 before the potential has been evaluated at the start.
        status: bits of `Status`; zero while all is well.
        state: of JAX-MD, at `step`.
        evaluation: of the potential, at `step`.
        proposal: positions of the step to come [Å]; where the trouble is when a bit is set.
    """

    step: Int[Array, ""]
    status: Int[Array, ""]
    state: Any
    evaluation: Evaluation
    proposal: Float[Array, "N 3"]


@record
class Sample:
    """Observables of a state: kinetic energy and conserved quantity [eV], temperature [K]."""

    kinetic: Float[Array, ""]
    temperature: Float[Array, ""]
    conserved: Float[Array, ""]


@partial(jax.jit, static_argnames="dtype")
def begin(ensemble: Ensemble, positions: Array, momenta: Array, masses: Array, seed: Array, dtype: str) -> Motion:
    """The motion before its start: the first proposal is where the atoms are."""
    state = ensemble.integrator(dtype).begin(positions, momenta, masses, seed)
    return Motion(jnp.asarray(-1, jnp.int32), jnp.asarray(0, jnp.int32), state, blank(positions), positions)


@partial(jax.jit, static_argnames="spec")
def advance(
    spec: ModelSpec, params: Params, ensemble: Ensemble, table: Table, hottest: Array, motion: Motion, end: Array
) -> tuple[Motion, Sample]:
    """Take steps until `end`, or until a bit of `Status` is set; a step that sets one is not taken.

    Args:
        spec, params: the potential.
        ensemble: the integrator and its numbers.
        table: neighbours, right within its reach.
        hottest: temperature that stops the run [K].
        motion: where to go on from; its status is cleared.
        end: number of the last step.
    """
    TRACED.append((spec, motion.proposal.shape, table.graph.capacity))
    integrator = ensemble.integrator(motion.proposal.dtype)

    def take(m: Motion) -> Motion:
        result = evaluate(spec, params, table, m.proposal)
        stepped = integrator.complete(m.state, result.forces)
        state = _select(m.step >= 0, stepped, m.state.set(force=result.forces))
        status = _judge(state, result, temperature(ensemble, state), hottest)
        new = Motion(m.step + 1, status, state, result, integrator.propose(state))
        return _select(status == 0, new, replace(m, status=status))

    motion = replace(motion, status=jnp.zeros_like(motion.status))
    motion = jax.lax.while_loop(lambda m: (m.step < end) & (m.status == 0) & table.covers(m.proposal), take, motion)
    stale = (motion.step < end) & (motion.status == 0)
    motion = replace(motion, status=jnp.where(stale, jnp.asarray(Status.STALE, jnp.int32), motion.status))
    return motion, observe(ensemble, motion)


def observe(ensemble: Ensemble, motion: Motion) -> Sample:
    """Observables of the last good state."""
    kinetic = kinetic_energy(motion.state)
    conserved = ensemble.integrator(kinetic.dtype).conserved(motion.state, motion.evaluation.energy + kinetic)
    return Sample(kinetic, temperature(ensemble, motion.state), conserved)


def kinetic_energy(state: Any) -> Float[Array, ""]:
    """Σ p²/2m [eV]."""
    return jnp.sum(state.momentum**2 / (2 * state.mass))


def temperature(ensemble: Ensemble, state: Any) -> Float[Array, ""]:
    """2·E_kin / (N_f·k_B) [K]."""
    return 2 * kinetic_energy(state) / (ensemble.degrees_of_freedom(len(state.momentum)) * KB)


def _judge(state: Any, result: Evaluation, kelvin: Array, hottest: Array) -> Array:
    finite = jnp.isfinite(result.energy) & jnp.isfinite(result.forces).all() & jnp.isfinite(kelvin)
    fault = jnp.where(finite, 0, int(Status.NOT_FINITE)) | jnp.where(kelvin > hottest, int(Status.TOO_HOT), 0)
    return fault.astype(jnp.int32)


def _select(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
