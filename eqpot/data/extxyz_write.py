"""Writer of extended XYZ: what it writes, `read` returns bit for bit.

Keys are ASE's own (`energy`, `forces`, `stress` as 9 numbers, `charges`, `dipole`) with `config_type` for the
group, `total_charge` where it is not zero, and `head` for the level of theory; units eV, Å, e. A file appears whole or not at all.
"""

import contextlib
import gzip
import lzma
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import DataError
from eqpot.graph.structure import Frame

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")


def write_extxyz(
    path: str | Path,
    frames: Sequence[Frame],
    *,
    info: Sequence[Mapping[str, Any]] | None = None,
    arrays: Sequence[Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write frames to a file; the suffix .gz or .xz compresses.

    Args:
        path: file; written under another name in the same folder and then renamed.
        frames: checked before anything is written.
        info: further values per frame (number, numbers or text), one mapping per frame.
        arrays: further values per atom, [atoms] or [atoms, columns], one mapping per frame.
        overwrite: replace a file that exists.

    Raises:
        DataError: the file exists, the folder does not, or a frame could not be read back.
        StructureError: a frame without meaning.
    """
    path = Path(path)
    _require_target(path, overwrite)
    for name, extra in (("info", info), ("arrays", arrays)):
        if extra is not None and len(extra) != len(frames):
            raise DataError(f"{name}: found {len(extra)} mappings, expected one per frame ({len(frames)})")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with _compressed(file, path.suffix) as stream:
                for i, frame in enumerate(frames):
                    stream.write(format_frame(frame, info[i] if info else {}, arrays[i] if arrays else {}).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _require_target(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise DataError(f"{path}: found an existing file, expected none; choose another name or pass overwrite=True")
    if not path.parent.is_dir():
        raise DataError(f"{path}: found no folder '{path.parent}', expected one to write into")


def _compressed(file: Any, suffix: str) -> Any:
    if suffix == ".gz":
        return gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
    if suffix == ".xz":
        return lzma.LZMAFile(file, "wb")
    return contextlib.nullcontext(file)


def format_frame(frame: Frame, info: Mapping[str, Any] | None = None, arrays: Mapping[str, Any] | None = None) -> str:
    """One frame as extended-XYZ text (for appending to a trajectory); see `write_extxyz`."""
    frame.check()
    structure, labels = frame.structure, frame.labels
    columns = {"forces": labels.forces, "charges": labels.charges, **(arrays or {})}
    columns = {"pos": structure.positions, **{k: _column(k, v, len(frame)) for k, v in columns.items() if v is not None}}
    names = "".join(f":{name}:{'I' if v.dtype.kind == 'i' else 'R'}:{1 if v.ndim == 1 else v.shape[1]}" for name, v in columns.items())
    pairs = {"Properties": f"species:S:1{names}", **_pairs(frame), **(info or {})}
    if structure.cell.any():
        pairs = {"Lattice": structure.cell.ravel(), **pairs}
    comment = " ".join(f"{_name(key)}={_text(value)}" for key, value in pairs.items() if value is not None)
    symbols = [symbol(z) for z in structure.numbers]
    rows = zip(symbols, *(_words(v) for v in columns.values()), strict=True)
    return f"{len(frame)}\n{comment}\n" + "".join(" ".join(row) + "\n" for row in rows)


def _pairs(frame: Frame) -> dict[str, Any]:
    labels = frame.labels
    return {
        "energy": labels.energy,
        "stress": None if labels.stress is None else np.ravel(labels.stress),
        "dipole": labels.dipole,
        "total_charge": frame.structure.charge or None,
        "config_type": frame.group if frame.group != "default" else None,
        "config_weight": frame.weight if frame.weight != 1.0 else None,
        "head": frame.head or None,
        "oracle_hash": frame.oracle or None,
        "pbc": " ".join("T" if p else "F" for p in frame.structure.pbc),
    }


def _column(name: str, values: Any, n_atoms: int) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fi" or array.ndim not in (1, 2) or len(array) != n_atoms:
        raise DataError(f"column '{name}': found {array.dtype} {array.shape}, expected numbers [{n_atoms}] or [{n_atoms}, columns]")
    return array


def _words(values: np.ndarray) -> list[str]:
    return [" ".join(map(repr, row)) for row in values.reshape(len(values), -1).tolist()]


def _name(key: str) -> str:
    if not _NAME.fullmatch(key):
        raise DataError(f"key '{key}': found characters that extended XYZ cannot hold, expected letters, digits, '_' and '-'")
    return key


def _text(value: Any) -> str:
    if isinstance(value, str):
        if "\n" in value or "\r" in value or "\0" in value:
            raise DataError(f"found a line break or NUL in the text {value!r:.60}, expected one line")
        plain = re.fullmatch(r"[A-Za-z0-9_.:+/\-]+", value)
        return value if plain else '"' + value.replace("\\", r"\\").replace('"', r"\"") + '"'
    words = [repr(x) for x in np.ravel(np.asarray(value)).tolist()]
    return words[0] if len(words) == 1 else '"' + " ".join(words) + '"'
