"""Conformal radii: what they promise for structures not seen, whatever errors look like."""

import numpy as np
import pytest

from eqpot.core.errors import DataError
from eqpot.uncertainty.conformal import conformal_radii


def structures(rng, count, atoms=20):
    """Heavy-tailed scores of atoms that resemble each other within a structure."""
    size = np.exp(rng.normal(0, 0.8, count))
    return (size[:, None] * np.abs(rng.standard_t(3, (count, atoms)))).ravel(), np.repeat(np.arange(count), atoms)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_promise_is_kept_on_average_over_calibration_sets(level):
    """Coverage of new structures, over 400 calibration sets of 15 structures, is at least the level and not much more than 1/(K+1) above."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        radius = conformal_radii(*structures(rng, 15), [level])[0]
        covered.append((structures(rng, 40)[0] <= radius).mean())
    error = np.std(covered) / np.sqrt(len(covered))
    assert level - 3 * error < np.mean(covered) < level + 1 / 16 + 3 * error


def test_ignoring_structures_would_break_it():
    """With all atoms in one pool, as if each were a draw of its own, large structures of a heavy-tailed kind outvote the others."""
    rng = np.random.default_rng(0)
    small, large = rng.uniform(0.9, 1.0, 90), rng.uniform(0.0, 0.1, 900)
    scores, groups = np.concatenate([small, large]), np.concatenate([np.arange(90), np.full(900, 90)])
    radius = conformal_radii(scores, groups, [0.5])[0]
    assert radius > 0.9 > np.quantile(scores, 0.5)


def test_it_is_the_definition():
    rng = np.random.default_rng(1)
    scores, groups = rng.random(60), rng.integers(0, 7, 60)
    count = len(set(groups))
    for level in (0.1, 0.33, 0.6, 0.85):
        mass = [sum((scores[groups == g] <= q).mean() for g in set(groups)) / (count + 1) for q in np.sort(scores)]
        expected = np.sort(scores)[next(k for k, m in enumerate(mass) if m >= level - 1e-9)]
        assert conformal_radii(scores, groups, [level])[0] == expected


def test_nothing_is_promised_beyond_what_so_many_structures_can_tell():
    scores, groups = np.arange(9.0), np.arange(9)
    levels = [0.5, 0.9, 0.91, 0.99]
    assert len(conformal_radii(scores, groups, levels)) == 2
    assert conformal_radii(scores, groups, levels)[1] == 8  # nine structures vouch for 90 % with the largest score


def test_a_score_without_a_number_is_refused():
    with pytest.raises(DataError, match="not finite"):
        conformal_radii(np.array([1.0, np.inf]), np.array([0, 1]), [0.5])
