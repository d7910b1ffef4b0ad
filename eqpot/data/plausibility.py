"""Is this data what it claims to be? Checks of values against physics, beyond the checks of form when reading.

Each check looks for one kind of fault and answers with findings. A finding of severity 'error' stops a fit
unless its code is allowed by the user; a 'warning' is shown by `inspect`. Limits are chosen so that sound data (molecules,
liquids, crystals, strained, hot, dissociating) pass. Levels of theory (heads) are checked one by one. Codes and limits:

| code | severity | fault |
|---|---|---|
| overlap | error | two atoms, or an atom and an image, closer than 0.1 Å |
| large-force | error | a force above 300 eV/Å |
| zero-forces | error | all forces exactly zero in more than half of the frames |
| energy-outlier | error, warning | energy per atom more than 100 (2) eV and 30 spreads from a robust fit on composition |
| total-charge | error | charges of atoms that sum to something else than the total charge, by more than 0.2 e |
| mixed-oracles | error | labels that say that they are from oracles of different settings |
| conflicting-labels | warning | one structure with two energies that differ by more than 1 meV/atom |
| length-unit, energy-unit, force-unit, energy-forces, stress-sign | see `unit_checks` | numbers in another unit or sign |
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from eqpot.core.errors import DataError
from eqpot.data.dataset import Dataset, energy_of, is_isolated_atom
from eqpot.data.distances import pairs
from eqpot.graph.structure import Frame

OVERLAP: Final = 0.1
"""Shortest distance between two atoms that is taken for real [Å]."""
MAX_FORCE: Final = 300.0
"""Longest force that is taken for real [eV/Å]."""
OUTLIER_ERROR: Final = 100.0
"""Deviation of the energy per atom that stops [eV]."""
OUTLIER_WARNING: Final = 2.0
"""Deviation of the energy per atom that is reported [eV]."""
CHARGE: Final = 0.2
"""Difference of the sum of charges from the total charge that is taken for rounding and partitioning [e]."""


Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something suspicious.

    Attributes:
        severity: 'error' stops a fit, 'warning' is shown.
        code: name of the check, by which it can be allowed.
        frame: index of the first frame concerned, or None for the whole set.
        message: what was found and what was expected, in one line.
    """

    severity: Severity
    code: str
    frame: int | None
    message: str


def check(dataset: Dataset) -> tuple[Finding, ...]:
    """All findings about a dataset, errors first, and among them those that explain others (units) first; levels of theory one by one."""
    heads = dict.fromkeys(f.head for f in dataset)
    findings = _check(dataset) if len(heads) < 2 else [finding for head in heads for finding in _check_head(dataset, head)]
    return tuple(sorted(findings, key=lambda f: f.severity != "error"))


def _check_head(dataset: Dataset, head: str) -> list[Finding]:
    """Findings about the frames of one head, with their indices in the whole set."""
    rows = [k for k, f in enumerate(dataset) if f.head == head]
    own = Dataset(tuple(dataset[k].replace(origin=dataset[k].origin or f"frame {k}") for k in rows))
    name = f"head '{head}'" if head else "frames without a head"
    return [replace(f, frame=None if f.frame is None else rows[f.frame], message=f"{name}: {f.message}") for f in _check(own)]


def _check(dataset: Dataset) -> list[Finding]:
    from eqpot.data import unit_checks

    checks: tuple[Callable[[Dataset], list[Finding]], ...] = (
        unit_checks.length_unit, unit_checks.energy_unit, unit_checks.force_unit, unit_checks.energy_forces, unit_checks.stress_sign,
        mixed_oracles, overlaps, large_forces, zero_forces, energy_outliers, total_charges, conflicting_labels, stress_without_volume,
    )  # fmt: skip
    return [finding for one in checks for finding in one(dataset)]


def require_sane(dataset: Dataset, allow: Collection[str] = ()) -> tuple[Finding, ...]:
    """The findings that do not stop; raises for those that do.

    Args:
        dataset: what is to be used.
        allow: codes of checks whose errors the user has judged to be no errors.

    Raises:
        DataError: the first error, how many more there are, and how to allow it.
    """
    return require_allowed(check(dataset), allow)


def require_allowed(findings: Sequence[Finding], allow: Collection[str]) -> tuple[Finding, ...]:
    """The findings that do not stop; see `require_sane`."""
    errors = [f for f in findings if f.severity == "error" and f.code not in allow]
    if errors:
        more = f" (further errors: {', '.join(f.code for f in errors[1:])})" if len(errors) > 1 else ""
        raise DataError(f"{errors[0].message}; if this is meant, allow '{errors[0].code}'{more}")
    return tuple(f for f in findings if f not in errors)


def _many(severity: Severity, code: str, dataset: Dataset, found: list[tuple[int, str]]) -> list[Finding]:
    """One finding for all frames with the same fault, told by the first."""
    if not found:
        return []
    index, message = found[0]
    also = f" (and {len(found) - 1} more frames)" if len(found) > 1 else ""
    return [Finding(severity, code, index, f"{dataset[index].origin or f'frame {index}'}: {message}{also}")]


def overlaps(dataset: Dataset) -> list[Finding]:
    """Two atoms, or an atom and its image, at one place."""
    found = []
    for index, frame in enumerate(dataset):
        i, j, _, distance = pairs(frame.structure, 1.0)
        if len(distance) and distance.min() < OVERLAP:
            k = int(distance.argmin())
            a, b = sorted((i[k], j[k]))
            found.append((index, f"atoms {a} and {b}: found distance {distance[k]:.3g} Å, expected at least {OVERLAP} Å"))
    return _many("error", "overlap", dataset, found)


