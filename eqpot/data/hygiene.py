"""Which frames of a set are worth a look by a human, and why.

Labels are compared with what a model says of them (`Opinion`): a trained potential, or, where there is none, the best pair potential of the set
itself. Energies are judged by their leave-one-out residuals (`energy_faults`), forces by their errors (`force_faults`), structures
by their distances, and sources of data by the step between their energies (`sources`). Everything that is found is a
suspicion: a frame unlike all others may be the most valuable one. docs/hygiene.md gives the formulas and how often this is right.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.data.dataset import Dataset, forces_of, is_isolated_atom
from eqpot.data.distance_faults import distance_faults
from eqpot.data.duplicates import conflicts, near_duplicates
from eqpot.data.energy_faults import SourceStep, energy_faults, sources
from eqpot.data.extxyz_write import write_extxyz
from eqpot.data.fault import Fault
from eqpot.data.force_faults import force_faults
from eqpot.data.pair_model import fit_pair_model, near
from eqpot.graph.structure import Frame


@dataclass(frozen=True, eq=False)
class Opinion:
    """What a model says about each frame of a set.

    Attributes:
        energies: [frames] in eV; zeros leave all to the fit on descriptors.
        forces: [atoms, 3] per frame in eV/Å; None where the model has none.
        descriptors: of each structure, sums over its atoms, [frames, features].
    """

    energies: np.ndarray
    forces: Sequence[np.ndarray] | None
    descriptors: np.ndarray


@dataclass(frozen=True)
class Suspect:
    """A frame worth a look.

    Attributes:
        frame: its index.
        origin: where it comes from.
        reasons: what was found, most striking first.
    """

    frame: int
    origin: str
    reasons: tuple[Fault, ...]

    @property
    def score(self) -> float:
        """The largest score of the reasons: robust standard deviations from what is usual in the set."""
        return self.reasons[0].score


@dataclass(frozen=True, eq=False)
class Examination:
    """What was found; `as_dict()` is ready for JSON.

    Attributes:
        suspects: frames worth a look, most striking first.
        steps: sources whose energies do not continue those of the largest source.
        duplicates: (frame, earlier frame) of the same structure.
        near_duplicates: (frame, earlier frame, root mean square displacement between them [Å]).
        leverage: h of each frame in the fit of the energies, zero without an energy, [frames].
        residuals: leave-one-out residual of each energy [eV/atom], zero without an energy, [frames].
    """

    suspects: tuple[Suspect, ...]
    steps: tuple[SourceStep, ...]
    duplicates: tuple[tuple[int, int], ...]
    near_duplicates: tuple[tuple[int, int, float], ...]
    leverage: np.ndarray
    residuals: np.ndarray

    @property
    def frames(self) -> np.ndarray:
        """Indices of the suspects, ascending."""
        return np.array(sorted(s.frame for s in self.suspects), int)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return {
            "suspects": [{**asdict(s), "score": s.score} for s in self.suspects],
            "steps": [asdict(s) for s in self.steps],
            "duplicates": [list(pair) for pair in self.duplicates],
            "near_duplicates": [list(pair) for pair in self.near_duplicates],
            "leverage": self.leverage.tolist(),
            "residuals": self.residuals.tolist(),
        }


def pair_opinion(dataset: Dataset, with_forces: bool = True) -> Opinion:
    """What the best pair potential of the set says; it has forces, if asked, when there are enough labels to fit it."""
    numbers = np.unique(np.concatenate([f.structure.numbers for f in dataset]))
    coefficients = fit_pair_model(dataset.frames, numbers) if with_forces else None
    descriptors, forces = [], []
    for frame in dataset:
        pairs = near(frame.structure, numbers)
        descriptors.append(pairs.descriptors())
        if coefficients is not None:
            forces.append(pairs.forces(coefficients))
    return Opinion(np.zeros(len(dataset)), forces or None, np.array(descriptors))


def examine_labels(dataset: Dataset, opinion: Opinion | None = None) -> Examination:
    """Find the frames of a set that are worth a look.

    Args:
        dataset: any frames; those without a label are not judged by it.
        opinion: what a model says; by default the best pair potential of the set.
    """
    if not len(dataset):
        return Examination((), (), (), (), np.zeros(0), np.zeros(0))
    pairs = pair_opinion(dataset, with_forces=opinion is None)
    names, source = sources(dataset, groups=opinion is not None)
    opinion = opinion or pairs
    energy, steps, leverage, residuals = energy_faults(dataset, opinion.energies, opinion.descriptors, names, source)
    same = _duplicates(dataset)
    nearly = near_duplicates(dataset, pairs.descriptors, same)
    faults = [*_forces(dataset, opinion.forces), *energy, *distance_faults(dataset), *conflicts(dataset, same, nearly)]
    return Examination(_suspects(dataset, faults), steps, same, nearly, leverage, residuals)


def _forces(dataset: Dataset, model: Sequence[np.ndarray] | None) -> list[Fault]:
    if model is None:
        return []
    rows = [k for k, f in enumerate(dataset) if f.labels.forces is not None and not is_isolated_atom(f)]
    frames = [dataset[k] for k in rows]
    groups = np.array([f.group for f in frames])
    return force_faults([f.structure.numbers for f in frames], [forces_of(f) for f in frames], [model[k] for k in rows], groups, rows)


def _duplicates(dataset: Dataset) -> tuple[tuple[int, int], ...]:
    first: dict[tuple[bytes, str], int] = {}
    keys = [(key, frame.head) for key, frame in zip(dataset.structure_keys, dataset, strict=True)]
    return tuple((k, first[key]) for k, key in enumerate(keys) if first.setdefault(key, k) != k)


def _suspects(dataset: Dataset, faults: Iterable[Fault]) -> tuple[Suspect, ...]:
    by_frame: dict[int, list[Fault]] = {}
    for fault in faults:
        by_frame.setdefault(fault.frame, []).append(fault)
    suspects = [
        Suspect(k, dataset[k].origin or f"frame {k}", tuple(sorted(found, key=lambda f: -f.score))) for k, found in by_frame.items()
    ]
    return tuple(sorted(suspects, key=lambda s: -s.score))


def write_suspects(path: str | Path, frames: Sequence[Frame], suspects: Sequence[Suspect], overwrite: bool = False) -> None:
    """Write the suspects of a set as extended XYZ for a human to look at, with the keys `suspicious` (the reasons), `suspicion_score` and `origin`.

    Raises:
        DataError: see `write_extxyz`.
    """
    info = [{"suspicious": "; ".join(r.text for r in s.reasons), "suspicion_score": s.score, "origin": s.origin} for s in suspects]
    write_extxyz(path, [frames[s.frame] for s in suspects], info=info, overwrite=overwrite)
