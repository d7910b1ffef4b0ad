"""A gradient through a trajectory is the derivative of what the trajectory says, in little memory, and never silently wrong."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.md import CSVR, NPT, NVE, NVT, Langevin, simulate
from eqpot.md.differentiable import Fault, begin, trajectory, value_and_gradient

ENSEMBLES = {
    "NVE": NVE(timestep_fs=2.0),
    "NVT": NVT(300.0, timestep_fs=2.0, damping_fs=20.0),
    "CSVR": CSVR(300.0, timestep_fs=2.0, damping_fs=20.0),
    "Langevin": Langevin(300.0, timestep_fs=2.0, friction_per_fs=0.02),
    "NPT": NPT(300.0, 1.0, timestep_fs=2.0, damping_fs=20.0),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def made(ensemble=ENSEMBLES["Langevin"], members=1, atoms=None, **options):
    return begin(morse(members), crystal(1) if atoms is None else atoms, ensemble, seed=1, temperature_K=300.0, **options)


def arguments(start):
    """All that a path can be differentiated with respect to."""
    numbers = {n: jnp.asarray(getattr(start.ensemble, n)) for n in start.ensemble.__dataclass_fields__ if n not in ("chain_length", "cell")}
    numbers = {n: x for n, x in numbers.items() if not (n == "cell" or x.ndim)}
    state = {n: jnp.asarray(getattr(start.state, n)) for n in ("positions", "momenta", "cell")}
    return {"params": jax.tree.map(jnp.asarray, start.field.params), "masses": jnp.asarray(start.particles.masses), **state, **numbers}


def summary(path, seed=0):
    """A number in which all of the frames has a part."""
    leaves = jax.tree.leaves((path.frames.state.positions, path.frames.state.momenta, path.frames.state.cell, path.frames.energy))
    rng = np.random.default_rng(seed)
    return sum(jnp.vdot(rng.normal(size=x.shape), x) for x in leaves)


def differences(function, at, name, step, seed=0):
    """Central difference along a random direction of one argument, and the direction."""
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.uniform(0.5, 1.5, x.shape) * np.where(x == 0, 1, x)), at[name])
    one = lambda h: function({**at, name: jax.tree.map(lambda x, d: x + h * d, at[name], direction)})  # noqa: E731
    return (8 * (one(step) - one(-step)) - (one(2 * step) - one(-2 * step))) / (12 * step), direction


@pytest.mark.parametrize("name", ["Langevin", *(pytest.param(n, marks=pytest.mark.slow) for n in ENSEMBLES if n != "Langevin")])
def test_every_derivative_is_that_of_finite_differences(name):
    """Parameters, masses, positions, momenta, cell, temperature, timestep, friction, damping times."""
    start = made(ENSEMBLES[name], members=2 if name == "NVE" else 1)

    def loss(at):
        path = trajectory(start.having(**at), 20, every=5)
        return summary(path), path

    at, compiled = arguments(start), value_and_gradient(loss)
    plain, (_, slope, _) = (lambda at: compiled(at)[0]), compiled(at)
    expected = {"timestep_fs"} | ({"temperature_K", "damping_fs"} if name in ("NVT", "CSVR", "NPT") else set())
    assert expected <= set(at) and ("friction_per_fs" in at) == (name == "Langevin")
    for argument in at:
        numeric, direction = differences(plain, at, argument, 1e-5)
        exact = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slope[argument]), jax.tree.leaves(direction), strict=True))
        assert float(exact) == pytest.approx(float(numeric), rel=1e-5, abs=1e-8), argument
        assert abs(float(exact)) > 1e-6 or argument == "temperature_K", argument


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Langevin", "NVT"])
def test_the_path_is_that_of_simulate(name):
    start = made(ENSEMBLES[name], members=2)
    path = jax.jit(lambda start: trajectory(start, 24, every=8))(start).check()
    run = simulate(morse(2).astype("float64"), crystal(1), ENSEMBLES[name], 24, seed=1, temperature_K=300.0, every=8, precision="float64")
    assert np.allclose(run.positions[1:], path.frames.state.positions, rtol=0, atol=1e-11)
    assert np.allclose(run.potential_energy[1:] + 4 * 3.0, path.frames.energy, rtol=0, atol=1e-9)
    assert np.array_equal(path.final.positions, path.frames.state.positions[-1])


@pytest.mark.slow
def test_how_steps_are_cut_cannot_be_seen():
    """Checkpoints of any length, with and without a rest, and lists made at any time."""
    start = made(atoms=cluster())

    def gradient(**cut):
        def loss(params):
            path = trajectory(start.having(params=params), 24, every=4, **cut)
            return summary(path), path

        return value_and_gradient(loss)(start.field.params)

    value, slope, path = gradient()
    for segment in (3, 16):
        again, other, same = gradient(segment=segment)
        assert float(again) == pytest.approx(float(value), rel=1e-12)
        assert all(np.allclose(slope[k], other[k], rtol=1e-9) for k in slope)
        assert np.allclose(same.frames.state.positions, path.frames.state.positions, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_truncated_gradient_is_the_sum_over_windows_that_know_nothing_of_each_other():
    start, length = made(ENSEMBLES["NVE"]), 5

    def truncated(params):
        path = trajectory(start.having(params=params), 3 * length, every=length, truncate=length)
        return jnp.sum(path.frames.state.positions**2), path

    def window(params, state):
        path = trajectory(replace(start.having(params=params), state=state), length)
        return jnp.sum(path.frames.state.positions**2), path

    value, slope, path = value_and_gradient(truncated)(start.field.params)
    one, state, total = jax.jit(jax.value_and_grad(window, has_aux=True)), start.state, jax.tree.map(jnp.zeros_like, slope)
    for _ in range(3):
        (_, part), more = one(start.field.params, state)
        state, total = part.final, jax.tree.map(jnp.add, total, more)
    assert np.allclose(path.final.positions, state.positions, rtol=0, atol=1e-12)
    assert all(np.allclose(slope[k], total[k], rtol=1e-9) for k in slope)
    whole = value_and_gradient(
        lambda p: (lambda path: (jnp.sum(path.frames.state.positions**2), path))(trajectory(start.having(params=p), 15, every=5))
    )
    assert float(whole(start.field.params)[0]) == pytest.approx(float(value), rel=1e-12)
    assert not np.allclose(whole(start.field.params)[1]["distance"], slope["distance"], rtol=1e-3)


@pytest.mark.slow
def test_cotangents_are_bounded_where_that_is_asked_for():
    start = made(ENSEMBLES["NVE"])

    def slope(clip):
        def loss(at):
            path = trajectory(start.having(**at), 20, clip=clip)
            return jnp.sum(path.frames.state.positions**2), path

        value, at, _ = value_and_gradient(loss)({n: jnp.asarray(getattr(start.state, n)) for n in ("positions", "momenta")})
        return float(value), np.concatenate([np.ravel(x) for x in jax.tree.leaves(at)])

    value, free = slope(None)
    same, loose = slope(1e6)
    assert same == value and np.allclose(free, loose, rtol=1e-12)
    again, tight = slope(0.5)
    assert again == value
    assert np.linalg.norm(free) > 1 and np.linalg.norm(tight) <= 0.5 * (1 + 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault, options, changes, cure",
    [
        (Fault.NO_ROOM, {}, {"sizes": "slots"}, "room="),
        (Fault.NO_ROOM, {}, {"sizes": "grid"}, "room="),
        (Fault.LEFT_LIST, {"skin": 1e-3}, {}, "skin="),
        (Fault.NOT_FINITE, {}, {"momenta": np.nan}, "timestep"),
    ],
)
def test_a_path_that_means_nothing_says_so(fault, options, changes, cure):
    start = made(ENSEMBLES["NVE"], **options)
    if "sizes" in changes:
        grid, slots = start.sizes.grid, start.sizes.slots
        sizes = (
            replace(start.sizes, slots=slots // 2)
            if changes["sizes"] == "slots"
            else replace(start.sizes, grid=replace(grid, slots=grid.slots // 2))
        )
        start = replace(start, sizes=sizes)
    if "momenta" in changes:
        start = start.having(momenta=start.state.momenta * changes["momenta"])

    def loss(params):
        path = trajectory(start.having(params=params), 16)
        return path.frames.energy.sum(), path

    (value, path), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(start.field.params)
    assert fault in Fault(int(path.faults))
    assert np.isnan(value) and all(np.isnan(x).all() for x in jax.tree.leaves(slope))
    with pytest.raises(SimulationError, match=cure):
        path.check()


def test_arguments_that_make_no_sense():
    start = made()
    for options, found in (({"every": 3}, "every: found 3"), ({"truncate": 4}, "truncate: found 4"), ({"segment": 0}, "segment: found 0")):
        with pytest.raises(SimulationError, match=found):
            trajectory(start, 10, **options)
    with pytest.raises(SimulationError, match="found 'temperature', expected one of params, masses"):
        start.having(temperature=3.0)
    with pytest.raises(SimulationError, match=r"room: found 0.5"):
        made(room=0.5)
    with pytest.raises(SimulationError, match="traced path"):
        jax.jit(lambda start: trajectory(start, 2).check().final.positions)(start)
    with jax.enable_x64(False), pytest.raises(SimulationError, match="enable_x64"):
        trajectory(start, 10)


@pytest.mark.slow
def test_memory_grows_with_the_root_of_the_length():
    """The memory beyond that of 16 steps; without checkpoints it would grow 64-fold from 64 to 4096 steps, with them 8-fold."""
    start = made(ENSEMBLES["NVE"], atoms=crystal(2))

    def memory(n_steps):
        loss = lambda p: jnp.sum(trajectory(start.having(params=p), n_steps).final.positions ** 2)  # noqa: E731
        return jax.jit(jax.grad(loss)).lower(start.field.params).compile().memory_analysis().temp_size_in_bytes

    short, long = memory(64), memory(4096)
    state = 2 * start.state.positions.nbytes
    assert long - short <= 10 * (64 - 8) * state
