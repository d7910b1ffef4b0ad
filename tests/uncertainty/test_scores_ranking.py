"""Scores of the ranking, against brute force and distributions that can be integrated by hand."""

import numpy as np
import pytest

from eqpot.uncertainty.scores import auroc, ause, risk_coverage


def test_an_order_like_that_of_the_errors_loses_nothing():
    error = np.random.default_rng(0).exponential(size=500)
    assert ause(error, 0.3 * error) == pytest.approx(0, abs=1e-12)
    assert ause(error, error**3) == pytest.approx(0, abs=1e-12)
    assert ause(error, -error) > ause(error, np.random.default_rng(1).uniform(size=500)) > 0.5


@pytest.mark.parametrize("draw, known", [("exponential", np.pi**2 / 6 - 1), ("uniform", 0.5)])
def test_a_sigma_that_knows_nothing_loses_what_the_distribution_says(draw, known):
    rng = np.random.default_rng(2)
    error = getattr(rng, draw)(size=100_000)
    assert ause(error, rng.uniform(size=100_000)) == pytest.approx(known, abs=0.02)
    assert ause(error, np.ones(100_000)) == pytest.approx(known, abs=0.01)


def test_the_curve_is_the_mean_error_of_those_that_are_kept():
    error, sigma = np.array([4.0, 1.0, 2.0, 9.0]), np.array([0.1, 0.4, 0.2, 0.3])
    curve = risk_coverage(error, sigma)
    assert curve.by_sigma == pytest.approx([4, 3, 5, 4])
    assert curve.oracle == pytest.approx([1, 1.5, 7 / 3, 4])
    assert curve.shares == pytest.approx([0.25, 0.5, 0.75, 1]) and curve.random == 4


def test_ends_of_the_curves_meet_and_the_oracle_is_below(calibrated):
    curve = risk_coverage(*calibrated)
    assert curve.by_sigma[-1] == pytest.approx(curve.random) == pytest.approx(curve.oracle[-1])
    assert (curve.oracle <= curve.by_sigma + 1e-12).all()


def test_equal_sigmas_do_not_depend_on_the_order_of_the_list():
    error = np.random.default_rng(3).exponential(size=60)
    sigma = np.repeat([1.0, 2.0, 3.0], 20)
    rows = np.concatenate([np.argsort(error[:20]), 20 + np.arange(40)])
    assert ause(error, sigma) == pytest.approx(ause(error[rows], sigma[rows]), rel=1e-12)
    assert risk_coverage(error, np.ones(60)).by_sigma == pytest.approx(np.full(60, error.mean()))


def test_a_factor_on_sigma_changes_no_ranking(calibrated):
    error, sigma = calibrated
    assert ause(error, 7 * sigma) == ause(error, sigma)


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(4)
    for inside, outside in [(rng.normal(size=80), 0.5 + rng.normal(size=60)), (rng.integers(0, 5, 80) * 1.0, rng.integers(1, 7, 60) * 1.0)]:
        difference = outside[:, None] - inside
        assert auroc(inside, outside) == pytest.approx(np.mean((difference > 0) + 0.5 * (difference == 0)), abs=1e-12)


def test_auroc_has_its_limits():
    low, high = np.array([1.0, 2.0]), np.array([3.0, np.inf])
    assert (auroc(low, high), auroc(high, low), auroc(low, low)) == (1, 0, 0.5)
    assert auroc(np.append(low, np.nan), high) == 1


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_too_little_is_nan(values):
    few = np.array(values, float)
    assert np.isnan(auroc(few, np.ones(2))) and np.isnan(auroc(np.ones(2), few)) and np.isnan(ause(few, few))
    assert np.isnan(ause(np.zeros(3), np.ones(3)))
