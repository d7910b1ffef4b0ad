"""Frames from `ase.Atoms`: calculator results, `info` and `arrays`."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from eqpot.core.errors import DataError, StructureError
from eqpot.data.keys import LabelKeys, Units
from eqpot.data.raw import RawFrame, to_frames
from eqpot.graph.structure import Frame, Structure

_GEOMETRY = ("numbers", "positions")


def from_atoms(atoms: Iterable[Any], keys: LabelKeys | None, units: Units | None, source: str = "atoms") -> tuple[Frame, ...]:
    """Checked frames; see `Dataset.from_atoms`."""
    raws = [_raw(entry, f"{source}:frame {i}") for i, entry in enumerate(atoms)]
    if not raws:
        raise DataError(f"{source}: found no frames, expected at least one")
    return to_frames(raws, keys, units, source)


def _raw(atoms: Any, origin: str) -> RawFrame:
    try:
        structure = Structure.from_atoms(atoms, charge=0.0)  # under which key the charge stands is for `to_frames` to say
    except StructureError as error:
        raise DataError(f"{origin}: {error}") from None
    if isinstance(atoms, Structure):
        return RawFrame(structure, {"total_charge": structure.charge} if structure.charge else {}, {}, origin)
    info = {k: v for k, v in atoms.info.items() if isinstance(k, str)}
    arrays = {k: v for k, v in atoms.arrays.items() if k not in _GEOMETRY}
    for name, value in _results(atoms, origin).items():
        stored = arrays.get(name, info.get(name))
        if stored is not None and not (np.shape(stored) == np.shape(value) and np.allclose(stored, value)):
            raise DataError(
                f"{origin}: {name}: found different values in the calculator and in info/arrays, expected one; remove one of them"
            )
        (arrays if name in ("forces", "charges") else info)[name] = value
    return RawFrame(structure, info, arrays, origin)


def _results(atoms: Any, origin: str) -> dict[str, Any]:
    results = {k: v for k, v in getattr(atoms.calc, "results", {}).items() if v is not None}
    if results and atoms.calc.check_state(atoms):
        raise DataError(f"{origin}: found calculator results of another geometry, expected those of these atoms; calculate again")
    return results
