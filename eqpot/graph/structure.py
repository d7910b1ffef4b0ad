"""One configuration of atoms, and what is known about it.

`Structure` is the input of every model; `Labels` is what an oracle said; `Frame` holds both with their
origin. Three types, so that a label can never leak into an input. All are float64 records on the host.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eqpot.core.elements import MAX_ATOMIC_NUMBER, symbol
from eqpot.core.errors import DataError, StructureError

MAX_COORDINATE = 1e7
"""Largest coordinate accepted [Å]; beyond it float64 differences lose the digits that a force needs."""
MIN_VOLUME_PER_ATOM = 1e-3
"""Smallest volume per atom accepted in a fully periodic cell [Å³]."""
CHARGE_KEYS = ("total_charge", "charge")
"""Where `atoms.info` may hold the total charge; the first is the one that is written."""


def _array(name: str, values: Any, dtype: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """A copy of the values as an array of the given type and shape; nothing is rounded and nothing reshaped."""
    try:
        given = np.array(values)
        array = given.astype(dtype)
    except (TypeError, ValueError) as error:
        raise StructureError(f"{name}: expected numbers ({error})") from None
    if given.size == 0 and shape and not shape[0]:
        array = array.reshape([n or 0 for n in shape])  # no atoms: `check` refuses them
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise StructureError(f"{name}: found shape {given.shape}, expected {tuple('atoms' if n is None else n for n in shape)}")
    if np.dtype(dtype).kind == "i" and not np.array_equal(array, given):
        raise StructureError(f"{name}: expected whole numbers, found {given.tolist()!r:.60}")
    return array


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in space.

    Attributes:
        numbers: atomic numbers, [atoms].
        positions: Cartesian coordinates [Å], [atoms, 3].
        cell: rows are lattice vectors [Å], [3, 3]; rows of non-periodic directions are ignored.
        pbc: periodicity along each lattice vector, [3]; the only authority on it.
        charge: total charge [e].
    """

    numbers: np.ndarray | Any  # anything that NumPy makes an array of; the record holds read-only copies
    positions: np.ndarray | Any
    cell: np.ndarray | Any = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: np.ndarray | Any = field(default_factory=lambda: np.zeros(3, bool))
    charge: float | Any = 0.0

    def __post_init__(self) -> None:
        numbers = _array("numbers", self.numbers, np.int64, (None,))
        copies = {
            "numbers": numbers,
            "positions": _array("positions", self.positions, np.float64, (len(numbers), 3)),
            "cell": _array("cell", self.cell, np.float64, (3, 3)),
            "pbc": _array("pbc", np.broadcast_to(self.pbc, 3) if np.size(self.pbc) == 1 else self.pbc, bool, (3,)),
        }
        for name, value in copies.items():
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "charge", float(_array("charge", self.charge, np.float64, ())))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def formula(self) -> str:
        """Hill-like formula, alphabetical: 'C2H6O'."""
        numbers, counts = np.unique(self.numbers, return_counts=True)
        pairs = sorted(zip(map(symbol, numbers), counts, strict=True))
        return "".join(f"{s}{n if n > 1 else ''}" for s, n in pairs)

    @property
    def volume(self) -> float:
        """Volume of the cell [Å³]; only meaningful when all directions are periodic."""
        return float(abs(np.linalg.det(self.cell)))

    @classmethod
    def from_atoms(cls, atoms: Any, charge: float | None = None) -> "Structure":
        """Copy the geometry of an `ase.Atoms` (or return a Structure as it is).

        Its total charge is `charge` [e]; by default that in `atoms.info` under one of `CHARGE_KEYS`, or else zero.
        """
        if isinstance(atoms, cls):
            return atoms
        if not hasattr(atoms, "get_positions") or not hasattr(atoms, "get_atomic_numbers"):
            raise StructureError(f"expected ase.Atoms or eqpot.Structure, found {type(atoms).__name__}")
        charge = charge_of(atoms) if charge is None else charge
        return cls(atoms.get_atomic_numbers(), atoms.get_positions(), np.asarray(atoms.get_cell()), np.asarray(atoms.get_pbc()), charge)

    def to_atoms(self) -> Any:
        """The structure as a new `ase.Atoms`."""
        from ase import Atoms

        info = {CHARGE_KEYS[0]: self.charge} if self.charge else {}
        return Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc, info=info)

    def check(self) -> "Structure":
        """Return self, or raise if no energy can be meant by this structure.

        Overlapping atoms are found by the neighbour list (`graph.neighbors`), which has the images.

        Raises:
            StructureError: no atoms, non-finite or absurd coordinates, an atomic number outside 1–118,
                a cell that is singular in its periodic directions, a total charge that is not finite.
        """
        if len(self) == 0:
            raise StructureError("no atoms: expected at least one")
        bad = np.flatnonzero(~np.isfinite(self.positions).all(1))
        if len(bad):
            raise StructureError(f"atom {bad[0]}: position {self.positions[bad[0]]} is not finite")
        far = np.flatnonzero((np.abs(self.positions) > MAX_COORDINATE).any(1))
        if len(far):
            raise StructureError(f"atom {far[0]}: position {self.positions[far[0]]} is beyond {MAX_COORDINATE:g} Å; are the units right?")
        wrong = np.flatnonzero((self.numbers < 1) | (self.numbers > MAX_ATOMIC_NUMBER))
        if len(wrong):
            raise StructureError(
                f"atom {wrong[0]}: atomic number {self.numbers[wrong[0]]} is no element; expected 1 to {MAX_ATOMIC_NUMBER}"
            )
        if not np.isfinite(self.charge):
            raise StructureError(f"charge: found {self.charge}, expected the total charge as a finite number [e]")
        self._check_cell()
        return self

    def _check_cell(self) -> None:
        vectors = self.cell[self.pbc]
        if not len(vectors):
            return
        if not np.isfinite(vectors).all():
            raise StructureError(f"the cell {self.cell.tolist()} is not finite")
        lengths = np.linalg.norm(vectors, axis=1)
        gram = vectors @ vectors.T
        extent = np.sqrt(max(np.linalg.det(gram), 0.0))
        if (lengths < 1e-3).any() or extent < 1e-6 * np.prod(lengths):
            raise StructureError(
                f"periodic along {self.pbc.tolist()} but the cell {self.cell.tolist()} is singular there; "
                "give independent lattice vectors or set pbc to False"
            )
        if self.pbc.all() and self.volume / len(self) < MIN_VOLUME_PER_ATOM:
            raise StructureError(
                f"volume per atom is {self.volume / len(self):.2g} Å³, below {MIN_VOLUME_PER_ATOM:g}; are the units right?"
            )


