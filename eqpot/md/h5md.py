"""Trajectories in H5MD 1.1, for long runs: compact, exact, readable in part.

Layout (https://nongnu.org/h5md): `particles/all/{position,velocity,force,force_std}` and `observables/*`, each with `value`, `step`, `time` (one
shared pair); fixed `box`, `species`, `mass`. Units are written beside every value. Langevin conserves no energy: NaN there.
"""

from pathlib import Path
from typing import Any

import numpy as np

from eqpot.md.records import Snapshot
from eqpot.md.start import System
from eqpot.md.trajectory import Trajectory

_PARTICLES = {
    "position": ("positions", "Angstrom"),
    "velocity": ("velocities", "Angstrom fs-1"),
    "force": ("forces", "eV Angstrom-1"),
    "force_std": ("atom_std", "eV Angstrom-1"),
}
_OBSERVABLES = {
    "potential_energy": ("potential_energy", "eV"),
    "kinetic_energy": ("kinetic_energy", "eV"),
    "conserved_energy": ("conserved_energy", "eV"),
    "energy_std": ("energy_std", "eV"),
    "temperature": ("temperature_K", "K"),
}


class H5MD(Trajectory):
    """An H5MD file; a frame counts when all its parts are there, and `close` cuts what does not."""

    def __init__(self, path: Path, system: System, mode: str) -> None:
        import h5py

        self.path, self.file = path, h5py.File(path, mode)
        self.whole, n_atoms = 0, len(system.structure)
        root = self._describe()
        self.columns = {"step": self._column(root, "step", (), "i8"), "time_fs": self._column(root, "time", (), "f8", "fs")}
        particles = self.file.create_group("particles/all")
        for name, (field, unit) in _PARTICLES.items():
            shape = (n_atoms,) if name == "force_std" else (n_atoms, 3)
            self.columns[field] = self._element(particles.create_group(name), shape, unit)
        for name, (field, unit) in _OBSERVABLES.items():
            self.columns[field] = self._element(self.file.create_group(f"observables/{name}"), (), unit)
        self._fixed(particles, system)
        self.file.flush()

    def write(self, frame: Snapshot) -> None:
        for field, column in self.columns.items():
            column.resize(self.whole + 1, axis=0)
            column[self.whole] = getattr(frame, field)
        self.file.flush()
        self.whole += 1

    def close(self) -> None:
        for column in self.columns.values():
            column.resize(self.whole, axis=0)
        self.file.close()

    def _describe(self) -> Any:
        """The group that says what the file is, and holds the steps and times that all quantities share."""
        from eqpot.core.version import VERSION

        root = self.file.create_group("h5md")
        root.attrs["version"] = np.array([1, 1])
        root.create_group("author").attrs["name"] = "unknown"
        creator = root.create_group("creator")
        creator.attrs["name"], creator.attrs["version"] = "eqpot", VERSION
        root.create_group("modules/units").attrs["version"] = np.array([1, 0])
        return root

    def _column(self, group: Any, name: str, shape: tuple[int, ...], dtype: str, unit: str = "") -> Any:
        chunk = (max(1, min(64, (1 << 16) // max(1, int(np.prod(shape))))), *shape)
        column = group.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=chunk)
        if unit:
            column.attrs["unit"] = unit
        return column

    def _element(self, group: Any, shape: tuple[int, ...], unit: str) -> Any:
        """A time-dependent quantity; step and time are hard links to the shared columns."""
        group["step"], group["time"] = self.columns["step"], self.columns["time_fs"]
        return self._column(group, "value", shape, "f8", unit)

    def _fixed(self, particles: Any, system: System) -> None:
        structure = system.structure
        box = particles.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs["boundary"] = ["periodic" if p else "none" for p in structure.pbc]
        if structure.pbc.any():
            box["edges"] = structure.cell
            box["edges"].attrs["unit"] = "Angstrom"
        particles["species"] = structure.numbers
        particles["mass"] = system.masses
        particles["mass"].attrs["unit"] = "amu"