def large_forces(dataset: Dataset) -> list[Finding]:
    """Forces that no sound calculation of bound atoms gives."""
    found = []
    for index, frame in enumerate(dataset):
        if frame.labels.forces is not None:
            length = np.linalg.norm(frame.labels.forces, axis=1)
            if length.max() > MAX_FORCE:
                found.append((index, f"atom {length.argmax()}: found a force of {length.max():.4g} eV/Å, expected at most {MAX_FORCE:g}"))
    return _many("error", "large-force", dataset, found)


def zero_forces(dataset: Dataset) -> list[Finding]:
    """Zeros that stand for 'not calculated'."""
    forces = [(i, f.labels.forces) for i, f in enumerate(dataset) if f.labels.forces is not None and len(f) > 1]
    zero = [i for i, f in forces if not f.any()]
    if 2 * len(zero) <= len(forces):
        return []
    message = f"forces: found all exactly zero in {len(zero)} of {len(forces)} frames, expected calculated forces; leave out a label that is not there"
    return [Finding("error", "zero-forces", zero[0], f"{dataset[zero[0]].origin or f'frame {zero[0]}'}: {message}")]


def mixed_oracles(dataset: Dataset) -> list[Finding]:
    """Labels of more than one level of theory under one head; those that do not say where they are from may be of any."""
    first: dict[str, int] = {}
    found = []
    for index, frame in enumerate(dataset):
        if frame.oracle and (other := dataset[first.setdefault(frame.head, index)]).oracle != frame.oracle:
            settings = f"{frame.oracle[:8]}, that of {other.origin or f'frame {first[frame.head]}'} {other.oracle[:8]}"
            what = f"oracle_hash is {settings}: found labels of two oracles, or of one with other settings, expected one level of theory"
            found.append((index, f"{what}; give each its own head (data.heads)"))
    return _many("error", "mixed-oracles", dataset, found)


def total_charges(dataset: Dataset) -> list[Finding]:
    """Charged structures whose total charge was not said, or was said wrongly: models make their charges sum to it."""
    found = []
    for index, frame in enumerate(dataset):
        if frame.labels.charges is not None:
            total = float(frame.labels.charges.sum())
            if abs(total - frame.structure.charge) > CHARGE:
                found.append(
                    (
                        index,
                        f"charges: found a sum of {total:+.3g} e, expected the total charge, {frame.structure.charge:+g} e; set total_charge",
                    )
                )
    return _many("error", "total-charge", dataset, found)


def stress_without_volume(dataset: Dataset) -> list[Finding]:
    """Stress of slabs and wires: it takes no part, for a potential predicts none without a volume."""
    found = [i for i, f in enumerate(dataset) if f.labels.stress is not None and not f.structure.pbc.all()]
    if not found:
        return []
    where = dataset[found[0]].origin or f"frame {found[0]}"
    message = f"stress: found one on {len(found)} frames that are not periodic in all directions, the first {where}: it is not used"
    return [Finding("warning", "stress-without-volume", None, message)]


def energy_outliers(dataset: Dataset) -> list[Finding]:
    """Energies far from what the composition explains (fit robust against the outliers themselves)."""
    index = [i for i, f in enumerate(dataset) if f.labels.energy is not None and not is_isolated_atom(f)]
    if len(index) < 5:
        return []
    deviation = composition_deviation([dataset[i] for i in index], np.array([energy_of(dataset[i]) / len(dataset[i]) for i in index]))
    spread = 1.4826 * np.median(np.abs(deviation))
    findings: list[Finding] = []
    levels: tuple[tuple[Severity, float, float], ...] = (("error", OUTLIER_ERROR, np.inf), ("warning", OUTLIER_WARNING, OUTLIER_ERROR))
    for severity, limit, top in levels:
        size = np.abs(deviation)
        where = np.flatnonzero((size > max(limit, 30 * spread)) & (size <= top))
        where = where[np.argsort(-size[where])]
        found = [
            (index[k], f"energy: found {deviation[k]:+.4g} eV/atom against the rest of the set, expected within {limit:g}") for k in where
        ]
        findings += _many(severity, "energy-outlier", dataset, found)
    return findings


def composition_deviation(frames: Sequence[Frame], energy: np.ndarray) -> np.ndarray:
    """Energy per atom [eV] minus a least-absolute-deviation fit on composition (reweighted least squares)."""
    elements = np.unique(np.concatenate([f.structure.numbers for f in frames]))
    design = np.array([[np.mean(f.structure.numbers == z) for z in elements] for f in frames])
    centre = np.median(energy)
    deviation = energy - centre
    for _ in range(30):
        weight = 1 / np.sqrt(np.maximum(np.abs(deviation), 1e-3))
        solution = np.linalg.lstsq(design * weight[:, None], (energy - centre) * weight, rcond=1e-6)[0]
        deviation = energy - centre - design @ solution
    return deviation


def conflicting_labels(dataset: Dataset) -> list[Finding]:
    """The same structure with different energies: two levels of theory in one set, or a failed calculation."""
    first: dict[bytes, int] = {}
    found = []
    for index, (key, frame) in enumerate(zip(dataset.structure_keys, dataset, strict=True)):
        if frame.labels.energy is None:
            continue
        earlier = first.setdefault(key, index)
        difference = abs(energy_of(frame) - energy_of(dataset[earlier])) / len(frame)
        if difference > 1e-3:
            where = dataset[earlier].origin or f"frame {earlier}"
            found.append(
                (index, f"energy: found one {difference:.3g} eV/atom from that of the same structure in {where}, expected one energy")
            )
    return _many("warning", "conflicting-labels", dataset, found)
