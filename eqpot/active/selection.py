"""Which structures to ask for: those that would teach a potential the most, as a batch and not one by one.

`select` looks at candidates without their labels, leaves out what is (nearly) known already or occurs twice, and chooses greedily by one of the rules of
`eqpot.active.selection_rules`. Each choice comes with its score and with the reason in words; what was left out is counted. docs/active.md says
what each method gained in numbers.

Sizes: with `balance` everything is per atom (means of descriptors, root mean squares of σ), so that a repeated cell scores as much as the cell itself;
without it large structures are worth more, as they hold more to learn and cost more to label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from eqpot.active.selection_pool import Pool, admit
from eqpot.active.selection_rules import Fixed, Information, Nearest, Rule, Spread
from eqpot.active.selection_twins import Twins
from eqpot.active.selection_views import View, look, points, symbols
from eqpot.core.errors import ConfigError, DataError, did_you_mean
from eqpot.data import is_isolated_atom
from eqpot.graph import Frame
from eqpot.potential import Potential

Method = Literal["random", "uncertainty", "farthest", "uncertainty-diversity", "information"]
WITH_SIGMA = ("uncertainty", "uncertainty-diversity")
TOO_CLOSE = "closer than min_novelty_distance"
"""A reason to leave a candidate out, besides those of `selection_pool` and `selection_twins`."""


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        chosen: indices of the candidates, in the order of choice.
        scores: of each when it was chosen; what it means depends on the method.
        reasons: of each, in words.
        left_out: candidates that could not be chosen, counted by reason. A near-duplicate is found when its turn comes, an exact one always.
        note: what a user should know, such as that fewer were chosen than asked for and why; empty if there is nothing.
    """

    chosen: tuple[int, ...]
    scores: tuple[float, ...]
    reasons: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    def __len__(self) -> int:
        return len(self.chosen)


def select(
    potential: Potential | None,
    candidates: Sequence[Frame],
    n: int,
    *,
    known: Sequence[Frame] = (),
    method: str = "uncertainty-diversity",
    seed: int = 0,
    exploration: float = 0.0,
    min_novelty_distance: float | None = None,
    balance: bool = True,
    max_atoms: int | None = None,
) -> Selection:
    """Choose the candidates that are worth the most labels.

    The choice does not depend on the order of the candidates, nor, 'random' aside, on the orientation of a structure and the order of its atoms.

    Args:
        potential: what is to be improved; None for 'random' and 'farthest', which then uses fixed descriptors.
        candidates: structures to choose from; their labels are ignored.
        n: how many are wanted; fewer are chosen where there are no more, and `note` says so.
        known: labelled already; a choice keeps its distance from these.
        method: 'random'; 'uncertainty': largest calibrated σ of the force on any atom; 'farthest': farthest-point sampling of descriptors;
            'uncertainty-diversity': σ × distance within the largest cluster; 'information': what a structure's atoms tell of the last linear layer.
        seed: of 'random', the only method that draws.

    Few need:
        exploration: α; 'uncertainty-diversity' then weights distances with σ/⟨σ⟩ + α, and for large α they alone count.
        min_novelty_distance: least distance to what is known or was chosen, in units of the root mean square distance between two structures at hand.
        balance: score per atom; otherwise large structures are worth more.
        max_atoms: leave larger structures out.

    Raises:
        ConfigError: for an unknown method, a method that needs a potential or a σ where there is none, and values out of range.
        DataError: when none of the candidates can be judged.
    """
    _require(potential, n, method, seed, exploration, min_novelty_distance, max_atoms)
    pool, sight = admit(candidates, known, max_atoms), None
    if pool.frames and (method != "random" or min_novelty_distance is not None):
        sight = _look(potential, pool, known, method, balance)
        pool = sight.pool
    rule = Fixed(pool.draws(seed), "drawn at random") if sight is None or method == "random" else _rule(method, sight, exploration, balance)
    chosen, scores, reasons = _choose(pool, rule, None if sight is None else sight.nearest, known, n, min_novelty_distance)
    return Selection(chosen, scores, reasons, dict(pool.left_out), _note(n, len(chosen), len(candidates), pool))


