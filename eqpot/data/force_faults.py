"""Which force labels do not fit the forces of a model, and what is wrong with them.

The model may be a trained potential or a pair potential fitted to the set itself; how well it fits is measured, not assumed. The error of
an atom, |F − F_model|, is counted in units of what is typical for atoms of its element under a force of that size; a frame is judged by the root
mean square of its atoms, by its worst atom, and by what another order of the atoms would mend, against the spread of the same number over all
frames. Then the fault is named by the change of the labels, among those that happen, that makes them agree: another unit or sign, another
frame, another order of atoms, another orientation.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.units import ENERGY_UNITS, LENGTH_UNITS
from eqpot.data.fault import Fault
from eqpot.data.leverage import robust_scale

CUT: Final = 6.0
"""A frame is suspicious from this many robust standard deviations on ..."""
RATIO: Final = 2.5
"""... if its error, or that of its worst atom, is also this many times the typical one."""
MISFIT: Final = 0.25
"""Least excess of the misfit over its median that counts: 1 for opposite forces, 0.7 for unrelated ones."""
GROUP: Final = 20
"""Frames that a kind must have to be judged by itself."""
BINS: Final = 8
"""Ranges of the size of the force within which errors are compared."""
SMALL: Final = 0.1
"""Errors below this [eV/Å] are nobody's fault."""
LARGE: Final = 400
"""Beyond so many atoms no other order is tried: the time grows with the cube."""
PARALLEL: Final = 0.75
"""Least correlation of forces that differ by a factor."""
EXPLAINED: Final = 0.5
"""A changed label is an explanation when it leaves at most this share of the error."""
_BOHR: Final = LENGTH_UNITS["Bohr"]
UNITS: Final = {
    f"{unit}/{name} read as eV/Å": length / value
    for unit, value in ENERGY_UNITS.items()
    if unit != "eV"
    for name, length in (("Å", 1.0), ("Bohr", _BOHR))
} | {
    "eV/Å read as kcal/mol/Å": ENERGY_UNITS["kcal/mol"],
    "eV/Å read as Hartree/Bohr": ENERGY_UNITS["Hartree"] / _BOHR,
    "eV/Bohr read as eV/Å": _BOHR,
}
"""By what forces come out too large when the unit is mistaken."""
Forces = Sequence[np.ndarray]


def force_faults(
    numbers: Forces, labels: Forces, model: Forces, groups: np.ndarray | None = None, frames: Sequence[int] | None = None
) -> list[Fault]:
    """Frames whose forces do not fit a model.

    Args:
        numbers: atomic numbers of each frame, [atoms].
        labels: its force labels [eV/Å], [atoms, 3].
        model: what the model says [eV/Å], [atoms, 3].
        groups: kind of each frame, [frames]; frames are compared with those of their kind.
        frames: what to call them; by default 0, 1, …
    """
    frames = range(len(labels)) if frames is None else frames
    if len(labels) < 5:
        return []
    relative = relative_errors(numbers, labels, model)
    groups = np.zeros(len(labels), int) if groups is None else np.unique(groups, return_inverse=True)[1]
    level = distance(np.log([max(np.sqrt(np.mean(z**2)), 1e-9) for z in relative]), groups, np.log(RATIO))
    misfit = distance(misfits(labels, model), groups, MISFIT)
    contrast = distance(np.log([max(z.max() / max(np.median(z), 0.1), 1e-9) for z in relative]), groups, np.log(RATIO))
    gains = np.array([reordering(y, p, z) for y, p, z in zip(labels, model, relative, strict=True)])
    order = CUT * gains / max(CUT, RATIO * float(np.quantile(gains, 0.9)))
    score = np.max([level, misfit, contrast, order], 0)
    size = np.array([np.abs(y - p).max() for y, p in zip(labels, model, strict=True)])
    found = np.flatnonzero((score > CUT) & (size > SMALL))
    return [_named(int(k), frames, float(score[k]), numbers, labels, model, relative[k]) for k in found]


