"""Frames of files one after the other, for sets larger than memory.

A first pass looks at the counts and comment lines of every file, so that the number of frames is known and label names are chosen for each
file as a whole, as `read` does; the frames are then made one by one. Rows of an ASE database are held together in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eqpot.core.errors import DataError
from eqpot.data.extxyz import iterate_extxyz, scan_extxyz
from eqpot.data.io import find_files, read
from eqpot.data.keys import LabelKeys, Units
from eqpot.data.raw import label_names, to_frame
from eqpot.graph.structure import Frame

MAX_BYTES = 2**44
"""Most decompressed bytes read from one file: a stream takes no memory, so only a file without end has to be stopped."""


@dataclass(frozen=True)
class _Source:
    file: Path
    frames: int
    names: dict[str, tuple[str, ...]]


class FrameStream:
    """The frames of files in order; `len` counts them, iterating reads them anew.

    Args:
        path: file, glob pattern or several of them, as `read` takes.
        keys, units: as `read` takes.

    Raises:
        DataError, StructureError: as `read`.
    """

    def __init__(self, path: str | Path | Sequence[str | Path], keys: LabelKeys | None = None, units: Units | None = None) -> None:
        self.keys, self.units = keys, units
        self.sources = [self._scan(file) for file in find_files(path)]

    def _scan(self, file: Path) -> _Source:
        if file.suffix == ".db":
            return _Source(file, len(read(file, keys=self.keys, units=self.units)), {})
        count, present = scan_extxyz(file, max_bytes=MAX_BYTES)
        if not count:
            raise DataError(f"{file}: found no frames, expected at least one; the file is empty")
        return _Source(file, count, label_names(present, self.keys, str(file)))

    def __len__(self) -> int:
        return sum(source.frames for source in self.sources)

    def __iter__(self) -> Iterator[Frame]:
        for source in self.sources:
            if source.file.suffix == ".db":
                yield from read(source.file, keys=self.keys, units=self.units)
            else:
                for raw in iterate_extxyz(source.file, max_bytes=MAX_BYTES):
                    yield to_frame(raw, source.names, self.units or Units())
