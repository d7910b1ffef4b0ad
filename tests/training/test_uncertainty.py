"""A fit that knows itself: noise and ignorance told apart, calibration and domain at the end of the training."""

import numpy as np
import pytest
from pydantic import ValidationError

import eqpot
from eqpot.core.errors import DataError, EqpotError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels
from eqpot.potential import Potential
from eqpot.uncertainty import calibrate

NOISE = {1: 0.05, 8: 0.2}
"""Standard deviation of a component of the force label on H and O [eV/Å]."""


@pytest.fixture(scope="module")
def noisy(toy):
    """Trimers whose labels carry noise that depends on the element."""
    make, label = toy

    def frames(n, seed):
        rng, found = np.random.default_rng(seed), []
        for k in range(n):
            structure = make(rng)
            exact, sigma = label(structure), np.array([NOISE[z] for z in structure.numbers])
            forces = exact.forces + sigma[:, None] * rng.normal(size=exact.forces.shape)
            found.append(Frame(structure, Labels(energy=exact.energy + 0.01 * rng.normal(), forces=forces), origin=f"toy:frame {k}"))
        return Dataset(tuple(found))

    return frames


@pytest.mark.slow
def test_noise_and_ignorance_are_told_apart(noisy, settings):
    """With five times the data the members agree better, and the noise that they predict is what it is for each element.

    With AMSGrad: from 32 frames Muon's members count more of what they do not know as noise (docs/decisions.md).
    """
    config = settings | {
        "data": {"valid": 8, "allow": ["force-unit"]},
        "model": settings["model"] | {"noise": True},
        "ensemble": {"members": 3},
        "loss": {"noise": "atoms"},
        "optimizer": {"name": "amsgrad"},
    }
    spread, found, test = {}, {}, noisy(30, 2)
    for n in (32, 160):
        potential = eqpot.fit(config | {"training": {"epochs": 9600 // n, "batch_size": 8}}, noisy(n + 8, 1))
        results = potential.predict_frames(test)
        numbers, noise = (np.concatenate([getattr(r, name) for r in results]) for name in ("numbers", "forces_noise"))
        spread[n] = np.sqrt(np.mean([(r.forces_spread**2).mean() for r in results]))
        found[n] = [np.sqrt((noise[numbers == z] ** 2).mean()) for z in NOISE]
        for r in results:
            np.testing.assert_allclose(r.forces_std**2, r.forces_spread**2 + r.forces_noise[:, None] ** 2)
    assert spread[160] < 0.7 * spread[32]
    assert found[160] == pytest.approx(list(NOISE.values()), rel=0.3)
    assert found[32][1] > 2 * found[32][0]


def test_a_fit_calibrates_and_remembers(frames, settings, tmp_path):
    """The parts held out are disjoint; the potential of the folder is the one returned; it refuses the frames that it was trained on."""
    config = settings | {"data": {"valid": 8, "calibrate": 12}}
    potential = eqpot.fit(config, frames, folder=tmp_path)
    trust = potential.trust
    assert trust.calibration.checks["forces"]["structures"] == 12
    assert len(trust.seen) == 20 and len(trust.domain.limit) == 2
    data = potential.metadata["data"]
    assert [data[f"{name}_frames"] for name in ("train", "valid", "calibrate")] == [20, 8, 12]
    assert len({data[name] for name in ("train", "valid", "calibrate")}) == 3
    again = eqpot.fit(config, frames, folder=tmp_path)  # finished before
    assert again.trust.calibration == trust.calibration
    assert Potential.load(tmp_path / "potential.safetensors").trust.calibration == trust.calibration
    with pytest.raises(DataError, match="of 40 structures were trained on"):
        calibrate(potential, frames)


def test_holding_out_for_calibration_leaves_validation_as_it_was(frames, settings):
    from eqpot.core.config import build
    from eqpot.training import FitConfig
    from eqpot.training.setup import load_data

    parts = [load_data(build(FitConfig, settings | {"data": {"valid": 8, **more}}), frames) for more in ({}, {"calibrate": 12})]
    assert parts[0].valid.structure_keys == parts[1].valid.structure_keys
    keys = [set(part.structure_keys) for part in (parts[1].train, parts[1].valid, parts[1].calibrate)]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 40


def test_one_member_has_a_last_layer(frames, settings):
    config = settings | {"ensemble": {"members": 1, "last_layer": "rigidity"}, "data": {"valid": 8, "calibrate": 12}}
    potential = eqpot.fit(config, frames)
    result = potential.predict(frames[0].structure)
    assert potential.trust.last_layer.kind == "rigidity"
    assert (result.atom_std > 0).all() and result.interval(0.5).energy[0] < result.energy


@pytest.mark.slow
def test_learned_noise_is_part_of_sigma(frames, settings):
    potential = eqpot.fit(settings | {"loss": {"noise": "learned"}}, frames)
    result, noise = potential.predict(frames[0].structure), potential.metadata["noise"]
    assert result.forces_noise == pytest.approx(np.full(3, noise["forces"])) and result.energy_noise == pytest.approx(3 * noise["energy"])
    assert (result.forces_std >= noise["forces"]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ensemble": {"members": 1}, "data": {"valid": 8, "calibrate": 12}}, "one member has no σ"),
        ({"ensemble": {"members": 2, "last_layer": "rigidity"}}, "last_layer is for one member: found 2"),
        ({"data": {"valid": 8, "calibrate": 5}}, "data.calibrate: found 5 frames, expected at least 10"),
        ({"data": {"valid": 8, "calibrate": 32}}, "expected at least one on either side"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_the_training(frames, settings, change, words):
    with pytest.raises((EqpotError, ValidationError), match=words):
        eqpot.fit(settings | change, frames)
