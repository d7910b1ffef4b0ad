"""Numbers that describe a data set: sizes, energies after E0, force and stress scales, shortest distances."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eqpot.core.elements import symbol
from eqpot.data.dataset import Dataset, energy_of, forces_of, is_isolated_atom
from eqpot.data.distances import pairs, sample
from eqpot.data.reference import ReferenceEnergies

DISTANCE_CUTOFF = 3.0
"""Pairs farther apart than this [Å] are not counted as shortest distances."""
DISTANCE_FRAMES = 300
"""At most so many frames, evenly spread, are searched for shortest distances."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of a dataset; `None` where no frame has the label.

    Isolated atoms count in `n_frames` and `n_atoms` but not in the energy statistics.

    Attributes:
        n_frames: number of frames.
        n_atoms: number of atoms in all frames.
        atoms_min, atoms_mean, atoms_max: atoms per frame.
        energy_mean, energy_std: of (E − ΣE0)/N [eV/atom].
        force_rms: over all force components [eV/Å].
        force_rms_by_element: the same for the atoms of one element [eV/Å].
        force_max: longest force [eV/Å].
        stress_rms: over all stress components [eV/Å³].
        shortest: shortest distance [Å] of each pair of elements, such as 'C-H', up to `DISTANCE_CUTOFF`.
    """

    n_frames: int
    n_atoms: int
    atoms_min: int
    atoms_mean: float
    atoms_max: int
    energy_mean: float | None
    energy_std: float | None
    force_rms: float | None
    force_rms_by_element: dict[str, float]
    force_max: float | None
    stress_rms: float | None
    shortest: dict[str, float]


def statistics(dataset: Dataset, references: Mapping[str, ReferenceEnergies]) -> Statistics:
    """Describe a dataset relative to the reference energies of its levels of theory, by their names."""
    sizes = [len(f) for f in dataset]
    extended = [f for f in dataset if f.labels.energy is not None and not is_isolated_atom(f)]
    energies = np.array([(energy_of(f) - references[f.head].total(f.structure)) / len(f) for f in extended])
    with_forces = [f for f in dataset if f.labels.forces is not None]
    forces = np.concatenate([forces_of(f) for f in with_forces]) if with_forces else np.zeros((0, 3))
    numbers = np.concatenate([f.structure.numbers for f in with_forces]) if with_forces else np.zeros(0, int)
    stresses = [f.labels.stress for f in dataset if f.labels.stress is not None]
    return Statistics(
        n_frames=len(sizes),
        n_atoms=sum(sizes),
        atoms_min=min(sizes, default=0),
        atoms_mean=float(np.mean(sizes)) if sizes else 0.0,
        atoms_max=max(sizes, default=0),
        energy_mean=float(energies.mean()) if len(energies) else None,
        energy_std=float(energies.std()) if len(energies) else None,
        force_rms=_rms(forces) if with_forces else None,
        force_rms_by_element={symbol(z): _rms(forces[numbers == z]) for z in np.unique(numbers)},
        force_max=float(np.linalg.norm(forces, axis=1).max()) if with_forces else None,
        stress_rms=_rms(np.array(stresses)) if stresses else None,
        shortest=shortest_distances(dataset),
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def shortest_distances(dataset: Dataset) -> dict[str, float]:
    """Shortest distance [Å] of each pair of elements, over a sample of the frames."""
    shortest: dict[tuple[int, int], float] = {}
    for frame in sample(dataset.frames, DISTANCE_FRAMES):
        i, j, _, distance = pairs(frame.structure, DISTANCE_CUTOFF)
        a, b = frame.structure.numbers[i], frame.structure.numbers[j]
        code = np.minimum(a, b) * 1000 + np.maximum(a, b)
        for c in np.unique(code):
            pair = divmod(int(c), 1000)
            shortest[pair] = min(shortest.get(pair, np.inf), float(distance[code == c].min()))
    return {f"{symbol(a)}-{symbol(b)}": d for (a, b), d in sorted(shortest.items())}
