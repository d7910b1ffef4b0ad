"""A set of labelled structures: what training, evaluation and inspection work on."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import DataError
from eqpot.data.keys import LabelKeys, Units
from eqpot.graph.structure import Frame, Structure

ISOLATED_GROUPS = ("isolated_atom", "IsolatedAtom", "isolated_atoms")
"""Group names that mark a single atom in a large box as isolated."""


def is_isolated_atom(frame: Frame) -> bool:
    """Whether the frame is one atom alone: non-periodic, or marked so by its group."""
    return len(frame) == 1 and (not bool(frame.structure.pbc.any()) or frame.group in ISOLATED_GROUPS)


def energy_of(frame: Frame) -> float:
    """The energy [eV] of a frame that is known to have one."""
    assert frame.labels.energy is not None
    return frame.labels.energy


def forces_of(frame: Frame) -> np.ndarray:
    """The forces [eV/Å] of a frame that is known to have them."""
    assert frame.labels.forces is not None
    return frame.labels.forces


@dataclass(frozen=True, eq=False)
class Dataset:
    """An immutable sequence of frames.

    `dataset[3]` is a Frame; a slice, an array of indices or a boolean mask gives a Dataset; `+` joins two.

    Attributes:
        frames: structures with labels, in eV and Å.
    """

    frames: tuple[Frame, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))
        for i, frame in enumerate(self.frames):
            if not isinstance(frame, Frame):
                raise DataError(f"frame {i}: found {type(frame).__name__}, expected eqpot Frame; use Dataset.from_atoms for ase.Atoms")

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> "Dataset": ...
    def __getitem__(self, index: Any) -> "Frame | Dataset":
        if isinstance(index, (int, np.integer)):
            return self.frames[index]
        if isinstance(index, slice):
            return Dataset(self.frames[index])
        return Dataset(tuple(self.frames[i] for i in np.arange(len(self))[np.asarray(index, None if len(index) else int)]))

    def __add__(self, other: "Dataset") -> "Dataset":
        return Dataset(self.frames + other.frames)

    def __repr__(self) -> str:
        labels = ", ".join(f"{n} {name}" for name, n in self.label_counts().items() if n)
        return f"Dataset({len(self)} frames; {' '.join(self.elements)}; {labels or 'no labels'})"

    @classmethod
    def from_atoms(cls, atoms: Iterable[Any], *, keys: LabelKeys | None = None, units: Units | None = None) -> "Dataset":
        """A dataset from `ase.Atoms` with labels from their calculator's results, `info` and `arrays`.

        Raises:
            DataError: an entry that is no Atoms, labels of the wrong shape, results that belong to another geometry.
        """
        from eqpot.data.atoms import from_atoms

        return cls(from_atoms(atoms, keys, units))

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Symbols of all elements, by atomic number."""
        numbers = set().union(*(f.structure.numbers.tolist() for f in self.frames))
        return tuple(symbol(z) for z in sorted(numbers))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over numbers, positions, cells, periodicity, charges, labels, their heads and weights, in order; independent of any file."""
        digest = hashlib.sha256()
        for frame in self.frames:
            update_hash(digest, frame)
        return digest.hexdigest()

    @cached_property
    def structure_keys(self) -> tuple[bytes, ...]:
        """One digest per structure; equal for equal numbers, order, periodicity, total charge, and geometry to 1e-6 Å."""
        return tuple(structure_key(f.structure) for f in self.frames)

    def label_counts(self) -> dict[str, int]:
        """For each kind of label, how many frames have it."""
        names = ("energy", "forces", "stress", "charges", "dipole")
        return {name: sum(getattr(f.labels, name) is not None for f in self.frames) for name in names}

    @cached_property
    def groups(self) -> dict[str, int]:
        """Frames per group name, most frequent first."""
        return dict(Counter(f.group for f in self.frames).most_common())

    def overlap(self, other: "Dataset") -> np.ndarray:
        """Indices of frames here whose structure is also in `other` (isolated atoms aside, which both may need)."""
        keys = set(other.structure_keys)
        return np.array([i for i, k in enumerate(self.structure_keys) if k in keys and not is_isolated_atom(self.frames[i])], int)

    def shuffle(self, seed: int = 0) -> "Dataset":
        """The same frames in a random order that depends on the seed alone."""
        return self[np.random.default_rng(seed).permutation(len(self))]

    def split(self, *sizes: float | int, seed: int = 0) -> tuple["Dataset", ...]:
        """Disjoint random parts, one per size: an int counts frames, a float below 1 is a fraction.

        With a single size the rest is returned as a second part. Isolated atoms, which define the energy zero,
        go into the first part.

        Raises:
            DataError: sizes that are not positive or add up to more than there is.
        """
        counts = [self._count(size) for size in sizes]
        if len(sizes) == 1:
            counts.append(len(self) - counts[0])
        elif all(isinstance(s, float) for s in sizes) and abs(sum(sizes) - 1) < 1e-9:
            counts[-1] = len(self) - sum(counts[:-1])
        if sum(counts) > len(self) or min(counts, default=0) < 1:
            raise DataError(f"split: found {len(self)} frames, expected at least {' + '.join(map(str, counts))} with each part ≥ 1")
        order = np.random.default_rng(seed).permutation(len(self))
        isolated = np.array([is_isolated_atom(self.frames[i]) for i in order], bool)
        order = np.concatenate([order[isolated], order[~isolated]])
        ends = np.cumsum(counts)
        return tuple(self[order[end - n : end]] for n, end in zip(counts, ends, strict=True))

    def _count(self, size: float | int) -> int:
        if isinstance(size, float) and 0 < size < 1:
            return round(size * len(self))
        if isinstance(size, (int, np.integer)) and size > 0:
            return int(size)
        raise DataError(f"split: found size {size!r}, expected a whole number ≥ 1 or a fraction between 0 and 1")


def update_hash(digest: Any, frame: Frame) -> None:
    """Add a frame to the digest of a content hash."""
    for name in ("numbers", "positions", "cell", "pbc"):
        digest.update(getattr(frame.structure, name).tobytes())
    for name in frame.labels.known:
        digest.update(name.encode() + np.asarray(getattr(frame.labels, name), np.float64).tobytes())
    if frame.structure.charge:
        digest.update(b"total_charge" + np.float64(frame.structure.charge).tobytes())
    if frame.head:
        digest.update(b"head" + frame.head.encode())
    if frame.weight != 1:
        digest.update(b"weight" + np.float64(frame.weight).tobytes())
    digest.update(f"end of {len(frame)} atoms".encode())


def structure_key(structure: Structure) -> bytes:
    """A digest that is equal for equal numbers, order, periodicity, total charge, and geometry to 1e-6 Å."""
    cell = structure.cell * structure.pbc[:, None]
    geometry = np.round(np.concatenate([structure.positions, cell]), 6) + 0.0  # + 0.0 makes −0 into 0
    charge = np.float64(structure.charge).tobytes() if structure.charge else b""
    return hashlib.sha256(structure.numbers.tobytes() + structure.pbc.tobytes() + geometry.tobytes() + charge).digest()
