"""How a run begins: what is read from the atoms, and velocities where they bring none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from eqpot.core.elements import mass
from eqpot.core.errors import SimulationError, StructureError
from eqpot.core.units import KB
from eqpot.data.keys import AMBIGUOUS, KNOWN
from eqpot.graph import Structure
from eqpot.md.ensembles import MAX_TEMPERATURE_K, Ensemble, Number, Ramp, require
from eqpot.md.state import Particles

OF_A_GEOMETRY = (
    *(name for label in ("energy", "forces", "stress", "virial", "charges", "dipole") for name in KNOWN[label] if name != AMBIGUOUS),
    *(
        "momenta",
        "force_std",
        "energy_std",
        "atom_std",
        "novelty",
        "doubt",
        "kinetic_energy",
        "conserved_energy",
        "bias_energy",
        "pressure_GPa",
    ),
    *("temperature_K", "time_fs", "step"),
)
"""Names of what frames, labelled or written here, say of where their atoms are."""
ROUNDING = 1e-9
"""A total momentum below this part of Σ|p| counts as zero and is left alone, so that a run goes on as it was."""


@dataclass(frozen=True, eq=False)
class System:
    """What moves: structure, masses [amu], velocities [Å·√(eV/amu)] or None, the `ase.Atoms` that results are copied into, which atoms are fixed, and
    whether restraints or walls are, to which atoms lose momentum."""

    structure: Structure
    masses: Float[np.ndarray, " N"]
    velocities: Float[np.ndarray, "N 3"] | None
    atoms: Any
    fixed: Bool[np.ndarray, " N"]
    restrained: bool = False

    @property
    def n_fixed(self) -> int:
        """Number of atoms that do not move."""
        return int(self.fixed.sum())

    @property
    def anchored(self) -> bool:
        """Whether something outside takes up momentum: no centre of mass is then at rest, and none of its motion is left out."""
        return self.restrained or bool(self.fixed.any())


def read_system(atoms: Any) -> System:
    """Take structure, masses and velocities (None when all are zero) from an `ase.Atoms` or a `Structure`.

    Raises:
        StructureError: for a structure without meaning, or a mass or velocity that is none.
        SimulationError: for constraints other than `FixAtoms`, which would be ignored, or when all atoms are fixed.
    """
    structure = Structure.from_atoms(atoms).check()
    if isinstance(atoms, Structure):
        return System(structure, mass(structure.numbers), None, structure.to_atoms(), np.zeros(len(structure), bool))
    fixed = fixed_atoms(atoms)
    masses = atoms.get_masses()
    bad = np.flatnonzero(~(np.isfinite(masses) & (masses > 0)))
    if len(bad):
        raise StructureError(f"atom {bad[0]}: found mass {masses[bad[0]]:g}, expected a number above 0 amu")
    velocities = atoms.get_velocities()
    wrong = np.flatnonzero(~np.isfinite(velocities).all(1))
    if len(wrong):
        raise StructureError(f"atom {wrong[0]}: velocity {velocities[wrong[0]]} is not finite")
    velocities = np.where(fixed[:, None], 0.0, velocities)
    return System(structure, masses, velocities if velocities.any() else None, _without_results(atoms), fixed)


def _without_results(atoms: Any) -> Any:
    """A copy that says nothing of this geometry, which results of others are copied into."""
    bare = atoms.copy()
    for name in OF_A_GEOMETRY:
        bare.info.pop(name, None)
        bare.arrays.pop(name, None)
    return bare


def fixed_atoms(atoms: Any) -> Bool[np.ndarray, " N"]:
    """Which atoms are held by `FixAtoms`.

    Raises:
        SimulationError: for any other constraint, or when all atoms are fixed.
    """
    fixed = np.zeros(len(atoms), bool)
    for constraint in atoms.constraints:
        if type(constraint).__name__ != "FixAtoms":
            raise SimulationError(
                f"the atoms carry a constraint ({type(constraint).__name__}), which is not applied here, only FixAtoms is; "
                "remove it (atoms.set_constraint()), or hold atoms by a HarmonicRestraint"
            )
        fixed[constraint.get_indices()] = True
    if fixed.all() and len(fixed):
        raise SimulationError("all atoms are fixed: nothing can move")
    return fixed


def initial_velocities(
    system: System, ensemble: Ensemble, temperature_K: Number | None, seed: int, remove_rotation: bool = False
) -> Float[np.ndarray, "N 3"]:
    """Velocities to start from [Å·√(eV/amu)].

    Drawn at `temperature_K` if it is given; else the atoms' own; else drawn at the ensemble's temperature. Where the ensemble conserves
    momentum, the total is brought to zero; with `remove_rotation`, the angular momentum as well.

    Raises:
        SimulationError: for a temperature out of range, or none at all.
    """
    still = ensemble.conserves_momentum and not system.anchored
    if temperature_K is None and system.velocities is not None:
        own = _at_rest(system.velocities, system.masses) if still else system.velocities
        return without_rotation(own, system) if remove_rotation else own
    if temperature_K is None:
        temperature_K = getattr(ensemble, "temperature_K", None)
        temperature_K = temperature_K.first if isinstance(temperature_K, Ramp) else temperature_K
    if temperature_K is None:
        raise SimulationError("NVE needs velocities: give temperature_K, or atoms that have some (temperature_K=0 starts from rest)")
    kelvin = require("temperature_K", temperature_K, 0.0, MAX_TEMPERATURE_K, closed=True)
    velocities = np.zeros((len(system.masses), 3))
    free = ~system.fixed
    dof = ensemble.degrees_of_freedom(int(free.sum()), system.anchored, rotates=not remove_rotation)
    velocities[free] = maxwell_boltzmann(system.masses[free], kelvin, dof, seed, resting=not system.anchored)
    if remove_rotation:
        velocities = without_rotation(velocities, system)
        twice_kinetic = float((system.masses[:, None] * velocities**2).sum())
        velocities *= np.sqrt(dof * KB * kelvin / twice_kinetic) if twice_kinetic > 0 else 1.0
    return velocities


def without_rotation(velocities: np.ndarray, system: System) -> np.ndarray:
    """Velocities without angular momentum about the centre of mass; the same bits where there is none."""
    masses = system.masses[:, None]
    arms = system.structure.positions - (masses * system.structure.positions).sum(0) / masses.sum()
    momenta = masses * np.cross(arms, velocities)
    total = momenta.sum(0)
    if np.abs(total).max() <= ROUNDING * np.abs(momenta).sum():
        return velocities
    inertia = np.eye(3) * (masses * arms**2).sum() - (masses * arms).T @ arms
    return velocities - np.cross(np.linalg.pinv(inertia, rcond=1e-8) @ total, arms)


def maxwell_boltzmann(
    masses: Float[np.ndarray, " N"], temperature_K: float, degrees_of_freedom: int, seed: int, resting: bool = True
) -> Float[np.ndarray, "N 3"]:
    """Velocities ∝ exp(−m·v²/2k_BT), without total momentum if `resting`, scaled so that 2·E_kin/(N_f·k_B) is the temperature exactly."""
    velocities = np.random.default_rng(seed).normal(size=(len(masses), 3)) * np.sqrt(KB * temperature_K / masses)[:, None]
    if len(masses) > 1 and resting:
        velocities = _at_rest(velocities, masses)
    twice_kinetic = float((masses[:, None] * velocities**2).sum())
    return velocities * np.sqrt(degrees_of_freedom * KB * temperature_K / twice_kinetic) if twice_kinetic > 0 else velocities


def _at_rest(velocities: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Velocities relative to the centre of mass; the same bits when it already rests, or when there is but one atom."""
    momenta = masses[:, None] * velocities
    total = momenta.sum(0)
    if len(masses) == 1 or np.abs(total).max() <= ROUNDING * np.abs(momenta).sum():
        return velocities
    return velocities - total / masses.sum()


def particles_of(
    systems: Sequence[System], ensembles: Sequence[Ensemble], species: Sequence[np.ndarray], dtype: str, rotates: bool = True
) -> Particles:
    """What the systems consist of, padded to the largest of them; `rotates` unless angular momentum was taken out."""
    most = max(len(s.structure) for s in systems)

    def padded(rows: Sequence[np.ndarray], fill: Any, kind: Any) -> np.ndarray:
        return np.stack([np.pad(np.asarray(r, kind), (0, most - len(r)), constant_values=fill) for r in rows])

    return Particles(
        species=padded(species, 0, np.int32),
        masses=padded([s.masses for s in systems], 1.0, dtype),
        real=padded([np.ones(len(s.structure)) for s in systems], False, bool),
        free=padded([~s.fixed for s in systems], False, bool),
        dof=np.array(
            [e.degrees_of_freedom(int((~s.fixed).sum()), s.anchored, rotates) for s, e in zip(systems, ensembles, strict=True)], dtype
        ),
        pbc=np.stack([s.structure.pbc for s in systems]),
        charge=np.array([s.structure.charge for s in systems], dtype),
    )
