"""Read and write data sets; the format follows from the suffix and is never guessed from the content."""

import difflib
import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from eqpot.core.errors import DataError
from eqpot.data.atoms import from_atoms
from eqpot.data.dataset import Dataset
from eqpot.data.extxyz import MAX_BYTES, read_extxyz
from eqpot.data.extxyz_write import write_extxyz
from eqpot.data.keys import LabelKeys, Units
from eqpot.data.raw import to_frames
from eqpot.data.store import is_store
from eqpot.data.tokens import printable
from eqpot.graph.structure import Frame

EXTXYZ_SUFFIXES: Final = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz", ".xyz.xz", ".extxyz.xz")
FORMATS: Final = (*EXTXYZ_SUFFIXES, ".db")


def read(
    path: str | Path | Sequence[str | Path],
    *,
    keys: LabelKeys | None = None,
    units: Units | None = None,
    index: int | slice | Sequence[int] | np.ndarray | None = None,
    strict: bool = False,
    salvage: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Read structures and labels; every frame is checked, and converted to eV and Å.

    Args:
        path: a file, a glob pattern, or several of them, joined in order. Extended XYZ (.xyz, .extxyz, also .gz and .xz)
            or an ASE database (.db).
        keys: names of the labels; by default found, see `LabelKeys`.
        units: units of the file; by default eV and Å.
        index: which frames to keep, of all files together; by default all.
        strict: refuse a set in which some frames have energy, forces or stress and others have not.
        salvage: of a file that is cut short, keep the whole frames and warn with their number.
        max_bytes: most (decompressed) bytes to read of one file.

    Raises:
        DataError: a file that cannot be used, naming file and frame, what was found and what was expected.
        StructureError: a structure without meaning, naming file and frame.
    """
    frames: list[Frame] = []
    for file in find_files(path):
        if file.suffix == ".db":
            frames += _read_db(file, keys, units)
        else:
            frames += to_frames(read_extxyz(file, max_bytes=max_bytes, salvage=salvage), keys, units, str(file))
    dataset = Dataset(tuple(frames))
    if strict:
        _require_complete(dataset)
    return dataset if index is None else _select(dataset, index)


def write(path: str | Path, dataset: Iterable[Frame], *, overwrite: bool = False) -> None:
    """Write frames as extended XYZ (.xyz, .extxyz, also .gz and .xz); they read back bit for bit.

    Raises:
        DataError: an unknown suffix, an existing file without `overwrite`, a folder that does not exist.
    """
    if not str(path).endswith(EXTXYZ_SUFFIXES):
        raise DataError(f"{path}: found suffix '{Path(path).suffix}', expected one of {', '.join(EXTXYZ_SUFFIXES)}")
    write_extxyz(path, tuple(dataset), overwrite=overwrite)


def find_files(path: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that a name, a pattern or several of them stand for, each there and of a known format; see `read`."""
    if not isinstance(path, (str, Path)):
        if not path:
            raise DataError("found an empty list of files, expected at least one")
        return [file for entry in path for file in find_files(entry)]
    file = Path(path).expanduser()
    if glob.has_magic(str(file)) and not os.path.exists(file):
        matches = [Path(p) for p in sorted(glob.glob(str(file), recursive=True))]
        if not matches:
            raise DataError(f"{path}: found no file that matches the pattern, expected at least one")
        return [_checked(match) for match in matches]
    return [_checked(file)]


def _checked(file: Path) -> Path:
    """The file itself when it is there and of a known format."""
    try:
        return _require_file(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None


def _require_file(file: Path) -> Path:
    if file.is_dir():
        if is_store(file):
            raise DataError(f"{file}: found a store, expected a file; eqpot fit and inspect take stores, Python has eqpot.data.Store.open")
        raise DataError(f"{file}: found a folder, expected a file; give its files, or a pattern such as '{file}/*.extxyz'")
    if not file.exists():
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.iterdir()], 1) if file.parent.is_dir() else []
        raise DataError(f"{file}: found no such file, expected a data set" + (f"; did you mean '{file.parent / near[0]}'?" if near else ""))
    if not file.name.endswith(FORMATS):
        raise DataError(
            f"{file}: found suffix '{file.suffix}', expected one of {', '.join(FORMATS)}; convert other formats with `ase convert`"
        )
    return file


def _read_db(file: Path, keys: LabelKeys | None, units: Units | None) -> tuple[Frame, ...]:
    """All rows of an ASE database (SQLite), their key-value pairs and data as info."""
    import sqlite3

    from ase.db import connect

    if file.stat().st_size == 0:
        raise DataError(f"{file}: found no frames, expected at least one; the file is empty")
    try:
        atoms = [_row_atoms(row) for row in connect(file, type="db", use_lock_file=False).select()]
    except (sqlite3.Error, OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{file}: found no readable ASE database ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None
    return from_atoms(atoms, keys, units, str(file))


def _row_atoms(row: Any) -> Any:
    atoms = row.toatoms()
    atoms.info.update({**row.key_value_pairs, **row.data})
    return atoms


def _select(dataset: Dataset, index: int | slice | Sequence[int] | np.ndarray) -> Dataset:
    try:
        return dataset[[index] if isinstance(index, (int, np.integer)) else index]
    except IndexError:
        raise DataError(printable(f"index: found {index}, expected indices between {-len(dataset)} and {len(dataset) - 1}")) from None


def _require_complete(dataset: Dataset) -> None:
    for name, n in dataset.label_counts().items():
        if name in ("energy", "forces", "stress") and 0 < n < len(dataset):
            frame = next(f for f in dataset if getattr(f.labels, name) is None)
            raise DataError(
                f"{frame.origin}: {name}: found it in {n} of {len(dataset)} frames, expected all of them (strict); this is the first without"
            )
