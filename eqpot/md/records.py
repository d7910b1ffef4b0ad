"""What a run says while it goes on, and what is left of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from eqpot.core.errors import SimulationError


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One frame: step, time [fs], energies [eV], temperature [K]; arrays per atom in Å, Å/fs and eV/Å. See `Run`."""

    step: int
    time_fs: float
    potential_energy: float
    kinetic_energy: float
    conserved_energy: float
    energy_std: float
    temperature_K: float
    positions: Float[np.ndarray, "N 3"]
    velocities: Float[np.ndarray, "N 3"]
    forces: Float[np.ndarray, "N 3"]
    atom_std: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step, n_steps: steps taken and asked for.
        time_fs: simulated time [fs].
        temperature_K: instantaneous [K].
        energy: potential energy, reference energies included [eV].
        max_atom_std: largest uncertainty of any atom's force in this frame [eV/Å].
        ns_per_day: speed since the start.
    """

    step: int
    n_steps: int
    time_fs: float
    temperature_K: float
    energy: float
    max_atom_std: float
    ns_per_day: float


@dataclass(frozen=True, eq=False)
class Run:
    """A finished (or interrupted) simulation; frames are equally spaced and begin with the start.

    All is kept in memory: 80 bytes per atom and frame. For long runs of large systems choose a large `every`.

    Attributes:
        step: number of steps before each frame, [frames].
        time_fs: [frames] in fs.
        potential_energy: mean over members, reference energies included, [frames] in eV.
        kinetic_energy: [frames] in eV.
        total_energy: their sum, [frames] in eV.
        conserved_energy: what the integrator should keep constant (with the thermostat's part in NVT), [frames] in eV; None for Langevin.
        energy_std: standard deviation of the energy over members, [frames] in eV.
        temperature_K: with the degrees of freedom of the ensemble, [frames] in K.
        positions: unwrapped, [frames, atoms, 3] in Å.
        velocities: [frames, atoms, 3] in Å/fs.
        forces: mean over members, [frames, atoms, 3] in eV/Å.
        atom_std: uncertainty of each atom's force, √Σ_xyz σ² over members, [frames, atoms] in eV/Å; zero for a single member.
        final: the last state as `ase.Atoms`, with velocities, energy and forces; a new run can start from it.
        n_steps: steps taken.
        seconds: wall time of these steps, without compilation.
        ns_per_day: simulated time per wall time.
        rebuilds: neighbour tables made after the first.
        growths: how often a table needed more slots (each compiles again).
        compiles: how often the step was compiled; 0 if an earlier run had done so.
    """

    step: Int[np.ndarray, " F"]
    time_fs: Float[np.ndarray, " F"]
    potential_energy: Float[np.ndarray, " F"]
    kinetic_energy: Float[np.ndarray, " F"]
    total_energy: Float[np.ndarray, " F"]
    conserved_energy: Float[np.ndarray, " F"] | None
    energy_std: Float[np.ndarray, " F"]
    temperature_K: Float[np.ndarray, " F"]
    positions: Float[np.ndarray, "F N 3"]
    velocities: Float[np.ndarray, "F N 3"]
    forces: Float[np.ndarray, "F N 3"]
    atom_std: Float[np.ndarray, "F N"]
    final: Any
    n_steps: int
    seconds: float
    ns_per_day: float
    rebuilds: int
    growths: int
    compiles: int

    def __len__(self) -> int:
        return len(self.step)

    def drift(self, start_fs: float | int = 0.0) -> float:
        """Slope of the conserved energy [meV/atom/ps], by least squares over the frames from `start_fs` on.

        Raises:
            SimulationError: for Langevin dynamics, which conserve nothing, or fewer than two frames.
        """
        if self.conserved_energy is None:
            raise SimulationError("Langevin dynamics have no conserved energy, so no drift")
        chosen = self.time_fs >= start_fs
        if chosen.sum() < 2:
            raise SimulationError(f"drift: found {chosen.sum()} frames from {start_fs:g} fs on, expected at least two")
        energy = self.conserved_energy[chosen]
        slope = np.polyfit(self.time_fs[chosen] / 1000, energy - energy.mean(), 1)[0]
        return float(slope) * 1000 / self.positions.shape[1]


def stack(frames: list[Snapshot], **rest: Any) -> Run:
    """A run from its frames."""
    names = [n for n in Snapshot.__dataclass_fields__ if n not in ("conserved_energy", "positions", "velocities", "forces", "atom_std")]
    columns: dict[str, Any] = {name: np.array([getattr(f, name) for f in frames]) for name in names}
    for name in ("positions", "velocities", "forces", "atom_std"):
        columns[name] = np.stack([getattr(f, name) for f in frames])
    conserved = np.array([f.conserved_energy for f in frames])
    total = columns["potential_energy"] + columns["kinetic_energy"]
    return Run(**columns, total_energy=total, conserved_energy=None if np.isnan(conserved).any() else conserved, **rest)
