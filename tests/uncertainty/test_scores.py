"""Scores of an uncertainty, against exact cases and scipy."""

import json

import numpy as np
import pytest
from scipy.stats import chi2, spearmanr

from eqpot.core.errors import DataError
from eqpot.uncertainty.errors_pairs import pairs
from eqpot.uncertainty.scores import (
    ause,
    bootstrap,
    calibration_factor,
    coverage,
    crps,
    ence,
    miscalibration_area,
    nll,
    spearman,
    summarise,
)


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
        pairs(np.ones(2), np.ones(3))
    with pytest.raises(DataError, match="between 0 and 1"):
        coverage(np.ones(2), np.ones(2), np.array([90.0]))


def test_the_summary_is_json_and_holds_every_score_under_its_name(calibrated):
    error, sigma = calibrated
    summary = json.loads(json.dumps(summarise(error, sigma)))
    plain = {"spearman": spearman, "ause": ause, "factor": calibration_factor, "miscalibration_area": miscalibration_area}
    for name, score in {**plain, "ence": ence, "nll": nll, "crps": crps}.items():
        assert summary[name] == pytest.approx(score(error, sigma)), name
    assert summary["count"] == 40_000 and summary["zero_sigma"] == 0 and "ranges" not in summary
    for level in (50, 68, 90, 95):
        assert summary[f"coverage_{level}"] == pytest.approx(level / 100, abs=0.01)
    levels, observed = summary["coverage"]
    assert len(levels) == len(observed) == 20 and observed[9] == summary["coverage_50"]


def test_the_summary_knows_the_number_of_dimensions():
    rng = np.random.default_rng(4)
    error, sigma = np.abs(rng.normal(size=20_000)), np.ones(20_000)
    assert summarise(error, sigma, dimensions=1)["miscalibration_area"] < 0.01 < 0.05 < summarise(error, sigma)["miscalibration_area"]


def test_sigmas_of_zero_are_counted_and_not_hidden():
    summary = summarise(np.array([1.0, 2.0, 3.0, np.nan]), np.array([0.0, 2.0, 3.0, 1.0]))
    assert (summary["count"], summary["zero_sigma"]) == (3, 1)
    assert summary["factor"] == pytest.approx(1) and summary["rmse"] == pytest.approx(np.sqrt(14 / 3))


def test_the_range_of_a_score_holds_its_true_value_nine_times_of_ten():
    """Structures of ten atoms with one error each: the range must come from the structures."""
    generator, hits, alike = np.random.default_rng(5), 0, np.repeat(np.arange(60), 10)
    for _ in range(100):
        error = np.abs(generator.normal(size=60))[alike]
        low, high = bootstrap(calibration_factor, error, np.ones(600), alike, n=100)
        hits += low < 1 < high
    assert 80 <= hits <= 96


def test_groups_of_equal_errors_make_the_range_wider_than_single_atoms_would(calibrated):
    error, sigma = (v[:400] for v in calibrated)
    error, sigma, groups = np.repeat(error, 25), np.repeat(sigma, 25), np.repeat(np.arange(400), 25)
    widths = [np.ptp(bootstrap(calibration_factor, error, sigma, g)) for g in (groups, np.arange(10_000))]
    assert widths[0] / widths[1] == pytest.approx(5, rel=0.3)


def test_ranges_in_the_summary_are_those_of_each_score_and_the_same_again(calibrated):
    error, sigma = (v[:2000] for v in calibrated)
    groups = np.array([f"structure {k // 20}" for k in range(2000)])
    ranges = summarise(error, sigma, groups=groups)["ranges"]
    assert ranges["crps"] == pytest.approx(bootstrap(crps, error, sigma, groups))
    assert ranges == summarise(error, sigma, groups=groups)["ranges"]
    assert all(low < high for low, high in ranges.values()) and set(ranges) >= {"spearman", "coverage_95", "nll"}


def test_one_structure_has_no_range_and_wrong_groups_are_refused(calibrated):
    error, sigma = (v[:20] for v in calibrated)
    assert np.isnan(bootstrap(ence, error, sigma, np.zeros(20))).all()
    assert np.isnan(summarise(error, sigma, groups=np.zeros(20))["ranges"]["nll"]).all()
    with pytest.raises(Exception, match="groups"):
        bootstrap(ence, error, sigma, np.zeros(19))


@pytest.mark.filterwarnings("error")
def test_nothing_has_no_scores_and_says_so_without_a_warning():
    summary = summarise(np.zeros(0), np.zeros(0))
    assert summary["count"] == 0
    assert all(np.isnan(v) for k, v in summary.items() if k not in ("count", "zero_sigma", "coverage"))
