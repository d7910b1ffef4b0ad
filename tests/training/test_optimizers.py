"""Optimisers move what they should, as far as they should."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eqpot.core.errors import ConfigError
from eqpot.training.config import OptimizerConfig
from eqpot.training.optimizers import evaluated, global_objective, make_optimizer, require_names

NAMES = ("adam", "amsgrad", "adamw", "schedule-free", "muon", "lbfgs")


@pytest.fixture(autouse=True)
def promotion():
    """optax mixes its step counter with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def params():
    rng = np.random.default_rng(0)
    shapes = {"embedding": (2, 1, 4), "linear": (3, 4, 4), "scale": (1, 1)}
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def bowl(target):
    return lambda p: sum(jnp.sum((a - b) ** 2) for a, b in zip(jax.tree.leaves(p), jax.tree.leaves(target), strict=True))


def walk(config, loss, start, steps, rate):
    transform = make_optimizer(config)
    state, p = transform.init(start), start

    @jax.jit
    def step(state, p):
        value, gradient = jax.value_and_grad(loss)(p)
        more = {"value": value, "grad": gradient, "value_fn": loss} if config.name == "lbfgs" else {}
        updates, state = make_optimizer(config, jnp.float32(rate)).update(gradient, state, p, **more)
        return state, optax.apply_updates(p, updates)

    for _ in range(steps):
        state, p = step(state, p)
    return state, p


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_finds_the_bottom_of_a_bowl(name):
    config, target = OptimizerConfig(name=name, clip_norm=1e6), jax.tree.map(lambda x: x + 0.5, params())
    state, p = walk(config, bowl(target), params(), 20 if name == "lbfgs" else 400, 0.02)
    p = evaluated(config, state, p) or p
    assert bowl(target)(p) < 1e-2 * bowl(target)(params())


def test_lbfgs_is_exact_on_a_quadratic():
    """A quadratic in n unknowns is at its minimum after at most n + 1 steps."""
    matrix = jnp.diag(jnp.array([1.0, 10.0, 100.0]))
    loss = lambda p: 0.5 * p["x"] @ matrix @ p["x"] - jnp.sum(p["x"])  # noqa: E731
    _, p = walk(OptimizerConfig(name="lbfgs"), loss, {"x": jnp.ones(3)}, 12, 1.0)
    assert p["x"] == pytest.approx([1.0, 0.1, 0.01], abs=1e-4)


def test_a_frozen_group_rests_and_a_slow_one_is_slow():
    flat = lambda p: sum(jnp.sum(x) for x in jax.tree.leaves(p))  # noqa: E731
    config = OptimizerConfig(name="adam", rates={"embedding": 0.0, "lin*": 0.1}, weight_decay=0.01)
    _, p = walk(config, flat, params(), 1, 0.01)
    moved = {name: float(jnp.abs(p[name] - params()[name]).max()) for name in p}
    assert moved["embedding"] == 0
    assert moved["linear"] == pytest.approx(0.1 * moved["scale"], rel=0.1)


@pytest.mark.parametrize("name", ["adam", "muon", "schedule-free"])
def test_only_matrices_decay(name):
    """Without a gradient, decay is all that moves: matrices shrink by rate × decay, embeddings and scalars stay."""
    nothing = lambda p: 0.0 * sum(jnp.sum(x) for x in jax.tree.leaves(p))  # noqa: E731
    _, p = walk(OptimizerConfig(name=name, weight_decay=0.5, warmup=0.0), nothing, params(), 1, 0.1)
    assert np.asarray(p["linear"]) == pytest.approx(0.95 * np.asarray(params()["linear"]), rel=1e-4)
    for rests in ("embedding", "scale"):
        assert np.asarray(p[rests]) == pytest.approx(np.asarray(params()[rests]), rel=1e-6)  # schedule-free splits and joins them


