"""Steps between similar frames in a set without order: how much the energy changes, and the work that the forces say.

Each frame is compared with the one most like it among those of the same atoms (in the same order) and cell: molecules by their distances between atoms,
turned onto each other (Kabsch, Acta Cryst. A 32, 922 (1976)), crystals by the displacements of their atoms. The work is −½ (F_a + F_b)·(R_b − R_a), whose error
is of third order in the displacement.
"""

from typing import Final

import numpy as np

from eqpot.data.dataset import Dataset, energy_of, forces_of
from eqpot.data.distances import sample
from eqpot.graph.structure import Frame

FRAMES: Final = 400
"""At most so many frames of the same atoms are compared with each other."""
LEAST: Final = 10
"""Frames of the same atoms that are needed."""
DISTANCES: Final = 2000
"""At most so many distances between atoms tell how alike two molecules are."""


def similar_steps(dataset: Dataset) -> np.ndarray:
    """Work and change of the energy [eV] from each frame to the one most like it, [steps, 2]."""
    alike: dict[tuple[bytes, ...], list[Frame]] = {}
    for frame in dataset:
        s = frame.structure
        if frame.labels.energy is not None and frame.labels.forces is not None and len(s) > 1 and s.pbc.all() == s.pbc.any():
            cell = np.round(s.cell, 4) if s.pbc.any() else np.zeros(0)
            alike.setdefault((s.numbers.tobytes(), cell.tobytes()), []).append(frame)
    steps = [_steps(sample(frames, FRAMES)) for frames in alike.values() if len(frames) >= LEAST]
    return np.concatenate([np.zeros((0, 2)), *steps])


def _steps(frames: list[Frame]) -> np.ndarray:
    positions, forces = (np.array(values) for values in ([f.structure.positions for f in frames], [forces_of(f) for f in frames]))
    energies = np.array([energy_of(f) for f in frames])
    periodic = bool(frames[0].structure.pbc.all())
    move = _Crystal(positions, frames[0].structure.cell) if periodic else _Molecule(positions)
    steps = []
    for a in range(len(frames)):
        b, path, turn = move.to_nearest(a)
        steps.append((-np.sum((forces[a] + forces[b] @ turn) * path) / 2, energies[b] - energies[a]))
    return np.array(steps)


class _Crystal:
    """Displacements in one cell."""

    def __init__(self, positions: np.ndarray, cell: np.ndarray) -> None:
        self.cell, self.places = cell, positions @ np.linalg.inv(cell)

    def to_nearest(self, a: int) -> tuple[int, np.ndarray, np.ndarray]:
        """The frame nearest to frame a, the way there [Å], and the rotation of its forces."""
        moved = self.places - self.places[a]
        moved = (moved - np.round(moved)) @ self.cell
        square = np.sum(moved**2, (1, 2))
        square[a] = np.inf
        b = int(square.argmin())
        return b, moved[b], np.eye(3)


class _Molecule:
    """Displacements of what has neither place nor orientation."""

    def __init__(self, positions: np.ndarray) -> None:
        i, j = np.triu_indices(positions.shape[1], 1)
        chosen = np.random.default_rng(0).permutation(len(i))[:DISTANCES]
        self.positions = positions - positions.mean(1, keepdims=True)
        self.distances = np.linalg.norm(positions[:, i[chosen]] - positions[:, j[chosen]], axis=-1)

    def to_nearest(self, a: int) -> tuple[int, np.ndarray, np.ndarray]:
        """See `_Crystal.to_nearest`."""
        square = np.sum((self.distances - self.distances[a]) ** 2, 1)
        square[a] = np.inf
        b = int(square.argmin())
        left, _, right = np.linalg.svd(self.positions[b].T @ self.positions[a])
        turn = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
        return b, self.positions[b] @ turn - self.positions[a], turn
