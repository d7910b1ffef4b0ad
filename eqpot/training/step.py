"""One step of training: state in, new state out; nothing hides.

The ensemble is trained in one program: all members see the same batch, so neighbours and geometry are shared; each has its own parameters,
optimiser state, weights of the data, and its own clipped gradient.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.potential import ModelSpec, Params, map_members, place_members, predictor
from eqpot.training.batches import Targets
from eqpot.training.config import LossConfig, OptimizerConfig
from eqpot.training.losses import loss_terms, total_loss


@record
class TrainState:
    """All that is needed to continue; parameters, averages and optimiser state have a leading member axis."""

    params: Params
    average: Params
    optimizer: Any
    step: Int[Array, ""]


@record
class StepInfo:
    """What a step reports: per-member loss and terms, and whether the step was taken (all numbers finite)."""

    loss: Float[Array, " K"]
    terms: dict[str, Float[Array, " K"]]
    finite: Bool[Array, ""]


def learning_rate(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Linear warm-up, then a cosine down to `final_rate`."""
    warmup = int(config.warmup * total_steps)
    peak = config.learning_rate
    return optax.warmup_cosine_decay_schedule(
        peak if warmup == 0 else 0.0, peak, warmup, max(total_steps, warmup + 1), peak * config.final_rate
    )


def make_optimizer(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam with decoupled weight decay."""
    scale = optax.scale_by_amsgrad() if config.name == "amsgrad" else optax.scale_by_adam()
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        scale,
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(learning_rate(config, total_steps)),
    )


def init_state(params: Params, config: OptimizerConfig, total_steps: int) -> TrainState:
    """The state before the first step; `params` have a member axis."""
    optimizer = jax.vmap(make_optimizer(config, total_steps).init)(params)
    return TrainState(params, jax.tree.map(jnp.array, params), optimizer, jnp.zeros((), jnp.int32))


def place(state: TrainState) -> TrainState:
    """The state on the devices where its members are trained."""
    members, step = place_members((state.params, state.average, state.optimizer), state.step)
    return TrainState(*members, step=step)


@partial(jax.jit, static_argnames=("spec", "loss", "optimizer", "total_steps", "with_stress"), donate_argnames=("state",))
def train_step(
    spec: ModelSpec,
    loss: LossConfig,
    optimizer: OptimizerConfig,
    total_steps: int,
    with_stress: bool,
    state: TrainState,
    graph: Graph,
    targets: Targets,
) -> tuple[TrainState, StepInfo]:
    """One step of all members; a step with a number that is not finite leaves the state as it was."""
    transform = make_optimizer(optimizer, total_steps)
    step = state.step.astype(float)
    decay = jnp.minimum(optimizer.ema, (1 + step) / (10 + step))  # a young average forgets faster

    def make(graph: Graph, targets: Targets, decay: Array):
        predict_member = predictor(spec, graph, with_stress)  # geometry is worked out once for all members

        def update(args: tuple[Params, Params, Any, Array]):
            params, average, opt_state, weight = args

            def objective(params: Params):
                terms = loss_terms(loss, predict_member(params), graph, targets, weight)
                return total_loss(loss, terms), terms

            (value, terms), gradient = jax.value_and_grad(objective, has_aux=True)(params)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes its step counter with floats
                updates, opt_state = transform.update(gradient, opt_state, params)
            params = optax.apply_updates(params, updates)
            average = jax.tree.map(lambda a, p: a + (1 - decay).astype(p.dtype) * (p - a), average, params)
            finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
            return (params, average, opt_state), value, terms, finite

        return update

    old = (state.params, state.average, state.optimizer)
    new, value, terms, finite = map_members(make, (*old, targets.weight), graph, targets, decay)
    finite = jnp.all(finite)
    params, average, opt_state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    return TrainState(params, average, opt_state, state.step + 1), StepInfo(value, terms, finite)
