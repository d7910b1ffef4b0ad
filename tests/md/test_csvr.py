"""Stochastic velocity rescaling: the canonical kinetic energy for any number of degrees of freedom, and heat that is accounted for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from morse import cluster, crystal, morse
from scipy import stats

from eqpot.core.units import FS, KB
from eqpot.md import CSVR, NVT, Langevin, Ramp, simulate, simulate_many
from eqpot.md.maps import rescaling

KT, CHAINS, HOT = 0.03, 20_000, 2500.0


@pytest.fixture
def double():
    """float64 on the device."""
    with jax.enable_x64(True):
        yield


def rescaled(start, dof, keep, n_steps, seed=0):
    """Signed root of the kinetic energy of many systems after some rescalings, each of which keeps the part `keep` of the old."""
    time = -np.log(keep)

    def step(root, key):
        return root * rescaling(root**2, jnp.float64(dof), KT, 1.0, time, key), None

    def chain(root, key):
        return jax.lax.scan(step, root, jax.random.split(key, n_steps))[0]

    return np.asarray(jax.jit(jax.vmap(chain))(jnp.asarray(start), jax.random.split(jax.random.PRNGKey(seed), len(start))))


@pytest.mark.parametrize("dof", [1, 2, 3, 15, 300])
def test_kinetic_energy_is_canonical(double, dof):
    """K/k_BT follows a gamma distribution of shape N_f/2, from a cold start, and its mean and variance are N_f/2."""
    roots = rescaled(np.full(CHAINS, 1e-3), dof, keep=0.8, n_steps=60)
    kinetic = roots**2 / KT
    assert stats.kstest(kinetic, stats.gamma(dof / 2).cdf).pvalue > 1e-3
    assert abs(kinetic.mean() - dof / 2) < 4 * np.sqrt(dof / 2 / CHAINS)
    assert abs(kinetic.var() - dof / 2) < 4 * kinetic.var() * np.sqrt((2 + 12 / dof) / CHAINS)


def test_one_degree_of_freedom_turns_round(double):
    """A single momentum is as often negative as positive; the square alone would not tell."""
    roots = rescaled(np.full(CHAINS, 0.1), 1, keep=0.5, n_steps=40)
    assert stats.kstest(roots / np.sqrt(KT / 2), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("dof", [1, 3, 15])
def test_memory_fades_as_the_damping_says(double, dof):
    """⟨K⟩ after a time t from K₀ is K̄ + (K₀ − K̄)·exp(−t/τ), in one step or in many."""
    first = 4 * dof / 2 * KT
    for keep, n_steps in ((0.6, 1), (0.6**0.1, 10)):
        kinetic = rescaled(np.full(CHAINS, np.sqrt(first)), dof, keep, n_steps, seed=1) ** 2
        expected = dof / 2 * KT + (first - dof / 2 * KT) * 0.6
        assert abs(kinetic.mean() - expected) < 4 * kinetic.std() / np.sqrt(CHAINS)


def test_nothing_comes_of_nothing(double):
    """Atoms at rest have no direction to be rescaled along."""
    assert float(rescaling(jnp.float64(0), jnp.float64(3), KT, 1.0, 0.1, jax.random.PRNGKey(0))) == 1


def test_no_limit_of_damping_is_a_fault(double):
    """As good as no thermostat leaves the momenta alone; a very strong one draws the kinetic energy anew."""
    start = np.full(CHAINS, 1.0)
    assert np.abs(rescaled(start, 15, np.exp(-1e-12), 1) - 1).max() < 1e-4
    assert stats.kstest(rescaled(start, 15, 1e-30, 1) ** 2 / KT, stats.gamma(7.5).cdf).pvalue > 1e-3


def gas_of(masses):
    """A crystal whose atoms have these masses in turn."""
    atoms = crystal()
    atoms.set_masses(np.resize(masses, len(atoms)))
    return atoms


@pytest.fixture(scope="module")
def mixture():
    """Four runs of a melt of light and heavy atoms: in a crystal, vibrations of the two hardly exchange energy, and a global thermostat does not help them."""
    ensemble = CSVR(HOT, timestep_fs=2.0, damping_fs=50.0)
    return simulate_many(morse(), [gas_of([30.0, 100.0])] * 4, ensemble, 10_000, every=20, seed=5)


@pytest.mark.slow
def test_kinetic_energy_in_a_melt(mixture):
    """Mean and variance of 3N − 3 degrees of freedom, within 4 standard errors over the runs."""
    dof = 3 * 32 - 3
    kinetic = np.array([run.kinetic_energy[50:] for run in mixture]) / (KB * HOT)
    error = np.sqrt(dof / 2 * 2 * 50.0 / 40 / kinetic.size)  # correlated over the damping time
    assert abs(kinetic.mean() - dof / 2) < 4 * error
    assert kinetic.var() == pytest.approx(dof / 2, rel=4 * np.sqrt(2 * 2 * 50.0 / 40 / kinetic.size))
    assert np.mean([run.temperature_K[50:].mean() for run in mixture]) == pytest.approx(HOT, rel=0.02)


@pytest.mark.slow
def test_light_and_heavy_atoms_are_as_hot(mixture):
    """Each atom of mass m has 3/2·(1 − m/M)·k_BT where the total momentum is zero."""
    masses = np.resize([30.0, 100.0], 32)
    speeds = np.array([run.velocities[50:] for run in mixture]) / FS
    kinetic = (masses[:, None] * speeds**2).sum(-1).mean((0, 1)) / (3 * KB * HOT * (1 - masses / masses.sum()))
    assert kinetic[::2].mean() == pytest.approx(1.0, abs=0.03)
    assert kinetic[1::2].mean() == pytest.approx(1.0, abs=0.03)
    assert np.abs((masses[:, None] * speeds).sum(2)).max() < 1e-4 * np.abs(masses[:, None] * speeds).sum(2).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "ensemble",
    [
        CSVR(600.0, timestep_fs=1.0, damping_fs=50.0),
        Langevin(600.0, timestep_fs=1.0),
        NVT(600.0, timestep_fs=1.0),
    ],
    ids=lambda e: type(e).__name__,
)
def test_heat_is_accounted_for(ensemble):
    """The conserved energy keeps still and does not drift, while the energy itself takes up heat from a start at 300 K."""
    runs = simulate_many(morse(), [crystal()] * 2, ensemble, 3000, every=10, temperature_K=300.0, precision="float64")
    for run in runs:
        assert run.conserved_energy.std() < 0.05 * run.total_energy.std()
        assert abs(run.drift(start_fs=500)) < 0.3
        assert run.total_energy[-1] > run.total_energy[0] + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CSVR, Langevin])
def test_temperature_follows_a_ramp(kind):
    """From first to last, each system along its own, and the heat is still accounted for."""
    common = {"timestep_fs": 2.0} | ({"damping_fs": 20.0} if kind is CSVR else {"friction_per_fs": 0.05})
    ramps = [Ramp(100.0, 700.0), Ramp(700.0, 100.0), Ramp(300.0, 300.0)]
    runs = simulate_many(morse(depth=1.0), [crystal()] * 3, [kind(ramp, **common) for ramp in ramps], 5000, every=5)
    for run, ramp in zip(runs, ramps, strict=True):
        target = np.linspace(ramp.first, ramp.last, len(run))
        for part in np.array_split(np.arange(len(run)), 5)[1:]:
            assert run.temperature_K[part].mean() == pytest.approx(target[part].mean(), rel=0.15)
        assert run.conserved_energy.std() < 0.05
        assert run.final.get_temperature() != pytest.approx(run.temperature_K[0], rel=0.01) or ramp.first == ramp.last


@pytest.mark.slow
def test_one_temperature_is_no_ramp():
    """A ramp between equal temperatures is, to rounding, the ensemble without; a chain whose temperature changes keeps no account."""
    plain, ramped = (simulate(morse(), cluster(), NVT(t), 50, precision="float64") for t in (300.0, Ramp(300.0, 300.0)))
    assert np.abs(plain.positions - ramped.positions).max() < 1e-9
    assert plain.conserved_energy is not None
    assert ramped.conserved_energy is None
