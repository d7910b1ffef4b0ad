"""Trajectories on disk: frames are appended as they come, each one whole; nothing that exists is written over unasked."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.elements import mass, symbol
from eqpot.core.errors import SimulationError
from eqpot.core.units import FS
from eqpot.graph import Structure
from eqpot.graph.structure import CHARGE_KEYS
from eqpot.md.records import Snapshot
from eqpot.md.systems import System


class Trajectory(ABC):
    """Interface of all writers. Frames are on disk when `write` returns; `close` leaves only whole frames behind."""

    path: Path
    whole: int
    """Where the whole frames end, in the file's own measure."""

    @abstractmethod
    def write(self, frames: Sequence[Snapshot]) -> None:
        """Append frames."""

    @abstractmethod
    def sync(self) -> None:
        """Return when what was written would survive a loss of power."""

    @abstractmethod
    def close(self) -> None:
        """End the file after its last whole frame."""


class TextFile(Trajectory):
    """A file that is a sequence of texts, one per frame. Opened with `resume`, it is cut there and goes on."""

    def __init__(self, path: Path, system: System, mode: str, resume: int | None = None, n_frames: int = 1) -> None:
        self.path, self.system, self.whole = path, system, resume or 0
        self.file = path.open(f"{mode}b" if resume is None else "r+b", buffering=0)
        if resume is not None:
            require_length(path, path.stat().st_size, resume)
            self.file.truncate(resume)
            self.file.seek(resume)

    @abstractmethod
    def text(self, frame: Snapshot) -> str:
        """One frame."""

    def write(self, frames: Sequence[Snapshot]) -> None:
        for frame in frames:
            rest = memoryview(self.text(frame).encode())
            while rest:  # a disk that fills up takes a part, and then objects
                rest = rest[self.file.write(rest) :]
            self.whole = self.file.tell()

    def sync(self) -> None:
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.truncate(self.whole)
        self.file.close()


def require_length(path: Path, found: int, expected: int) -> None:
    """Check that a trajectory still has what a checkpoint says it had.

    Raises:
        SimulationError: when something was taken away.
    """
    if found < expected:
        raise SimulationError(
            f"{path}: ends before the checkpoint (found {found}, expected at least {expected}); it is not the trajectory of this run"
        )


class ThermoLog(TextFile):
    """A table of numbers, one line per frame, comma separated; the first line names columns and units."""

    def text(self, frame: Snapshot) -> str:
        row = ",".join(f"{getattr(frame, field):.10g}" for field in LOGGED.values())
        volume = abs(np.linalg.det(frame.cell)) or np.nan
        head = "" if self.whole else ",".join([*LOGGED, "volume_A3"]) + "\n"
        return f"{head}{row},{volume:.10g}\n"


LOGGED = {
    "step": "step",
    "time_fs": "time_fs",
    "temperature_K": "temperature_K",
    "potential_energy_eV": "potential_energy",
    "kinetic_energy_eV": "kinetic_energy",
    "conserved_energy_eV": "conserved_energy",
    "bias_energy_eV": "bias_energy",
    "energy_std_eV": "energy_std",
    "max_atom_std_eV_per_A": "max_atom_std",
    "max_novelty": "max_novelty",
    "pressure_GPa": "pressure_GPa",
}
"""Columns of a thermo log and where they come from."""


class ExtendedXYZ(TextFile):
    """Extended XYZ that ASE reads back with energy, forces, stress, velocities and periodicity.

    Per atom: species, pos [Å], momenta (ASE's units, amu·Å·√(eV/amu)), forces [eV/Å], force_std [eV/Å], novelty where the potential knows it, masses
    where they are not standard, and move_mask where atoms are fixed.
    Per frame: energy, energy_std, kinetic_energy, conserved_energy, bias_energy [eV], stress [eV/Å³], pressure_GPa, temperature_K, time_fs, step, and
    total_charge [e] where it is not zero.
    Numbers read back bit for bit.
    """

    def __init__(self, path: Path, system: System, mode: str, resume: int | None = None, n_frames: int = 1) -> None:
        super().__init__(path, system, mode, resume, n_frames)
        self.symbols = [symbol(z) for z in system.structure.numbers]
        self.own_masses = not np.array_equal(system.masses, mass(system.structure.numbers))

    def text(self, frame: Snapshot) -> str:
        """One frame: number of atoms, header, one line per atom."""
        masses = self.system.masses[:, None]
        columns = [frame.positions, frame.velocities / FS * masses, frame.forces, frame.atom_std[:, None]]
        properties = "species:S:1:pos:R:3:momenta:R:3:forces:R:3:force_std:R:1"
        if np.isfinite(frame.novelty).all():
            columns, properties = [*columns, frame.novelty[:, None]], f"{properties}:novelty:R:1"
        if self.own_masses:
            columns, properties = [*columns, masses], f"{properties}:masses:R:1"
        rows = np.concatenate(columns, axis=1)
        lines = [f"{s:<2} " + " ".join(map(repr, row)) for s, row in zip(self.symbols, rows.tolist(), strict=True)]
        if self.system.n_fixed:
            properties = f"{properties}:move_mask:L:1"
            lines = [f"{line} {'FT'[int(free)]}" for line, free in zip(lines, ~self.system.fixed, strict=True)]
        return "\n".join([str(len(lines)), self._header(frame, properties), *lines, ""])

    def _header(self, frame: Snapshot, properties: str) -> str:
        values = {
            "energy": frame.potential_energy,
            "energy_std": frame.energy_std,
            "kinetic_energy": frame.kinetic_energy,
            "conserved_energy": frame.conserved_energy,
            "bias_energy": frame.bias_energy,
            "pressure_GPa": frame.pressure_GPa,
            "temperature_K": frame.temperature_K,
            "time_fs": frame.time_fs,
        }
        words = [f"{name}={value!r}" for name, value in values.items() if np.isfinite(value)]
        if np.isfinite(frame.stress).all():
            words.append(f'stress="{" ".join(map(repr, frame.stress.ravel().tolist()))}"')
        return " ".join([_box(self.system, frame.cell), f"Properties={properties}", *words, f"step={frame.step}"])


