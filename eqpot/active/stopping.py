"""When the loop has learned enough: rules over what the ledger says, and the answer in plain words.

An entry of the list holds when all of its keys hold; the loop ends when any entry does.

    stop:
    - {rounds: 20}                                                     # never more
    - {calls: 500}                                                     # a budget of labels
    - candidates: {sigma_eV_A: 0.15, below: 0.02, rounds: 2}           # nothing left to ask, twice in a row, …
      bound: {force_error_eV_A: 0.3, level: 0.9}                       # … and the errors are known to be small
    - properties: {rounds: 2}                                          # what is computed from the runs does not change any more
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from eqpot.core.config import Config
from eqpot.core.errors import ConfigError


class Candidates(Config):
    """Few of the sampled structures are doubtful."""

    sigma_eV_A: float = Field(gt=0, description="a structure is doubtful when the σ of the force on any of its atoms reaches this")
    below: float = Field(default=0.02, gt=0, lt=1, description="share of the structures")
    rounds: int = Field(default=2, ge=1, description="so many rounds in a row")


class Bound(Config):
    """The force error of an atom in a structure like those sampled is small, with a probability that conformal prediction vouches for."""

    force_error_eV_A: float = Field(gt=0)
    level: float = Field(default=0.9, ge=0.5, lt=1)
    rounds: int = Field(default=1, ge=1, description="so many rounds in a row")


class Properties(Config):
    """What follows from the runs is known well, and is, within its statistical error, what it was a round before."""

    rounds: int = Field(default=2, ge=1, description="so many rounds in a row")
    deviation: float = Field(default=2.0, gt=0, description="largest root mean square change, in standard errors")
    error: float = Field(default=0.1, gt=0, description="largest standard error, in the size of what is measured (both root mean squares)")


class Rule(Config):
    """One entry: all of its keys must hold."""

    rounds: int | None = Field(default=None, ge=1)
    calls: int | None = Field(default=None, ge=1, description="structures that were given to the oracle, failures among them")
    candidates: Candidates | None = None
    bound: Bound | None = None
    properties: Properties | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Rule":
        if not self.asked:
            raise ConfigError("found an empty rule, expected one or more of rounds, calls, candidates, bound, properties")
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        """The keys that were given."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)


def verdict(
    rules: Sequence[Rule], rounds: Sequence[Mapping[str, Any]], calls: int, now: Mapping[str, float | None] | None = None
) -> str | None:
    """Why to stop, or None.

    Args:
        rules: any of them ends the loop.
        rounds: records of the ledger, one per round.
        calls: structures given to the oracle in all.
        now: bounds of the potential that has learned from the last round too, which would be the outcome: what is promised must hold for it.
    """
    if now is not None and rounds:
        rounds = [*rounds[:-1], {**rounds[-1], "errors": {**rounds[-1]["errors"], "bounds_now": now}}]
    for rule in rules:
        reasons = [_CHECKS[name](getattr(rule, name), rounds, calls) for name in rule.asked]
        if all(reasons):
            return "; ".join(filter(None, reasons))
    return None


def _rounds(most: int, rounds: Sequence[Any], calls: int) -> str | None:
    del calls
    return f"{len(rounds)} rounds were done, as many as were allowed" if len(rounds) >= most else None


def _calls(most: int, rounds: Sequence[Any], calls: int) -> str | None:
    del rounds
    return f"the oracle was asked {calls} times, the budget is {most}" if calls >= most else None


def doubtful_share(record: Mapping[str, Any], sigma: float) -> float:
    """Share of a round's structures whose σ reaches a value; those that were not reached because a run broke off count. Of nothing it is one."""
    values = np.asarray(record["sampled"]["sigma_eV_A"])
    lost = record["sampled"]["lost"]
    return float(((values >= sigma).sum() + lost) / (len(values) + lost)) if len(values) + lost else 1.0


def _candidates(rule: Candidates, rounds: Sequence[Mapping[str, Any]], calls: int) -> str | None:
    del calls
    last = rounds[-rule.rounds :]
    shares = [doubtful_share(r, rule.sigma_eV_A) for r in last]
    if len(shares) < rule.rounds or max(shares) >= rule.below or not all(r["calibrated"] for r in last):
        return None
    found = ", ".join(f"{100 * s:.1f} %" for s in shares)
    beside = sum(r["sampled"]["foreign"] for r in last)
    note = f", beside {beside} that could not be judged" if beside else ""
    return f"of the structures sampled in the last {len(shares)} rounds {found} are doubtful (σ of a force of {rule.sigma_eV_A:g} eV/Å or more){note}"


def _bound(rule: Bound, rounds: Sequence[Mapping[str, Any]], calls: int) -> str | None:
    del calls
    last = rounds[-rule.rounds :]
    errors = [r["errors"] for r in last]
    stated = [e[key] for e in errors for key in ("bounds_eV_A", "bounds_now") if key in e]
    bounds = [s.get(f"{rule.level:g}") for s in stated]
    if len(last) < rule.rounds or any(b is None or b > rule.force_error_eV_A for b in bounds):
        return None
    return (
        f"the error of the force on an atom is at most {bounds[-1]:.3f} eV/Å with a probability of {100 * rule.level:g} % in structures like those "
        f"audited (wanted {rule.force_error_eV_A:g} eV/Å)"
    )


def _properties(rule: Properties, rounds: Sequence[Mapping[str, Any]], calls: int) -> str | None:
    del calls
    last = [r["sampled"]["observables"] for r in rounds[-rule.rounds - 1 :]]
    if len(last) <= rule.rounds or not last[-1]:
        return None
    worst = max(change(old, new) for old, new in pairwise(last))
    if not worst <= rule.deviation or not max(map(_relative_error, last[-1].values())) <= rule.error:
        return None
    return f"{', '.join(last[-1])} changed by at most {worst:.1f} standard errors in the last {rule.rounds} rounds"


def change(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """Largest root mean square change of an observable between two rounds, in its standard errors; infinite where there is nothing to compare."""
    if old.keys() != new.keys():
        return np.inf
    worst = 0.0
    for name in new:
        (a, da), (b, db) = ((np.asarray(o[name]["values"]), np.asarray(o[name]["errors"])) for o in (old, new))
        if a.shape != b.shape:
            return np.inf
        error = np.sqrt(da**2 + db**2)
        known = error > 0
        if (a != b)[~known].any():
            return np.inf
        worst = max(worst, float(np.sqrt(np.mean(((a - b)[known] / error[known]) ** 2))) if known.any() else 0.0)
    return worst


def _relative_error(observable: Mapping[str, Any]) -> float:
    size, error = (np.sqrt(np.mean(np.square(observable[key]))) for key in ("values", "errors"))
    return float(error / size) if size else np.inf


def nothing_left(sampled: Mapping[str, Any]) -> str:
    """Why a round had nothing to ask, in words."""
    if not sampled["structures"]:
        what = "the samplers brought nothing new"
    elif sampled["absurd"] == sampled["structures"]:
        what = "all that the samplers brought is beyond trust"
    else:
        what = "nothing is left to ask"
    broken = f", {sampled['broken']} runs broke off" if sampled["broken"] else ""
    return "; ".join([what + broken, *dict.fromkeys(sampled["notes"])])


_CHECKS: dict[str, Any] = {"rounds": _rounds, "calls": _calls, "candidates": _candidates, "bound": _bound, "properties": _properties}


def levels(rules: Sequence[Rule]) -> tuple[float, ...]:
    """Probabilities for which bounds are wanted, 0.9 always among them."""
    return tuple(sorted({0.9} | {rule.bound.level for rule in rules if rule.bound}))
