"""Optimisers: what optax offers, put together for a network's parameters.

Rates are arguments, not part of the state: the loop works them out from its progress, and a resumed run works out the same.
"""

from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from eqpot.core.errors import ConfigError
from eqpot.training.config import OptimizerConfig

B1 = 0.9
"""β of schedule-free averaging: where gradients are taken, between the last point (0) and the average (1)."""
_NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315),) * 5
"""Muon's five steps towards an orthogonal matrix. With a row for each they are a loop; optax unrolls steps that share one, which compiles more slowly."""


def parameter_names(params: Any) -> Any:
    """Each leaf's name, such as 'layers/0/linear/weights/0', in a tree like `params`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params)


def make_optimizer(config: OptimizerConfig, rate: Float[Array, ""] | float = 1.0) -> optax.GradientTransformationExtraArgs:
    """The optimiser of one member at one rate; its state does not depend on the rate."""
    if config.name == "ridge":  # takes no steps, see eqpot.training.ridge
        return optax.with_extra_args_support(optax.identity())
    transform = _accumulated(config, optax.lbfgs() if config.name == "lbfgs" else _first_order(config, rate))
    return optax.with_extra_args_support(transform)


def _accumulated(config: OptimizerConfig, transform: Any) -> Any:
    if config.accumulate == 1:
        return transform
    return optax.MultiSteps(transform, config.accumulate).gradient_transformation()


def _first_order(config: OptimizerConfig, rate: Float[Array, ""] | float) -> optax.GradientTransformation:
    clip = optax.clip_by_global_norm(config.clip_norm)
    decay = optax.add_decayed_weights(config.weight_decay, mask=_decayed)
    groups = optax.stateless_with_tree_map(lambda update, factor: update) if not config.rates else _scale_groups(config.rates)
    if config.name == "muon":
        return optax.chain(clip, _muon(config), groups, optax.scale(rate))
    free = config.name == "schedule-free"  # its interpolation stands in place of momentum
    direction = optax.scale_by_amsgrad() if config.name == "amsgrad" else optax.scale_by_adam(b1=0.0 if free else 0.9)
    step = optax.chain(clip, direction, decay, groups, optax.scale(-rate))
    return optax.contrib.schedule_free(step, learning_rate=rate, b1=B1) if free else step


def _muon(config: OptimizerConfig) -> optax.GradientTransformation:
    """Orthogonalised momentum for matrices (the last two axes; others are batches), scaled like Adam's updates; Adam for embeddings and vectors.

    Jordan et al., kellerjordan.github.io/posts/muon (2024); the scale 0.2·√max(dims) is of Liu et al., arXiv:2502.16982.
    """

    def axes(params: Any) -> Any:
        def of(name: str, leaf: Any) -> Any:
            matrix = _is_matrix(name, leaf)
            return optax.contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1) if matrix else None

        return jax.tree.map(of, parameter_names(params), params)

    return optax.contrib.muon(
        1.0,
        _NEWTON_SCHULZ,
        weight_decay=config.weight_decay,
        muon_weight_dimension_numbers=axes,
        consistent_rms=0.2,
        weight_decay_mask=_decayed,
    )


def _is_matrix(name: str, leaf: Any) -> bool:
    tables = {"embedding", "element_charges", "strength"} & set(name.split("/"))  # of elements, and of pairs of elements
    return leaf.ndim >= 2 and min(leaf.shape[-2:]) > 1 and not tables and not name.startswith("noise/")


def _decayed(params: Any) -> Any:
    """Which leaves decay: matrices, but no embeddings, biases and scalars."""
    return jax.tree.map(_is_matrix, parameter_names(params), params)


def _scale_groups(rates: dict[str, float]) -> optax.GradientTransformation:
    """Updates times the factor of the first pattern that a parameter's name matches."""

    def factor(name: str) -> float:
        return next((rate for pattern, rate in rates.items() if fnmatch(name, pattern)), 1.0)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(lambda name, leaf: leaf * factor(name), parameter_names(updates), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def require_names(rates: dict[str, float], params: Any) -> None:
    """Refuse a pattern that no parameter has.

    Raises:
        ConfigError: naming it, and the names that there are.
    """
    names = jax.tree.leaves(parameter_names(params))
    for pattern in rates:
        if not any(fnmatch(name, pattern) for name in names):
            raise ConfigError(f"optimizer.rates: no parameter matches '{pattern}'; expected a pattern of {', '.join(names)}")


def evaluated(config: OptimizerConfig, state: Any, params: Any) -> Any | None:
    """The averaged parameters that a schedule-free optimiser keeps by itself; None for the others."""
    if config.name != "schedule-free":
        return None
    inner = state.inner_opt_state if config.accumulate > 1 else state
    return optax.contrib.schedule_free_eval_params(inner, params)


def global_objective(local: Callable[[Any], tuple[Array, Any]], add: Callable[[Any], Any]) -> Callable[[Any], Array]:
    """A loss that is a sum over devices, with the gradient of the sum: what a line search needs.

    Args:
        local: (share of the loss on this device, anything) at given parameters.
        add: sums over devices.
    """

    @jax.custom_vjp
    def objective(params: Any) -> Array:
        return add(local(params)[0])

    def forward(params: Any) -> tuple[Array, Any]:
        (value, _), gradient = jax.value_and_grad(local, has_aux=True)(params)
        return add(value), add(gradient)

    def backward(gradient: Any, slope: Array) -> tuple[Any]:
        return (jax.tree.map(lambda g: g * slope, gradient),)

    objective.defvjp(forward, backward)
    return objective


def finite(value: Array, gradient: Any) -> Array:
    """Whether loss and gradient are finite."""
    return jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
