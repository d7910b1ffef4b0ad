"""Trajectories on disk: frames are appended as they come, each one whole; nothing that exists is written over unasked."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.elements import mass, symbol
from eqpot.core.errors import SimulationError
from eqpot.core.units import FS
from eqpot.md.records import Snapshot
from eqpot.md.start import System


class Trajectory(ABC):
    """Interface of all writers. A frame is on disk when `write` returns; `close` leaves only whole frames behind."""

    path: Path

    @abstractmethod
    def write(self, frame: Snapshot) -> None:
        """Append a frame."""

    @abstractmethod
    def close(self) -> None:
        """End the file after its last whole frame."""


class ExtendedXYZ(Trajectory):
    """Extended XYZ that ASE reads back with energy, forces, velocities and periodicity.

    Per atom: species, pos [Å], momenta (ASE's units, amu·Å·√(eV/amu)), forces [eV/Å], force_std [eV/Å], and masses where they are not standard.
    Per frame: energy, energy_std, kinetic_energy [eV], temperature_K, time_fs, step. Numbers read back bit for bit.
    """

    def __init__(self, path: Path, system: System, mode: str) -> None:
        self.path, self.system, self.whole = path, system, 0
        self.symbols = [symbol(z) for z in system.structure.numbers]
        self.own_masses = not np.array_equal(system.masses, mass(system.structure.numbers))
        self.file = path.open(f"{mode}b")

    def write(self, frame: Snapshot) -> None:
        self.file.write(self.text(frame).encode())
        self.file.flush()
        self.whole = self.file.tell()

    def close(self) -> None:
        self.file.truncate(self.whole)
        self.file.close()

    def text(self, frame: Snapshot) -> str:
        """One frame: number of atoms, header, one line per atom."""
        masses = self.system.masses[:, None]
        columns = [frame.positions, frame.velocities / FS * masses, frame.forces, frame.atom_std[:, None]]
        properties = "species:S:1:pos:R:3:momenta:R:3:forces:R:3:force_std:R:1"
        if self.own_masses:
            columns, properties = [*columns, masses], f"{properties}:masses:R:1"
        rows = np.concatenate(columns, axis=1)
        lines = [f"{s:<2} " + " ".join(map(repr, row)) for s, row in zip(self.symbols, rows.tolist(), strict=True)]
        return "\n".join([str(len(lines)), self._header(frame, properties), *lines, ""])

    def _header(self, frame: Snapshot, properties: str) -> str:
        values = {
            "energy": frame.potential_energy,
            "energy_std": frame.energy_std,
            "kinetic_energy": frame.kinetic_energy,
            "temperature_K": frame.temperature_K,
            "time_fs": frame.time_fs,
        }
        words = [f"{name}={value!r}" for name, value in values.items()]
        return " ".join([_box(self.system), f"Properties={properties}", *words, f"step={frame.step}"])


def _box(system: System) -> str:
    """Cell and periodicity as extended XYZ spells them."""
    structure = system.structure
    pbc = f'pbc="{" ".join("FT"[int(p)] for p in structure.pbc)}"'
    return f'Lattice="{" ".join(map(repr, structure.cell.ravel().tolist()))}" {pbc}' if structure.cell.any() else pbc


def _h5md(path: Path, system: System, mode: str) -> Trajectory:
    from eqpot.md.h5md import H5MD

    return H5MD(path, system, mode)


FORMATS: dict[str, Callable[[Path, System, str], Trajectory]] = {".xyz": ExtendedXYZ, ".extxyz": ExtendedXYZ, ".h5": _h5md, ".h5md": _h5md}


def offending_path(path: Path) -> Path:
    """Where the frame that ended a run is put, replacing an older one: 'run.extxyz' → 'run.offending.extxyz'."""
    return path.with_suffix(".offending.extxyz")


def check_path(path: str | Path, overwrite: bool) -> Path:
    """The path of a trajectory, if it can be written.

    Raises:
        SimulationError: unknown suffix, no such folder, or something is there and `overwrite` is not set.
    """
    path = Path(path).expanduser()
    if path.suffix not in FORMATS:
        raise SimulationError(f"{path}: found suffix '{path.suffix}', expected one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise SimulationError(f"{path}: found no folder '{path.parent}', expected one to write into")
    if path.is_dir() or (path.exists() and not overwrite):
        raise SimulationError(f"{path}: exists; choose another name or pass overwrite=True")
    return path


def open_trajectory(path: Path, system: System, overwrite: bool) -> Trajectory:
    """Begin a file; its format follows from the suffix."""
    return guarded(path, FORMATS[path.suffix], path, system, "w" if overwrite else "x")


def guarded(path: Path, action: Callable[..., Any], *args: Any) -> Any:
    """Do something with a file; what the disk objects to becomes one clear line.

    Raises:
        SimulationError: naming the file and the reason.
    """
    try:
        return action(*args)
    except OSError as error:
        raise SimulationError(f"{path}: cannot be written ({error.strerror or error})") from None


def write_offending(path: Path, system: System, positions: np.ndarray) -> Path:
    """Save the positions that a run broke on, for a look; returns the file."""
    symbols = map(symbol, system.structure.numbers)
    lines = [f"{s:<2} " + " ".join(map(repr, row)) for s, row in zip(symbols, positions.tolist(), strict=True)]
    target = offending_path(path)
    guarded(target, target.write_text, "\n".join([str(len(lines)), f"{_box(system)} Properties=species:S:1:pos:R:3", *lines, ""]))
    return target
