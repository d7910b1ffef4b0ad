"""Structures that occur more than once, exactly or nearly, and whether their labels agree.

Near duplicates are found by the descriptors of the structure, which do not change with orientation or order of the atoms. The difference of two
frames' descriptors of atoms is turned into a displacement by what a known small displacement does to one of them.
"""

from typing import Final

import numpy as np

from eqpot.data.dataset import Dataset, energy_of, forces_of
from eqpot.data.fault import Fault
from eqpot.data.force_faults import assignment
from eqpot.data.pair_model import near
from eqpot.graph.structure import Frame, Structure

NEAR: Final = 0.01
"""Root mean square displacement per coordinate [Å] up to which two structures are nearly the same."""
CLOSE: Final = 0.02
"""Relative difference of the descriptors beyond which nothing is looked at closer."""
STEP: Final = 1e-3
"""The known small displacement, per coordinate [Å]."""
AGREEMENT: Final = 1e-3
"""Energies of one structure agree to this [eV/atom]."""
BLOCK: Final = 1000
"""Frames compared with all others at a time."""
Pairs = tuple[tuple[int, int, float], ...]


def near_duplicates(dataset: Dataset, descriptors: np.ndarray, same: tuple[tuple[int, int], ...]) -> Pairs:
    """(frame, the nearest earlier frame, displacement [Å]) of frames that are nearly the same.

    Args:
        dataset: any frames.
        descriptors: sums over the pairs of each structure (`pair_model`), [frames, features].
        same: pairs of frames that are exactly the same; their later ones are left out.
    """
    left_out = {k for k, _ in same}
    by_formula: dict[str, list[int]] = {}
    for k, frame in enumerate(dataset):
        if k not in left_out and len(frame) > 1:
            by_formula.setdefault(frame.structure.formula, []).append(k)
    found = []
    for rows in by_formula.values():
        for later, earlier in _nearest(descriptors[rows]):
            moved = displacement(dataset[rows[later]].structure, dataset[rows[earlier]].structure)
            if moved < NEAR:
                found.append((rows[later], rows[earlier], moved))
    return tuple(sorted(found))


def _nearest(features: np.ndarray) -> list[tuple[int, int]]:
    """(row, nearest earlier row) where they differ by less than `CLOSE` of their length."""
    square = np.sum(features**2, 1)
    found = []
    for first in range(0, len(features), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(features)))
        distance = square[rows, None] + square[None] - 2 * features[rows] @ features.T
        distance[np.arange(len(features))[None] >= rows[:, None]] = np.inf
        nearest = distance.argmin(1)
        close = distance[np.arange(len(rows)), nearest] < CLOSE**2 * square[rows]
        found += list(zip(rows[close].tolist(), nearest[close].tolist(), strict=True))
    return found


def displacement(a: Structure, b: Structure) -> float:
    """How far two structures of one formula are apart, as a root mean square displacement per coordinate [Å]; whatever orientation and order."""
    elements = np.unique(a.numbers)
    step = STEP * np.random.default_rng(0).normal(size=a.positions.shape)
    own, other = near(a, elements).of_atoms(), near(b, elements).of_atoms()
    moved = near(Structure(a.numbers, a.positions + step, a.cell, a.pbc), elements).of_atoms()
    cost = np.sum(own**2, 1)[:, None] + np.sum(other**2, 1) - 2 * own @ other.T
    cost = np.where(a.numbers[:, None] == b.numbers, np.maximum(cost, 0), 1e6 * (1 + np.abs(cost).max()))
    least = cost[np.arange(len(a)), assignment(cost)].sum()
    return float(STEP * np.sqrt(least) / max(np.linalg.norm(moved - own), 1e-12))


def conflicts(dataset: Dataset, same: tuple[tuple[int, int], ...], nearly: Pairs) -> list[Fault]:
    """Frames of (nearly) one structure whose energies differ by more than forces and displacement explain: 3·F_rms·√(3n)·δ + n·`AGREEMENT`."""
    faults = []
    for k, earlier, moved in (*((a, b, 0.0) for a, b in same), *nearly):
        frame, other = dataset[k], dataset[earlier]
        if frame.labels.energy is None or other.labels.energy is None or frame.head != other.head or not _same_cell(frame, other):
            continue
        force = 1.0 if frame.labels.forces is None else float(np.sqrt(np.mean(forces_of(frame) ** 2)))
        allowed = 3 * force * np.sqrt(3 * len(frame)) * moved + len(frame) * AGREEMENT
        difference = energy_of(frame) - energy_of(other)
        if abs(difference) > allowed:
            where = other.origin or f"frame {earlier}"
            text = f"energy differs by {difference:+.4g} eV from that of {'nearly ' if moved else ''}the same structure in {where}"
            faults.append(
                Fault(k, "conflicting-labels", text, 10 * abs(difference) / allowed, {"difference": difference, "displacement": moved})
            )
    return faults


def _same_cell(a: Frame, b: Frame) -> bool:
    """Whether the periodic cells have the same shape: the energy of a strain is not in the forces."""
    metric_a, metric_b = (s.cell[s.pbc] @ s.cell[s.pbc].T for s in (a.structure, b.structure))
    return metric_a.shape == metric_b.shape and np.allclose(metric_a, metric_b, rtol=1e-4, atol=1e-4)
