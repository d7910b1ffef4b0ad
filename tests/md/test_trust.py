"""Dynamics know what the potential knows about itself: calibrated σ and novelty in the loop are those of `predict`."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from eqpot.core.errors import SimulationError
from eqpot.graph import Frame, Labels, Structure
from eqpot.md import NVE, simulate
from eqpot.uncertainty import calibrate, fit_domain, fit_last_layer


@pytest.fixture(scope="module")
def frames(potential):
    rng = np.random.default_rng(0)
    atoms = molecule("CH3CH2OH")
    structures = [Structure(atoms.numbers, atoms.positions + rng.normal(0, 0.05, (9, 3))) for _ in range(12)]
    return [
        Frame(s, Labels(energy=r.energy + rng.normal(), forces=r.forces + 0.2 * rng.normal(size=(9, 3))))
        for s, r in zip(structures, potential.predict(structures), strict=True)
    ]


def member_with_last_layer(potential, frames):
    return fit_last_layer(potential.member(0), frames)


def member_with_readouts(potential, frames):
    return fit_last_layer(potential.member(0), frames, "bootstrap", 4, forces=True)


def with_learned_noise(potential, frames):
    del frames
    return replace(potential, metadata={"noise": {"energy": 0.01, "forces": 0.1}})


@pytest.mark.parametrize(
    "make",
    [
        lambda p, f: p,
        pytest.param(member_with_last_layer, marks=pytest.mark.slow),
        pytest.param(with_learned_noise, marks=pytest.mark.slow),
        pytest.param(member_with_readouts, marks=pytest.mark.slow),
    ],
)
def test_the_loop_says_what_predict_says(potential, frames, make):
    model = fit_domain(calibrate(make(potential, frames), frames), frames)
    run = simulate(model, frames[0].structure, NVE(timestep_fs=0.2), 4, every=2, temperature_K=100)
    for k in range(len(run)):
        expected = model.predict(replace(frames[0].structure, positions=run.positions[k]))
        np.testing.assert_allclose(run.atom_std[k], expected.atom_std, rtol=2e-4)
        np.testing.assert_allclose(run.novelty[k], expected.novelty, rtol=2e-4)
        assert run.energy_std[k] == pytest.approx(expected.energy_std, rel=1e-3)
        assert run.max_novelty[k] == run.novelty[k].max()


def test_a_run_stops_at_the_edge_of_what_was_seen(potential, frames, tmp_path):
    """An atom flies off: the run ends when its surroundings are too new, and the file tells how new each was."""
    from ase.io import read

    model = fit_domain(potential, frames)
    atoms = frames[0].structure.to_atoms()
    velocities = np.zeros((9, 3))
    velocities[8] = [0.0, 0.0, 3.0]
    atoms.set_velocities(velocities)
    path = tmp_path / "run.extxyz"
    with pytest.raises(SimulationError, match="the novelty of an atom rose above the bound of 3 "):
        simulate(
            model, atoms, NVE(timestep_fs=0.5), 400, every=5, max_novelty=3.0, min_distance=0.01, max_temperature_K=1e5, trajectory=path
        )
    written, broken = read(path, ":"), read(tmp_path / "run.offending.extxyz")
    assert 0 < len(written) < 80
    for atoms in written:
        np.testing.assert_allclose(atoms.arrays["novelty"], model.predict(atoms).novelty, rtol=1e-3)
        assert atoms.arrays["novelty"].max() <= 3
    assert model.predict(broken).novelty.max() > 3


def test_a_potential_that_knows_nothing_has_no_novelty(potential, frames):
    run = simulate(potential, frames[0].structure, NVE(timestep_fs=0.2), 2, every=2, temperature_K=100)
    assert run.novelty is run.max_novelty is None
    with pytest.raises(SimulationError, match="does not know what it has seen"):
        simulate(potential, frames[0].structure, NVE(), 2, max_novelty=1.0)
