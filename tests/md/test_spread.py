"""The members' spread at every few steps: the mean still drives, at a fraction of the cost."""

import numpy as np
import pytest
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.md import NPT, NVE, NVT, Langevin, Ramp, UncertaintyBias, simulate

HOT = {"temperature_K": 600.0, "precision": "float64"}


@pytest.mark.slow
def test_energy_of_the_mean_is_conserved():
    """Members that differ by 2 % in depth: were the first alone to drive, the mean's energy would wander."""
    every, fourth = (simulate(morse(4), crystal(), NVE(timestep_fs=1.0), 2000, every=20, spread_every=k, **HOT) for k in (1, 4))
    alone = simulate(morse(4).member(0), crystal(), NVE(timestep_fs=1.0), 2000, every=20, **HOT)
    frames = [simulate(morse(4), a, NVE(), 1, temperature_K=0.0, precision="float64").potential_energy[0] for a in _some(alone)]
    wandering = np.std(np.array(frames) + alone.kinetic_energy[::10])
    assert fourth.total_energy.std() < 0.1 * wandering
    assert fourth.total_energy.std() < 3 * every.total_energy.std()
    assert abs(fourth.drift()) < 0.02


def _some(run):
    for positions in run.positions[::10]:
        atoms = crystal()
        atoms.positions = positions
        yield atoms


@pytest.mark.slow
def test_the_trajectory_is_that_of_the_mean_for_a_while():
    every, second = (simulate(morse(3), cluster(), NVE(timestep_fs=0.5), 100, every=20, spread_every=k, **HOT) for k in (1, 2))
    first = simulate(morse(3).member(0), cluster(), NVE(timestep_fs=0.5), 100, every=20, **HOT)
    apart, away = (np.abs(run.positions[-1] - every.positions[-1]).max() for run in (second, first))
    assert 0 < apart < 0.02 * away


def test_frames_have_the_spread_of_all_members():
    run = simulate(morse(3), crystal(), NVT(300.0, timestep_fs=1.0), 40, every=8, spread_every=4)
    frame = crystal()
    frame.positions = run.positions[-1]
    result = morse(3).predict(frame)
    assert run.potential_energy[-1] == pytest.approx(result.energy, abs=1e-4)
    assert run.atom_std[-1] == pytest.approx(result.atom_std, abs=1e-5)


@pytest.mark.slow
def test_pressure_is_that_of_the_mean():
    run = simulate(morse(4), crystal(), NPT(300.0, 2.0, timestep_fs=2.0, pressure_damping_fs=500.0), 4000, every=20, spread_every=4, seed=1)
    assert run.pressure_GPa[40:].mean() == pytest.approx(2.0, abs=0.4)


def test_what_cannot_be_spread_out():
    with pytest.raises(SimulationError, match="found 3, expected a divisor of every"):
        simulate(morse(2), cluster(), NVT(300.0), 10, every=10, spread_every=3)
    with pytest.raises(SimulationError, match="and 1 with an UncertaintyBias"):
        simulate(morse(2), cluster(), NVT(300.0), 10, spread_every=2, biases=[UncertaintyBias(0.1, 0.1)])


def test_an_end_between_two_strides_is_judged_by_all():
    """Ten steps of which every fourth has all members: the last state says what they all say there, not what the first does."""
    potential = morse(3)
    run = simulate(potential, crystal(), NVT(300.0, timestep_fs=2.0), 10, every=4, spread_every=4)
    expected = potential.predict(run.final)
    assert run.final.get_potential_energy() == pytest.approx(expected.energy, abs=1e-4)
    assert np.allclose(run.final.get_forces(), expected.forces, atol=1e-4)
    assert abs(potential.member(0).predict(run.final).energy - expected.energy) > 0.1


def test_a_run_that_breaks_between_two_strides_ends_with_the_doubt_of_all():
    ensemble = Langevin(Ramp(300.0, 4000.0), timestep_fs=2.0, friction_per_fs=0.02)
    with pytest.raises(SimulationError) as caught:
        simulate(morse(3), crystal(), ensemble, 400, every=8, spread_every=4, max_temperature_K=700.0)
    run = caught.value.run
    expected = morse(3).predict(run.final)
    assert run.step[-1] % 4 and (run.max_atom_std > 0).all()
    assert run.potential_energy[-1] == pytest.approx(expected.energy, abs=1e-3)
    assert run.max_atom_std[-1] == pytest.approx(expected.atom_std.max(), rel=1e-3)
