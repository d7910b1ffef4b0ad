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
    """What follows from the runs is, within its statistical error, what it was a round before."""

    rounds: int = Field(default=2, ge=1, description="so many rounds in a row")
    deviation: float = Field(default=2.0, gt=0, description="largest root mean square change, in standard errors")


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


def verdict(rules: Sequence[Rule], rounds: Sequence[Mapping[str, Any]], calls: int) -> str | None:
    """Why to stop, or None.

    Args:
        rules: any of them ends the loop.
        rounds: records of the ledger, one per round.
        calls: structures given to the oracle in all.
    """
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
    """Share of a round's sampled structures whose σ reaches a value; those that broke off count."""
    values = np.asarray(record["sampled"]["sigma_eV_A"])
    broken = record["sampled"]["broken"]
    return float(((values >= sigma).sum() + broken) / max(len(values) + broken, 1))


def _candidates(rule: Candidates, rounds: Sequence[Mapping[str, Any]], calls: int) -> str | None:
    del calls
    shares = [doubtful_share(r, rule.sigma_eV_A) for r in rounds[-rule.rounds :]]
    if len(shares) < rule.rounds or max(shares) >= rule.below:
        return None
    found = ", ".join(f"{100 * s:.1f} %" for s in shares)
    return f"of the structures sampled in the last {len(shares)} rounds {found} are doubtful (σ of a force of {rule.sigma_eV_A:g} eV/Å or more)"


def _bound(rule: Bound, rounds: Sequence[Mapping[str, Any]], calls: int) -> str | None:
    del calls
    last = rounds[-rule.rounds :]
    bounds = [r["errors"]["bounds_eV_A"].get(f"{rule.level:g}") for r in last]
    if len(last) < rule.rounds or any(b is None or b > rule.force_error_eV_A for b in bounds):
        return None
    return (
        f"the error of the force on an atom is at most {bounds[-1]:.3f} eV/Å with a probability of {100 * rule.level:g} % in structures like those "
        f"sampled (wanted {rule.force_error_eV_A:g} eV/Å)"
    )


def _properties(rule: Properties, rounds: Sequence[Mapping[str, Any]], calls: int) -> str | None:
    del calls
    last = [r["sampled"]["observables"] for r in rounds[-rule.rounds - 1 :]]
    if len(last) <= rule.rounds or not last[-1]:
        return None
    worst = max(change(old, new) for old, new in pairwise(last))
    if not worst <= rule.deviation:
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


_CHECKS: dict[str, Any] = {"rounds": _rounds, "calls": _calls, "candidates": _candidates, "bound": _bound, "properties": _properties}


def levels(rules: Sequence[Rule]) -> tuple[float, ...]:
    """Probabilities for which bounds are wanted, 0.9 always among them."""
    return tuple(sorted({0.9} | {rule.bound.level for rule in rules if rule.bound}))
