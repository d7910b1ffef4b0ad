"""Going on or beginning anew: what decides, with a training that is not one."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ase.build import molecule

from eqpot.active import learner
from eqpot.active.learner import FRESH, WARM, LearnerConfig, digest, learn
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.training import FitConfig

CONFIG = FitConfig.model_validate({"optimizer": {"learning_rate": 0.02}, "training": {"epochs": 90}, "model": {"cutoff": 3.5}})


@pytest.fixture
def frames(potential):
    """What the potential says about waters, as labels."""
    rng, water = np.random.default_rng(0), molecule("CH3OH")
    structures = [Structure(water.numbers, water.positions + rng.normal(0, 0.05, water.positions.shape)) for _ in range(12)]
    results = potential.predict(structures)
    return [Frame(s, Labels(energy=r.energy, forces=r.forces + 0.01)) for s, r in zip(structures, results, strict=True)]


@pytest.fixture
def trained(potential, frames, tmp_path, monkeypatch):
    """`learn` for a round, with trainings that give the potential itself, or one with forces many times too large; what they were told is kept."""
    told = {}

    def run(spoilt=(), number=1, **settings):
        def fit(config, train, valid, folder, on_epoch):
            told[folder.name] = config
            factor = np.float32(4 if folder.name in spoilt else 1)
            return replace(potential, params=jax.tree.map(lambda x: x * factor, potential.params))

        monkeypatch.setattr(learner, "fit", fit)
        previous = tmp_path / "previous.safetensors"
        potential.save(previous)
        folder = tmp_path / "round"
        folder.mkdir(exist_ok=True)
        base = previous if number else None
        return learn(CONFIG, LearnerConfig(**settings), folder, number, Dataset(tuple(frames[:6])), frames[6:], frames[6:], base), told

    return run


def test_the_first_round_is_fresh_and_later_ones_go_on_with_fewer_and_smaller_steps(trained):
    first, told = trained(number=0)
    assert first.start == FRESH and told[FRESH].training.epochs == 90 and told[FRESH].finetune is None
    later, told = trained(number=1, epochs=7, rate=0.25)
    assert later.start == WARM and told[WARM].training.epochs == 7 and told[WARM].optimizer.learning_rate == 0.005
    assert told[WARM].finetune.base.endswith("previous.safetensors") and later.potential.spec.config.cutoff == 3.5


def test_where_going_on_does_harm_it_begins_anew(trained):
    found, told = trained(spoilt=(WARM,))
    assert found.start == FRESH and "times larger" in found.why and set(told) == {WARM, FRESH}
    assert trained(spoilt=(), drift=1.01)[0].start == WARM


def test_when_it_is_told_to_it_begins_anew(trained):
    assert trained(number=3, restart_every=3)[0].why == "every 3 rounds" and trained(number=4, restart_every=3)[0].start == WARM
    assert trained(warm=False)[0].why == "every round begins anew"


def test_a_new_element_begins_anew(potential, tmp_path):
    potential.save(tmp_path / "p.safetensors")
    gold = Dataset((Frame(Structure([79], [[0, 0, 0]]), Labels(energy=0.0)),))
    assert learner._why_fresh(LearnerConfig(), 1, gold, tmp_path / "p.safetensors") == "Au new"


def test_the_digest_is_of_parameters_and_calibration_alone(potential):
    same = replace(potential, metadata={"seconds": 3})
    other = replace(potential, params=jax.tree.map(lambda x: x * np.float32(1.0001), potential.params))
    assert digest(same) == digest(potential) != digest(other)
