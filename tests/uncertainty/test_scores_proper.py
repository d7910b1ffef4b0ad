"""Proper scores, against numerical integration, scipy's densities and the minimum that makes them proper."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from eqpot.uncertainty.scores import calibration_factor, crps, nll, sharpness


def one(error, sigma):
    return np.array([error]), np.array([sigma])


def integral(error, sigma):
    """∫ (Φ(x/σ) − [x ≥ e])² dx."""
    below = quad(lambda x: norm.cdf(x / sigma) ** 2, -12 * sigma, error, epsabs=1e-12)[0]
    return below + quad(lambda x: norm.sf(x / sigma) ** 2, error, error + 12 * sigma, epsabs=1e-12)[0]


@pytest.mark.parametrize("error, sigma", [(0.0, 1.0), (0.7, 1.0), (0.3, 0.05), (2.0, 3.0)])
def test_crps_of_a_number_is_its_integral(error, sigma):
    assert crps(*one(error, sigma), dimensions=1) == pytest.approx(integral(error, sigma), rel=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_crps_of_a_vector_is_that_of_its_components_in_the_mean_over_all_directions(dimensions):
    vectors = np.random.default_rng(0).normal(size=(200_000, dimensions))
    error, sigma = 0.8, 0.5
    components = np.abs(error * vectors[:, 0] / np.linalg.norm(vectors, axis=1))
    each = crps(components, np.full(200_000, sigma / np.sqrt(dimensions)), dimensions=1)
    assert crps(*one(error, sigma), dimensions) == pytest.approx(each, rel=3e-3)


def test_crps_in_three_dimensions_is_half_the_energy_score():
    x, y = np.random.default_rng(1).normal(size=(2, 400_000, 3)) * 0.5 / np.sqrt(3)
    score = np.linalg.norm(x - [0.8, 0, 0], axis=1).mean() - np.linalg.norm(x - y, axis=1).mean() / 2
    assert crps(*one(0.8, 0.5)) == pytest.approx(score / 2, rel=3e-3)


def test_crps_of_a_sigma_near_zero_is_the_mean_absolute_error_of_a_component():
    assert crps(*one(0.8, 1e-7)) == pytest.approx(0.4, rel=1e-6)
    assert crps(*one(0.8, 1e-7), dimensions=1) == pytest.approx(0.8, rel=1e-6)


def test_nll_is_scipys_density_of_the_vector_divided_among_its_components():
    vector, sigma = np.array([0.1, -0.4, 0.2]), 0.3
    density = multivariate_normal(np.zeros(3), sigma**2 / 3 * np.eye(3)).logpdf(vector)
    assert nll(*one(np.linalg.norm(vector), sigma)) == pytest.approx(-density / 3, rel=1e-12)
    assert nll(*one(0.4, sigma), dimensions=1) == pytest.approx(-norm.logpdf(0.4, scale=sigma), rel=1e-12)


def test_nll_of_any_errors_is_least_at_the_calibration_factor():
    rng = np.random.default_rng(2)
    error, sigma = rng.exponential(size=500), rng.uniform(0.2, 2, 500)
    best = calibration_factor(error, sigma)
    values = [nll(error, f * best * sigma) for f in (0.9, 0.99, 1, 1.01, 1.1)]
    assert np.argmin(values) == 2 and values[0] > values[1] and values[4] > values[3]


@pytest.mark.parametrize("score", [nll, crps])
def test_proper_scores_are_least_for_the_sigma_that_the_errors_were_drawn_with(score, calibrated):
    error, sigma = calibrated
    values = [score(error, f * sigma) for f in (0.7, 0.95, 1, 1.05, 1.4)]
    assert np.argmin(values) in (1, 2, 3) and min(values[0], values[4]) > values[2]
    assert score(error, np.full_like(sigma, np.sqrt(np.mean(sigma**2)))) > values[2]


def test_units_scale_crps_and_shift_nll(calibrated):
    error, sigma = calibrated
    assert crps(1000 * error, 1000 * sigma) == pytest.approx(1000 * crps(error, sigma))
    assert nll(1000 * error, 1000 * sigma) == pytest.approx(nll(error, sigma) + np.log(1000))


def test_sharpness_is_the_root_mean_variance_and_its_spread():
    assert sharpness(np.array([3.0, 4.0])) == pytest.approx((np.sqrt(12.5), 0.5 / 3.5))
    assert sharpness(np.array([2.0, 2.0, np.inf])) == pytest.approx((2, 0))
    assert np.isnan(sharpness(np.zeros(0))).all() and np.isnan(sharpness(np.zeros(2))[1])


def test_without_a_positive_sigma_there_is_no_score():
    assert np.isnan(nll(np.ones(2), np.zeros(2))) and np.isnan(crps(np.ones(2), np.zeros(2)))
