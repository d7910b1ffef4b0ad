"""Structures that are nearly the same, whatever their orientation and the order of their atoms: nobody should pay for one twice."""

from collections.abc import Iterable, Sequence

import numpy as np

from eqpot.data.duplicates import CLOSE, NEAR, displacement
from eqpot.data.pair_model import near
from eqpot.graph import Frame, Structure

OF_KNOWN, OF_CHOSEN = "near-duplicate of a known structure", "near-duplicate of another candidate"
"""Reasons to leave a candidate out."""


class Twins:
    """Structures that are known or were taken, by formula, charge and periodicity, with the sums over their pairs of atoms.

    A candidate is compared with the one of these whose sums are nearest to its own: it is its twin if atoms have to move by less than
    0.01 Å (root mean square per coordinate) from one to the other; see `eqpot.data.duplicates`. This is done when its turn comes, so that it costs
    as many comparisons as structures are chosen.

    Args:
        known: structures that a candidate shall differ from.
        numbers: atomic numbers of all structures that will be compared, ascending.
    """

    def __init__(self, known: Sequence[Frame], numbers: Iterable[int]) -> None:
        self.numbers = np.array(sorted(numbers))
        self.kept: dict[tuple, list[tuple[np.ndarray, Structure, str]]] = {}
        self.waiting = [f.structure for f in known]

    def why_not(self, structure: Structure) -> str:
        """The reason to leave a structure out; empty when it is like no other."""
        self._keep_waiting()
        others = self.kept.get(_kind(structure), [])
        if not others or len(structure) < 2:  # pairs say nothing of one atom; equal ones were found by their keys
            return ""
        own = self._sums(structure)
        apart = ((np.array([sums for sums, *_ in others]) - own) ** 2).sum(1)
        nearest = int(apart.argmin())
        if apart[nearest] > CLOSE**2 * (own**2).sum():
            return ""
        _, other, reason = others[nearest]
        return reason if displacement(structure, other) < NEAR else ""

    def take(self, structure: Structure) -> None:
        """From now on a candidate shall differ from this one too."""
        self._keep(structure, OF_CHOSEN)

    def _keep_waiting(self) -> None:
        while self.waiting:
            self._keep(self.waiting.pop(), OF_KNOWN)

    def _keep(self, structure: Structure, reason: str) -> None:
        self.kept.setdefault(_kind(structure), []).append((self._sums(structure), structure, reason))

    def _sums(self, structure: Structure) -> np.ndarray:
        return near(structure, self.numbers).descriptors()


def _kind(structure: Structure) -> tuple:
    return structure.formula, structure.charge, tuple(np.asarray(structure.pbc).tolist())
