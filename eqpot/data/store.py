"""A set of frames on disk, for sets larger than memory: a folder that `eqpot prepare` writes once.

The folder holds HDF5 shards (see `shards`), an index with a row per frame (`index.h5`: size, labels, group, head, weight, elements,
structure key) and a header (`header.json`: format version, content hash, counts, shards with sizes and checksums). Only
the index is kept in memory, about 50 bytes per frame. Frames are read at their place when asked for, from any thread or process.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import DataError
from eqpot.data.dataset import Dataset, is_isolated_atom
from eqpot.data.shards import LABELS, open_shard
from eqpot.graph.structure import Frame

FORMAT, VERSION = "eqpot store", 1
HEADER, INDEX = "header.json", "index.h5"
COLUMNS = ("atoms", "labels", "isolated", "group", "head", "oracle", "weight", "key", "elements")
"""Columns of the index; `elements` is a packed bit per atomic number, `key` the first 8 bytes of the structure key, `oracle` is not in older stores."""


@dataclass(frozen=True, eq=False)
class Folder:
    """An open store folder: header, index, and where each frame is."""

    path: Path
    header: dict[str, Any]
    index: dict[str, np.ndarray]

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (self.path, self.header["content_hash"])

    @cached_property
    def first(self) -> np.ndarray:
        """First frame of each shard, and their number, [shards + 1]."""
        return np.cumsum([0] + [s["frames"] for s in self.header["shards"]])

    @cached_property
    def start(self) -> np.ndarray:
        """First atom of each frame in the whole set, and the number of atoms, [frames + 1]."""
        return np.concatenate([[0], np.cumsum(self.index["atoms"], dtype=np.int64)])

    def frame(self, k: int) -> Frame:
        """Frame k of the folder."""
        shard = int(np.searchsorted(self.first, k, side="right")) - 1
        base, index = int(self.first[shard]), self.index
        entry = self.header["shards"][shard]
        file = open_shard(self.path / entry["file"], entry["sha256"])
        labels = [name for bit, name in enumerate(LABELS) if int(index["labels"][k]) >> bit & 1]
        names = {key: self.header[f"{key}s"][int(index[key][k])] for key in ("group", "head", "oracle")}
        start, atoms = int(self.start[k] - self.start[base]), int(index["atoms"][k])
        return file.frame(k - base, start, atoms, labels, **names, weight=float(index["weight"][k]))


def is_store(path: Any) -> bool:
    """Whether a path is a folder that looks like a store."""
    return isinstance(path, str | Path) and (Path(path).expanduser() / HEADER).is_file()


def open_folder(path: str | Path) -> Folder:
    """Read header and index and compare the shards with them; see `Store.open`."""
    path = Path(path).expanduser()
    header = _read_header(path)
    for shard in header["shards"]:
        file = path / shard["file"]
        if not file.is_file():
            raise DataError(f"{file}: found no such shard, expected it by {HEADER}; restore it or make the store again with eqpot prepare")
        if (size := file.stat().st_size) != shard["bytes"]:
            raise DataError(
                f"{file}: found {size} bytes, expected {shard['bytes']}: the shard is cut or changed; restore it or make the store again"
            )
    return Folder(path, header, _read_index(path / INDEX, header["frames"]))


def reopen(path: Path, content_hash: str) -> Folder:
    """Open a folder in another process, when it still is the same store."""
    folder = open_folder(path)
    if folder.header["content_hash"] != content_hash:
        raise DataError(f"{path}: found another store than the one opened before, expected it unchanged while it is in use")
    return folder


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads((path / HEADER).read_text())
    except OSError:
        raise DataError(f"{path}: found no store (no {HEADER} in it), expected a folder made by eqpot prepare") from None
    except ValueError as error:
        raise DataError(f"{path / HEADER}: found no valid JSON ({error}), expected the header of a store; make it again") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path / HEADER}: found another kind of file, expected the header of a store made by eqpot prepare")
    if header["version"] > VERSION:
        raise DataError(f"{path}: found format version {header['version']}, expected at most {VERSION}; update eqpot to read this store")
    return {"oracles": [""], **header}


def _read_index(path: Path, frames: int) -> dict[str, np.ndarray]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            index = {name: np.asarray(file[name]) for name in COLUMNS if name != "oracle" or name in file}
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as the index of a store ({str(error).splitlines()[0]}); make the store again") from None
    index.setdefault("oracle", np.zeros(frames, np.int32))
    if any(len(column) != frames for column in index.values()):
        raise DataError(f"{path}: found an index of {len(index['atoms'])} frames, expected {frames} by {HEADER}; make the store again")
    return index


@dataclass(frozen=True, eq=False)
class Store:
    """Frames on disk, or some of them: `store[3]` is a Frame; a slice, an array of indices or a mask gives a Store of those.

    Attributes:
        folder: where they are.
        chosen: which frames of the folder, in order.
    """

    folder: Folder
    chosen: np.ndarray

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a store; shards are checked for presence and size (`verify` checks their content).

        Raises:
            DataError: no store, a newer format, a shard that is missing or cut, an index that does not fit.
        """
        folder = open_folder(path)
        return cls(folder, np.arange(folder.header["frames"]))

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Frame]:
        return (self.folder.frame(int(k)) for k in self.chosen)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice | list[int] | np.ndarray) -> "Store": ...
    def __getitem__(self, index: Any) -> "Frame | Store":
        if isinstance(index, (int, np.integer)):
            return self.folder.frame(int(self.chosen[index]))
        return Store(self.folder, self.chosen[index if isinstance(index, slice) else np.asarray(index, None if len(index) else int)])

    def __repr__(self) -> str:
        labels = ", ".join(f"{n} {name}" for name, n in self.label_counts().items() if n)
        return f"Store({len(self)} frames; {' '.join(self.elements)}; {labels or 'no labels'})"

    def column(self, name: str) -> np.ndarray:
        """A column of the index for these frames."""
        return self.folder.index[name][self.chosen]

    @property
    def sizes(self) -> np.ndarray:
        """Atoms of each frame, [frames]."""
        return self.column("atoms")

    @property
    def isolated(self) -> np.ndarray:
        """Which frames are isolated atoms, [frames]."""
        return self.column("isolated").astype(bool)

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Symbols of all elements, by atomic number."""
        bits = np.unpackbits(np.bitwise_or.reduce(self.column("elements"), axis=0))
        return tuple(symbol(z) for z in np.flatnonzero(bits))

    @cached_property
    def content_hash(self) -> str:
        """That of a Dataset of the same frames for the whole store; for a part, a hash of the whole's and of the chosen indices."""
        whole: str = self.folder.header["content_hash"]
        if len(self) == self.folder.header["frames"] and (np.diff(self.chosen) == 1).all():
            return whole
        return hashlib.sha256(whole.encode() + np.asarray(self.chosen, "<i8").tobytes()).hexdigest()

    @cached_property
    def groups(self) -> dict[str, int]:
        """Frames per group name, most frequent first."""
        names, counts = self.folder.header["groups"], np.bincount(self.column("group"))
        return dict(Counter({names[k]: int(n) for k, n in enumerate(counts) if n}).most_common())

    def label_counts(self) -> dict[str, int]:
        """For each kind of label, how many frames have it."""
        bits = self.column("labels")
        return {name: int(np.count_nonzero(bits >> bit & 1)) for bit, name in enumerate(LABELS)}

    def sample(self, n: int, seed: int = 0) -> Dataset:
        """At most n frames in memory, drawn by the seed, in order; isolated atoms, which define the zero of energy, are all kept."""
        isolated, rest = np.flatnonzero(self.isolated), np.flatnonzero(~self.isolated)
        if len(rest) > n:
            rest = np.random.default_rng([seed, 0x5A]).choice(rest, n, replace=False)
        return Dataset(tuple(self[int(k)] for k in np.sort(np.concatenate([isolated, rest]))))

    def verify(self) -> None:
        """Read all shards of the folder and compare their checksums.

        Raises:
            DataError: naming the shard whose content has changed.
        """
        for shard in self.folder.header["shards"]:
            file = self.folder.path / shard["file"]
            if checksum(file) != shard["sha256"]:
                raise DataError(
                    f"{file}: found another checksum than in {HEADER}: the shard has changed; restore it or make the store again"
                )


Frames = Dataset | Store
"""A data set, in memory or on disk: both have `len`, indices, `elements`, `content_hash`, `groups`, `label_counts`."""


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def isolated_atoms(frames: Frames) -> np.ndarray:
    """Which frames are isolated atoms, [frames]."""
    return frames.isolated if isinstance(frames, Store) else np.array([is_isolated_atom(f) for f in frames], bool)


def group_names(frames: Frames) -> np.ndarray:
    """Name of each frame's group, [frames]."""
    if isinstance(frames, Store):
        return np.array(frames.folder.header["groups"], str)[frames.column("group")]
    return np.array([f.group for f in frames], str)


def shared_structures(frames: Frames, other: Frames) -> np.ndarray:
    """Indices of frames whose structure is also in `other` (isolated atoms aside); as `Dataset.overlap`, from the first 8 bytes of the keys."""
    return np.flatnonzero(np.isin(key_numbers(frames), key_numbers(other)) & ~isolated_atoms(frames))


def key_numbers(frames: Frames) -> np.ndarray:
    """The first 8 bytes of each frame's structure key: equal for equal structures."""
    if isinstance(frames, Store):
        return frames.column("key")
    return np.array([int.from_bytes(key[:8], "little") for key in frames.structure_keys], np.uint64)
