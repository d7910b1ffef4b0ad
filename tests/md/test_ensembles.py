"""Ensembles refuse what has no meaning, and count degrees of freedom as their dynamics do."""

import math

import numpy as np
import pytest
from ase import Atoms, units
from morse import cluster

from eqpot.core.errors import SimulationError
from eqpot.md import NVE, NVT, Langevin
from eqpot.md.systems import initial_velocities, read_system


@pytest.mark.parametrize("timestep", [0.0, -1.0, 1e25, math.nan, math.inf])
@pytest.mark.parametrize(
    "kind", [lambda dt: NVE(timestep_fs=dt), lambda dt: NVT(300.0, timestep_fs=dt), lambda dt: Langevin(300.0, timestep_fs=dt)]
)
def test_absurd_timestep(kind, timestep):
    with pytest.raises(SimulationError, match=r"timestep_fs: found .*, expected a number in \(0, 20\]"):
        kind(timestep)


@pytest.mark.parametrize("temperature", [0, -300.0, math.nan, 1e9])
@pytest.mark.parametrize("kind", [NVT, Langevin])
def test_temperature_must_be_above_zero(kind, temperature):
    with pytest.raises(SimulationError, match="temperature_K: found"):
        kind(temperature)


@pytest.mark.parametrize(
    "changes", [{"damping_fs": 0.0}, {"damping_fs": 1.0}, {"chain_length": 1}, {"chain_length": 99}, {"damping_fs": math.inf}]
)
def test_thermostat_out_of_range(changes):
    with pytest.raises(SimulationError, match=next(iter(changes))):
        NVT(300.0, **changes)


def test_friction_must_be_positive():
    with pytest.raises(SimulationError, match="friction_per_fs"):
        Langevin(300.0, friction_per_fs=0.0)


def test_ensembles_are_values():
    assert NVT(temperature_K=300) == NVT(300.0)
    with pytest.raises(AttributeError):
        NVE().timestep_fs = 1.0
    assert [e.degrees_of_freedom(9) for e in (NVE(), NVT(300.0), Langevin(300.0))] == [24, 24, 27]
    assert NVE().degrees_of_freedom(1) == 3


@pytest.mark.parametrize("ensemble", [NVE(), NVT(300.0), Langevin(300.0)])
def test_drawn_velocities_have_the_temperature_and_no_momentum(ensemble):
    system = read_system(cluster())
    velocities = initial_velocities(system, ensemble, 300.0, seed=3)
    kinetic = 0.5 * (system.masses[:, None] * velocities**2).sum()
    assert 2 * kinetic / (ensemble.degrees_of_freedom(6) * units.kB) == pytest.approx(300.0, rel=1e-12)
    assert np.abs((system.masses[:, None] * velocities).sum(0)).max() < 1e-12


def test_velocities_of_the_atoms_are_used_and_their_drift_removed():
    atoms = Atoms("CuCu", [[0, 0, 0], [2.8, 0, 0]])
    atoms.set_velocities([[0.1, 0.2, 0], [0.3, 0, 0]])
    system = read_system(atoms)
    assert np.array_equal(initial_velocities(system, Langevin(300.0), None, 0), atoms.get_velocities())
    assert np.allclose(initial_velocities(system, NVE(), None, 0), [[-0.1, 0.1, 0], [0.1, -0.1, 0]])
    assert not np.allclose(initial_velocities(system, NVE(), 300.0, 0), [[-0.1, 0.1, 0], [0.1, -0.1, 0]])
    still = initial_velocities(system, NVE(), 0, 0)
    assert not still.any()
    again = initial_velocities(read_system(_moving(atoms, initial_velocities(system, NVE(), None, 0))), NVE(), None, 0)
    assert np.array_equal(again, initial_velocities(system, NVE(), None, 0))


def test_light_atoms_share_no_heavy_momentum():
    """The centre of mass is taken out by velocity, so that hydrogen stays as hot as the rest."""
    atoms = Atoms("CuH" * 200, np.random.default_rng(0).normal(size=(400, 3)) * 30)
    system = read_system(atoms)
    velocities = initial_velocities(system, NVE(), 300.0, 1)
    kinetic = system.masses * (velocities**2).sum(1)
    assert kinetic[1::2].mean() == pytest.approx(kinetic[::2].mean(), rel=0.2)


def _moving(atoms, velocities):
    atoms = atoms.copy()
    atoms.set_velocities(velocities)
    return atoms


def test_angular_momentum_is_taken_from_velocities_that_the_atoms_bring():
    """What spins does not, and what does not keeps its velocities to the bit; the temperature is that of the degrees of freedom that are left."""
    atoms = cluster()
    spin = np.cross([0, 0, 0.01], atoms.positions)
    own = np.random.default_rng(0).normal(size=(6, 3)) * 0.01
    atoms.set_velocities(own + spin)
    system = read_system(atoms)
    still = initial_velocities(system, NVE(), None, 0, remove_rotation=True)
    arms = atoms.positions - atoms.get_center_of_mass()
    assert np.abs((system.masses[:, None] * np.cross(arms, still)).sum(0)).max() < 1e-12
    atoms.set_velocities(still)
    assert np.array_equal(initial_velocities(read_system(atoms), NVE(), None, 0, remove_rotation=True), read_system(atoms).velocities)


@pytest.mark.parametrize("value", [np.array([300.0, 400.0]), "300", None])
def test_a_temperature_is_one_number(value):
    with pytest.raises(SimulationError, match="temperature_K: found"):
        NVT(value)
