"""From what a file says to a checked `Frame` in eV and Å.

A `RawFrame` is one configuration as it stands in a file, in the file's units and under the file's
names. Every reader makes raw frames; `to_frames` alone turns them into frames, so that keys, units
and checks mean the same for every format.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from eqpot.core.errors import DataError
from eqpot.data.keys import AMBIGUOUS, LabelKeys, Units
from eqpot.data.tokens import printable, scalar, vector
from eqpot.graph.structure import Frame, Labels, Structure

VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""ASE's order of six stress components: xx, yy, zz, yz, xz, xy."""

_SWITCHES: Final = {"virial": "config_virials_weight"}
"""Names of numbers that switch a label of one frame on (1) or off (0), as written for MACE; others are config_<label>_weight."""
_AGREEMENT: Final = {"energy": 1e-3, "forces": 1e-3, "stress": 1e-4, "virial": 1e-3, "charges": 1e-3, "dipole": 1e-3, "total_charge": 1e-6}
"""How far two names of one label may differ: eV/atom, eV/Å, eV/Å³, eV/atom, e, e·Å, e."""


@dataclass(frozen=True, eq=False)
class RawFrame:
    """One configuration as a file holds it.

    Attributes:
        structure: numbers, positions, cell, pbc; lengths in the file's unit.
        info: values per frame by name; text or numbers.
        arrays: values per atom by name.
        origin: for messages, 'file:frame i'.
    """

    structure: Structure
    info: dict[str, Any]
    arrays: dict[str, Any]
    origin: str

    def get(self, name: str, label: str) -> Any:
        """The value of a label stored under a name, per atom or per frame; None when absent."""
        if name == AMBIGUOUS:
            return (self.arrays if label == "charges" else self.info).get(name)
        return self.arrays[name] if name in self.arrays else self.info.get(name)


def to_frames(raws: Sequence[RawFrame], keys: LabelKeys | None, units: Units | None, source: str) -> tuple[Frame, ...]:
    """Checked frames of one source; label names are chosen once for the whole source.

    Raises:
        DataError: naming source, frame and label, what was found and what was expected.
        StructureError: a structure without meaning, naming source and frame.
    """
    present = set().union(*(raw.info.keys() | raw.arrays.keys() for raw in raws))
    names = label_names(present, keys, source)
    return tuple(to_frame(raw, names, units or Units()) for raw in raws)


def label_names(present: Iterable[str], keys: LabelKeys | None, source: str) -> dict[str, tuple[str, ...]]:
    """Under which names a source keeps each label, from all names present in it.

    Raises:
        DataError: see `LabelKeys.resolve`; with the source in front.
    """
    try:
        return (keys or LabelKeys()).resolve(present)
    except DataError as error:
        raise DataError(printable(f"{source}: {error}")) from None


def to_frame(raw: RawFrame, names: dict[str, tuple[str, ...]], units: Units) -> Frame:
    """A checked frame in eV and Å; see `to_frames`."""
    try:
        structure = _scaled(raw.structure, units.length_factor)
        values = {label: _value(raw, label, names[label], structure, units) for label in _AGREEMENT}
        structure = replace(structure, charge=values.pop("total_charge") or 0.0)
        virial = values.pop("virial")
        labels = Labels(**{**values, "stress": _merge_stress(values["stress"], virial, structure)})
        weight = _weight(raw, names["weight"])
    except DataError as error:
        raise DataError(printable(f"{raw.origin}: {error}")) from None
    group, head = (next((raw.info[n] for n in names[key] if n in raw.info), other) for key, other in (("group", "default"), ("head", "")))
    return Frame(structure, labels, raw.origin, str(group), weight, str(head), str(raw.info.get("oracle_hash", ""))).check()


def _scaled(structure: Structure, factor: float) -> Structure:
    if factor == 1.0:
        return structure
    return replace(structure, positions=structure.positions * factor, cell=structure.cell * factor)


