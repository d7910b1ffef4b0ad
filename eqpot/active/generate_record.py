"""How a structure was made, what could not be made and why, and the loop that draws until nothing overlaps.

A draw is a function of what is written down about it (method, parameters, seed, parent, index, attempt) and of nothing else, so structure 7 is the
same structure whether ten are made or a thousand, alone or beside others.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import ConfigError, StructureError
from eqpot.data import Dataset, write_extxyz
from eqpot.data.distances import pairs
from eqpot.graph.structure import Frame, Structure

Number = int | float
SEARCH = 2.0
"""Least cutoff of a search for close pairs [Å]; with a smaller one, bins far smaller than atoms take all the time."""
BOND = 1.25
"""Atoms closer than this many sums of their covalent radii are bonded."""


class Unmade(StructureError):
    """A draw that came to nothing; the next may do better."""


@dataclass(frozen=True)
class Recipe:
    """What a draw depends on besides its index: method, parameters (JSON values), seed, and the hash of the structure it starts from ('' for none)."""

    method: str
    parameters: dict[str, Any]
    seed: int
    parent: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer) or not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed: found {self.seed!r}, expected a whole number from 0 to 2³² − 1")

    def number(self, index: int | str = "all", attempt: int = 0) -> int:
        """A seed of 128 bits for one attempt at one structure."""
        text = json.dumps([asdict(self), index, attempt], sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")

    def rng(self, index: int | str = "all", attempt: int = 0) -> np.random.Generator:
        """Random numbers for one attempt at one structure; the index 'all' is for what all structures share."""
        return np.random.default_rng(self.number(index, attempt))


@dataclass(frozen=True, eq=False)
class Made:
    """A structure and how it was made.

    Attributes:
        structure: what was made.
        recipe: method, parameters, seed and parent.
        index: which of the recipe's structures.
        attempt: which draw of it was the first that nothing spoke against.
        drawn: what chance chose: sites, angles, strains, …; JSON values.
    """

    structure: Structure
    recipe: Recipe
    index: int
    attempt: int = 0
    drawn: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """How it was made, as JSON values."""
        return asdict(self.recipe) | {"index": self.index, "attempt": self.attempt, "drawn": self.drawn}

    def frame(self) -> Frame:
        """An unlabelled frame whose group (extended XYZ `config_type`) is the method."""
        return Frame(self.structure, origin=f"{self.recipe.method} {self.index}", group=self.recipe.method)


@dataclass(frozen=True)
class Missing:
    """Structures that were wanted and not made, and why; `index` is None when none of a start structure could be made."""

    method: str
    parent: str
    index: int | None
    reason: str
    count: int = 1


@dataclass(frozen=True, eq=False)
class Generated:
    """What was made and what was not; iterates over what was made.

    Attributes:
        made: structures in the order of entries, start structures and indices.
        missing: what could not be made.
        notes: what is worth knowing about the draws, such as modes that were left out.
    """

    made: tuple[Made, ...] = ()
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.made)

    def __iter__(self) -> Iterator[Made]:
        return iter(self.made)

    def __getitem__(self, index: int) -> Made:
        return self.made[index]

    @property
    def wanted(self) -> int:
        """Structures that were asked for."""
        return len(self.made) + sum(m.count for m in self.missing)

    @staticmethod
    def joined(parts: Iterable["Generated"]) -> "Generated":
        """All parts as one, in order; notes said twice are kept once."""
        parts = list(parts)
        made, missing = (tuple(x for p in parts for x in getattr(p, name)) for name in ("made", "missing"))
        return Generated(made, missing, tuple(dict.fromkeys(note for p in parts for note in p.notes)))

    def summary(self) -> list[dict[str, Any]]:
        """For each method: wanted, made, and the reasons why some are missing, most frequent first."""
        rows = []
        for method in dict.fromkeys([m.recipe.method for m in self.made] + [m.method for m in self.missing]):
            made, missing = sum(m.recipe.method == method for m in self.made), [m for m in self.missing if m.method == method]
            reasons: Counter[str] = Counter()
            for m in missing:
                reasons[m.reason] += m.count
            rows.append({"method": method, "wanted": made + reasons.total(), "made": made, "why": dict(reasons.most_common())})
        return rows

    def write(self, path: str | Path, overwrite: bool = False) -> None:
        """Write extended XYZ: `config_type` is the method, and `made` the record as JSON; see `eqpot.data.write_extxyz`."""
        info = [{"made": json.dumps(m.record)} for m in self.made]
        write_extxyz(path, [m.frame() for m in self.made], info=info, overwrite=overwrite)


@dataclass(frozen=True)
class Screen:
    """What no structure may have: atoms on top of each other.

    Attributes:
        nearest: least distance of two atoms, as a fraction of the sum of their covalent radii.
        min_distance: least distance [Å], in place of that.
        tries: draws of one structure before it is given up.
    """

    nearest: Number = 0.6
    min_distance: Number | None = None
    tries: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.nearest < 1.2:
            raise ConfigError(f"nearest: found {self.nearest}, expected a fraction of the sum of covalent radii, from 0 to below 1.2")
        if self.min_distance is not None and not 0 <= self.min_distance < 10:
            raise ConfigError(f"min_distance: found {self.min_distance}, expected a distance from 0 to below 10 Å")
        if self.tries < 1:
            raise ConfigError(f"tries: found {self.tries}, expected at least 1")

    def limits(self, numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Least distance of pairs of atoms [Å], [pairs]."""
        sums = covalent_radii(numbers) + covalent_radii(others)
        return self.nearest * sums if self.min_distance is None else np.full(len(sums), self.min_distance)

    def fault(self, structure: Structure) -> str | None:
        """Why a structure is refused, or None."""
        try:
            structure.check()
        except StructureError as error:
            return str(error)
        reach = float(self.limits(structure.numbers, structure.numbers).max())
        i, j, _, distance = pairs(structure, max(reach, SEARCH))
        short = distance - self.limits(structure.numbers[i], structure.numbers[j])
        if not len(short) or short.min() >= 0:
            return None
        k = int(short.argmin())
        a, b = (symbol(int(structure.numbers[x])) for x in (i[k], j[k]))
        return f"two atoms ({a} and {b}) nearer than {distance[k] - short[k]:.2f} Å"


