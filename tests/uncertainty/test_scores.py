"""Scores of an uncertainty, against exact cases and scipy."""

import json

import numpy as np
import pytest
from scipy.stats import chi2, spearmanr

from eqpot.core.errors import DataError
from eqpot.uncertainty import calibration_factor, coverage, spearman, summarise
from eqpot.uncertainty.scores import _pairs


@pytest.fixture
def calibrated():
    """Lengths of Gaussian force errors whose σ is known exactly."""
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.01, 0.3, 40_000)
    return np.linalg.norm(rng.normal(size=(40_000, 3)) * sigma[:, None] / np.sqrt(3), axis=1), sigma


def test_spearman_of_a_monotone_function_is_one_and_of_its_negative_minus_one():
    x = np.linspace(-2, 3, 50)
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert spearman(x, -(x**3)) == pytest.approx(-1)


def test_spearman_is_scipys_also_with_ties():
    rng = np.random.default_rng(1)
    for a, b in [(rng.normal(size=200), rng.normal(size=200)), (rng.integers(0, 5, 200) * 1.0, rng.integers(0, 4, 200) * 1.0)]:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_spearman_of_too_little_is_nan_and_not_a_number_made_up(values):
    assert np.isnan(spearman(np.array(values, float), np.arange(len(values)) * 1.0))


def test_pairs_that_are_not_finite_are_left_out():
    a, b = np.array([1.0, 2.0, np.nan, 4.0]), np.array([1.0, 2.0, 3.0, np.inf])
    assert spearman(a, b) == pytest.approx(1)
    assert calibration_factor(a, b) == pytest.approx(1)


def test_a_calibrated_sigma_has_factor_one_and_covers_what_it_says(calibrated):
    levels = np.array([0.1, 0.5, 0.9, 0.99])
    assert calibration_factor(*calibrated) == pytest.approx(1, abs=0.01)
    assert coverage(*calibrated, levels) == pytest.approx(levels, abs=0.01)


def test_a_sigma_too_small_by_two_has_factor_two_and_covers_less(calibrated):
    error, sigma = calibrated
    assert calibration_factor(error, sigma / 2) == pytest.approx(2 * calibration_factor(error, sigma), rel=1e-12)
    assert coverage(error, sigma / 2, np.array([0.9]))[0] == pytest.approx(chi2.cdf(chi2.ppf(0.9, 3) / 4, 3), abs=0.01)


def test_coverage_in_one_dimension_knows_the_68_percent():
    error = np.abs(np.random.default_rng(2).normal(size=50_000))
    assert coverage(error, np.ones(50_000), np.array([0.6827]), dimensions=1)[0] == pytest.approx(0.6827, abs=0.01)


def test_coverage_runs_from_nothing_to_everything(calibrated):
    assert coverage(*calibrated, np.array([0.0, 1.0])).tolist() == [0, 1]


def test_a_sigma_of_zero_cannot_be_scaled():
    zero = np.zeros(3)
    assert np.isnan(calibration_factor(np.ones(3), zero))
    assert np.isnan(coverage(np.ones(3), zero, np.array([0.5]))).all()


def test_four_members_from_the_same_gaussian_have_the_factor_of_students_t():
    rng = np.random.default_rng(3)
    members, truth = rng.normal(size=(4, 60_000, 3)), rng.normal(size=(60_000, 3))
    sigma = np.sqrt((members.std(0, ddof=1) ** 2).sum(1))
    assert calibration_factor(np.linalg.norm(truth, axis=1), sigma) == pytest.approx(np.sqrt(9 / 7), abs=0.01)


def test_wrong_shapes_and_levels_are_refused():
    with pytest.raises(DataError, match="same length"):
        _pairs(np.ones(2), np.ones(3))
    with pytest.raises(DataError, match="between 0 and 1"):
        coverage(np.ones(2), np.ones(2), np.array([90.0]))


def test_the_summary_is_json(calibrated):
    summary = json.loads(json.dumps(summarise(*calibrated)))
    assert summary["spearman"] == pytest.approx(spearman(*calibrated))
    assert summary["count"] == 40_000
    levels, observed = summary["coverage"]
    assert len(levels) == len(observed) == 20