def _value(raw: RawFrame, label: str, names: tuple[str, ...], structure: Structure, units: Units) -> Any:
    """One label in internal units from the first of `names`; the others must not say something else."""
    on = not names or _is_on(raw, _SWITCHES.get(label, f"config_{label}_weight"))
    found = [(name, _convert(label, name, raw.get(name, label), units)) for name in names if on and raw.get(name, label) is not None]
    if not found:
        return None
    if found[0][0] != names[0]:
        raise DataError(
            f"{label}: found under '{found[0][0]}', expected '{names[0]}' as in other frames; "
            f"name the one to use with keys=LabelKeys({label}='…')"
        )
    (chosen, value), *others = found
    tolerance = _AGREEMENT[label] * (len(structure) if label in ("energy", "virial") else 1)
    for name, other in others:
        difference = np.max(np.abs(value - other)) if np.shape(value) == np.shape(other) else np.inf
        if difference > tolerance:
            raise DataError(
                f"{label}: '{chosen}' and '{name}' differ by up to {difference:.4g} (limit {tolerance:.4g}); found two different labels, "
                f"expected one: choose with keys=LabelKeys({label}='{chosen}') or '{name}'"
            )
    return value


def _is_on(raw: RawFrame, switch: str) -> bool:
    value = scalar(raw.info.get(switch, 1))
    if value not in (0, 1):
        raise DataError(
            f"{switch}: found {value:g}, expected 0 (this label of the frame takes no part) or 1; labels of one frame have no weights of their own here: "
            "weigh whole frames (config_weight), or remove it"
        )
    return bool(value)


def _convert(label: str, name: str, value: Any, units: Units) -> Any:
    factor = {
        "energy": units.energy_factor,
        "forces": units.energy_factor / units.length_factor,
        "stress": units.stress_factor,
        "virial": units.energy_factor,
        "dipole": units.length_factor,
    }.get(label, 1.0)
    try:
        if label in ("energy", "total_charge"):
            return scalar(value) * factor
        numbers = vector(value) * factor
        return symmetric_matrix(numbers) if label in ("stress", "virial") else numbers
    except (DataError, ValueError, TypeError) as error:
        raise DataError(f"{label} (key '{name}'): {error}") from None


def symmetric_matrix(values: np.ndarray) -> np.ndarray:
    """A 3×3 matrix from 9 numbers, 3×3, or 6 in ASE's order xx, yy, zz, yz, xz, xy (symmetry is checked with the labels).

    Raises:
        DataError: for any other count.
    """
    if values.size == 9:
        return values.reshape(3, 3)
    if values.shape != (6,):
        raise DataError(f"found {values.size} numbers, expected 9, or 6 in the order xx yy zz yz xz xy")
    full = np.empty((3, 3))
    for (a, b), x in zip(VOIGT, values, strict=True):
        full[a, b] = full[b, a] = x
    return full


def _merge_stress(stress: np.ndarray | None, virial: np.ndarray | None, structure: Structure) -> np.ndarray | None:
    """Stress from either or both: stress = −virial/volume (ASE's sign)."""
    if stress is None and virial is None:
        return None
    if not structure.pbc.any():
        raise DataError(
            "stress: found one on a frame without periodicity, expected none; set pbc, or use keys=LabelKeys(stress='', virial='')"
        )
    if virial is None:
        return stress
    if structure.volume == 0.0:
        raise DataError("virial: found a cell without volume, expected three independent lattice vectors")
    converted = -virial / structure.volume
    if stress is not None and not np.allclose(stress, converted, rtol=1e-2, atol=1e-4):
        worst = np.max(np.abs(stress - converted))
        raise DataError(
            f"stress and virial disagree by {worst:.4g} eV/Å³, expected stress = −virial/volume; "
            "ignore one of them with keys=LabelKeys(virial='') or LabelKeys(stress='')"
        )
    return converted if stress is None else stress


def _weight(raw: RawFrame, names: tuple[str, ...]) -> float:
    value = next((scalar(raw.info[n]) for n in names if n in raw.info), 1.0)
    if not (np.isfinite(value) and value >= 0):
        raise DataError(f"weight: found {value}, expected a finite number ≥ 0")
    return value