def covalent_radii(numbers: np.ndarray) -> np.ndarray:
    """Covalent radii [Å] (Cordero et al., Dalton Trans. 2832 (2008), through ASE's table)."""
    from ase.data import covalent_radii as table

    return table[numbers]


def bonded(structure: Structure) -> np.ndarray:
    """Pairs of atoms nearer than `BOND` sums of covalent radii, i < j, sorted; [bonds, 2]."""
    i, j, _, distance = pairs(structure, 2 * BOND * float(covalent_radii(structure.numbers).max()))
    near = (distance < BOND * (covalent_radii(structure.numbers[i]) + covalent_radii(structure.numbers[j]))) & (i < j)
    return np.unique(np.stack([i[near], j[near]], 1), axis=0)


def content_hash(structure: Structure) -> str:
    """Hash of a structure, to the bit; 16 hexadecimal digits."""
    return Dataset((Frame(structure),)).content_hash[:16]


Draw = Callable[[np.random.Generator, int], tuple[Structure, dict[str, Any]]]
"""Random numbers and an index → a structure and what was drawn. May raise `Unmade`."""


def drawn(recipe: Recipe, n: int, make: Draw, screen: Screen, tries: int | None = None) -> Generated:
    """Draw n structures, each again until nothing speaks against it or the tries (by default the screen's) are used up."""
    if n < 1:
        raise ConfigError(f"n: found {n}, expected at least 1")
    made: list[Made] = []
    missing: list[Missing] = []
    for index in range(n):
        found = _attempts(recipe, index, make, screen, tries or screen.tries)
        if isinstance(found, Made):
            made.append(found)
        else:
            missing.append(Missing(recipe.method, recipe.parent, index, found))
    return Generated(tuple(made), tuple(missing))


def _attempts(recipe: Recipe, index: int, make: Draw, screen: Screen, tries: int) -> Made | str:
    reason = None
    for attempt in range(tries):
        try:
            structure, details = make(recipe.rng(index, attempt), index)
        except Unmade as error:
            reason = str(error)
            continue
        reason = screen.fault(structure)
        if reason is None:
            return Made(structure, recipe, index, attempt, details)
    return f"{reason} ({tries} tries)" if tries > 1 else str(reason)
