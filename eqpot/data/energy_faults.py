"""Energies that do not fit the other frames, and sources of data whose energies do not fit each other.

    (E − E_model)/n = Σ_Z x_Z e_Z + w·d/n + s_source + noise

is fitted by ridge regression, where x is the composition, d the descriptors of the structure, and s the offset of its source (file, or
group). Rows are weighted by √n, because errors of independent atoms add up to √n in the total. Composition and offsets carry practically
no penalty. Every energy is then judged by its leave-one-out residual (`eqpot.data.leverage`), and every source by its offset from
the largest source, whose error follows from the covariance s²(XᵀX + λI)⁻¹ of the fit.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from eqpot.core.units import ENERGY_UNITS
from eqpot.data.dataset import Dataset, energy_of, is_isolated_atom
from eqpot.data.fault import Fault
from eqpot.data.leverage import LeaveOneOut, ridge, robust_leave_one_out
from eqpot.data.plausibility import composition_deviation
from eqpot.graph.structure import Frame

CUT: Final = 5.0
"""Robust standard deviations from which on an energy is suspicious."""
LEAST: Final = 1e-4
"""Residuals below this [eV/atom] are nobody's fault."""
LEAST_FRAMES: Final = 10
"""Frames with energies that are needed to judge one of them, or a source."""
STEP_ERRORS: Final = 6.0
"""A step between sources counts from this many standard errors on ..."""
STEP_SCALES: Final = 4.0
"""... if it is also this many times the scatter of the energies about the fit."""
SIMILAR: Final = 10
"""Frames most like one that tell how well such frames are fitted."""
FREE: Final = 100.0
"""Scale of the columns that shall carry no penalty, relative to the descriptors."""


@dataclass(frozen=True)
class SourceStep:
    """A source whose energies do not continue those of the largest source.

    Attributes:
        source: file or group.
        reference: the largest source.
        frames: how many frames the source has.
        step: its energies minus those expected from the reference [eV/atom].
        error: standard error of the step [eV/atom].
        scatter: robust scatter of the energies about the fit [eV/atom].
        text: what was found, in one line.
    """

    source: str
    reference: str
    frames: int
    step: float
    error: float
    scatter: float
    text: str


def energy_faults(
    dataset: Dataset, model: np.ndarray, descriptors: np.ndarray, names: list[str], source: np.ndarray
) -> tuple[list[Fault], tuple[SourceStep, ...], np.ndarray, np.ndarray]:
    """Suspicious energies, steps between sources, leverages and leave-one-out residuals [eV/atom] of all frames.

    Args:
        dataset: frames; those without energy and isolated atoms are not judged.
        model: energies of a model [eV], [frames]; zeros where there is none.
        descriptors: of each structure, sums over its atoms, [frames, features].
        names, source: see `sources`.
    """
    rows = np.array([k for k, f in enumerate(dataset) if f.labels.energy is not None and not is_isolated_atom(f)], int)
    leverage, residuals = np.zeros(len(dataset)), np.zeros(len(dataset))
    if len(rows) < LEAST_FRAMES:
        return [], (), leverage, residuals
    frames = [dataset[int(k)] for k in rows]
    sizes = np.array([len(f) for f in frames], float)
    weight = np.sqrt(sizes / sizes.mean())
    source = source[rows]
    energy = _deviation(frames, (np.array([energy_of(f) for f in frames]) - model[rows]) / sizes)
    offsets = np.array([np.median(energy[source == s]) for s in range(len(names))])
    design = _design(frames, descriptors[rows] / sizes[:, None], source, len(names)) * weight[:, None]
    fit = robust_leave_one_out(design, (energy - offsets[source]) * weight)
    leverage[rows], residuals[rows] = fit.leverage, fit.residuals / weight
    steps = _steps(fit, design, (energy - offsets[source]) * weight, names, source, offsets)
    score = np.abs(fit.studentised) / _local_scale(fit, design[:, len(names) - 1 :] / weight[:, None])
    found = np.flatnonzero((score > CUT) & (np.abs(residuals[rows]) > LEAST))
    return (
        [_fault(int(rows[k]), frames[k], float(residuals[rows[k]]), float(score[k]), float(fit.leverage[k])) for k in found],
        steps,
        leverage,
        residuals,
    )


def _deviation(frames: list[Frame], energy: np.ndarray) -> np.ndarray:
    """Energies per atom minus what the composition explains; each level of theory (head) has its own zero of each element."""
    heads, found = np.array([f.head for f in frames]), np.zeros(len(frames))
    for head in np.unique(heads):
        own = np.flatnonzero(heads == head)
        found[own] = composition_deviation([frames[k] for k in own], energy[own])
    return found


