"""Shards of a store: HDF5 files of concatenated arrays, written whole and read frame by frame.

| array | shape | meaning |
|---|---|---|
| numbers, positions | [atoms], [atoms, 3] | atomic numbers; coordinates [Å] |
| cell, pbc, charge | [frames, 3, 3], [frames, 3], [frames] | lattice vectors [Å]; periodicity; total charge [e] |
| energy, forces, stress, charges, dipole | [frames], [atoms, 3], [frames, 3, 3], [atoms], [frames, 3] | labels in eV, Å, e |
| origin, origin_end | [bytes], [frames] | UTF-8 text of all origins, and where each ends |

A label that no frame of the shard has is left out; one that some frames lack is zero there (the index of the store tells which). Arrays are
stored in one piece, so a frame is read at its place in the file without HDF5's machinery, from any thread or process.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.errors import DataError
from eqpot.graph.structure import Frame, Labels, Structure

PER_ATOM = {"numbers": (), "positions": (3,), "forces": (3,), "charges": ()}
"""Shapes of arrays with a row per atom."""
PER_FRAME = {"cell": (3, 3), "pbc": (3,), "charge": (), "energy": (), "stress": (3, 3), "dipole": (3,), "origin_end": ()}
"""Shapes of arrays with a row per frame."""
LABELS = ("energy", "forces", "stress", "charges", "dipole")
"""Labels in the order of their bits in the index."""
OPEN_SHARDS = 64
"""Most shards that a process keeps open."""


def frame_bytes(frame: Frame) -> int:
    """About the size of a frame in a shard [bytes]."""
    return 57 * len(frame) + 300


def write_shard(path: Path, frames: Sequence[Frame]) -> None:
    """Write frames to one file and wait until it is on the disk."""
    import h5py

    with h5py.File(path, "w") as file:
        for name in ("numbers", "positions", "cell", "pbc", "charge"):
            values = [np.asarray(getattr(f.structure, name)) for f in frames]
            joined = np.concatenate(values) if name in PER_ATOM else np.stack(values)
            file.create_dataset(name, data=joined.astype(np.uint8) if name in ("numbers", "pbc") else joined)
        for name in LABELS:
            if any(getattr(f.labels, name) is not None for f in frames):
                file.create_dataset(name, data=_labels(name, frames))
        origins = [f.origin.encode() for f in frames]
        file.create_dataset("origin", data=np.frombuffer(b"".join(origins) or b"\0", np.uint8))
        file.create_dataset("origin_end", data=np.cumsum([len(o) for o in origins]))
    synchronize(path)


def _labels(name: str, frames: Sequence[Frame]) -> np.ndarray:
    """One label of all frames, zero where a frame has none."""
    shape = PER_ATOM.get(name, PER_FRAME.get(name, ()))
    values = [getattr(f.labels, name) for f in frames]
    if name in PER_ATOM:
        return np.concatenate(
            [np.zeros((len(f), *shape)) if v is None else np.asarray(v, float) for f, v in zip(frames, values, strict=True)]
        )
    return np.stack([np.zeros(shape) if v is None else np.asarray(v, float) for v in values])


def synchronize(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Shard:
    """One open shard."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        self.places: dict[str, tuple[int, np.dtype, tuple[int, ...], int]] = {}
        try:
            with h5py.File(path, "r") as file:
                for name, array in file.items():
                    row = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=int))
                    self.places[name] = (array.id.get_offset(), array.dtype, array.shape[1:], row)
            self.file = path.open("rb", buffering=0)
        except (OSError, KeyError, RuntimeError) as error:
            raise DataError(f"{path}: cannot be read as a shard of a store ({str(error).splitlines()[0]}); make the store again") from None

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        """Rows of one array.

        Raises:
            DataError: an array that is not there or is cut short.
        """
        if name not in self.places:
            raise DataError(f"{self.path}: found no array '{name}', expected one by the index of the store; make the store again")
        start, dtype, shape, size = self.places[name]
        data = os.pread(self.file.fileno(), count * size, start + first * size)
        if len(data) != count * size:
            raise DataError(
                f"{self.path}: found its end inside the array '{name}', expected {count * size} more bytes; make the store again"
            )
        return np.frombuffer(data, dtype).reshape(count, *shape)

    def frame(self, row: int, start: int, atoms: int, labels: Sequence[str], **extra: Any) -> Frame:
        """The frame at a row, whose atoms begin at `start`; `extra` are fields of the frame that the index holds."""

        def read(name: str) -> Any:
            return self.rows(name, start, atoms) if name in PER_ATOM else self.rows(name, row, 1)[0]

        structure = Structure(read("numbers"), read("positions"), read("cell"), read("pbc").astype(bool), float(read("charge")))
        values: dict[str, Any] = {name: float(read(name)) if name == "energy" else read(name) for name in labels}
        first = int(self.rows("origin_end", row - 1, 1)[0]) if row else 0
        origin = self.rows("origin", first, int(read("origin_end")) - first).tobytes().decode()
        return Frame(structure, Labels(**values), origin, **extra)


@lru_cache(maxsize=OPEN_SHARDS)
def open_shard(path: Path, checksum: str) -> Shard:
    """The shard at a path, kept open in this process; its checksum tells it from another that was at the same place before."""
    del checksum
    return Shard(path)
