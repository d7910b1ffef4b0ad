"""Scores of the size of σ, against Gaussian errors whose σ is known and against a fine grid."""

import numpy as np
import pytest
from scipy.stats import chi2

from eqpot.core.errors import DataError
from eqpot.uncertainty.scores import coverage, ence, miscalibration_area, sigma_bins


def test_a_calibrated_sigma_leaves_only_the_scatter_of_the_sample():
    """The mean over many samples of what is left: 0.313/√n of the area, √(bins/(π·d·n)) of the ENCE."""
    rng, n = np.random.default_rng(0), 1000
    areas, rests = [], []
    for _ in range(200):
        sigma = rng.uniform(0.1, 1, n)
        error = np.linalg.norm(rng.normal(size=(n, 3)) * sigma[:, None] / np.sqrt(3), axis=1)
        areas.append(miscalibration_area(error, sigma))
        rests.append(ence(error, sigma))
    assert np.mean(areas) == pytest.approx(np.sqrt(2 / np.pi) * np.pi / 8 / np.sqrt(n), rel=0.15)
    assert np.mean(rests) == pytest.approx(np.sqrt(10 / (np.pi * 3 * n)), rel=0.1)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_the_area_is_what_a_fine_grid_finds(dimensions):
    rng = np.random.default_rng(1)
    error, sigma = rng.exponential(size=37), rng.uniform(0.5, 2, 37)
    levels = (np.arange(200_000) + 0.5) / 200_000
    observed = coverage(error, sigma, levels, dimensions)
    assert miscalibration_area(error, sigma, dimensions) == pytest.approx(np.mean(np.abs(observed - levels)), abs=1e-5)


def test_the_area_of_a_sigma_too_small_by_two_is_the_integral_of_chi_square(calibrated):
    error, sigma = calibrated
    levels = np.linspace(0, 1, 2001)
    expected = np.mean(levels - chi2.cdf(chi2.ppf(levels, 3) / 4, 3))
    assert miscalibration_area(error, sigma / 2) == pytest.approx(expected, abs=0.005)


def test_the_area_ends_at_one_half(calibrated):
    error, sigma = calibrated
    assert miscalibration_area(error, 1e-6 * sigma) == pytest.approx(0.5, abs=1e-4)
    assert miscalibration_area(error, 1e6 * sigma) == pytest.approx(0.5, abs=1e-4)


def test_the_area_in_the_wrong_number_of_dimensions_is_not_small():
    error = np.abs(np.random.default_rng(2).normal(size=20_000))
    assert miscalibration_area(error, np.ones(20_000), 1) < 0.01 < 0.05 < miscalibration_area(error, np.ones(20_000), 3)


def test_ence_of_a_scaled_sigma_is_the_relative_error_of_the_scale(calibrated):
    error, sigma = calibrated
    assert ence(error, sigma / 2) == pytest.approx(1, abs=0.03)
    assert ence(error, 2 * sigma) == pytest.approx(0.5, abs=0.015)


def test_ence_sees_what_is_right_only_on_the_whole():
    """A σ of 1 or 2 given at random to errors of one size: right in the mean square of all, too small or too large for each."""
    rng = np.random.default_rng(3)
    sigma = np.repeat([1.0, 2.0], 20_000) * rng.uniform(0.999, 1.001, 40_000)
    size = np.sqrt(np.mean(sigma**2))
    error = np.abs(rng.normal(size=40_000)) * size
    assert np.sqrt(np.mean(error**2) / np.mean(sigma**2)) == pytest.approx(1, abs=0.02)
    assert ence(error, sigma) == pytest.approx(((size - 1) / 1 + (2 - size) / 2) / 2, abs=0.03)


def test_bins_hold_equally_many_in_the_order_of_sigma(calibrated):
    found = sigma_bins(*calibrated, 12)
    assert found.count.sum() == 40_000 and np.ptp(found.count) <= 1 and (np.diff(found.sigma) > 0).all()
    assert np.sum(found.count * found.error**2) == pytest.approx(np.sum(calibrated[0] ** 2))


def test_fewer_pairs_than_bins_make_a_bin_each_and_a_sigma_of_zero_none():
    found = sigma_bins(np.array([1.0, 2.0, 5.0]), np.array([2.0, 1.0, 0.0]), 10)
    assert found.sigma.tolist() == [1, 2] and found.error.tolist() == [2, 1]
    assert ence(np.array([1.0, 2.0]), np.array([2.0, 1.0])) == pytest.approx((1 + 0.5) / 2)


def test_nothing_is_nan_and_no_bins_are_refused():
    none = np.zeros(0)
    assert np.isnan(ence(none, none)) and np.isnan(miscalibration_area(np.ones(2), np.zeros(2)))
    with pytest.raises(DataError, match="at least 1"):
        ence(np.ones(2), np.ones(2), bins=0)