def charge_of(atoms: Any) -> float:
    """The total charge [e] that an `ase.Atoms` has in its `info`, zero when there is none.

    Raises:
        StructureError: when the keys disagree, or hold no number.
    """
    found = {key: float(_array(key, atoms.info[key], np.float64, ())) for key in CHARGE_KEYS if atoms.info.get(key) is not None}
    if len(set(found.values())) > 1:
        raise StructureError(f"found {found} in atoms.info, expected one total charge; remove one of them")
    return next(iter(found.values()), 0.0)


@dataclass(frozen=True, eq=False)
class Labels:
    """What an oracle said about a structure; `None` means that it did not say.

    Attributes:
        energy: total energy [eV].
        forces: −∂E/∂r [eV/Å], [atoms, 3].
        stress: (1/V) ∂E/∂ε [eV/Å³], symmetric [3, 3], positive under tension (ASE's sign).
        charges: atomic partial charges [e], [atoms].
        dipole: dipole moment [e·Å], [3].
    """

    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    charges: np.ndarray | None = None
    dipole: np.ndarray | None = None

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the labels that are present."""
        return tuple(n for n in ("energy", "forces", "stress", "charges", "dipole") if getattr(self, n) is not None)

    def check(self, n_atoms: int) -> "Labels":
        """Return self, or raise if a label has the wrong shape or is not finite.

        Raises:
            DataError: naming the label, what was found and what was expected.
        """
        shapes = {"energy": (), "forces": (n_atoms, 3), "stress": (3, 3), "charges": (n_atoms,), "dipole": (3,)}
        for name in self.known:
            value = np.asarray(getattr(self, name))
            if value.dtype.kind not in "fiu":
                raise DataError(f"{name}: found {value.dtype.name} {value!r:.60}, expected a number")
            if value.shape != shapes[name]:
                raise DataError(f"{name}: found shape {value.shape}, expected {shapes[name]} for {n_atoms} atoms")
            if not np.isfinite(value).all():
                where = np.argwhere(~np.isfinite(value))[0]
                place = f" at atom {where[0]}" if name in ("forces", "charges") else ""
                raise DataError(f"{name}: found {value[tuple(where)]}{place}, expected finite numbers; mend the label or remove the frame")
        if self.stress is not None and not np.allclose(self.stress, np.transpose(self.stress), atol=1e-6):
            raise DataError("stress: the 3×3 matrix is not symmetric to 1e-6 eV/Å³; is it the virial of another code, or in another order?")
        return self


@dataclass(frozen=True, eq=False)
class Frame:
    """A structure, its labels, and where they come from.

    Attributes:
        structure: the input.
        labels: what is known about it.
        origin: for messages, such as 'train.extxyz:frame 12'.
        group: name of the kind of frame (extxyz key `config_type`), for errors by group.
        weight: relative weight in the loss.
        head: name of the level of theory of the labels (extxyz key `head`); empty for the first that a model knows.
        oracle: hash of the settings of the oracle that gave the labels (extxyz key `oracle_hash`); empty where nobody said.
    """

    structure: Structure
    labels: Labels = field(default_factory=Labels)
    origin: str = ""
    group: str = "default"
    weight: float = 1.0
    head: str = ""
    oracle: str = ""

    def __len__(self) -> int:
        return len(self.structure)

    def check(self) -> "Frame":
        """Return self, or raise with the frame's origin in front of the reason."""
        try:
            self.structure.check()
            self.labels.check(len(self.structure))
        except (StructureError, DataError) as error:
            raise type(error)(f"{self.origin}: {error}" if self.origin else str(error)) from None
        return self

    def replace(self, **changes: Any) -> "Frame":
        """A copy with some fields replaced."""
        return replace(self, **changes)
