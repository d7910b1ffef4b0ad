"""Writing a store: frames in, a folder out that appears whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.errors import DataError
from eqpot.core.version import VERSION as PACKAGE_VERSION
from eqpot.data.dataset import Dataset, is_isolated_atom, structure_key, update_hash
from eqpot.data.plausibility import large_forces, mixed_oracles, overlaps, require_allowed, require_sane
from eqpot.data.reference import references_by_head
from eqpot.data.shards import LABELS, frame_bytes, synchronize, write_shard
from eqpot.data.statistics import statistics
from eqpot.data.store import COLUMNS, FORMAT, HEADER, INDEX, VERSION, Store, checksum, open_folder
from eqpot.graph.structure import Frame

SAMPLE = 20_000
"""Checks that need the whole set, and statistics, use at most so many frames, drawn at random."""
TELL_EVERY = 200
"""Frames between two reports of progress."""


class StoreWriter:
    """Writes frames to a store: `with StoreWriter(path) as writer: writer.add(frame)`.

    Everything is written to a hidden folder beside `path`, which is renamed at the end; an error or an interrupt removes it.

    Args:
        path: folder of the store.
        shard_mb: size of a shard [MB].
        overwrite: move what is at `path` aside (to `path.previous-1`, …) when the new store is complete; nothing is deleted.
        allow: codes of checks to accept, see `eqpot.data.plausibility`.

    Raises:
        DataError: `path` exists without `overwrite`, its parent does not, or the data fail a check.
    """

    def __init__(self, path: str | Path, *, shard_mb: float = 64.0, overwrite: bool = False, allow: Collection[str] = ()) -> None:
        self.path, self.shard_bytes, self.overwrite, self.allow = Path(path).expanduser(), shard_mb * 1e6, overwrite, allow
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self.frames: list[Frame] = []
        self.filled = 0.0
        self.shards: list[dict[str, Any]] = []
        self.columns: list[dict[str, np.ndarray]] = []
        self.groups: dict[str, int] = {}
        self.heads: dict[str, int] = {}
        self.oracles: dict[str, int] = {}
        self.levels: dict[str, Frame] = {}  # the first frame of each head that names its oracle
        self.digest = hashlib.sha256()

    def __enter__(self) -> "StoreWriter":
        if not self.shard_bytes > 0:
            raise DataError(f"shard size: found {self.shard_bytes / 1e6:g} MB, expected a positive number")
        if self.path.exists() and not self.overwrite:
            raise DataError(f"{self.path}: exists already; choose another name, or overwrite it (the old one is then moved aside)")
        try:
            self.temporary.mkdir()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be made: {error.strerror or error}") from None
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def add(self, frame: Frame) -> None:
        """Check the form of a frame and put it at the end of the store."""
        update_hash(self.digest, frame.check())
        self.frames.append(frame)
        self.filled += frame_bytes(frame)
        if self.filled >= self.shard_bytes:
            self._flush()

    def _flush(self) -> None:
        """Check the frames gathered so far for mixed levels of theory, overlapping atoms and absurd forces, and write them as a shard."""
        block = Dataset(tuple(self.frames))
        levels = Dataset((*self.levels.values(), *block))
        require_allowed([*mixed_oracles(levels), *overlaps(block), *large_forces(block)], self.allow)
        self.levels = {f.head: f for f in reversed(block) if f.oracle} | self.levels
        file = self.temporary / f"shard-{len(self.shards):05d}.h5"
        write_shard(file, self.frames)
        atoms = sum(map(len, self.frames))
        self.shards.append(
            {"file": file.name, "frames": len(self.frames), "atoms": atoms, "bytes": file.stat().st_size, "sha256": checksum(file)}
        )
        self.columns.append(self._index_rows())
        self.frames, self.filled = [], 0.0

    def _index_rows(self) -> dict[str, np.ndarray]:
        frames = self.frames
        elements = np.zeros((len(frames), 120), bool)
        for row, frame in zip(elements, frames, strict=True):
            row[frame.structure.numbers] = True
        return {
            "atoms": np.array([len(f) for f in frames], np.int32),
            "labels": np.array([sum(1 << bit for bit, name in enumerate(LABELS) if name in f.labels.known) for f in frames], np.uint8),
            "isolated": np.array([is_isolated_atom(f) for f in frames], np.uint8),
            "group": np.array([self.groups.setdefault(f.group, len(self.groups)) for f in frames], np.int32),
            "head": np.array([self.heads.setdefault(f.head, len(self.heads)) for f in frames], np.int32),
            "oracle": np.array([self.oracles.setdefault(f.oracle, len(self.oracles)) for f in frames], np.int32),
            "weight": np.array([f.weight for f in frames]),
            "key": np.array([int.from_bytes(structure_key(f.structure)[:8], "little") for f in frames], np.uint64),
            "elements": np.packbits(elements, axis=1),
        }

    def _finish(self) -> None:
        """Write index and header, describe and check the set, and give the folder its name."""
        import h5py

        if self.frames:
            self._flush()
        if not self.shards:
            raise DataError(f"{self.path}: found no frames to write, expected at least one")
        index = {name: np.concatenate([c[name] for c in self.columns]) for name in COLUMNS}
        with h5py.File(self.temporary / INDEX, "w") as file:
            for name, column in index.items():
                file.create_dataset(name, data=column)
        synchronize(self.temporary / INDEX)
        self._write_header(self._header(index))
        folder = open_folder(self.temporary)
        store = Store(folder, np.arange(folder.header["frames"]))
        sampled = store.sample(SAMPLE)
        warnings = [finding.message for finding in require_sane(sampled, self.allow)]
        facts = {"of_frames": len(sampled), **asdict(statistics(sampled, references_by_head(sampled)))}
        counts = {"label_counts": store.label_counts(), "elements": list(store.elements)}
        self._write_header({**folder.header, **counts, "statistics": facts, "warnings": warnings})
        self._publish()

    def _header(self, index: dict[str, np.ndarray]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "written_by": f"eqpot {PACKAGE_VERSION}",
            "frames": len(index["atoms"]),
            "atoms": int(index["atoms"].sum(dtype=np.int64)),
            "content_hash": self.digest.hexdigest(),
            "groups": list(self.groups),
            "heads": list(self.heads),
            "oracles": list(self.oracles),
            "shards": self.shards,
        }

    def _write_header(self, header: dict[str, Any]) -> None:
        file = self.temporary / HEADER
        file.write_text(json.dumps(header, indent=1) + "\n")
        synchronize(file)

    def _publish(self) -> None:
        synchronize(self.temporary)
        if self.path.exists():
            if not self.overwrite:
                raise DataError(f"{self.path}: was made by someone else meanwhile; choose another name")
            number = 1
            while (aside := self.path.with_name(f"{self.path.name}.previous-{number}")).exists():
                number += 1
            self.path.rename(aside)
        self.temporary.rename(self.path)
        synchronize(self.path.parent)


def prepare_store(
    frames: Iterable[Frame],
    path: str | Path,
    *,
    shard_mb: float = 64.0,
    allow: Collection[str] = (),
    overwrite: bool = False,
    on_frames: Callable[[int], None] | None = None,
) -> Store:
    """Write frames to a store and open it; every frame is checked for form, overlapping atoms and absurd forces.

    Args:
        frames: such as a `FrameStream` of files.
        path, shard_mb, allow, overwrite: see `StoreWriter`.
        on_frames: called now and then with the number of frames so far.

    Raises:
        DataError, StructureError: for the first frame that cannot be used; nothing is written then.
    """
    with StoreWriter(path, shard_mb=shard_mb, overwrite=overwrite, allow=allow) as writer:
        for done, frame in enumerate(frames, 1):
            writer.add(frame)
            if on_frames and done % TELL_EVERY == 0:
                on_frames(done)
    return Store.open(path)
