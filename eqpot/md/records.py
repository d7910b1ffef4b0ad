"""What a run says while it goes on, and what is left of it."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from eqpot.core.errors import SimulationError
from eqpot.md.status import Status


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One frame: step, time [fs], energies [eV], temperature [K], pressure [GPa]; arrays per atom in Å, Å/fs and eV/Å; NaN for what there is not. See `Run`."""

    step: int
    time_fs: float
    potential_energy: float
    kinetic_energy: float
    conserved_energy: float
    bias_energy: float
    energy_std: float
    temperature_K: float
    pressure_GPa: float
    mean_atom_std: float
    max_atom_std: float
    max_novelty: float
    positions: Float[np.ndarray, "N 3"]
    velocities: Float[np.ndarray, "N 3"]
    forces: Float[np.ndarray, "N 3"]
    atom_std: Float[np.ndarray, " N"]
    novelty: Float[np.ndarray, " N"]
    cell: Float[np.ndarray, "3 3"]
    stress: Float[np.ndarray, "3 3"]


FINE = Status(0)
"""Nothing has stopped a system."""
ARRAYS = ("positions", "velocities", "forces", "atom_std", "novelty", "cell", "stress")
"""What is more than a number in a frame."""


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
    """A finished (or interrupted) simulation; frames are equally spaced and begin with the start, or where the run was resumed.

    All is kept in memory, 88 bytes per atom and frame, unless the run was asked not to (`keep=False`); then the numbers of all frames are here, and
    the arrays (positions, velocities, forces, atom_std, novelty, cell, stress) of the last frame only.

    Attributes:
        step: number of steps before each frame, [frames].
        time_fs: [frames] in fs.
        potential_energy: mean over members, reference energies included, [frames] in eV.
        kinetic_energy: [frames] in eV.
        total_energy: their sum, [frames] in eV.
        conserved_energy: what the integrator should keep constant: all energies, less what thermostat and barostat have put in, [frames] in eV; None
            for a Nosé–Hoover chain whose temperature is ramped.
        bias_energy: of restraints, walls and biases, in no other energy but the conserved one, [frames] in eV.
        energy_std: standard deviation of the energy, as in `eqpot.potential.Result`, [frames] in eV.
        temperature_K: with the degrees of freedom of the ensemble, [frames] in K.
        pressure_GPa: ⅓ tr(Σ p⊗p/m/V − σ), [frames] in GPa; None unless all directions are periodic and the potential has a stress.
        mean_atom_std, max_atom_std: of `atom_std` in each frame, [frames] in eV/Å.
        positions: unwrapped, [frames, atoms, 3] in Å.
        velocities: [frames, atoms, 3] in Å/fs.
        forces: mean over members, [frames, atoms, 3] in eV/Å.
        max_novelty: of `novelty` in each frame, [frames]; None for a potential without a domain.
        atom_std: uncertainty of each atom's force, √Σ_xyz σ², as in `eqpot.potential.Result`, [frames, atoms] in eV/Å; zero for a single member.
        novelty: distance of each atom from what the potential has seen, above one outside of it, [frames, atoms]; None without a domain.
        cell: rows are lattice vectors, [frames, 3, 3] in Å.
        stress: mean over members, without the kinetic part, [frames, 3, 3] in eV/Å³; None where there is no pressure.
        final: the last state as `ase.Atoms`, with velocities, energy and forces; a new run can start from it.
        n_steps: steps taken.
        seconds: wall time of these steps, without compilation.
        ns_per_day: simulated time per wall time.
        rebuilds: neighbour lists made after the first.
        growths: how often the neighbours needed more room (each compiles again).
        compiles: how often the step was compiled; 0 if an earlier run had done so.
        host_fraction: part of the wall time that was not spent in the compiled program.
        status: what stopped the system before the end of the run, or `Status(0)`; of a start that cannot be run there are no frames at all.
        trouble: the frame that set the status, as `ase.Atoms`; None if none did.
    """

    step: Int[np.ndarray, " F"]
    time_fs: Float[np.ndarray, " F"]
    potential_energy: Float[np.ndarray, " F"]
    kinetic_energy: Float[np.ndarray, " F"]
    total_energy: Float[np.ndarray, " F"]
    conserved_energy: Float[np.ndarray, " F"] | None
    energy_std: Float[np.ndarray, " F"]
    temperature_K: Float[np.ndarray, " F"]
    bias_energy: Float[np.ndarray, " F"]
    pressure_GPa: Float[np.ndarray, " F"] | None
    mean_atom_std: Float[np.ndarray, " F"]
    max_atom_std: Float[np.ndarray, " F"]
    max_novelty: Float[np.ndarray, " F"] | None
    positions: Float[np.ndarray, "K N 3"]
    velocities: Float[np.ndarray, "K N 3"]
    forces: Float[np.ndarray, "K N 3"]
    atom_std: Float[np.ndarray, "K N"]
    novelty: Float[np.ndarray, "K N"] | None
    cell: Float[np.ndarray, "K 3 3"]
    stress: Float[np.ndarray, "K 3 3"] | None
    final: Any
    n_steps: int
    seconds: float
    ns_per_day: float
    rebuilds: int
    growths: int
    compiles: int
    host_fraction: float = 0.0
    status: Status = FINE
    trouble: Any = None

    def __len__(self) -> int:
        return len(self.step)

    def drift(self, start_fs: float | int = 0.0) -> float:
        """Slope of the conserved energy [meV/atom/ps], by least squares over the frames from `start_fs` on.

        Raises:
            SimulationError: where nothing is conserved, or there are fewer than two frames.
        """
        if self.conserved_energy is None:
            raise SimulationError("a Nosé-Hoover chain with a ramped temperature has no conserved energy, so no drift")
        chosen = self.time_fs >= start_fs
        if chosen.sum() < 2:
            raise SimulationError(f"drift: found {chosen.sum()} frames from {start_fs:g} fs on, expected at least two")
        energy = self.conserved_energy[chosen]
        slope = np.polyfit(self.time_fs[chosen] / 1000, energy - energy.mean(), 1)[0]
        return float(slope) * 1000 / self.positions.shape[1]


def stack(frames: list[Any], n_atoms: int, **rest: Any) -> Run:
    """A run from its frames; those but the last may have been `thinned`, and there may be none."""
    kinds = {n: int if n == "step" else float for n in Snapshot.__dataclass_fields__ if n not in ARRAYS}
    columns: dict[str, Any] = {n: np.array([getattr(f, n) for f in frames], kind) for n, kind in kinds.items()}
    kept = [f for f in frames if isinstance(f, Snapshot)]
    for n in ARRAYS:
        shape = {"cell": (3, 3), "stress": (3, 3), "atom_std": (n_atoms,), "novelty": (n_atoms,)}.get(n, (n_atoms, 3))
        columns[n] = np.array([getattr(f, n) for f in kept], float).reshape(len(kept), *shape)
    columns["total_energy"] = columns["potential_energy"] + columns["kinetic_energy"]
    for name in ("conserved_energy", "pressure_GPa", "stress", "novelty", "max_novelty"):
        columns[name] = None if np.isnan(columns[name]).any() else columns[name]
    return Run(**columns, **rest)


def thinned(frame: Any) -> Any:
    """A frame without its arrays."""
    return SimpleNamespace(**{n: getattr(frame, n) for n in Snapshot.__dataclass_fields__ if n not in ARRAYS})
