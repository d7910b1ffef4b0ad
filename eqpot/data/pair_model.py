"""The best pair potential of a data set: a linear model cheap enough to judge labels with before any network is trained.

    E = Σ_Z n_Z E0_Z + Σ_{i<j} Σ_k c_{ab,k} φ_k(r_ij),    φ_k(r) = exp(−(r − r_k)²/2w²) · ½(1 + cos πr/r_c)

with coefficients for every pair of elements ab. It explains most of the force on an atom of a molecule and a fair part in a crystal: enough
to tell a force from its opposite, from that of another frame, or from one in another unit. The sums of φ_k are also
descriptors of the structure, for the fit of energies (`eqpot.data.leverage`) and for finding structures that are nearly the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from eqpot.data.dataset import forces_of, is_isolated_atom
from eqpot.data.distances import pairs, sample
from eqpot.graph.structure import Frame, Structure

CUTOFF: Final = 5.0
"""Pairs farther apart than this [Å] do not count."""
CENTRES: Final = np.arange(0.6, CUTOFF, 0.3)
"""r_k [Å]."""
WIDTH: Final = 0.3
"""w [Å]."""
FIT_ATOMS: Final = 5000
"""Frames with about so many atoms in all, evenly spread, are fitted."""
LEAST_FRAMES: Final = 5
"""Frames with forces that are needed for a fit."""
PASSES: Final = 4
"""Fits, each weighting a frame by what the last one left over."""


def radial(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """φ_k(r) and dφ_k/dr [1/Å], each [pairs, k]."""
    offset = (distance[:, None] - CENTRES) / WIDTH
    bell = np.exp(-(offset**2) / 2)
    angle = np.pi * distance[:, None] / CUTOFF
    fade, slope = (1 + np.cos(angle)) / 2, -np.pi / CUTOFF * np.sin(angle) / 2
    return bell * fade, bell * (slope - fade * offset / WIDTH)


@dataclass(frozen=True, eq=False)
class Near:
    """The pairs of a structure: i, kind (pair of elements), φ_k(r) and dφ_k/dr [pairs, k], unit vector from i to j [pairs, 3]."""

    n_atoms: int
    n_kinds: int
    i: np.ndarray
    kind: np.ndarray
    value: np.ndarray
    slope: np.ndarray
    direction: np.ndarray

    def descriptors(self) -> np.ndarray:
        """Sums of φ_k over the pairs of atoms, [pairs of elements × k]."""
        return np.concatenate([self.value[self.kind == kind].sum(0) / 2 for kind in range(self.n_kinds)])

    def of_atoms(self) -> np.ndarray:
        """The descriptors of each atom, [atoms, pairs of elements × k]."""
        rows = np.zeros((self.n_atoms * self.n_kinds, self.value.shape[1]))
        np.add.at(rows, self.i * self.n_kinds + self.kind, self.value)
        return rows.reshape(self.n_atoms, -1)

    def forces(self, coefficients: np.ndarray) -> np.ndarray:
        """Forces [eV/Å] of the pair potential with coefficients c [eV], [atoms, 3]."""
        push = np.sum(self.slope * coefficients.reshape(self.n_kinds, -1)[self.kind], 1)[:, None] * self.direction
        return np.stack([np.bincount(self.i, push[:, x], self.n_atoms) for x in range(3)], 1)

    def design(self) -> np.ndarray:
        """Derivative of the forces by the coefficients, [3·atoms, pairs of elements × k]."""
        width = self.slope.shape[1]
        push = np.zeros((self.n_atoms * self.n_kinds, 3, width))
        np.add.at(push, self.i * self.n_kinds + self.kind, self.direction[:, :, None] * self.slope[:, None, :])
        push = push.reshape(self.n_atoms, self.n_kinds, 3, width).transpose(0, 2, 1, 3)
        return push.reshape(3 * self.n_atoms, self.n_kinds * width)


def near(structure: Structure, numbers: np.ndarray) -> Near:
    """The pairs of a structure, whose elements are among `numbers` (ascending)."""
    i, j, vector, distance = pairs(structure, CUTOFF)
    a, b = np.searchsorted(numbers, structure.numbers[i]), np.searchsorted(numbers, structure.numbers[j])
    high, low = np.maximum(a, b), np.minimum(a, b)
    n_kinds = len(numbers) * (len(numbers) + 1) // 2
    return Near(len(structure), n_kinds, i, high * (high + 1) // 2 + low, *radial(distance), vector / np.maximum(distance, 1e-6)[:, None])


def fit_pair_model(frames: Sequence[Frame], numbers: np.ndarray) -> np.ndarray | None:
    """Coefficients c [eV] by least squares on the forces, where frames that do not follow the rest lose their weight; None with too few forces.

    A frame weighs 1/(its mean squared residual): the fit of most frames is not moved by a few wrong ones. The first weights are
    1/(mean squared force), so that a frame in another unit counts no more than others.
    """
    useful = [f for f in frames if f.labels.forces is not None and not is_isolated_atom(f) and f.labels.forces.any()]
    size = len(numbers) * (len(numbers) + 1) // 2 * len(CENTRES)
    if len(useful) < LEAST_FRAMES or 3 * sum(map(len, useful)) < 2 * size:
        return None
    chosen = sample(useful, max(LEAST_FRAMES, round(FIT_ATOMS * len(useful) / sum(map(len, useful)))))
    designs = [near(f.structure, numbers).design().astype(np.float32) for f in chosen]
    labels = [forces_of(f).ravel() for f in chosen]
    square = np.array([np.mean(y**2) for y in labels])
    weight = 1 / (square + 0.1 * np.median(square))
    coefficients = np.zeros(size)
    for _ in range(PASSES):
        scaled = [np.float32(np.sqrt(w / len(y))) * x for w, x, y in zip(weight, designs, labels, strict=True)]
        gram = np.sum([x.T @ x for x in scaled], 0, dtype=float)
        right = np.sum([x.T @ (np.sqrt(w / len(y)) * y) for w, x, y in zip(weight, scaled, labels, strict=True)], 0)
        coefficients = np.linalg.solve(gram + 1e-5 * np.trace(gram) / size * np.eye(size), right)
        left = np.array([np.mean((y - x @ coefficients) ** 2) for x, y in zip(designs, labels, strict=True)])
        weight = 1 / (left + 0.1 * np.median(left))
    return coefficients