def _require(
    potential: Potential | None, n: int, method: str, seed: int, exploration: float, least: float | None, max_atoms: int | None
) -> None:
    """Refuse what cannot be meant, before anything is computed."""
    if method not in get_args(Method):
        raise ConfigError(f"method: found '{method}', {did_you_mean(str(method), get_args(Method))}")
    for name, value, lowest in (("n", n, 1), ("seed", seed, 0), ("max_atoms", 1 if max_atoms is None else max_atoms, 1)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
            raise ConfigError(f"{name}: found {value!r}, expected a whole number of at least {lowest}")
    for name, value in (("exploration", exploration), ("min_novelty_distance", least or 0.0)):
        if not 0 <= value < np.inf:
            raise ConfigError(f"{name}: found {value!r}, expected a number of at least 0")
    if exploration and method != "uncertainty-diversity":
        raise ConfigError(f"exploration is for method 'uncertainty-diversity', found method '{method}'; leave it out")
    if potential is None and method not in ("random", "farthest"):
        raise ConfigError(f"method '{method}' needs a potential, found None; methods 'farthest' and 'random' work without one")
    if potential is not None and method in WITH_SIGMA and potential.n_members < 2 and potential.trust.last_layer is None:
        raise ConfigError(
            f"method '{method}' needs σ, found a potential of one member; train ensemble.members of 2 or more, or use fit_last_layer, or another method"
        )


@dataclass(frozen=True, eq=False)
class _Sight:
    """Those candidates that can be judged, what was seen of them and of what is known, and how far the ones are from the others."""

    pool: Pool
    view: View
    known: View
    nearest: Nearest


def _look(potential: Potential | None, pool: Pool, known: Sequence[Frame], method: str, balance: bool) -> _Sight:
    company = [f for f in known if not is_isolated_atom(f)]
    elements = symbols([*pool.frames, *company])
    view = look(potential, pool.frames, method in WITH_SIGMA, elements)
    if not len(view.judged):
        raise DataError(f"select: none of {len(pool.frames)} candidates can be judged; {view.fault}")
    seen = look(potential, company, False, elements)
    return _Sight(pool.only(view.judged.tolist(), view.fault), view, seen, Nearest(*points([view, seen], balance)))


def _rule(method: str, sight: _Sight, exploration: float, balance: bool) -> Rule:
    view, nearest = sight.view, sight.nearest
    if method == "farthest":
        return Spread(nearest, np.ones(len(view.judged)))
    if method == "information":
        return Information(_rows(view, balance), _rows(sight.known, balance))
    if method == "uncertainty":
        return Fixed(np.array([s.max() for s in view.sigma]), "σ_F {:.2g} eV/Å of one atom")
    sigma = np.array([np.sqrt((s**2).mean()) for s in view.sigma])
    weights = sigma if balance else sigma * np.sqrt([len(s) for s in view.sigma])
    weights = weights / max(weights.mean(), 1e-300) + exploration
    return Spread(nearest, weights, clusters=True, text="σ_F {:.2g} eV/Å", shown=sigma)


def _rows(view: View, balance: bool) -> list[np.ndarray]:
    """The descriptors of the atoms of each structure, so that the sum over them is a mean with `balance`."""
    wide = [d.astype(np.float64) for d in view.descriptors]
    return [d / np.sqrt(len(d)) for d in wide] if balance else wide


def _choose(
    pool: Pool, rule: Rule, nearest: Nearest | None, known: Sequence[Frame], n: int, least: float | None
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[str, ...]]:
    """Take the best, score anew, until there are n or no more; what is not taken is counted in the pool."""
    numbers = {int(z) for f in (*pool.frames, *known) for z in f.structure.numbers}
    twins, free, found = Twins(known, numbers), np.ones(len(pool.frames), bool), []
    while len(found) < n and free.any():
        scores = rule.scores(free)
        k = int(scores.argmax())
        free[k] = False
        why_not = TOO_CLOSE if nearest and least and nearest.distance(k) < least else twins.why_not(pool.frames[k].structure)
        if why_not:
            pool.left_out[why_not] += 1
            continue
        found.append((pool.indices[k], float(scores[k]), rule.reason(k)))
        rule.take(k)
        if nearest and not isinstance(rule, Spread):
            nearest.take(k)
        twins.take(pool.frames[k].structure)
    chosen, values, reasons = zip(*found, strict=True) if found else ((), (), ())
    return chosen, values, reasons


def _note(wanted: int, chosen: int, candidates: int, pool: Pool) -> str:
    parts = []
    if chosen < wanted:
        why = ", ".join(f"{count} {reason}" for reason, count in pool.left_out.items())
        left_out = f", of which were left out: {why}" if why else ""
        parts.append(f"chose {chosen} of {wanted} asked for: there are {candidates} candidates{left_out}")
    return "; ".join([*parts, *(f"not judged: {fault}" for fault in pool.faults[:1])])
