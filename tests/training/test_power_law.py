"""The fit recovers the law that made the errors, and its error bar means what it says."""

import numpy as np
import pytest

from eqpot.core.errors import DataError
from eqpot.training.power_law import fit_power_law

SIZES = np.tile([25.0, 50.0, 100.0, 200.0], 3)


def test_an_exact_law_is_recovered_exactly():
    law = fit_power_law(SIZES, 3.0 * SIZES**-0.4)
    assert law.a == pytest.approx(3.0, rel=1e-10) and law.b == pytest.approx(0.4, rel=1e-10)
    assert law.b_error == pytest.approx(0, abs=1e-8) and law.points == 12
    assert law(np.array([1000.0])) == pytest.approx(3.0 * 1000**-0.4)


def test_units_of_the_error_change_a_alone():
    rng = np.random.default_rng(0)
    errors = 2.0 * SIZES**-0.6 * np.exp(0.1 * rng.normal(size=12))
    one, other = fit_power_law(SIZES, errors), fit_power_law(SIZES, 1000 * errors)
    assert other.a == pytest.approx(1000 * one.a) and (other.b, other.b_error) == pytest.approx((one.b, one.b_error))


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds):
    """Over 2000 draws with log-normal scatter, 95 % of the intervals hold b, and the standard error is the scatter of b."""
    rng, sizes = np.random.default_rng(seeds), SIZES[: 4 * seeds]
    laws = [fit_power_law(sizes, 2.0 * sizes**-0.5 * np.exp(0.15 * rng.normal(size=len(sizes)))) for _ in range(2000)]
    covered = np.mean([law.b_low <= 0.5 <= law.b_high for law in laws])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)
    found = np.array([law.b for law in laws])
    assert abs(found.mean() - 0.5) < 4 * found.std() / np.sqrt(2000)
    assert np.sqrt(np.mean([law.b_error**2 for law in laws])) == pytest.approx(found.std(), rel=0.08)


def test_the_band_is_the_scatter_of_the_line():
    """`spread` is the standard deviation of the fitted logarithm over many draws, also beyond the data."""
    rng = np.random.default_rng(2)
    laws = [fit_power_law(SIZES, 2.0 * SIZES**-0.5 * np.exp(0.15 * rng.normal(size=12))) for _ in range(1500)]
    for size in (25.0, 70.0, 1000.0):
        place = np.array([size])
        scatter = np.std([np.log(law(place)[0]) for law in laws])
        said = np.sqrt(np.mean([np.log(law.spread(place)[0]) ** 2 for law in laws]))
        assert said == pytest.approx(scatter, rel=0.1)


def test_two_points_have_no_error_bar():
    law = fit_power_law(np.array([10.0, 100.0]), np.array([1.0, 0.1]))
    assert law.b == pytest.approx(1.0) and np.isnan([law.b_error, law.b_low, law.b_high]).all()


@pytest.mark.parametrize("sizes, errors", [([10.0, 10.0], [1.0, 2.0]), ([10.0, 20.0], [1.0, 0.0]), ([10.0, 20.0], [1.0, np.nan])])
def test_what_has_no_law_is_refused(sizes, errors):
    with pytest.raises(DataError, match="power law"):
        fit_power_law(np.array(sizes), np.array(errors))
