"""One step of training: state in, new state out; nothing hides.

The ensemble is trained in one program: all members see the same batch, so neighbours and geometry are shared; each has its own parameters,
optimiser state, weights of the data, and its own clipped gradient.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.potential import ModelSpec, Params, predictor
from eqpot.training.batches import Targets
from eqpot.training.config import LossConfig, OptimizerConfig
from eqpot.training.losses import Terms, label_counts, loss_terms, total_loss, trained_sigmas
from eqpot.training.optimizers import evaluated, finite, global_objective, make_optimizer, require_names
from eqpot.training.parallel import Layout, each_member
from eqpot.training.schedule import Knobs


@record
class TrainState:
    """All that is needed to continue; every array has a leading member axis.

    Attributes:
        params: parameters of the network.
        noise: log σ of each quantity that has one σ, see `trained_sigmas`.
        average: averaged parameters, which are those evaluated.
        optimizer: state of the optimiser of both.
    """

    params: Params
    noise: dict[str, Float[Array, "*K"]]
    average: Params
    optimizer: Any


@record
class StepInfo:
    """What a step reports: loss and terms of each member, and whether its numbers were finite."""

    loss: Float[Array, "*K"]
    terms: dict[str, Float[Array, "*K"]]
    finite: Bool[Array, "*K"]


def init_state(params: Params, spec: ModelSpec, loss: LossConfig, optimizer: OptimizerConfig, with_stress: bool) -> TrainState:
    """The state before the first step; `params` have a member axis.

    Raises:
        ConfigError: for a pattern of `optimizer.rates` that matches nothing.
    """
    members, dtype = len(jax.tree.leaves(params)[0]), jax.tree.leaves(params)[0].dtype
    sigmas = trained_sigmas(loss, with_stress, spec.config.charges)
    noise = {q: jnp.full(members, np.log(spec.normalization.scale), dtype) for q in sigmas}
    require_names(optimizer.rates, _trained(params, noise))
    state = jax.vmap(make_optimizer(optimizer).init)(_trained(params, noise))
    return TrainState(params, noise, jax.tree.map(jnp.array, params), state)


def _trained(params: Params, noise: dict[str, Any]) -> Params:
    """All that the optimiser moves."""
    return {**params, "noise": noise} if noise else params


def _parts(trained: Any) -> tuple[Params, dict[str, Any]]:
    """Inverse of `_trained`."""
    return {name: value for name, value in trained.items() if name != "noise"}, trained.get("noise", {})


@partial(jax.jit, static_argnames=("spec", "loss", "optimizer", "layout", "with_stress"), donate_argnames=("state",))
def train_step(
    spec: ModelSpec,
    loss: LossConfig,
    optimizer: OptimizerConfig,
    layout: Layout,
    with_stress: bool,
    state: TrainState,
    graph: Graph,
    targets: Targets,
    knobs: Knobs,
) -> tuple[TrainState, StepInfo]:
    """One step of all members; when the numbers of one are not finite, all stay as they were.

    Args:
        spec, loss, optimizer, layout, with_stress: what is compiled for.
        state: used up.
        graph, targets: shards of the batch along a leading axis.
        knobs: rate, averaging and weights of this step.
    """

    def body(state: TrainState, knobs: Knobs, batch: tuple[Graph, Targets]) -> tuple[TrainState, StepInfo]:
        graph, targets = batch
        counts = layout.add(label_counts(graph, targets))
        predict_member = predictor(spec, graph, with_stress)  # geometry is worked out once for all members
        transform = make_optimizer(optimizer, knobs.rate)

        def update(member: tuple[TrainState, Array]) -> tuple[TrainState, StepInfo]:
            old, weight = member
            trained = _trained(old.params, old.noise)

            def objective(trained: Params) -> tuple[Array, Terms]:
                params, noise = _parts(trained)
                terms = loss_terms(loss, predict_member(params), graph, targets, weight, counts, noise)
                return total_loss(loss, knobs.weights, terms), terms

            (value, terms), gradient = jax.value_and_grad(objective, has_aux=True)(trained)
            value, terms, gradient = layout.add((value, terms, gradient))
            search = {"value": value, "grad": gradient, "value_fn": global_objective(objective, layout.add)}
            with jax.numpy_dtype_promotion("standard"):  # optax mixes its step counter with floats
                updates, opt_state = transform.update(gradient, old.optimizer, trained, **(search if optimizer.name == "lbfgs" else {}))
                trained = optax.apply_updates(trained, updates)
                average = evaluated(optimizer, opt_state, trained)
            params, noise = _parts(trained)
            if average is None:
                average = jax.tree.map(lambda a, p: a + (1 - knobs.keep) * (p - a), old.average, params)
            new = TrainState(params, noise, _parts(average)[0], opt_state)
            return new, StepInfo(value, terms, finite(value, gradient))

        new, info = each_member(update, (state, targets.weight))
        good = layout.all_members(info.finite)
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, state), info

    return layout.run(body, state, knobs, (graph, targets))


def compiled_programs() -> int:
    """Forms in which a step has been compiled in this process."""
    return train_step._cache_size()  # type: ignore[attr-defined]
