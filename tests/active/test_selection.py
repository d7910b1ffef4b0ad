"""Choosing structures: greedy rules against brute force, invariances, nothing twice, and what is said where a choice cannot be made."""

import numpy as np
import pytest
from ase.build import molecule

from eqpot.active.selection import TOO_CLOSE, Selection, _rule, _Sight, select
from eqpot.active.selection_pool import NOT_JUDGED, TOO_LARGE, admit
from eqpot.active.selection_rules import RIDGE, Information, Nearest, Spread
from eqpot.active.selection_twins import OF_CHOSEN, OF_KNOWN
from eqpot.active.selection_views import View, look, points
from eqpot.core.errors import ConfigError, DataError
from eqpot.graph import Frame, Structure

ETHANOL = molecule("CH3CH2OH")
LEARNED = ("uncertainty", "uncertainty-diversity", "information", "farthest")


def shaken(seed: int, size: float = 0.1, atoms=ETHANOL) -> Frame:
    moved = atoms.copy()
    moved.rattle(size, seed=seed)
    return Frame(Structure.from_atoms(moved), origin=f"shaken {seed}")


def turned(frame: Frame, seed: int = 0) -> Frame:
    """The same structure in another orientation, its atoms in another order."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(len(frame))
    s = frame.structure
    return Frame(Structure(s.numbers[order], s.positions[order] @ axes.T + 3.0, s.cell @ axes.T, s.pbc))


POOL = [shaken(k, 0.05 if k % 3 else 0.15) for k in range(14)]
KNOWN = [shaken(k) for k in range(100, 103)]


def chosen(potential, method, pool=POOL, n=5, **rest) -> Selection:
    return select(potential, pool, n, known=KNOWN, method=method, **rest)


def run(rule, n, size):
    free, taken = np.ones(size, bool), []
    for _ in range(n):
        taken.append(int(rule.scores(free).argmax()))
        free[taken[-1]] = False
        rule.take(taken[-1])
    return taken


# Rules against brute force


@pytest.mark.parametrize("n_known", [0, 1, 4])
def test_farthest_is_the_largest_of_the_least_distances(n_known):
    rng = np.random.default_rng(n_known)
    x, known = rng.normal(size=(40, 3)), rng.normal(size=(n_known, 3))
    taken = run(Spread(Nearest(x, known), np.ones(40)), 12, 40)
    for step, k in enumerate(taken):
        others = np.concatenate([known, x[taken[:step]]])
        if not len(others):
            assert k == np.linalg.norm(x - x.mean(0), axis=1).argmin()
            continue
        least = np.linalg.norm(x[:, None] - others, axis=-1).min(1)
        least[taken[:step]] = -1
        assert k == least.argmax()


def test_the_largest_cluster_gives_the_one_of_largest_weighted_distance():
    rng = np.random.default_rng(0)
    x, known, weights = rng.normal(size=(60, 2)), rng.normal(size=(5, 2)), rng.random(60)
    taken = run(Spread(Nearest(x, known), weights, clusters=True), 15, 60)
    for step, k in enumerate(taken):
        others = np.concatenate([known, x[taken[:step]]])
        apart = np.linalg.norm(x[:, None] - others, axis=-1)
        owner, score = apart.argmin(1), weights * apart.min(1)
        score[taken[:step]] = 0
        sizes = [(score[owner == c] ** 2).sum() for c in range(len(others))]
        assert owner[k] == np.argmax(sizes)
        assert score[k] == pytest.approx(score[owner == owner[k]].max())


def test_information_is_the_log_determinant_of_the_batch_and_each_choice_the_best_of_it():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(rng.integers(1, 4), 5)) * rng.random() for _ in range(12)]
    known = [rng.normal(size=(2, 5)) for _ in range(2)]
    start = sum(r.T @ r for r in known)
    start = start + RIDGE * sum((r**2).sum() for r in rows + known) / 14 / 5 * np.eye(5)

    def joint(batch):
        stacked = np.concatenate([rows[k] for k in batch])
        return np.linalg.slogdet(np.eye(len(stacked)) + stacked @ np.linalg.solve(start, stacked.T))[1]

    rule, taken, total = Information(rows, known), [], 0.0
    free = np.ones(12, bool)
    for _ in range(6):
        scores = rule.scores(free)
        k = int(scores.argmax())
        assert k == max(np.flatnonzero(free), key=lambda i: joint([*taken, i]))
        taken.append(k)
        total += scores[k]
        assert total == pytest.approx(joint(taken))
        free[k] = False
        rule.take(k)


def test_uncertainty_takes_the_largest_sigma_of_any_atom(potential):
    sigma = np.array([r.atom_std.max() for r in potential.predict_frames(POOL)])
    found = chosen(potential, "uncertainty")
    assert list(found.chosen) == list(np.argsort(-sigma)[:5])
    np.testing.assert_allclose(found.scores, np.sort(sigma)[::-1][:5], rtol=1e-5)


# Invariances


@pytest.mark.parametrize("method", [*LEARNED, "random"])
def test_the_order_of_candidates_does_not_matter_and_a_choice_repeats(potential, method):
    order = np.random.default_rng(1).permutation(len(POOL))
    first, second = chosen(potential, method), chosen(potential, method, [POOL[k] for k in order])
    assert [int(order[k]) for k in second.chosen] == list(first.chosen)
    assert second.scores == first.scores
    assert first == chosen(potential, method)


@pytest.mark.parametrize("method", LEARNED)
def test_orientation_and_order_of_atoms_do_not_matter(potential, method):
    moved = [turned(f, k) for k, f in enumerate(POOL)]
    assert chosen(potential, method, moved).chosen == chosen(potential, method).chosen


def test_fixed_descriptors_do_not_turn_either():
    moved = [turned(f, k) for k, f in enumerate(POOL)]
    assert chosen(None, "farthest", moved).chosen == chosen(None, "farthest").chosen


def test_another_seed_draws_others():
    draws = {chosen(None, "random", seed=seed).chosen for seed in range(5)}
    assert len(draws) == 5
    counts = np.bincount([k for seed in range(100) for k in admit(POOL, [], None).draws(seed).argsort()[:7]], minlength=len(POOL))
    assert abs(counts - 50).max() < 5 * np.sqrt(100) / 2


def test_a_repeated_cell_is_the_same_point_unless_large_cells_are_to_count_more():
    rng = np.random.default_rng(0)
    numbers = [np.array([6, 8, 1]) for _ in range(3)]
    descriptors = [rng.normal(size=(3, 4)) for _ in range(3)]
    view = View(np.arange(4), "", [*numbers, np.tile(numbers[0], 4)], [*descriptors, np.tile(descriptors[0], (4, 1))], [])
    (balanced,), (summed,) = points([view], True), points([view], False)
    assert np.linalg.norm(balanced[3] - balanced[0]) < 1e-12
    assert np.linalg.norm(summed[3] - summed[0]) > np.linalg.norm(summed[1] - summed[0])


@pytest.mark.parametrize("method", ["uncertainty-diversity", "information"])
def test_a_repeated_cell_scores_as_the_cell_itself_unless_large_cells_are_to_count_more(method):
    rng = np.random.default_rng(1)
    descriptors, sigma = [rng.normal(size=(3, 4)) for _ in range(4)], [rng.random(3) for _ in range(3)]
    numbers = [np.array([6, 8, 1])] * 4
    cells = View(
        np.arange(4),
        "",
        [*numbers[:3], np.tile(numbers[0], 4)],
        [*descriptors[:3], np.tile(descriptors[0], (4, 1))],
        [*sigma, np.tile(sigma[0], 4)],
    )
    known = View(np.arange(1), "", numbers[3:], descriptors[3:], [])
    for balance in (True, False):
        sight = _Sight(admit([], [], None), cells, known, Nearest(*points([cells, known], balance)))
        rule = _rule(method, sight, 0.0, balance)
        scores = np.array([rule.gain(k) for k in range(4)]) if isinstance(rule, Information) else rule.scores(np.ones(4, bool))
        assert (abs(scores[3] - scores[0]) < 1e-9 * scores[0]) == balance
        assert balance or scores[3] > scores[0]


def test_the_unit_of_distance_is_that_of_two_structures():
    (x,) = points([look(None, POOL, False, ("H", "C", "O"))], True)
    assert np.mean(((x[:, None] - x) ** 2).sum(-1)) == pytest.approx(1)


# Nothing twice


@pytest.mark.parametrize("method", [*LEARNED, "random"])
def test_neither_copies_nor_turned_copies_are_chosen_twice(potential, method):
    pool = [*POOL, POOL[1], turned(POOL[2]), KNOWN[0], turned(KNOWN[1])]
    found = chosen(potential, method, pool, n=18)
    assert {{14: 1, 15: 2}.get(k, k) for k in found.chosen} == set(range(14))
    assert len(found) == 14
    assert found.left_out == {OF_KNOWN: 2, OF_CHOSEN: 2}
    assert "chose 14 of 18" in found.note


def test_a_least_distance_is_kept(potential):
    found = chosen(potential, "uncertainty", n=14, min_novelty_distance=0.3)
    view, known = look(potential, POOL, False), look(potential, KNOWN, False)
    x, y = points([view, known], True)
    kept = np.concatenate([y, x[list(found.chosen)]])
    least = np.linalg.norm(x[:, None] - kept, axis=-1)
    least[list(found.chosen), len(y) + np.arange(len(found))] = np.inf
    assert 0 < len(found) < 14
    assert least[list(found.chosen)].min() >= 0.3 * (1 - 1e-4)
    assert least[[k for k in range(14) if k not in found.chosen]].min(1).max() <= 0.3 * (1 + 1e-4)
    assert found.left_out[TOO_CLOSE] == 14 - len(found)


def test_with_a_large_bonus_distances_alone_count(potential):
    x, y = points([look(potential, POOL, False), look(potential, KNOWN, False)], True)
    expected = run(Spread(Nearest(x, y), np.ones(14), clusters=True), 5, 14)
    assert list(chosen(potential, "uncertainty-diversity", exploration=1e6).chosen) == expected


# What is said


def test_reasons_name_sigma_and_distance(potential):
    found = chosen(potential, "uncertainty-diversity")
    assert len(found.reasons) == len(found.scores) == len(found) == 5
    assert all("σ_F" in r and "eV/Å" in r and "distance" in r for r in found.reasons)
    assert found.note == ""


def test_fewer_than_asked_for_are_given_and_it_is_said(potential):
    found = chosen(potential, "uncertainty-diversity", n=100, max_atoms=9, pool=[*POOL, shaken(0, atoms=molecule("C3H8"))])
    assert sorted(found.chosen) == list(range(14))
    assert found.left_out == {TOO_LARGE: 1}
    assert "chose 14 of 100" in found.note
    assert "1 more than max_atoms" in found.note


@pytest.mark.parametrize("method", LEARNED)
def test_what_cannot_be_judged_is_counted(potential, method):
    broken = Frame(Structure([1, 1], [[0, 0, 0], [np.nan, 0, 0]]))
    found = chosen(potential, method, [*POOL, shaken(0, atoms=molecule("NH3")), broken], n=20)
    assert sorted(found.chosen) == list(range(14))
    assert found.left_out == {NOT_JUDGED: 2}
    assert "not judged" in found.note


def test_nothing_that_can_be_judged_is_an_error(potential):
    with pytest.raises(DataError, match=r"none of 1 candidates can be judged.*element N is unknown"):
        select(potential, [shaken(0, atoms=molecule("NH3"))], 1)


def test_no_candidates_choose_nothing(potential):
    found = select(potential, [], 3)
    assert found.chosen == ()
    assert "there are 0 candidates" in found.note


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, "n: found 0"),
        ({"n": True}, "n: found True"),
        ({"method": "farhest"}, "did you mean 'farthest'"),
        ({"exploration": -1.0}, "exploration"),
        ({"method": "farthest", "exploration": 1.0}, "exploration is for"),
        ({"min_novelty_distance": float("nan")}, "min_novelty_distance"),
        ({"max_atoms": 0}, "max_atoms"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_makes_no_sense_is_refused(potential, given, message):
    with pytest.raises(ConfigError, match=message):
        select(potential, POOL, **{"n": 1, **given})


@pytest.mark.parametrize("method", ["uncertainty", "uncertainty-diversity", "information"])
def test_without_a_potential_or_a_sigma_it_says_what_to_do(potential, method):
    with pytest.raises(ConfigError, match=r"needs a potential.*'farthest'"):
        select(None, POOL, 1, method=method)
    if method != "information":
        with pytest.raises(ConfigError, match=r"needs σ.*one member.*ensemble.members"):
            select(potential.member(0), POOL, 1, method=method)


def test_one_member_is_enough_for_information(potential):
    assert len(select(potential.member(0), POOL, 2, known=KNOWN, method="information")) == 2
