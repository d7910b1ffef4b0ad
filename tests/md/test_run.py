"""What `simulate` promises: the same seed the same bits, members' doubt as `predict` sees it, few compilations, honest speed."""

from functools import partial

import jax
import numpy as np
import pytest
from ase.build import molecule
from morse import cluster, crystal, morse

import eqpot
from eqpot.graph import Structure, collate
from eqpot.md import NVE, NVT, Langevin, simulate
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential, predict_members

ENSEMBLES = [NVE(timestep_fs=2.0), NVT(300.0, timestep_fs=2.0), Langevin(300.0, timestep_fs=2.0)]
ARRAYS = ("positions", "velocities", "forces", "atom_std", "potential_energy", "kinetic_energy", "temperature_K")


@pytest.fixture(scope="module")
def network():
    """A small untrained ensemble of the real architecture."""
    config = EquivariantConfig(cutoff=3.5, hidden="8x0e + 8x1o", l_max=2, correlation=2, radial_hidden=(16,))
    spec = ModelSpec(config, ("H", "C", "O"), Normalization(10.0, 0.3, (0.0, 0.0, 0.0)))
    return Potential(spec, spec.init_members([0, 1, 2]), (-13.6, -1030.0, -2040.0))


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("precision", ["mixed", *(pytest.param(p, marks=pytest.mark.slow) for p in ("float32", "float64"))])
def test_same_seed_same_bits_however_often_frames_are_taken(ensemble, precision):
    options = {"temperature_K": 300.0, "precision": precision}
    often, seldom, other = (
        simulate(morse(2), crystal(), ensemble, 60, every=every, seed=seed, **options) for every, seed in ((5, 0), (20, 0), (20, 1))
    )
    for name in ARRAYS:
        assert np.array_equal(getattr(often, name)[::4], getattr(seldom, name))
    assert not np.array_equal(seldom.positions[1], other.positions[1])
    assert np.array_equal(often.final.get_velocities(), seldom.final.get_velocities())


def test_frames_and_final_state():
    run = simulate(morse(2), crystal(), NVT(300.0, timestep_fs=2.0), 25, every=10)
    assert run.step.tolist() == [0, 10, 20]
    assert run.time_fs.tolist() == [0.0, 20.0, 40.0]
    assert run.n_steps == 25
    assert len(run) == 3
    assert np.array_equal(run.positions[0], crystal().positions) or np.allclose(run.positions[0], crystal().positions, atol=1e-14)
    assert np.allclose(run.total_energy, run.potential_energy + run.kinetic_energy)
    again = simulate(morse(2), crystal(), NVT(300.0, timestep_fs=2.0), 25, every=25)
    assert np.array_equal(again.positions[-1], run.final.positions)
    assert run.final.get_potential_energy() == again.potential_energy[-1]


def test_doubt_is_that_of_predict(network):
    atoms = molecule("CH3CH2OH")
    run = simulate(network, atoms, NVE(), 20, temperature_K=300.0, every=20)
    frame = atoms.copy()
    frame.positions = run.positions[-1]
    result = network.predict(frame)
    # float32 networks differ by rounding between two compilations
    assert run.potential_energy[-1] == pytest.approx(result.energy, abs=1e-4)
    assert run.energy_std[-1] == pytest.approx(result.energy_std, rel=1e-3)
    assert run.forces[-1] == pytest.approx(result.forces, abs=1e-4)
    assert run.atom_std[-1] == pytest.approx(result.atom_std, abs=1e-4)
    assert run.atom_std.min() > 0


def test_a_single_member_has_no_doubt():
    run = simulate(morse(1), cluster(), NVE(), 5, temperature_K=10.0)
    assert not run.atom_std.any()
    assert not run.energy_std.any()


def test_a_network_conserves_energy(network):
    run = simulate(network, molecule("CH3CH2OH"), NVE(timestep_fs=0.5), 1000, temperature_K=300.0, seed=4)
    assert abs(run.drift()) < 0.1


@pytest.mark.parametrize("kind", [NVT, Langevin])
def test_a_run_compiles_once_and_another_temperature_not_again(kind):
    potential = morse(cutoff=4.321)
    first = simulate(potential, crystal(), kind(300, timestep_fs=1.0), 50, every=7, skin=1.0)
    assert first.compiles == 1 + first.growths
    second = simulate(potential, crystal(), kind(200.0, timestep_fs=0.7), 33, every=10, seed=2, skin=1.0)
    assert second.compiles == 0


def test_mixed_precision_keeps_the_network_in_float32(network):
    with jax.enable_x64(True):
        graph = collate([network.prepare(molecule("CH3CH2OH"))])
        program = str(jax.make_jaxpr(partial(predict_members, network.spec))(network.params, graph))
    assert "f32[" in program
    assert "f64[" not in program


def test_precisions_agree_at_first():
    runs = [
        simulate(morse(2), crystal(), NVE(timestep_fs=1.0), 20, temperature_K=300.0, precision=p) for p in ("float64", "mixed", "float32")
    ]
    for run, bound in zip(runs[1:], (1e-5, 1e-4), strict=True):
        assert np.abs(run.positions - runs[0].positions).max() < bound
    assert np.abs(runs[1].potential_energy - runs[0].potential_energy).max() < 1e-4


def test_float32_far_from_the_origin():
    """Motion is computed about the first centre, so that place costs no digits."""
    far = cluster()
    far.positions += 1e4
    here, there = (simulate(morse(), a, NVE(timestep_fs=1.0), 200, temperature_K=300.0, precision="float32") for a in (cluster(), far))
    assert np.abs(there.positions - here.positions - 1e4).max() < 1e-3


def test_structures_masses_and_velocities_come_through():
    plain = simulate(morse(), Structure.from_atoms(cluster()), NVT(300.0), 10)
    assert np.array_equal(plain.final.positions, simulate(morse(), cluster(), NVT(300.0), 10).final.positions)
    heavy = cluster()
    heavy.set_masses([100.0] * 6)
    heavy.info["name"] = "isotope"
    run = simulate(morse(), heavy, NVE(), 10, temperature_K=300.0)
    assert run.final.get_masses().tolist() == [100.0] * 6
    assert run.final.info["name"] == "isotope"
    assert 0.5 * (100.0 * run.final.get_velocities() ** 2).sum() == pytest.approx(run.kinetic_energy[-1], rel=1e-9)


def test_one_atom_flies_on():
    atoms = cluster()[:1]
    atoms.set_velocities([[0.01, 0, 0]])
    run = simulate(morse(), atoms, NVE(timestep_fs=1.0), 100, precision="float64")
    assert run.potential_energy == pytest.approx(np.full(11, -3.0))
    assert run.velocities[-1] == pytest.approx(run.velocities[0])


def test_progress_is_reported():
    seen = []
    simulate(morse(3), crystal(), NVE(timestep_fs=2.0), 30, every=10, temperature_K=300.0, progress=seen.append)
    assert [p.step for p in seen] == [0, 10, 20, 30]
    assert seen[-1].n_steps == 30
    assert seen[-1].time_fs == 60.0
    assert seen[-1].ns_per_day > 0
    assert seen[-1].max_atom_std > 0


def test_public_names():
    assert eqpot.simulate is simulate
    assert eqpot.NVT is NVT