def test_gathered_gradients_make_the_step_of_their_mean():
    """Two half batches with accumulate 2 are one whole batch."""
    halves = [jax.tree.map(lambda x, s=s: s * jnp.ones_like(x), params()) for s in (1.0, 3.0)]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    whole, parts = make_optimizer(OptimizerConfig(), 0.01), make_optimizer(OptimizerConfig(accumulate=2), 0.01)
    expected, _ = whole.update(mean, whole.init(params()), params())
    state = parts.init(params())
    first, state = parts.update(halves[0], state, params())
    second, _ = parts.update(halves[1], state, params())
    assert all((x == 0).all() for x in jax.tree.leaves(first))
    for a, b in zip(jax.tree.leaves(second), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_the_clipped_gradient_has_the_norm():
    steep = jax.tree.map(lambda x: 1e3 * jnp.ones_like(x), params())
    transform = make_optimizer(OptimizerConfig(name="adam", clip_norm=2.0))
    _, state = transform.update(steep, transform.init(params()), params())
    momentum = optax.tree.get(state, "mu")
    assert float(optax.tree.norm(momentum)) == pytest.approx(0.1 * 2.0, rel=1e-4)  # Adam keeps (1 − 0.9) of the first gradient


def test_muon_steps_are_orthogonal_matrices():
    """A step of Muon on a square matrix turns it by nearly equal amounts in all directions: its singular values lie close together."""
    rng = np.random.default_rng(1)
    slope = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 10.0 ** rng.uniform(-2, 2, x.shape), x.dtype), params())
    transform = make_optimizer(OptimizerConfig(name="muon", clip_norm=1e9), 1.0)
    updates, _ = transform.update(slope, transform.init(params()), params())
    for step in np.asarray(updates["linear"]):
        values = np.linalg.svd(step, compute_uv=False)
        assert values[0] / np.median(values) < 2.5
    assert np.linalg.cond(slope["linear"][0]) > 20
    # Ours are a loop of the five steps that optax, one matrix at a time, writes out.
    written_out, matrices = optax.contrib.muon(1.0, consistent_rms=0.2), list(slope["linear"])
    expected, _ = written_out.update(matrices, written_out.init(matrices), matrices)
    np.testing.assert_allclose(updates["linear"], np.stack(expected), rtol=1e-4, atol=1e-6)


def test_schedule_free_steps_have_no_momentum_of_their_own():
    """Two equal and opposite gradients: Adam without momentum goes back where it came from, with momentum it does not."""
    steep = jax.tree.map(jnp.ones_like, params())
    config = OptimizerConfig(name="schedule-free", clip_norm=1e6)
    transform = make_optimizer(config, 0.1)
    state = transform.init(params())
    for sign in (1.0, -1.0):
        _, state = transform.update(jax.tree.map(lambda x, s=sign: s * x, steep), state, params())
    for last, first in zip(jax.tree.leaves(state.z), jax.tree.leaves(params()), strict=True):
        np.testing.assert_allclose(last, first, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_charges_of_elements_are_a_table_and_no_matrix(name):
    """They do not decay, and Muon moves them as Adam does: the first step is the same for all, whatever their size and slope."""
    table = {"outputs": {"element_charges": jnp.asarray([[1.0, 0.1], [0.2, 3.0]])}}
    slope = {"outputs": {"element_charges": jnp.asarray([[1.0, 9.0], [2.0, 0.1]])}}
    transform = make_optimizer(OptimizerConfig(name=name, weight_decay=0.5), 0.1)
    updates, _ = transform.update(slope, transform.init(table), table)
    assert np.ptp(updates["outputs"]["element_charges"]) < 1e-4


def test_a_pattern_without_parameters_is_refused():
    with pytest.raises(ConfigError, match=r"no parameter matches 'radial\*'; expected a pattern of embedding, linear, scale"):
        require_names({"radial*": 0.0}, params())


def test_the_objective_of_a_line_search_has_the_gradient_of_the_sum():
    local = lambda p: (jnp.sum(p["x"] ** 2), None)  # noqa: E731
    doubled = global_objective(local, lambda tree: jax.tree.map(lambda x: 2 * x, tree))
    value, slope = jax.value_and_grad(doubled)({"x": jnp.array([1.0, 2.0])})
    assert value == 10 and slope["x"] == pytest.approx([4.0, 8.0])