def _box(system: System, cell: np.ndarray) -> str:
    """Cell, periodicity and total charge as extended XYZ spells them."""
    pbc = f'pbc="{" ".join("FT"[int(p)] for p in system.structure.pbc)}"'
    charge = f" {CHARGE_KEYS[0]}={float(system.structure.charge)!r}" if system.structure.charge else ""
    return f'Lattice="{" ".join(map(repr, cell.ravel().tolist()))}" {pbc}{charge}' if cell.any() else pbc + charge


def _h5md(*args: Any) -> Trajectory:
    from eqpot.md.h5md import H5MD

    return H5MD(*args)


FORMATS: dict[str, Callable[..., Trajectory]] = {".xyz": ExtendedXYZ, ".extxyz": ExtendedXYZ, ".h5": _h5md, ".h5md": _h5md}


def offending_path(path: Path) -> Path:
    """Where the frame that ended a run is put, replacing an older one: 'run.extxyz' → 'run.offending.extxyz'."""
    return path.with_suffix(".offending.extxyz")


def restart_path(path: Path) -> Path:
    """Where a run keeps what it needs to go on: 'run.extxyz' → 'run.restart'."""
    return path.with_suffix(".restart")


def thermo_path(path: Path) -> Path:
    """Where the numbers of each frame are put: 'run.extxyz' → 'run.thermo.csv'."""
    return path.with_suffix(".thermo.csv")


def check_path(path: str | Path, overwrite: bool, resume: bool = False) -> Path:
    """The path of a trajectory, if it can be written.

    Raises:
        SimulationError: unknown suffix, no such folder, or something is there and `overwrite` is not set.
    """
    path = Path(path).expanduser()
    if path.suffix not in FORMATS:
        raise SimulationError(f"{path}: found suffix '{path.suffix}', expected one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise SimulationError(f"{path}: found no folder '{path.parent}', expected one to write into")
    if path.is_dir() or (path.exists() and not overwrite and not resume):
        raise SimulationError(f"{path}: exists; choose another name, pass overwrite=True, or resume=True to go on with it")
    beside = [p for p in (thermo_path(path), restart_path(path)) if p.exists()]
    if beside and not path.exists() and not overwrite and not resume:
        raise SimulationError(
            f"{beside[0]}: exists, of another trajectory of this name; choose another name, or pass overwrite=True to replace it"
        )
    return path


def open_trajectory(path: Path, system: System, overwrite: bool, resume: int | None = None, n_frames: int = 1) -> Trajectory:
    """Begin a file, or go on with one from `resume` of its own measure; its format follows from the suffix."""
    return guarded(path, FORMATS[path.suffix], path, system, "w" if overwrite else "x", resume, n_frames)


def guarded(path: Path, action: Callable[..., Any], *args: Any) -> Any:
    """Do something with a file; what the disk objects to becomes one clear line.

    Raises:
        SimulationError: naming the file and the reason.
    """
    try:
        return action(*args)
    except (OSError, RuntimeError) as error:  # of h5py a RuntimeError, where a disk is full
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise SimulationError(f"{path}: cannot be written ({reason})") from None


def write_offending(path: Path, system: System, trouble: Structure) -> Path:
    """Save the positions that a run broke on, for a look; returns the file."""
    symbols = map(symbol, system.structure.numbers)
    lines = [f"{s:<2} " + " ".join(map(repr, row)) for s, row in zip(symbols, trouble.positions.tolist(), strict=True)]
    target = offending_path(path)
    text = "\n".join([str(len(lines)), f"{_box(system, trouble.cell)} Properties=species:S:1:pos:R:3", *lines, ""])
    guarded(target, target.write_text, text)
    return target
