"""The cell under constant pressure: volumes as statistical mechanics has them, and a crystal that is pressed, pulled and sheared."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from morse import crystal, morse

from eqpot.core.units import EV_PER_A3_TO_GPA, FS, KB
from eqpot.md import NPT, Ramp, simulate, simulate_many
from eqpot.md.ensembles import empty_chain
from eqpot.md.state import Particles, Push, State, volume
from eqpot.models import AtomOutputs, EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential
from eqpot.potential.derivatives import volumes

N_ATOMS, REPLICAS, KT = 20, 64, KB * 300.0
SHAPES = ("isotropic", "anisotropic", "flexible")


def sampled_volumes(ensemble, stress_of, start, n_steps, every=10):
    """Volumes [replicas, samples] of atoms without forces in a cell whose stress is a function of its volume."""
    rng = np.random.default_rng(3)
    masses = np.linspace(10.0, 100.0, N_ATOMS)
    momenta = rng.normal(size=(REPLICAS, N_ATOMS, 3)) * np.sqrt(masses * KT)[:, None]
    momenta -= momenta.sum(1, keepdims=True) * (masses / masses.sum())[:, None]
    flags, dof = np.ones(N_ATOMS, bool), np.array(3.0 * N_ATOMS - 3)
    particles = Particles(np.zeros(N_ATOMS, np.int32), masses, flags, flags, dof, np.ones(3, bool), np.array(0.0))
    particles = jax.tree.map(jnp.asarray, particles)
    positions = rng.random((REPLICAS, N_ATOMS, 3)) * start ** (1 / 3)
    cells = np.broadcast_to(np.eye(3) * start ** (1 / 3), (REPLICAS, 3, 3))
    ensemble = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), ensemble)

    def push(cell):
        return Push(jnp.zeros((N_ATOMS, 3)), stress_of(volume(cell)) * jnp.eye(3))

    def step(state, key):
        moved = ensemble.first(state, push(state.cell), particles, key)
        return ensemble.second(moved, push(moved.cell), particles, key), None

    def sample(state, key):
        state, _ = jax.lax.scan(step, state, jax.random.split(key, every))
        return state, volume(state.cell)

    @jax.jit
    @jax.vmap
    def run(positions, momenta, cell, key):
        zero = jnp.zeros((3, 3))
        state = State(positions, momenta, cell, empty_chain(ensemble, "float64"), zero, zero[0, 0])
        return jax.lax.scan(sample, state, jax.random.split(key, n_steps // every))[1]

    return np.asarray(run(positions, momenta, cells, jax.random.split(jax.random.PRNGKey(5), REPLICAS)))


def assert_distributed(volumes, mean, variance):
    """Mean and variance over time and replicas, within 4 standard errors estimated from the replicas, and half a per cent for the finite timestep."""
    volumes = volumes[:, volumes.shape[1] // 10 :]
    scatter = volumes.mean(1).std(ddof=1) / np.sqrt(len(volumes))
    assert scatter < 0.01 * mean
    assert abs(volumes.mean() - mean) < 4 * scatter + 0.003 * mean
    squares = ((volumes - mean) ** 2).mean(1)
    assert abs(squares.mean() - variance) < 4 * squares.std(ddof=1) / np.sqrt(len(volumes)) + 0.02 * variance


@pytest.mark.parametrize("shape", [*(pytest.param(shape, marks=pytest.mark.slow) for shape in ("isotropic", "anisotropic")), "flexible"])
def test_ideal_gas(shape):
    """With kinetic pressure (N − 1)·k_BT/V of 3N − 3 degrees of freedom, p(V) ∝ V^(N−1)·exp(−P₀V/k_BT): mean N·k_BT/P₀, variance N·(k_BT/P₀)²."""
    pressure = 1.0
    unit = KT / (pressure / EV_PER_A3_TO_GPA)
    ensemble = NPT(300.0, pressure, timestep_fs=2.0, pressure_damping_fs=400.0, compressibility_per_GPa=1.0, damping_fs=50.0, cell=shape)
    with jax.enable_x64(True):
        volumes = sampled_volumes(ensemble, lambda v: 0 * v, N_ATOMS * unit, 20_000)
    assert_distributed(volumes, N_ATOMS * unit, N_ATOMS * unit**2)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_elastic_cell(shape):
    """E(V) = ½B·V₀·(V/V₀ − 1)²: p(V) ∝ V^(N−1)·exp(−(E + P₀V)/k_BT), by quadrature."""
    bulk, rest, pressure = 10 / EV_PER_A3_TO_GPA, 400.0, 0.5
    grid = np.linspace(0.7, 1.3, 20_001) * rest
    log = (N_ATOMS - 1) * np.log(grid) - (bulk / 2 * rest * (grid / rest - 1) ** 2 + pressure / EV_PER_A3_TO_GPA * grid) / KT
    weight = np.exp(log - log.max())
    mean = (weight * grid).sum() / weight.sum()
    variance = (weight * (grid - mean) ** 2).sum() / weight.sum()
    ensemble = NPT(300.0, pressure, timestep_fs=2.0, pressure_damping_fs=400.0, compressibility_per_GPa=0.1, damping_fs=50.0, cell=shape)
    with jax.enable_x64(True):
        volumes = sampled_volumes(ensemble, lambda v: bulk * (v / rest - 1), rest, 20_000)
    assert_distributed(volumes, mean, variance)


@dataclass(frozen=True)
class ElasticSpec(ModelSpec):
    """½B·V₀·(V/V₀ − 1)², a function of the cell alone, shared by the atoms."""

    def describe(self, graph):
        return volumes(graph)[graph.graph_index]

    def evaluate(self, params, graph, geometry):
        number = jax.ops.segment_sum(graph.atom_mask.astype(geometry.dtype), graph.graph_index, graph.graph_mask.shape[0])
        relative = geometry / params["rest"] - 1
        energy = params["bulk"] / 2 * params["rest"] * relative**2 / number[graph.graph_index]
        return AtomOutputs(jnp.where(graph.atom_mask, energy, 0), jnp.zeros_like(geometry)[:, None])


def test_stress_of_a_cell_reaches_the_barostat():
    """The derivative of an energy of the volume alone is −p·1; a quench to zero pressure ends at the rest volume."""
    spec = ElasticSpec(EquivariantConfig(cutoff=2.0, n_layers=1), ("Cu",), Normalization())
    bulk, rest = 100 / EV_PER_A3_TO_GPA, 400.0
    potential = Potential(spec, {"bulk": np.full(1, bulk, np.float32), "rest": np.full(1, rest, np.float32)}, (0.0,))
    ensemble = NPT(0.1, 0.0, timestep_fs=2.0, pressure_damping_fs=100.0, compressibility_per_GPa=0.01, cell="flexible")
    run = simulate(potential, crystal(2, noise=0.2), ensemble, 2000, every=50, precision="float64", min_distance=0.0)
    found = np.abs(np.linalg.det(run.cell))
    np.testing.assert_allclose(run.stress, (bulk * (found / rest - 1))[:, None, None] * np.eye(3), atol=1e-6 * bulk)
    assert found[0] == pytest.approx(421.9, abs=0.1)
    assert found[-1] == pytest.approx(rest, rel=1e-3)


def blocks(values, n_blocks=10):
    """Mean over the last nine tenths of a run and its standard error, from means of blocks."""
    means = np.array([b.mean(0) for b in np.array_split(values[len(values) // 10 :], n_blocks)])
    return means.mean(0), means.std(0, ddof=1) / np.sqrt(n_blocks)


@pytest.fixture(scope="module")
def pressed():
    """A crystal at 300 K: three barostats for no pressure, and one each for 5 and −2 GPa."""
    common = {"timestep_fs": 4.0, "damping_fs": 100.0}
    kinds = [
        NPT(300.0, 0.0, pressure_damping_fs=500.0, compressibility_per_GPa=0.01, **common),
        NPT(300.0, 0.0, pressure_damping_fs=2000.0, compressibility_per_GPa=0.02, **common),
        NPT(300.0, 0.0, pressure_damping_fs=500.0, compressibility_per_GPa=0.02, **common | {"damping_fs": 400.0}),
        NPT(300.0, 5.0, pressure_damping_fs=500.0, compressibility_per_GPa=0.01, **common),
        NPT(300.0, -2.0, pressure_damping_fs=500.0, compressibility_per_GPa=0.01, **common),
    ]
    return simulate_many(morse(), [crystal()] * len(kinds), kinds, 12_000, every=10, keep=True)


@pytest.mark.slow
def test_volume_does_not_depend_on_the_barostat(pressed):
    found = [blocks(np.abs(np.linalg.det(run.cell))) for run in pressed[:3]]
    for mean, error in found[1:]:
        assert abs(mean - found[0][0]) < 4 * np.hypot(error, found[0][1])
        assert error < 0.003 * mean


@pytest.mark.slow
def test_pressure_is_that_asked_for(pressed):
    for run, target in zip(pressed, (0.0, 0.0, 0.0, 5.0, -2.0), strict=True):
        mean, error = blocks(run.pressure_GPa)
        assert abs(mean - target) < 5 * error + 0.02
        assert error < 0.25
        assert run.temperature_K.mean() == pytest.approx(300.0, rel=0.05)


def test_pressure_makes_the_crystal_smaller(pressed):
    _, _, _, small, large = (np.abs(np.linalg.det(run.cell))[100:].mean() for run in pressed)
    rest = np.abs(np.linalg.det(pressed[0].cell))[100:].mean()
    assert small < 0.98 * rest < rest < large
    stiffness = -(5.0 - -2.0) / np.log(small / large)
    assert 50 < stiffness < 300


@pytest.mark.slow
def test_conserved_energy_of_the_barostat(pressed):
    """Energy less heat and work of the cell keeps still while the energy itself goes up and down."""
    for run in pressed:
        assert run.conserved_energy.std() < 0.1 * run.total_energy.std()
        assert abs(run.drift()) < 0.3


def pressure_tensor(run):
    """Σ p⊗p/(m·V) − σ of each frame [GPa]."""
    velocities, masses = run.velocities / FS, run.final.get_masses()
    kinetic = np.einsum("n,fni,fnj->fij", masses, velocities, velocities) / np.abs(np.linalg.det(run.cell))[:, None, None]
    return (kinetic - run.stress) * EV_PER_A3_TO_GPA


@pytest.mark.slow
def test_six_targets_deform_as_they_say():
    """σ = −P: a positive xy pressure shears against the diagonal, a positive xx one makes the cell short along x; the mean stress is what was asked for."""
    targets = [(0, 0, 0, 0, 0, 1.0), (0, 0, 0, 0, 0, -1.0), (3.0, 0, 0, 0, 0, 0), (0, 0, 0, 1.0, -1.0, 0)]
    common = {"timestep_fs": 4.0, "pressure_damping_fs": 400.0, "compressibility_per_GPa": 0.04, "cell": "flexible"}
    runs = simulate_many(morse(), [crystal()] * 4, [NPT(50.0, t, **common) for t in targets], 6000, every=10)
    strains = [np.linalg.solve(run.cell[0], run.cell[100:].mean(0)) - np.eye(3) for run in runs]
    assert strains[0][0, 1] < -0.002 < 0.002 < strains[1][0, 1]
    assert strains[2][0, 0] < strains[2][1, 1] - 0.01
    assert strains[3][1, 2] < -0.002 < 0.002 < strains[3][0, 2]
    for run, (xx, yy, zz, yz, xz, xy) in zip(runs, targets, strict=True):
        mean, error = blocks(pressure_tensor(run))
        assert (np.abs(mean - [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) < 6 * error + 0.02).all()
        assert error.max() < 0.3
    rotations = [np.linalg.svd(np.eye(3) + s) for s in strains]
    for (u, _, v), strain in zip(rotations, strains, strict=True):
        assert np.abs(u @ v - np.eye(3)).max() < 0.05 * np.abs(strain).max() + 1e-3


@pytest.mark.slow
def test_shapes_keep_what_they_should():
    """One factor for the cell, or one along each axis, or a symmetric deformation in each step."""
    runs = {}
    for shape in SHAPES:
        ensemble = NPT(300.0, 2.0, timestep_fs=2.0, pressure_damping_fs=200.0, compressibility_per_GPa=0.05, cell=shape)
        runs[shape] = simulate(morse(), crystal(), ensemble, 100, every=1, precision="float64")
    steps = {name: np.linalg.solve(run.cell[:-1], run.cell[1:]) for name, run in runs.items()}
    off = ~np.eye(3, dtype=bool)
    assert np.abs(steps["isotropic"] - steps["isotropic"][:, :1, :1] * np.eye(3)).max() < 1e-12
    assert np.abs(steps["anisotropic"][:, off]).max() == 0 < np.ptp(np.diagonal(steps["anisotropic"], axis1=1, axis2=2), axis=1).min()
    assert np.abs(steps["flexible"] - steps["flexible"].mT).max() < 1e-12 < 1e-6 < np.abs(steps["flexible"][:, off]).min(1).max()


@pytest.mark.slow
def test_error_of_the_account_falls_with_the_timestep():
    """Twice as short, and the conserved energy strays about four times less."""
    spread = []
    for timestep, n_steps in ((4.0, 500), (2.0, 1000)):
        ensemble = NPT(300.0, 0.0, timestep_fs=timestep, pressure_damping_fs=1000.0, compressibility_per_GPa=0.01, cell="flexible")
        runs = simulate_many(morse(), [crystal()] * 4, ensemble, n_steps, every=2, precision="float64")
        spread.append(np.mean([run.conserved_energy.std() for run in runs]))
    assert spread[0] / spread[1] > 2.5


@pytest.mark.slow
def test_ramp_of_pressure():
    """The pressure follows from the first to the last value."""
    ensemble = NPT(100.0, Ramp(0.0, 6.0), timestep_fs=4.0, pressure_damping_fs=400.0, compressibility_per_GPa=0.02)
    run = simulate(morse(), crystal(), ensemble, 3000, every=10)
    early, late = (run.pressure_GPa[part].mean() for part in (slice(20, 80), slice(-60, None)))
    assert (early, late) == (pytest.approx(0.9, abs=0.6), pytest.approx(5.4, abs=0.6))
