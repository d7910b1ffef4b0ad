"""Many systems in one program: each as if it were alone, whatever befalls its neighbours."""

import numpy as np
import pytest
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.md import CSVR, NPT, NVE, NVT, HarmonicRestraint, Langevin, Ramp, Status, simulate, simulate_many

SHORT = {"every": 10, "precision": "float64"}
UNLIKE = [crystal(2), cluster(), crystal(1), crystal(2, seed=4)]
"""A crystal, a molecule, a cell thinner than the cutoff, another crystal."""


def same(one, other, tolerance):
    """Two runs agree in all that they say."""
    for name in ("step", "positions", "velocities", "forces", "cell", "potential_energy", "temperature_K", "conserved_energy", "atom_std"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param([NVT(t, timestep_fs=2.0) for t in (300.0, 100.0, 500.0, 200.0)], marks=pytest.mark.slow),
        pytest.param([CSVR(t, timestep_fs=2.0, damping_fs=20.0) for t in (300.0, 100.0, 500.0, 200.0)], marks=pytest.mark.slow),
        [Langevin(Ramp(t, 2 * t), timestep_fs=2.0) for t in (300.0, 100.0, 500.0, 200.0)],
    ],
    ids=["NVT", "CSVR", "Langevin ramped"],
)
def test_each_system_moves_as_if_alone(kinds):
    """Systems of unlike size and periodicity, with their own temperatures and seeds."""
    potential = morse(members=2)
    together = simulate_many(potential, UNLIKE, kinds, 50, seed=7, **SHORT)
    for k in (1, 2):
        alone = simulate(potential, UNLIKE[k], kinds[k], 50, seed=7 + k, **SHORT)
        same(together[k], alone, 1e-9)
        assert np.abs(together[k].positions[-1] - UNLIKE[k].positions).max() > 0.01
    assert np.abs(together[0].velocities[-1] - together[3].velocities[-1]).max() > 0.001


@pytest.mark.slow
def test_cells_move_as_if_alone():
    """Under constant pressure too, each with its own target."""
    kinds = [NPT(300.0, p, timestep_fs=2.0, pressure_damping_fs=200.0, cell="flexible") for p in (0.0, (1.0, 2.0, 3.0, 0.5, 0.4, 0.3))]
    systems = [crystal(2), crystal(1)]
    together = simulate_many(morse(), systems, kinds, 50, seed=3, **SHORT)
    for k, run in enumerate(together):
        same(run, simulate(morse(), systems[k], kinds[k], 50, seed=3 + k, **SHORT), 1e-9)
        assert np.abs(run.cell[-1] - run.cell[0]).max() > 0.01


@pytest.mark.slow
def test_each_system_has_its_own_temperature():
    temperatures = (100.0, 300.0, 600.0)
    runs = simulate_many(morse(depth=1.0), [crystal()] * 3, [NVT(t, timestep_fs=2.0) for t in temperatures], 4000)
    for run, expected in zip(runs, temperatures, strict=True):
        assert run.temperature_K[50:].mean() == pytest.approx(expected, rel=0.08)


@pytest.mark.slow
def test_seeds_follow_each_other():
    """The second of two systems is the first of a run that begins with the next seed."""
    pair = simulate_many(morse(), [crystal()] * 2, Langevin(300.0), 20, seed=1, **SHORT)
    later = simulate_many(morse(), [crystal()] * 2, Langevin(300.0), 20, seed=2, **SHORT)
    np.testing.assert_array_equal(pair[1].positions, later[0].positions)
    assert np.abs(pair[0].positions[-1] - later[0].positions[-1]).max() > 1e-3


