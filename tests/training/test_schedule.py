"""Rate, averaging and weights follow from the progress alone."""

import numpy as np
import pytest

from eqpot.core.config import build
from eqpot.core.errors import ConfigError
from eqpot.training import schedule
from eqpot.training.config import FitConfig
from eqpot.training.schedule import keep, stage_two_epoch, weights


def config(**changes):
    return build(FitConfig, {"training": {"epochs": 100}, **changes})


def rate(config, progress, scale=1.0):
    return schedule.rate(config, float(progress), scale)


def test_the_rate_rises_and_falls_along_a_cosine():
    c = config(optimizer={"learning_rate": 0.01, "warmup": 0.1, "final_rate": 0.1})
    assert rate(c, 0) == 0 and rate(c, 5) == pytest.approx(0.005) and rate(c, 10) == pytest.approx(0.01)
    assert rate(c, 55) == pytest.approx(0.0055) and rate(c, 100) == pytest.approx(0.001)
    falling = [rate(c, e) for e in np.linspace(10, 100, 50)]
    assert (np.diff(falling) < 0).all()


def test_stage_two_changes_weights_rate_and_average():
    c = config(stage_two={"start": 0.8, "energy": 5000, "learning_rate": 2e-4}, loss={"energy": 10})
    assert stage_two_epoch(c) == 80
    assert (weights(c, 79)["energy"], weights(c, 80)["energy"]) == (10, 5000)
    assert rate(c, 80.5) == rate(c, 99) == 2e-4
    assert rate(c, 79.999) == pytest.approx(0.01 * 0.01, rel=1e-3)  # the cosine ends where the stage begins


def test_equal_average_is_the_mean_of_all_steps_of_the_stage():
    c = config(stage_two={"start": 0.5})
    values, average = np.random.default_rng(0).normal(size=20), 123.0
    for n, value in enumerate(values):
        share = keep(c, 1000 + n, stage_step=1000)
        average = share * average + (1 - share) * value
    assert average == pytest.approx(values.mean())


def test_a_young_average_forgets_faster_and_rests_while_gradients_are_gathered():
    c = config(optimizer={"ema": 0.99})
    assert keep(c, 0, None) == pytest.approx(0.1) and keep(c, 100_000, None) == 0.99
    gathered = config(optimizer={"accumulate": 4})
    assert [keep(gathered, s, None) == 1.0 for s in range(8)] == [True, True, True, False] * 2


def test_schedules_by_name():
    assert rate(config(optimizer={"schedule": "constant", "warmup": 0}), 99) == 0.01
    assert rate(config(optimizer={"schedule": "plateau", "warmup": 0}), 50, scale=0.25) == 0.0025
    assert rate(config(optimizer={"schedule": "plateau", "warmup": 0}), 50, scale=1e-9) == pytest.approx(1e-4)
    assert rate(config(optimizer={"name": "schedule-free", "warmup": 0}), 99) == 0.01


def test_a_likelihood_takes_weights_as_switches_in_both_stages():
    switches = {"energy": 1, "forces": 1, "stress": 0, "charges": 1, "dipole": 1}
    c = config(loss={"noise": "learned", "stress": 0}, stage_two={"start": 0.5, "energy": 1000, "forces": 0})
    assert weights(c, 0) == switches and weights(c, 50) == switches | {"forces": 0}
    with pytest.raises(ConfigError, match=r"stage_two\.stress: with loss\.noise: learned each quantity has its σ from the start"):
        config(loss={"noise": "learned", "stress": 0}, stage_two={"stress": 1})


def test_weights_go_linearly_to_their_final_values_at_the_end_of_the_first_stage():
    c = config(loss={"energy": 10, "final": {"energy": 110}})
    assert [weights(c, int(e), e)["energy"] for e in (0.0, 25.5, 99.9)] == pytest.approx([10, 35.5, 109.9])
    assert weights(c, 3)["energy"] == 110 and weights(c, 3)["forces"] == 10  # epochs are compared by the last ones
    two = config(loss={"energy": 10, "final": {"energy": 110}}, stage_two={"start": 0.5, "energy": 1000})
    assert [weights(two, int(e), e)["energy"] for e in (25.0, 50.0)] == [60, 1000]
