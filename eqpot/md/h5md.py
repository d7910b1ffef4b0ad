"""Trajectories in H5MD 1.1, for long runs: compact, exact, readable in part, and readable after any kill.

Layout (https://nongnu.org/h5md): `particles/all/{position,velocity,force,force_std}`, `particles/all/box/edges` and `observables/*`, each
with `value`, `step`, `time` (one shared pair); `species`, `mass` are fixed, as are `eqpot/total_charge` and, of atoms, `eqpot/fixed`. Units are
written beside every value; NaN where a run has no such quantity.

Space for all frames is set aside when the file is made. A frame then touches nothing but its own numbers, so a run that dies leaves a good file, and a full
disk is noticed at the start. Steps are written after all else; a frame that has not been written has step −1; `close` cuts it off.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.errors import SimulationError
from eqpot.md.records import Snapshot
from eqpot.md.systems import System
from eqpot.md.trajectory import Trajectory, require_length

_PARTICLES = {
    "position": ("positions", "Angstrom"),
    "velocity": ("velocities", "Angstrom fs-1"),
    "force": ("forces", "eV Angstrom-1"),
    "force_std": ("atom_std", "eV Angstrom-1"),
    "novelty": ("novelty", ""),
}
_OBSERVABLES = {
    "potential_energy": ("potential_energy", "eV"),
    "kinetic_energy": ("kinetic_energy", "eV"),
    "conserved_energy": ("conserved_energy", "eV"),
    "bias_energy": ("bias_energy", "eV"),
    "energy_std": ("energy_std", "eV"),
    "temperature": ("temperature_K", "K"),
    "pressure": ("pressure_GPa", "GPa"),
    "stress": ("stress", "eV Angstrom-3"),
}
CHUNK = 1 << 16
"""Numbers of a quantity that are stored together, about."""


class H5MD(Trajectory):
    """An H5MD file; `whole` counts frames, and one counts when all its parts are there."""

    def __init__(self, path: Path, system: System, mode: str, resume: int | None = None, n_frames: int = 1) -> None:
        import h5py

        self.path, self.whole, self.n_atoms = path, resume or 0, len(system.structure)
        _require_space(path, (n_frames - self.whole) * (13 * self.n_atoms + 28) * 8)
        self.file = h5py.File(path, mode if resume is None else "r+")
        self.columns: dict[str, Any] = {}
        if resume is None:
            self._make(system)
        else:
            self._find(resume)
        for column in self.columns.values():
            column.resize(max(n_frames, self.whole), axis=0)
        self.columns["step"][self.whole :] = -1
        self.file.flush()

    def write(self, frames: Sequence[Snapshot]) -> None:
        new = slice(self.whole, self.whole + len(frames))
        for field, column in self.columns.items():
            if new.stop > len(column):
                column.resize(new.stop, axis=0)
            if field != "step":
                column[new] = np.stack([getattr(frame, field) for frame in frames])
        self.columns["step"][new] = [frame.step for frame in frames]
        self.file.flush()
        self.whole = new.stop

    def sync(self) -> None:
        self.file.flush()

    def close(self) -> None:
        for column in self.columns.values():
            column.resize(self.whole, axis=0)
        self.file.close()

    def _make(self, system: System) -> None:
        root = self._describe()
        self.columns = {"step": self._column(root, "step", (), "i8"), "time_fs": self._column(root, "time", (), "f8", "fs")}
        particles = self.file.create_group("particles/all")
        self._fixed(particles, system)
        for name, (field, unit) in _PARTICLES.items():
            shape = (self.n_atoms,) if name in ("force_std", "novelty") else (self.n_atoms, 3)
            self.columns[field] = self._element(particles.create_group(name), shape, unit)
        if system.structure.pbc.any():
            self.columns["cell"] = self._element(particles.create_group("box/edges"), (3, 3), "Angstrom")
        for name, (field, unit) in _OBSERVABLES.items():
            self.columns[field] = self._element(self.file.create_group(f"observables/{name}"), (3, 3) if name == "stress" else (), unit)

    def _find(self, whole: int) -> None:
        """The columns of a file that is gone on with."""
        places = {"step": "eqpot/step", "time_fs": "eqpot/time"}
        places |= {field: f"particles/all/{name}/value" for name, (field, _) in _PARTICLES.items()}
        places |= {field: f"observables/{name}/value" for name, (field, _) in _OBSERVABLES.items()}
        if "particles/all/box/edges" in self.file:
            places["cell"] = "particles/all/box/edges/value"
        try:
            self.columns = {field: self.file[place] for field, place in places.items()}
        except KeyError as error:
            raise SimulationError(f"{self.path}: is not a trajectory of this run ({str(error).strip(chr(34))})") from None
        require_length(self.path, len(self.columns["step"]), whole)

    def _describe(self) -> Any:
        """The group that holds the steps and times that all quantities share; what the file is stands beside it."""
        from eqpot.core.version import VERSION

        root = self.file.create_group("h5md")
        root.attrs["version"] = np.array([1, 1])
        root.create_group("author").attrs["name"] = "unknown"
        creator = root.create_group("creator")
        creator.attrs["name"], creator.attrs["version"] = "eqpot", VERSION
        root.create_group("modules/units").attrs["version"] = np.array([1, 0])
        return self.file.create_group("eqpot")

    def _column(self, group: Any, name: str, shape: tuple[int, ...], dtype: str, unit: str = "") -> Any:
        import h5py

        chunk = (max(1, min(64, CHUNK // max(1, int(np.prod(shape))))), *shape)
        setup = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        setup.set_chunk(chunk)
        setup.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple((0, *shape), (h5py.h5s.UNLIMITED, *shape))
        h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, dcpl=setup)
        column = group[name]
        if unit:
            column.attrs["unit"] = unit
        return column

    def _element(self, group: Any, shape: tuple[int, ...], unit: str) -> Any:
        """A time-dependent quantity; step and time are hard links to the shared columns."""
        group["step"], group["time"] = self.columns["step"], self.columns["time_fs"]
        return self._column(group, "value", shape, "f8", unit)

    def _fixed(self, particles: Any, system: System) -> None:
        box = particles.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs["boundary"] = ["periodic" if p else "none" for p in system.structure.pbc]
        particles["species"] = system.structure.numbers
        particles["mass"] = system.masses
        particles["mass"].attrs["unit"] = "amu"
        self.file["eqpot/total_charge"] = float(system.structure.charge)
        self.file["eqpot/total_charge"].attrs["unit"] = "e"
        self.file["eqpot/fixed"] = system.fixed


def _require_space(path: Path, needed: int) -> None:
    """Raise a SimulationError where the disk has no room for a file that takes all of it at once: HDF5 leaves ruins behind."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise SimulationError(
            f"{path}: cannot be written (needs {needed / 1e6:.3g} MB for all frames, {free / 1e6:.3g} MB are free); take fewer frames"
        )