@pytest.mark.parametrize(
    "kind", [pytest.param(NVE(timestep_fs=5.0), marks=pytest.mark.slow), Langevin(300.0, timestep_fs=5.0)], ids=["NVE", "Langevin"]
)
def test_a_system_that_breaks_harms_no_other(kind):
    """It stands still at its last good step and says why; the others have the bits that they have beside a good one."""
    bad = cluster()
    bad.positions *= 0.35
    good, harmed = (
        simulate_many(morse(), [crystal(1), a, crystal(1, seed=2)], kind, 100, temperature_K=300.0, **SHORT) for a in (cluster(), bad)
    )
    broken = harmed[1]
    assert broken.status & (Status.TOO_HOT | Status.TOO_FAR)
    assert broken.n_steps < 100
    assert broken.step[-1] == broken.n_steps
    assert np.isfinite(broken.total_energy).all()
    assert (broken.temperature_K < 10_000).all()
    assert np.abs(broken.trouble.positions - broken.positions[-1]).max() > 0.01
    for k in (0, 2):
        assert not harmed[k].status
        assert harmed[k].trouble is None
        assert harmed[k].n_steps == 100
        same(good[k], harmed[k], 0.0)


def test_a_system_too_unsure_stops_alone():
    """Bounds hold for each system by itself: of two equal clusters the hot one goes where the members differ."""
    kinds = [Langevin(kelvin, timestep_fs=2.0) for kelvin in (10.0, 3000.0)]
    calm, wild = simulate_many(morse(members=3), [cluster()] * 2, kinds, 100, max_atom_std=0.03, **SHORT)
    assert (calm.n_steps, calm.status) == (100, Status(0))
    assert wild.status == Status.TOO_UNSURE
    assert 0 < wild.n_steps < 100
    assert max(calm.atom_std.max(), wild.atom_std.max()) <= 0.03


def test_a_start_that_is_bad_stops_one_system():
    bad = cluster()
    bad.positions *= 0.35
    good, broken = simulate_many(
        morse(members=2), [cluster(), bad], NVE(timestep_fs=1.0), 20, temperature_K=10.0, max_atom_std=0.5, **SHORT
    )
    assert good.n_steps == 20 and not good.status
    assert broken.status and len(broken) == broken.n_steps == 0 and broken.positions.shape == (0, len(bad), 3)
    np.testing.assert_array_equal(broken.final.positions, bad.positions)


def test_a_bias_is_at_the_same_place_for_all():
    """Its coordinates are those of the atoms as they were given, wherever each system is."""
    here, there = cluster(), cluster()
    there.positions += [30.0, 0, 0]
    bias = HarmonicRestraint([0], there.positions[:1], 2.0)
    runs = simulate_many(morse(), [here, there], NVE(), 1, temperature_K=0.0, biases=[bias], **SHORT)
    assert [run.bias_energy[0] for run in runs] == pytest.approx([900.0, 0.0])


@pytest.mark.parametrize(
    ("ensembles", "reason"),
    [
        ([NVT(300.0)], "found 2 systems and 1 ensembles"),
        ([NVT(300.0), Langevin(300.0)], "found Langevin, NVT with unlike choices"),
        ([NVT(300.0), NVT(300.0, chain_length=5)], "found NVT with unlike choices"),
        ([NVT(300.0), NVT(300.0, timestep_fs=1.0)], r"timestep_fs: found \[0.5, 1.0\], expected one for all systems"),
        ([NVT(300.0), NPT(300.0)], "found pbc"),
    ],
)
def test_what_cannot_run_together(ensembles, reason):
    with pytest.raises(SimulationError, match=reason):
        simulate_many(morse(), [crystal(1), cluster()], ensembles, 10)


def test_a_ramp_belongs_to_its_system():
    """`at` replaces ramps by numbers, those of each system by its own."""
    import jax

    from eqpot.md.ensembles import stacked

    together = stacked([NVT(Ramp(300.0, 900.0)), NVT(Ramp(800.0, 200.0))], "float32")
    for progress, expected in ((0.0, [300, 800]), (0.25, [450, 650]), (1.0, [900, 200])):
        now = jax.vmap(lambda e, p=progress: e.at(np.float32(p)))(together)
        np.testing.assert_allclose(now.temperature_K, expected)
        np.testing.assert_allclose(now.timestep_fs, [0.5, 0.5])
    assert together.ramped
    assert not now.ramped