def relative_errors(numbers: Forces, labels: Forces, model: Forces) -> list[np.ndarray]:
    """|F − F_model| of each atom over the median of atoms of its element under a similar force, [atoms] per frame."""
    element, force = np.concatenate(numbers), np.concatenate([np.linalg.norm(p, axis=1) for p in model])
    error = np.concatenate([np.linalg.norm(y - p, axis=1) for y, p in zip(labels, model, strict=True)])
    typical = np.empty(len(error))
    for z in np.unique(element):
        rows = np.flatnonzero(element == z)
        parts = np.array_split(rows[np.argsort(force[rows])], min(BINS, max(1, len(rows) // 30)))
        middle = [np.median(force[part]) for part in parts]
        typical[rows] = np.interp(force[rows], middle, [np.median(error[part]) for part in parts])
    floor = max(1e-3 * float(np.median(error)), 1e-9)
    return np.split(error / np.maximum(typical, floor), np.cumsum([len(n) for n in numbers])[:-1])


def misfits(labels: Forces, model: Forces) -> np.ndarray:
    """‖F − F_model‖ over ‖F‖ + ‖F_model‖ of each frame, between 0 and 1, with the typical error of the set added to the denominator."""
    norms = [[np.sqrt(np.mean(x**2)) for x in (y - p, y, p)] for y, p in zip(labels, model, strict=True)]
    error, label, expected = np.array(norms).T
    return np.maximum(error / np.maximum(label + expected + 2 * np.median(error), 1e-9), 1e-6)


def reordering(label: np.ndarray, expected: np.ndarray, relative: np.ndarray) -> float:
    """How much of the error another order of the atoms takes away: root of the drop of Σ(error/typical error of the atom in this frame)².

    Zero where the other order does not explain the errors of the atoms that it moves.
    """
    if len(label) > LARGE:
        return 0.0
    cost = np.sum((label[None] - expected[:, None]) ** 2, -1)  # [atom, label given to it]
    order, own = assignment(cost), np.diagonal(cost)
    moved = np.flatnonzero((order != np.arange(len(order))) & (own > 0))
    if cost[moved, order[moved]].sum() > EXPLAINED**2 * own[moved].sum():
        return 0.0
    typical = own[moved] / relative[moved] ** 2 * max(float(np.median(relative)), 0.3) ** 2
    return float(np.sqrt(max(0.0, np.sum((own[moved] - cost[moved, order[moved]]) / typical))))


def assignment(cost: np.ndarray) -> np.ndarray:
    """For each atom the label that it gets in the order of least total cost."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(cost)[1]


def distance(values: np.ndarray, groups: np.ndarray, least: float) -> np.ndarray:
    """Robust standard deviations above the median of the own group (groups below `GROUP` frames are one); zero where less than `least` above it."""
    counts = np.bincount(groups)
    groups = np.where(counts[groups] < GROUP, -1, groups)
    score = np.zeros(len(values))
    for group in np.unique(groups):
        rows = groups == group
        centred = values[rows] - np.median(values[rows])
        score[rows] = np.where(centred > least, centred / max(robust_scale(centred), 0.05), 0.0)
    return score


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two sets of forces about zero."""
    return float(np.sum(a * b) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def _named(k: int, frames: Sequence[int], score: float, numbers: Forces, labels: Forces, model: Forces, relative: np.ndarray) -> Fault:
    """The fault with the change of the labels that explains most of the error, if one explains enough."""
    label, expected = labels[k], model[k]
    numbers_of = {
        "rms_error": float(np.sqrt(np.mean((label - expected) ** 2))), "rms_force": float(np.sqrt(np.mean(label**2))),
        "slope": float(np.sum(label * expected) / max(np.sum(expected**2), 1e-12)), "correlation": cosine(label, expected),
    }  # fmt: skip
    fault = (
        _absent(label)
        or _scaled(label, expected)
        or _exchanged(k, frames, numbers, labels, model)
        or _reordered(numbers[k], label, expected)
        or _turned(label, expected)
        or _unexplained(numbers[k], label, expected, relative)
    )
    return Fault(frames[k], *fault, score, numbers_of)


Explanation = tuple[str, str] | None
"""Code and text."""


def _explains(changed: np.ndarray, label: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.linalg.norm(changed - expected) < EXPLAINED * np.linalg.norm(label - expected))


def _absent(label: np.ndarray) -> Explanation:
    return None if label.any() else ("force-zero", "forces are all exactly zero; suspected: not calculated")


def _scaled(label: np.ndarray, expected: np.ndarray) -> Explanation:
    """Another unit, or the opposite sign."""
    factor = float(np.sum(label * expected) / max(np.sum(expected**2), 1e-12))
    if abs(cosine(label, expected)) < PARALLEL or not factor:
        return None
    if factor < 0 and abs(np.log(-factor)) < np.log(1.5):
        return "force-sign", "forces point the opposite way; suspected: gradients in place of forces"
    if abs(np.log(abs(factor))) < np.log(1.5):
        return None
    unit = min(UNITS, key=lambda name: abs(np.log(abs(factor) / UNITS[name])))
    known = f"; suspected: {unit} (factor {UNITS[unit]:.3g})" if abs(np.log(abs(factor) / UNITS[unit])) < 0.2 else ""
    return "force-unit", f"forces are {factor:.3g} times those expected{known}"


def _exchanged(k: int, frames: Sequence[int], numbers: Forces, labels: Forces, model: Forces) -> Explanation:
    """The forces of another frame with the same atoms."""
    others = [j for j in range(len(model)) if j != k and np.array_equal(numbers[j], numbers[k])]
    left = [float(np.linalg.norm(labels[k] - model[j])) for j in others]
    if not others or not min(left) < EXPLAINED * np.linalg.norm(labels[k] - model[k]):
        return None
    return "force-pairing", f"forces are those of another structure, most likely of frame {frames[others[int(np.argmin(left))]]}"


def _reordered(numbers: np.ndarray, label: np.ndarray, expected: np.ndarray) -> Explanation:
    """The same forces on other atoms: the assignment of least squared error."""
    cost = np.sum((label[None] - expected[:, None]) ** 2, -1)  # [atom, label given to it]
    order = assignment(cost)
    if not _explains(label[order], label, expected):
        return None
    own = np.diagonal(cost)
    moved = np.flatnonzero((order != np.arange(len(order))) & (own > 0.1 * own.max()))
    atoms = ", ".join(f"{symbol(int(numbers[i]))} {i}" for i in moved[:6]) + (" …" if len(moved) > 6 else "")
    return "force-order", f"forces are in another order than the atoms ({atoms})"


def _turned(label: np.ndarray, expected: np.ndarray) -> Explanation:
    """The same forces in another orientation: the rotation of least squared error."""
    if len(label) < 4:
        return None  # so few vectors can always be turned
    left, _, right = np.linalg.svd(label.T @ expected)
    proper = np.diag([1, 1, np.sign(np.linalg.det(left @ right)) or 1])
    rotation = left @ proper @ right
    if not _explains(label @ rotation, label, expected):
        return None
    angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    return "force-orientation", f"forces are turned by {angle:.0f}° against the structure; suspected: another orientation in the output"


def _unexplained(numbers: np.ndarray, label: np.ndarray, expected: np.ndarray, relative: np.ndarray) -> tuple[str, str]:
    """Which atoms, where a few carry the error; else all."""
    error = np.linalg.norm(label - expected, axis=1)
    worst = np.argsort(-error)
    few = worst[: 1 + int(np.searchsorted(np.cumsum(error[worst] ** 2), 0.9 * np.sum(error**2)))]
    what = f"forces are off by {error.max():.3g} eV/Å"
    if len(few) > max(2, len(label) // 4):
        return "forces", f"{what}, {relative.max():.3g} times the usual error; no unit, sign, order or other frame explains them"
    return "forces", f"{what} on {', '.join(f'{symbol(int(numbers[i]))} {i}' for i in few[:6])}; the other atoms agree"
