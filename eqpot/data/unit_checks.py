"""Signs that the numbers of a set are in another unit, or have another sign, than declared.

Each check compares with something that nature fixes, so that it can speak without knowing the level of theory:
bond lengths (covalent radii), total energies of all-electron calculations (−37.8 Hartree per carbon), the stiffness of
X–H bonds (30–50 eV/Å²), dE = −F·dR between similar frames, and the bulk modulus, which is positive. Where nothing
can be compared they stay silent.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from eqpot.core.units import ENERGY_UNITS
from eqpot.data.dataset import Dataset, energy_of, forces_of, is_isolated_atom
from eqpot.data.distances import pairs, sample
from eqpot.data.plausibility import Finding
from eqpot.data.similar_frames import similar_steps
from eqpot.graph.structure import Frame

SAMPLE: Final = 200
"""At most so many frames are looked at for bond lengths and stiffness."""

_HARTREE: Final = ENERGY_UNITS["Hartree"]
_FREE_ATOM: Final = {
    1: 0.50, 2: 2.90, 3: 7.48, 4: 14.67, 5: 24.65, 6: 37.84, 7: 54.58, 8: 75.06, 9: 99.73, 10: 128.94, 11: 162.25, 12: 200.05,
    13: 242.34, 14: 289.36, 15: 341.26, 16: 398.11, 17: 460.15, 18: 527.54, 35: 2574.1,
}  # fmt: skip
"""Minus the total energy of the free atom [Hartree], all electrons; bonds change it by less than 1 %."""
_NOBLE: Final = (2, 10, 18, 36, 54, 86)
_LENGTH_RATIO: Final = (0.6, 1.4)
"""Shortest distance over sum of covalent radii: below and above, no bound matter is found."""
_STIFFNESS: Final = (6.0, 200.0)
"""Stiffness of an X–H bond [eV/Å²]: C–H 30, N–H 40, O–H 48; softer when hot, hydrogen-bonded or stretched."""
_TYPICAL_FORCE: Final = 15.0
"""RMS force of the typical frame [eV/Å] beyond which matter would not hold together; 1 at 300 K, 2 at 1200 K."""
_ALIKE: Final = 0.8
"""Correlation of the ranks of energy and work above which similar frames are near enough to be compared."""
_FACTOR: Final = 4.0
"""Factor between energy and work that is another unit: sound sets of such a correlation have 0.7 to 1.2, the nearest unit is Ry, 13.6."""
_FORCE_UNITS: Final = {
    "kcal/mol/Å declared as eV/Å": 23.06,
    "kJ/mol/Å declared as eV/Å": 96.49,
    "meV/Å declared as eV/Å": 1000.0,
    "Hartree/Bohr declared as eV/Å": 1 / 51.42,
    "Ry/Bohr declared as eV/Å, or eV/Å declared as kcal/mol/Å": 1 / 24.3,
    "eV/Å declared as kJ/mol/Å": 1 / 96.49,
}
"""By how much forces come out wrong."""


def length_unit(dataset: Dataset) -> list[Finding]:
    """Shortest distances against covalent radii."""
    from ase.data import covalent_radii

    ratios = []
    for frame in sample([f for f in dataset if len(f) > 1 or f.structure.pbc.any()], SAMPLE):
        radius = covalent_radii[frame.structure.numbers]
        i, j, _, distance = pairs(frame.structure, 2 * radius.max() * _LENGTH_RATIO[1])
        if not np.isin(frame.structure.numbers, _NOBLE).any() and not is_isolated_atom(frame):
            ratios.append(np.min(distance / (radius[i] + radius[j]), initial=np.inf))
    if len(ratios) < 3:
        return []
    low, typical = np.quantile(ratios, 0.05, method="lower"), np.quantile(ratios, 0.5, method="lower")
    if low > _LENGTH_RATIO[1]:
        return [_length(f"more than {_LENGTH_RATIO[1]}", "Bohr declared as Å, or Å declared as nm")]
    if typical < _LENGTH_RATIO[0]:
        return [_length(f"{typical:.2f}", "nm declared as Å" if typical < 0.3 else "Å declared as Bohr")]
    return []


def _length(ratio: str, suspect: str) -> Finding:
    message = f"positions: found shortest distances of {ratio} × the sum of covalent radii, expected 1; suspected: {suspect}; declare the units of the file"
    return Finding("error", "length-unit", None, message)


def _all_electron_ratio(frame: Frame) -> float:
    return -energy_of(frame) / (_HARTREE * sum(_FREE_ATOM[z] for z in frame.structure.numbers.tolist()))


def energy_unit(dataset: Dataset) -> list[Finding]:
    """Total energies of all-electron calculations against free atoms; other zeros of energy match no unit."""
    frames = [f for f in dataset if f.labels.energy is not None and np.isin(f.structure.numbers, list(_FREE_ATOM)).all()]
    frames = [f for f in frames if f.structure.numbers.max() > 2]
    if not frames:
        return []
    ratio = np.array([_all_electron_ratio(f) for f in frames])
    typical = np.median(ratio)
    atoms = [f for f in dataset if is_isolated_atom(f) and f.labels.energy is not None and int(f.structure.numbers[0]) in _FREE_ATOM]
    if np.quantile(np.abs(ratio / typical - 1), 0.9) > 0.05 or any(abs(_all_electron_ratio(f) / typical - 1) > 0.2 for f in atoms):
        return []  # not one factor for all: another zero of energy, such as that of valence electrons
    for unit, factor in ENERGY_UNITS.items():
        for wrong, suspect in ((typical * factor, f"{unit} declared as eV"), (typical / factor, f"eV declared as {unit}")):
            if unit != "eV" and abs(wrong - 1) < 0.02 and not _are_in_eV(dataset):
                what = f"energy: found {typical:.4g} × the all-electron total energy of these atoms"
                message = f"{what}, expected 1 (or a different zero of energy); suspected: {suspect}; declare the units of the file"
                return [Finding("error", "energy-unit", None, message)]
    return []


def _are_in_eV(dataset: Dataset) -> bool:
    """Whether the forces are those of X–H bonds in eV/Å and the energies their potential: then valence energies only look like another unit."""
    found = [_STIFFNESS[0] < stiffness < _STIFFNESS[1] for _, _, stiffness in _stiffness(_with_hydrogen(dataset))]
    return bool(found) and all(found) and _works_out(dataset)


def _works_out(dataset: Dataset) -> bool:
    steps = _steps(dataset)
    if steps is not None:
        slope, score = _trend(steps)
        return score > 0.7 and abs(slope - 1) < 0.3
    alike = _alike(dataset)
    return alike is not None and alike[1] > _ALIKE and 1 / _FACTOR < alike[0] < _FACTOR


def force_unit(dataset: Dataset) -> list[Finding]:
    """Stiffness of X–H bonds (−slope of the force on H along the bond against its length), then the size of forces."""
    for name, normal, stiffness in _stiffness(_with_hydrogen(dataset)):
        if not _STIFFNESS[0] < stiffness < _STIFFNESS[1]:
            suspect = min(_FORCE_UNITS, key=lambda unit: abs(np.log(stiffness / normal / _FORCE_UNITS[unit])))
            message = f"forces: found a stiffness of {stiffness:.3g} eV/Å² for {name}–H bonds, expected 20 to 60"
            return [Finding("error", "force-unit", None, f"{message}; suspected: {suspect}; declare the units of the file")]
    return _force_size(_with_forces(dataset))


def _with_forces(dataset: Dataset) -> list[Frame]:
    return sample([f for f in dataset if f.labels.forces is not None], SAMPLE)


def _with_hydrogen(dataset: Dataset) -> list[Frame]:
    return [f for f in _with_forces(dataset) if 1 in f.structure.numbers]


def _force_size(frames: list[Frame]) -> list[Finding]:
    typical = float(np.median([np.sqrt(np.mean(forces_of(f) ** 2)) for f in frames])) if len(frames) >= 3 else 0.0
    if typical <= _TYPICAL_FORCE:
        return []
    message = f"forces: found an RMS of {typical:.4g} eV/Å in the typical frame, expected below {_TYPICAL_FORCE:g}"
    return [
        Finding("error", "force-unit", None, f"{message}; suspected: kcal/mol/Å or meV/Å declared as eV/Å; declare the units of the file")
    ]


def _stiffness(frames: list[Frame]) -> Iterator[tuple[str, float, float]]:
    """Of C–H, N–H and O–H bonds, where there are enough of them: the heavier element, what is normal and what was found [eV/Å²]."""
    for heavy, name, normal in ((6, "C", 32), (7, "N", 42), (8, "O", 46)):
        bonds = [_bonds(f, heavy) for f in frames if heavy in f.structure.numbers]
        length, force = np.concatenate(bonds, axis=1) if bonds else np.zeros((2, 0))
        if len(length) < 50 or length.std() < 0.005 or force.std() == 0 or np.corrcoef(length, force)[0, 1] > -0.8:
            continue
        yield name, normal, -np.cov(length, force)[0, 1] / length.var(ddof=1)


def _bonds(frame: Frame, heavy: int) -> np.ndarray:
    """Lengths of X–H bonds and the force on H along them, [2, bonds]."""
    numbers = frame.structure.numbers
    i, j, vector, distance = pairs(frame.structure, 1.5)
    bond = (numbers[i] == heavy) & (numbers[j] == 1) & (distance > 0.7)
    along = np.sum(forces_of(frame)[j[bond]] * vector[bond], axis=1) / distance[bond]
    return np.array([distance[bond], along])


def energy_forces(dataset: Dataset) -> list[Finding]:
    """dE against −F·dR between neighbouring frames of a trajectory; where there are none, between frames that are alike."""
    steps = _steps(dataset)
    if steps is None:
        return _energy_forces_of_any_order(dataset)
    slope, score = _trend(steps)
    what = f"energy against forces: found dE = {slope:.3g}·(−F·dR) with correlation {score:.2f} over {len(steps)} steps, expected 1"
    for unit, factor in ENERGY_UNITS.items():
        if score > 0.95 and unit != "eV" and abs(slope * factor - 1) < 0.15:
            return [Finding("error", "energy-forces", None, f"{what}; suspected: energies in {unit} and forces in eV/Å")]
    if score < -0.9:
        return [Finding("error", "energy-forces", None, f"{what}; suspected: gradients in place of forces (sign)")]
    if score < 0.7 or abs(slope - 1) > 0.3:
        return [Finding("warning", "energy-forces", None, what)]
    return []


def _steps(dataset: Dataset) -> np.ndarray | None:
    """Work and change of the energy between neighbouring frames [steps, 2]; None where there are too few to tell."""
    steps = np.array([_step(a, b) for a, b in pairwise(dataset) if _neighbours(a, b)]).reshape(-1, 2)
    return steps if len(steps) >= 20 and steps.any(0).all() else None


def _trend(steps: np.ndarray) -> tuple[float, float]:
    """Slope of the change against the work, and their correlation."""
    work, change = steps.T
    return float(work @ change / (work @ work)), float(np.corrcoef(work, change)[0, 1])


def _alike(dataset: Dataset) -> tuple[float, float, int] | None:
    """Ratio of the change of the energy to the work between frames that are alike, correlation of their ranks, and number of pairs; None if too few.

    Ranks and medians, because one step over a repulsive wall outweighs all others.
    """
    steps = similar_steps(dataset)
    if len(steps) < 20 or not (size := np.median(np.abs(steps), 0)).all():
        return None
    score = np.corrcoef(*steps.argsort(0).argsort(0).T)[0, 1]
    return float(np.sign(score) * size[1] / size[0]), abs(score), len(steps)


def _energy_forces_of_any_order(dataset: Dataset) -> list[Finding]:
    """Frames that are alike are not near: what counts is a factor beyond all doubt, and that they are near enough for energy and work to agree at all."""
    found = _alike(dataset)
    if found is None or found[1] < _ALIKE or 1 / _FACTOR < found[0] < _FACTOR:
        return []
    slope, score, pairs_alike = found
    what = f"energy against forces: found dE = {slope:.3g}·(−F·dR) with correlation {score:.2f} between {pairs_alike} pairs of similar frames, expected 1"
    unit = min(ENERGY_UNITS, key=lambda u: abs(np.log(abs(slope) * ENERGY_UNITS[u])))
    suspect = "gradients in place of forces (sign)" if slope < 0 else f"energies in {unit} and forces in eV/Å"
    return [Finding("error", "energy-forces", None, f"{what}; suspected: {suspect}")]


def _neighbours(a: Frame, b: Frame) -> bool:
    if any(x.labels.energy is None or x.labels.forces is None for x in (a, b)) or not np.array_equal(
        a.structure.numbers, b.structure.numbers
    ):
        return False
    moved = np.abs(a.structure.positions - b.structure.positions).max()
    return bool(1e-5 < moved < 0.1) and np.array_equal(a.structure.cell, b.structure.cell)


def _step(a: Frame, b: Frame) -> tuple[float, float]:
    work = -np.sum((forces_of(a) + forces_of(b)) * (b.structure.positions - a.structure.positions)) / 2
    return work, energy_of(b) - energy_of(a)


def stress_sign(dataset: Dataset) -> list[Finding]:
    """A compressed crystal pushes outwards: the trace of the stress must grow with the volume."""
    trends: dict[tuple, list[tuple[float, float]]] = {}
    for frame in dataset:
        if frame.labels.stress is not None and frame.structure.pbc.all():
            key = (frame.group, len(frame), frame.structure.numbers.tobytes())
            trends.setdefault(key, []).append((np.log(frame.structure.volume), np.trace(frame.labels.stress)))
    sets = [np.array(v).T for v in trends.values()]
    signs = [np.corrcoef(x, y)[0, 1] for x, y in sets if len(x) >= 8 and np.ptp(x) > 0.02 and y.std() > 0]
    if not signs or np.median(signs) > -0.7:
        return []
    message = f"stress: found that it falls with the volume (correlation {np.median(signs):.2f}), expected growth (tension is positive)"
    return [Finding("error", "stress-sign", None, f"{message}; suspected: opposite sign, as in VASP or LAMMPS output")]
