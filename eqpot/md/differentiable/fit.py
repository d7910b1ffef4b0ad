"""Fit a potential to averages: gradient steps through the weights of frames, and new frames when these say too little (DiffTRe)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from eqpot.core.errors import SimulationError
from eqpot.md.differentiable.reweighting import effective_size, reweighted, weights
from eqpot.md.differentiable.samples import Samples, energies
from eqpot.potential import Params, Potential


@dataclass(frozen=True, eq=False)
class Target:
    """An average that is known.

    Attributes:
        name: for the record.
        observe: from parameters (leading member axis) and samples the value of each frame, [frames, …].
        value: what the average should be, […].
        weight: of the mean square deviation in the loss, one over the unit of the value squared.
    """

    name: str
    observe: Callable[[Params, Samples], Array]
    value: Any
    weight: float = 1.0


@dataclass(frozen=True)
class FitStep:
    """One step of a fit, before its parameters are changed.

    Attributes:
        loss: Σ weight·mean((⟨O⟩ − target)²) and the penalty.
        deviations: root of the mean square deviation of each target, in its own unit.
        effective: effective number of frames, as a part of all.
        resampled: whether new frames were made for this step.
    """

    loss: float
    deviations: dict[str, float]
    effective: float
    resampled: bool


def fit_observables(
    potential: Potential,
    targets: Sequence[Target],
    sample: Callable[[Potential], Samples],
    optimizer: Any,
    n_steps: int,
    *,
    least_effective: float = 0.6,
    penalty: Callable[[Params], Array] | None = None,
    report: Callable[[FitStep], None] = lambda step: None,
) -> tuple[Potential, list[FitStep]]:
    """Change the parameters until averages are what they should be.

    Args:
        potential: to start from.
        targets: what averages should be.
        sample: simulate with a potential and `collect` the frames; called at the start and whenever frames say too little.
        optimizer: anything with optax's `init` and `update`, such as `optax.adam(0.01)`.
        n_steps: steps of the optimizer.
        least_effective: part of the frames that must count; below, new ones are made at the parameters of that step.
        penalty: what else should be small, such as errors of forces on reference data.
        report: called after each step.

    Returns:
        the potential, and what each step was like.

    Raises:
        SimulationError: for arguments out of range, or a loss that is not finite.

    Reference: Thaler and Zavadlav, Nat. Commun. 12, 6884 (2021).
    """
    if not targets or n_steps < 1 or not 0 < least_effective < 1:
        raise SimulationError(
            f"fit_observables: found {len(targets)} targets, n_steps {n_steps}, least_effective {least_effective:g}, "
            "expected at least one target and step, and a part between 0 and 1"
        )
    steps: list[FitStep] = []
    with jax.enable_x64(potential.dtype == "float64"):
        slope_of = jax.jit(jax.value_and_grad(_objective(potential, targets, penalty), has_aux=True))
        params = jax.tree.map(jnp.asarray, potential.params)
        state, samples, fresh = optimizer.init(params), sample(potential), True
        for _ in range(n_steps):
            (loss, (deviations, effective)), slope = slope_of(params, samples)
            if float(effective) < least_effective:
                samples, fresh = sample(_with(potential, params)), True
                (loss, (deviations, effective)), slope = slope_of(params, samples)
            steps.append(FitStep(float(loss), {k: float(v) for k, v in deviations.items()}, float(effective), fresh))
            if not np.isfinite(steps[-1].loss):
                raise SimulationError(f"fit_observables: the loss is {loss} at step {len(steps)}; expected a number: take smaller steps")
            report(steps[-1])
            with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic mixes dtypes
                change, state = optimizer.update(slope, state, params)
            params, fresh = jax.tree.map(lambda p, c: p + c.astype(p.dtype), params, change), False
    return _with(potential, params), steps


def _objective(potential: Potential, targets: Sequence[Target], penalty: Any) -> Callable[[Params, Samples], Any]:
    """Loss, with deviations and the effective part of the frames beside it."""

    def objective(params: Params, samples: Samples) -> tuple[Array, tuple[dict[str, Array], Array]]:
        chosen = weights(energies(potential.spec, params, samples), samples.energy, samples.kT)
        squares = {
            t.name: jnp.mean((reweighted(t.observe(params, samples), chosen) - jnp.asarray(t.value, chosen.dtype)) ** 2) for t in targets
        }
        loss = sum((t.weight * squares[t.name] for t in targets), jnp.zeros((), chosen.dtype))
        loss = loss if penalty is None else loss + penalty(params)
        return loss, (jax.tree.map(jnp.sqrt, squares), effective_size(chosen) / len(samples))

    return objective


def _with(potential: Potential, params: Params) -> Potential:
    return replace(potential, params=jax.tree.map(np.asarray, params))
