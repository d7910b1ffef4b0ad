"""When the loop stops: each rule at its edge, and how they are combined."""

import numpy as np
import pytest

from eqpot.active.observables import pair_distribution, series
from eqpot.active.query import still_uncertain
from eqpot.active.stopping import Rule, change, doubtful_share, nothing_left, verdict
from eqpot.core.config import build
from eqpot.core.errors import ConfigError
from eqpot.graph import Structure


def record(sigma=(0.1,) * 10, lost=0, bound=0.2, observables=None, calibrated=True, foreign=0):
    return {
        "calibrated": calibrated,
        "sampled": {"sigma_eV_A": list(sigma), "lost": lost, "observables": observables or {}, "foreign": foreign},
        "errors": {"bounds_eV_A": {"0.9": bound}},
    }


def rules(*entries):
    return [build(Rule, entry) for entry in entries]


def test_rounds_and_calls_at_their_edge():
    assert verdict(rules({"rounds": 2}), [record()], 10) is None
    assert "2 rounds" in verdict(rules({"rounds": 2}), [record()] * 2, 10)
    assert verdict(rules({"calls": 11}), [record()], 10) is None
    assert "10 times" in verdict(rules({"calls": 10}), [record()], 10)


def test_few_doubtful_structures_several_rounds_in_a_row():
    rule = rules({"candidates": {"sigma_eV_A": 0.2, "below": 0.15, "rounds": 2}})
    one, two = record((0.1,) * 9 + (0.2,)), record((0.1,) * 8 + (0.2, 0.3))
    assert doubtful_share(one, 0.2) == pytest.approx(0.1) and doubtful_share(two, 0.2) == pytest.approx(0.2)
    assert verdict(rule, [one], 0) is None and verdict(rule, [two, one], 0) is None and verdict(rule, [one, two], 0) is None
    assert "10.0 %, 10.0 %" in verdict(rule, [two, one, one], 0)


def test_structures_that_could_not_be_judged_are_told():
    """They do not count, as nothing could be asked about them; but nobody should think that there were none."""
    rule = rules({"candidates": {"sigma_eV_A": 0.2, "rounds": 1}})
    assert "beside" not in verdict(rule, [record()], 0)
    assert verdict(rule, [record(foreign=990)], 0).endswith(", beside 990 that could not be judged")
    sampled = record(foreign=990)["sampled"] | {"by_group": {}, "broken": 0, "by_element_eV_A": {}}
    assert "990 structures could not be judged" in still_uncertain({"sampled": sampled, "band_eV_A": {"low": 0.1}})


def test_what_runs_that_broke_off_did_not_bring_counts_as_doubtful():
    assert doubtful_share(record(lost=10), 0.2) == 0.5
    assert doubtful_share(record((), lost=0), 0.2) == 1.0, "nothing was seen"
    rule = rules({"candidates": {"sigma_eV_A": 0.2, "rounds": 1}})
    assert verdict(rule, [record()], 0) and verdict(rule, [record(calibrated=False)], 0) is None, "a σ without scale says nothing"


def test_a_bound_must_be_known_and_small_enough():
    rule = rules({"bound": {"force_error_eV_A": 0.2}})
    assert verdict(rule, [record(bound=None)], 0) is None and verdict(rule, [record(bound=0.21)], 0) is None
    assert "at most 0.200 eV/Å with a probability of 90 %" in verdict(rule, [record(bound=0.2)], 0)
    assert verdict(rule, [record(bound=0.1)], 0, {"0.9": 0.3}) is None, "it must hold for the potential that is handed over"
    assert "at most 0.150" in verdict(rule, [record(bound=0.1)], 0, {"0.9": 0.15})


def test_all_keys_of_an_entry_and_any_entry():
    both = {"rounds": 1, "bound": {"force_error_eV_A": 0.2}}
    assert verdict(rules(both), [record(bound=0.3)], 0) is None
    assert "; " in verdict(rules(both), [record(bound=0.1)], 0)
    assert "asked 5 times" in verdict(rules(both, {"calls": 5}), [record(bound=0.3)], 5)
    with pytest.raises(ConfigError, match="empty rule"):
        rules({})


def test_properties_within_their_errors():
    def of(value, error=0.1):
        return record(observables={"volume": {"values": [value], "errors": [error]}})

    rule = rules({"properties": {"rounds": 2, "deviation": 2}})
    assert verdict(rule, [of(1.0), of(1.1)], 0) is None, "two rounds are one change"
    assert "volume" in verdict(rule, [of(9.0), of(1.0), of(1.2), of(1.0)], 0)
    assert verdict(rule, [of(1.0), of(1.2), of(1.6)], 0) is None
    assert verdict(rule, [of(1.0, 0.5), of(1.1, 0.5), of(1.2, 0.5)], 0) is None, "what is hardly known cannot be seen to change"
    assert verdict(rule, [record(), record(), record()], 0) is None, "nothing was measured"
    assert change(of(1.0)["sampled"]["observables"], {"other": {"values": [1.0], "errors": [0.1]}}) == np.inf
    assert change(*(of(v, error=0.0)["sampled"]["observables"] for v in (1.0, 1.1))) == np.inf, "nothing says how much it may change"


@pytest.mark.parametrize(
    ("sampled", "words"),
    [
        (
            {"structures": 0, "broken": 2, "notes": ["dynamics was not begun"]},
            "brought nothing new, 2 runs broke off; dynamics was not begun",
        ),
        ({"structures": 3, "absurd": 3, "broken": 0, "notes": []}, "beyond trust"),
        ({"structures": 3, "absurd": 0, "broken": 0, "notes": []}, "nothing is left to ask"),
    ],
)
def test_why_nothing_is_asked(sampled, words):
    assert words in nothing_left(sampled)


def test_the_error_of_a_series_is_that_of_its_mean():
    """Of independent numbers; over many repetitions the scatter of the means is the error that was stated."""
    rng = np.random.default_rng(0)
    found = [series([rng.normal(3.0, 1.0, (100, 1)) for _ in range(4)]) for _ in range(200)]
    means, errors = (np.array([f[key][0] for f in found]) for key in ("values", "errors"))
    assert means.mean() == pytest.approx(3.0, abs=0.02)
    assert means.std() == pytest.approx(0.05, rel=0.15) and np.sqrt((errors**2).mean()) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("walkers", [1, 4])
def test_the_error_of_a_series_knows_that_neighbours_are_alike(walkers):
    """25 values each of a process that forgets in five: of one walker alone, block means would state six tenths of the scatter."""
    rng, forgets = np.random.default_rng(0), np.exp(-1 / 5)

    def walk():
        x = [rng.normal(size=8)]
        for _ in range(24):
            x.append(forgets * x[-1] + np.sqrt(1 - forgets**2) * rng.normal(size=8))
        return np.array(x)

    found = [series([walk() for _ in range(walkers)]) for _ in range(200)]
    means, errors = (np.array([f[key] for f in found]) for key in ("values", "errors"))
    assert 0.8 < np.sqrt((errors**2).mean()) / means.std() < 1.5


def test_the_pair_distribution_of_an_ideal_gas_is_one():
    rng, cell = np.random.default_rng(0), np.diag([9.0, 10.0, 11.0])
    gas = Structure(np.full(100, 18), rng.random((100, 3)) @ cell, cell, True)
    positions = rng.random((60, 100, 3)) @ cell
    g = np.array(pair_distribution([(positions, np.broadcast_to(cell, (60, 3, 3)), gas)])["values"])
    np.testing.assert_allclose(g[5:], 0.99, atol=0.06)  # of the others: (N − 1)/N
