"""Frames made ready for batches: neighbours found, reference energies taken off; in memory, or read from a store when asked for."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from eqpot.core.errors import DataError, StructureError, did_you_mean
from eqpot.data import Frames, Store
from eqpot.graph import Frame, Host, find_neighbors, prepare
from eqpot.training.sizes import SLOTS, Sizes

CHUNK = 10_000
"""Frames of a store whose neighbours are counted at a time."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A frame made ready: neighbours found, reference energy taken off [eV]."""

    frame: Frame
    host: Host
    energy: float | None


def make_sample(frame: Frame, elements: Sequence[str], cutoff: float, reference: np.ndarray, heads: Sequence[str] = ()) -> Sample:
    """Prepare a frame.

    Args:
        frame: a labelled structure; one without a head belongs to the first.
        elements: symbols, in the order of the model's species.
        cutoff: of the neighbours [Å].
        reference: reference energies [eV], [species] or [heads, species].
        heads: names of the model's levels of theory; none for a model without.

    Raises:
        StructureError: with the origin of the frame in front.
        DataError: a head that the model does not have.
    """
    head = head_number(frame, heads)
    try:
        host = prepare(frame.structure, elements, cutoff, head)
    except StructureError as error:
        raise StructureError(f"{frame.origin}: {error}") from None
    known = frame.labels.energy
    return Sample(frame, host, None if known is None else float(known - np.atleast_2d(reference)[head][host.species].sum()))


def head_number(frame: Frame, heads: Sequence[str]) -> int:
    """Index of a frame's level of theory; one without a name belongs to the first.

    Raises:
        DataError: for one that the model does not have.
    """
    if not heads or not frame.head:
        return 0
    if frame.head not in heads:
        raise DataError(
            f"{frame.origin}: found head '{frame.head}', expected one of model.heads, {', '.join(heads)} ({did_you_mean(frame.head, heads)})"
        )
    return list(heads).index(frame.head)


def make_samples(
    frames: Iterable[Frame], elements: Sequence[str], cutoff: float, reference: np.ndarray, heads: Sequence[str] = ()
) -> list[Sample]:
    """Prepare frames and hold them in memory; see `make_sample`."""
    return [make_sample(frame, elements, cutoff, reference, heads) for frame in frames]


@dataclass(frozen=True, eq=False)
class StoredSamples(Sequence[Sample]):
    """The frames of a store, each prepared anew whenever it is asked for; see `make_sample`.

    Attributes:
        store: the frames.
        elements, cutoff, reference, heads: as for `make_sample`.
        workers: processes that count neighbours when that was not done for this cutoff before.
    """

    store: Store
    elements: tuple[str, ...]
    cutoff: float
    reference: np.ndarray
    heads: tuple[str, ...] = ()
    workers: int = 0

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, k: int) -> Sample:  # type: ignore[override]
        return make_sample(self.store[int(k)], self.elements, self.cutoff, self.reference, self.heads)

    @cached_property
    def sizes(self) -> Sizes:
        """Atoms and neighbours of each frame, counted once for each cutoff and kept beside the store."""
        return frame_sizes(self.store, self.cutoff, self.workers)


def sizes_of(samples: Sequence[Sample]) -> Sizes:
    """Atoms and neighbours of samples."""
    if isinstance(samples, StoredSamples):
        return samples.sizes
    return Sizes.of((len(s.host), s.host.neighbors.receivers) for s in samples)


def frame_sizes(frames: Frames, cutoff: float, workers: int = 0) -> Sizes:
    """Atoms and neighbours of frames, in memory or in a store (see `stored_sizes`).

    Raises:
        StructureError: atoms that overlap; with the origin of the frame in front.
    """
    return stored_sizes(frames, cutoff, workers).take(frames.chosen) if isinstance(frames, Store) else _count(cutoff, frames)


def stored_sizes(store: Store, cutoff: float, workers: int = 0) -> Sizes:
    """Sizes of all frames of the folder of a store, from `neighbors-<cutoff>.npz` in it, which is written when it is not there.

    Raises:
        StructureError: atoms that overlap; with the origin of the frame in front.
    """
    folder = store.folder
    file = folder.path / f"neighbors-{cutoff:g}.npz"
    if (known := _load(file, folder.header["content_hash"], cutoff)) is not None:
        return known
    whole = Store(folder, np.arange(folder.header["frames"]))
    parts = [whole[k : k + CHUNK] for k in range(0, len(whole), CHUNK)]
    count = partial(_count, cutoff)
    if workers and len(parts) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            sizes = Sizes.join(list(pool.map(count, parts)))
    else:
        sizes = Sizes.join([count(part) for part in parts])
    _keep(file, folder.header["content_hash"], cutoff, sizes)
    return sizes


def _count(cutoff: float, frames: Frames) -> Sizes:
    def receivers(frame: Frame) -> np.ndarray:
        try:
            return find_neighbors(frame.structure, cutoff).receivers
        except StructureError as error:
            raise StructureError(f"{frame.origin}: {error}") from None

    return Sizes.of((len(frame), receivers(frame)) for frame in frames)


def _load(file: Path, content_hash: str, cutoff: float) -> Sizes | None:
    """Sizes that were kept for this content, cutoff and the layouts known now; None when there are none that can be read."""
    try:
        with np.load(file) as kept:
            same = (str(kept["content_hash"]), float(kept["cutoff"]), tuple(kept["slots"].tolist())) == (content_hash, cutoff, SLOTS)
            return Sizes.of_arrays(kept) if same else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _keep(file: Path, content_hash: str, cutoff: float, sizes: Sizes) -> None:
    """Write sizes beside the store, whole or not at all; a folder that cannot be written to is no fault."""
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.npz")
    try:
        arrays: dict[str, Any] = sizes.as_arrays()
        np.savez(temporary, content_hash=content_hash, cutoff=cutoff, slots=np.array(SLOTS), **arrays)
        os.replace(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