def sources(dataset: Dataset, groups: bool) -> tuple[list[str], np.ndarray]:
    """Names of the sources, largest first, and the source of each frame; those of few frames with energies count as the largest.

    Sources are files if there are several, else, if so asked, groups: whether two kinds of structures differ by a step, only a good model can tell.
    Heads need not be sources: they are known to be other levels of theory, and each is compared with itself.
    """
    files = [f.origin.rsplit(":frame", 1)[0] for f in dataset]
    of = files if len(set(files)) > 1 else [f.group if groups else "" for f in dataset]
    counted = np.array([f.labels.energy is not None and not is_isolated_atom(f) for f in dataset])
    names, index = np.unique(of, return_inverse=True)
    counts = np.bincount(index[counted], minlength=len(names))
    order = [s for s in np.argsort(-counts, kind="stable") if counts[s] >= LEAST_FRAMES] or [int(counts.argmax())]
    place = np.zeros(len(names), int)
    place[order] = np.arange(len(order))
    return [str(names[s]) for s in order], place[index]


def _design(frames: list[Frame], descriptors: np.ndarray, source: np.ndarray, n_sources: int) -> np.ndarray:
    """Sources but the largest, composition, and standardised descriptors, [rows, columns]."""
    elements = np.unique(np.concatenate([f.structure.numbers for f in frames]))
    composition = np.array([[np.mean(f.structure.numbers == z) for z in elements] for f in frames])
    offsets = (source[:, None] == np.arange(1, n_sources)).astype(float)
    centred = descriptors - descriptors.mean(0)
    spread = centred.std(0)
    kept = spread > 1e-6 * spread.max(initial=1e-300)
    return np.concatenate([FREE * offsets, FREE * composition, centred[:, kept] / spread[kept]], 1)


def _local_scale(fit: LeaveOneOut, columns: np.ndarray) -> np.ndarray:
    """How much wider than all frames the `SIMILAR` frames most like each scatter, at least 1; [rows].

    Where the model is poor it is poor for all frames of a kind, and none of them stands out.
    """
    size, square = np.abs(fit.studentised), np.sum(columns**2, 1)
    scale = np.ones(len(size))
    count = min(SIMILAR, len(size) - 1)
    for first in range(0, len(size), 1000):
        rows = np.arange(first, min(first + 1000, len(size)))
        distance = square[None] - 2 * columns[rows] @ columns.T
        distance[np.arange(len(rows)), rows] = np.inf
        similar = np.argpartition(distance, count - 1, 1)[:, :count]
        scale[rows] = np.maximum(1.0, 1.4826 * np.median(size[similar], 1))
    return scale


def _steps(
    fit: LeaveOneOut, design: np.ndarray, labels: np.ndarray, names: list[str], source: np.ndarray, offsets: np.ndarray
) -> tuple[SourceStep, ...]:
    factor, coefficients, _ = ridge(design[fit.kept], labels[fit.kept], fit.penalty)
    steps = []
    for s in range(1, len(names)):
        step = float(FREE * coefficients[s - 1] + offsets[s] - offsets[0])
        error = FREE * fit.scale * float(np.linalg.norm(factor[s - 1]))
        if abs(step) > max(STEP_ERRORS * error, STEP_SCALES * fit.scale):
            text = f"energies of {names[s]} lie {1e3 * step:+.4g} ± {1e3 * error:.2g} meV/atom from those of {names[0]}"
            steps.append(SourceStep(names[s], names[0], int(np.sum(source == s)), step, error, fit.scale, text))
    return tuple(steps)


def _fault(index: int, frame: Frame, residual: float, score: float, leverage: float) -> Fault:
    """The fault in words; in another unit when a unit explains most of it."""
    label, total = energy_of(frame), residual * len(frame)
    expected = label - total
    numbers = {"residual": total, "residual_per_atom": residual, "leverage": leverage, "label": label, "expected": expected}
    what = f"energy is {total:+.4g} eV ({1e3 * residual:+.3g} meV/atom) from what the other frames lead to expect"
    for unit, value in ENERGY_UNITS.items():
        for factor, suspect in ((1 / value, f"{unit} read as eV"), (value, f"eV read as {unit}")):
            if unit != "eV" and abs(label - factor * expected) < 0.05 * abs(total):
                return Fault(index, "energy-unit", f"{what}; suspected: {suspect} (factor {factor:.4g})", score, numbers)
    return Fault(index, "energy", what, score, numbers)
