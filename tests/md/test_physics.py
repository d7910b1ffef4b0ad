"""Statements of mechanics and statistical mechanics that the trajectories must satisfy."""

import numpy as np
import pytest
from ase.md.verlet import VelocityVerlet
from morse import cluster, crystal, morse

from eqpot.core.units import FS, KB
from eqpot.md import NVE, NVT, Langevin, simulate


def _temperature_is(run, target, degrees_of_freedom, correlation_frames):
    """Mean and variance of the kinetic energy against the canonical ones, within 4 standard errors."""
    kinetic = run.kinetic_energy[len(run) // 10 :]
    mean, variance = degrees_of_freedom * KB * target / 2, degrees_of_freedom * (KB * target) ** 2 / 2
    independent = len(kinetic) / correlation_frames
    assert abs(kinetic.mean() - mean) < 4 * np.sqrt(variance / independent)
    assert kinetic.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / independent))


def test_energy_error_of_verlet_falls_with_the_square_of_the_timestep():
    spread = []
    for timestep, n_steps in ((4.0, 250), (2.0, 500), (1.0, 1000)):
        run = simulate(
            morse(), crystal(), NVE(timestep_fs=timestep), n_steps, every=n_steps // 250, temperature_K=300.0, precision="float64", seed=1
        )
        spread.append(run.total_energy.std())
    assert np.divide(spread[:-1], spread[1:]) == pytest.approx([4, 4], abs=0.8)


@pytest.mark.parametrize(("precision", "bound"), [("float64", 0.02), ("mixed", 0.02), pytest.param("float32", 0.1, marks=pytest.mark.slow)])
def test_energy_does_not_drift(precision, bound):
    """meV/atom/ps at 1 fs, after one picosecond of equilibration."""
    run = simulate(morse(), crystal(), NVE(timestep_fs=1.0), 4000, temperature_K=600.0, precision=precision)
    assert abs(run.drift(start_fs=1000)) < bound


def test_extended_energy_of_the_thermostat_is_conserved():
    run = simulate(morse(), crystal(), NVT(600.0, timestep_fs=1.0), 3000, precision="float64")
    assert abs(run.drift()) < 0.1
    assert run.conserved_energy.std() < 0.05 * run.total_energy.std()


def test_time_runs_backwards():
    forth = simulate(morse(), cluster(), NVE(timestep_fs=1.0), 500, temperature_K=300.0, precision="float64")
    turned = forth.final
    turned.set_velocities(-turned.get_velocities())
    back = simulate(morse(), turned, NVE(timestep_fs=1.0), 500, precision="float64")
    assert np.abs(back.final.positions - cluster().positions).max() < 1e-9


@pytest.mark.parametrize(("precision", "bound"), [("float64", 1e-12), ("mixed", 1e-4), ("float32", 2e-3)])
def test_momentum_stays_zero(precision, bound):
    run = simulate(morse(), crystal(), NVE(timestep_fs=1.0), 500, temperature_K=600.0, precision=precision)
    momentum = run.final.get_momenta()
    assert np.abs(momentum.sum(0)).max() < bound * np.abs(momentum).sum()


def test_verlet_is_that_of_ase():
    """The same trajectory as ASE drives with the same potential, over a few vibrations."""
    potential = morse().astype("float64")
    start = simulate(potential, crystal(1), NVE(timestep_fs=1.0), 1, temperature_K=300.0, precision="float64").final
    ours = simulate(potential, start, NVE(timestep_fs=1.0), 100, precision="float64")
    atoms = start.copy()
    atoms.calc = potential.calculator()
    VelocityVerlet(atoms, timestep=FS).run(100)
    # JAX-MD keeps the timestep in float32: a relative error of 6e-8 in time.
    assert np.abs(ours.final.positions - atoms.positions).max() < 1e-6
    assert np.abs(ours.final.get_velocities() - atoms.get_velocities()).max() < 1e-6


@pytest.mark.parametrize("atoms", [cluster(), pytest.param(crystal(), marks=pytest.mark.slow)], ids=["molecule", "crystal"])
def test_nose_hoover_keeps_the_temperature(atoms):
    """A wrong count of degrees of freedom would make six atoms 20 % too hot."""
    run = simulate(morse(depth=1.0), atoms, NVT(300.0, timestep_fs=2.0), 20_000, every=25, seed=2)
    _temperature_is(run, 300.0, 3 * len(atoms) - 3, correlation_frames=4)
    assert run.temperature_K.mean() == pytest.approx(300.0, rel=0.04)


@pytest.mark.parametrize("atoms", [cluster(), pytest.param(crystal(), marks=pytest.mark.slow)], ids=["molecule", "crystal"])
def test_langevin_keeps_the_temperature(atoms):
    run = simulate(morse(depth=1.0), atoms, Langevin(300.0, timestep_fs=2.0, friction_per_fs=0.02), 20_000, every=25, seed=2)
    _temperature_is(run, 300.0, 3 * len(atoms), correlation_frames=4)


@pytest.mark.slow
def test_langevin_equipartition_and_potential():
    """Per-atom kinetic energies are Maxwell-Boltzmann; a stiff crystal's potential energy rises by (3N−3)/2·k_BT."""
    atoms, kT = crystal(noise=0.0), KB * 50.0
    run = simulate(morse(depth=1.0), atoms, Langevin(50.0, timestep_fs=2.0, friction_per_fs=0.01), 100_000, every=50, seed=5)
    half = len(run) // 10
    speeds = run.velocities[half:] / FS
    components = np.sqrt(atoms.get_masses()[:, None]) * speeds / np.sqrt(kT)
    assert components.var(0) == pytest.approx(np.ones((len(atoms), 3)), abs=0.25)
    assert (components**4).mean() / (components**2).mean() ** 2 == pytest.approx(3.0, abs=0.1)
    rest = simulate(morse(depth=1.0), atoms, NVE(), 1, temperature_K=0.0).potential_energy[0]
    assert run.potential_energy[half:].mean() - rest == pytest.approx((3 * len(atoms) - 3) / 2 * kT, rel=0.1)
