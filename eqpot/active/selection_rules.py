"""The rules by which structures are chosen one after the other: arrays in, scores out; no rule knows of potentials or files.

Descriptors of structures are points x. A rule scores all candidates, is told which one was taken, and scores anew, so that a batch is not n times
the same thing.

- **farthest**: the distance to the nearest point that is known or taken (farthest-point sampling; Y. Eldar et al., IEEE Trans. Image Process. 6,
  1305 (1997)).
- **spread**: the same distance times a weight (the doubt about the structure), within the largest cluster. A cluster holds the candidates whose nearest
  point is the same; its size is Σ (weight·distance)². That is largest-cluster maximum distance, which sees where many candidates are far from
  what is known, and not only which one is farthest (D. Holzmüller, V. Zaverkin, J. Kästner, I. Steinwart, J. Mach. Learn. Res. 24, 164 (2023)).
- **information**: ln det(1 + R Λ⁻¹ Rᵀ), what the rows R of a structure tell about the weights of a linear readout that the rows taken before hold with
  the precision Λ. The greedy sum of it is the joint information of the batch (A. Kirsch, J. van Amersfoort, Y. Gal, NeurIPS 2019, BatchBALD), here of
  a last layer (V. Zaverkin, D. Holzmüller, I. Steinwart, J. Kästner, Digital Discovery 1, 605 (2022)).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

RIDGE = 1e-4
"""Precision before anything is known, in units of the mean diagonal of that of all structures together."""
BLOCK = 512
"""Points compared with all others at a time."""


class Rule(ABC):
    """What every rule answers."""

    @abstractmethod
    def scores(self, free: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Score of each candidate, −∞ where it may not be taken: only those that are free may."""

    @abstractmethod
    def take(self, k: int) -> None:
        """Candidate k was taken."""

    @abstractmethod
    def reason(self, k: int) -> str:
        """Why candidate k is wanted, before it is taken."""


class Fixed(Rule):
    """Scores that do not depend on what was taken, each with its reason."""

    def __init__(self, scores: Float[np.ndarray, " N"], reason: str) -> None:
        self.fixed, self.text = scores, reason

    def scores(self, free: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        return np.where(free, self.fixed, -np.inf)

    def take(self, k: int) -> None:
        del k

    def reason(self, k: int) -> str:
        return self.text.format(self.fixed[k])


class Nearest:
    """Distance of each candidate to the nearest point that is known or was taken.

    Attributes:
        points: candidates [N, D].
        square: squared distance, infinite while nothing is known or taken [N].
        owner: which point that is: known ones first, then those taken, in order [N].
    """

    def __init__(self, points: Float[np.ndarray, "N D"], known: Float[np.ndarray, "K D"]) -> None:
        self.points, self.n_known, self.owners = points, len(known), len(known)
        self.square, self.owner = np.full(len(points), np.inf), np.full(len(points), -1)
        for first in range(0, len(points), BLOCK if len(known) else max(len(points), 1)):
            rows = slice(first, first + BLOCK)
            if len(known):
                apart = _squares(points[rows], known)
                self.owner[rows] = apart.argmin(1)
                # Anew from differences: what is a copy shall be at distance zero, which squares of lengths do not give.
                self.square[rows] = ((points[rows] - known[self.owner[rows]]) ** 2).sum(1)

    def distance(self, k: int) -> float:
        """Of candidate k; infinite while there is nothing to be near to."""
        return float(np.sqrt(self.square[k]))

    def take(self, k: int) -> None:
        """From now on candidate k is a point to be near to."""
        square = ((self.points - self.points[k]) ** 2).sum(1)
        closer = square < self.square
        self.square[closer], self.owner[closer] = square[closer], self.owners
        self.owners += 1

    def reason(self, k: int) -> str:
        """Where candidate k is, in words."""
        if self.owner[k] < 0:
            return "the first: nothing is known yet"
        return f"distance {self.distance(k):.2g} to the nearest {'known' if self.owner[k] < self.n_known else 'one chosen before'}"


class Spread(Rule):
    """Weight × distance, taken from anywhere or from the largest cluster; see the text of this module.

    Args:
        nearest: distances, which this rule keeps up to date.
        weights: of the candidates, not negative [N]; ones for farthest-point sampling.
        clusters: take from the largest cluster.
        text: what a weight means, with a place for its number; empty for none.
        shown: the numbers of the text [N].
    """

    def __init__(
        self,
        nearest: Nearest,
        weights: Float[np.ndarray, " N"],
        clusters: bool = False,
        text: str = "",
        shown: Float[np.ndarray, " N"] | None = None,
    ) -> None:
        self.nearest, self.weights, self.clusters = nearest, weights, clusters
        self.text, self.shown = text, weights if shown is None else shown

    def scores(self, free: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        square = self.nearest.square
        if np.isinf(square).all():  # nothing is known: the largest weight, of equal ones the most central
            middle = ((self.nearest.points - self.nearest.points.mean(0)) ** 2).sum(1)
            return np.where(free, self.weights * (1 - 1e-6 * middle / max(middle.max(), 1e-300)), -np.inf)
        size = np.where(free, self.weights**2 * square, 0)
        scores = np.where(free, np.sqrt(size), -np.inf)
        if self.clusters and size.any():
            largest = np.bincount(self.nearest.owner, size, minlength=self.nearest.owners).argmax()
            scores = np.where(self.nearest.owner == largest, scores, -np.inf)
        return scores

    def take(self, k: int) -> None:
        self.nearest.take(k)

    def reason(self, k: int) -> str:
        parts = [self.text.format(self.shown[k])] if self.text else []
        return ", ".join([*parts, self.nearest.reason(k)])


class Information(Rule):
    """ln det(1 + R Λ⁻¹ Rᵀ) of each structure's rows R [rows, F]; Λ is the sum of RᵀR over what is known or taken, and a ridge.

    A gain can only become smaller, so that old ones are bounds and few have to be computed anew (M. Minoux, Lect. Notes Control Inf. Sci. 7, 234 (1978)).
    """

    def __init__(self, rows: Sequence[Float[np.ndarray, "_ F"]], known: Sequence[Float[np.ndarray, "_ F"]]) -> None:
        self.rows = rows
        squares = sum((r.T @ r for r in known), np.zeros((rows[0].shape[1],) * 2))
        mean = (np.trace(squares) + sum(float((r**2).sum()) for r in rows)) / (len(rows) + len(known)) / len(squares)
        self.covariance = np.linalg.inv(squares + RIDGE * max(mean, 1e-300) * np.eye(len(squares)))
        self.bounds = np.array([self.gain(k) for k in range(len(rows))])
        self.exact = np.ones(len(rows), bool)

    def gain(self, k: int) -> float:
        """What structure k would tell now [nats]."""
        rows = self.rows[k]
        return float(np.linalg.slogdet(np.eye(len(rows)) + rows @ self.covariance @ rows.T)[1])

    def scores(self, free: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        bounds = np.where(free, self.bounds, -np.inf)
        while not self.exact[k := int(bounds.argmax())] and free[k]:
            bounds[k] = self.bounds[k] = self.gain(k)
            self.exact[k] = True
        return bounds

    def take(self, k: int) -> None:
        rows = self.rows[k]
        along = rows @ self.covariance
        self.covariance -= along.T @ np.linalg.solve(np.eye(len(rows)) + along @ rows.T, along)
        self.exact[:] = False

    def reason(self, k: int) -> str:
        return f"tells {self.bounds[k]:.3g} nats about the readout"


def _squares(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "N K"]:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
