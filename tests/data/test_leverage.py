"""Closed forms against brute force: every row left out once, and the fit done anew."""

import numpy as np
import pytest

from eqpot.data.leverage import CUT, leave_one_out, ridge, robust_leave_one_out


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(40, 7)) * [1, 1, 1, 3, 0.1, 1, 2]
    return design, design @ rng.normal(size=7) + 0.1 * rng.normal(size=40)


@pytest.mark.parametrize("penalty", [1e-6, 0.3, 50.0])
def test_leave_one_out_is_a_refit_without_the_row(problem, penalty):
    design, labels = problem
    found = leave_one_out(design, labels, penalty)
    for k in range(len(labels)):
        rest = np.arange(len(labels)) != k
        _, coefficients, _ = ridge(design[rest], labels[rest], penalty)
        assert found.residuals[k] == pytest.approx(labels[k] - design[k] @ coefficients, abs=1e-9)


def test_leverage_is_the_diagonal_of_the_hat_matrix_and_adds_up_to_the_degrees_of_freedom(problem):
    design, labels = problem
    hat = design @ np.linalg.solve(design.T @ design + 0.3 * np.eye(7), design.T)
    found = leave_one_out(design, labels, 0.3)
    np.testing.assert_allclose(found.leverage, np.diagonal(hat), atol=1e-12)
    assert leave_one_out(design, labels, 1e-10).leverage.sum() == pytest.approx(7)


def test_a_row_outside_the_fit_is_judged_as_if_it_were_left_out_of_a_fit_with_it(problem):
    design, labels = problem
    kept = np.arange(len(labels)) != 5
    inside, outside = leave_one_out(design, labels, 0.3), leave_one_out(design, labels, 0.3, kept)
    assert outside.residuals[5] == pytest.approx(inside.residuals[5])
    assert outside.leverage[5] == pytest.approx(inside.leverage[5])


def test_the_penalty_is_that_of_least_generalised_cross_validation(problem):
    design, labels = problem

    def score(penalty):
        hat = design @ np.linalg.solve(design.T @ design + penalty * np.eye(7), design.T)
        error = labels - hat @ labels
        return len(labels) * error @ error / (len(labels) - np.trace(hat)) ** 2

    _, _, chosen = ridge(design, labels)
    assert score(chosen) <= min(score(chosen * f) for f in (10**-0.5, 10**0.5)) * (1 + 1e-9)


def test_wrong_labels_are_left_out_and_do_not_move_the_others(problem):
    design, labels = problem
    wrong = labels.copy()
    wrong[[3, 11, 30]] += [5.0, -4.0, 300.0]
    found = robust_leave_one_out(design, wrong)
    assert set(np.flatnonzero(np.abs(found.studentised) > CUT)) == {3, 11, 30}
    assert found.scale == pytest.approx(0.1, rel=0.4)
    assert found.residuals[11] == pytest.approx(-4.0, abs=0.6)


def test_studentised_residuals_of_normal_noise_are_standard_normal():
    rng = np.random.default_rng(1)
    design = rng.normal(size=(2000, 20))
    found = robust_leave_one_out(design, 0.3 * rng.normal(size=2000))
    assert found.scale == pytest.approx(0.3, rel=0.06)
    assert np.mean(np.abs(found.studentised) > 1.96) == pytest.approx(0.05, abs=0.015)
