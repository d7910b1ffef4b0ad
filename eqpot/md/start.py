"""How a run begins: what is read from the atoms, and velocities where they bring none."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from eqpot.core.elements import mass
from eqpot.core.errors import SimulationError, StructureError
from eqpot.core.units import KB
from eqpot.graph import Structure
from eqpot.md.ensembles import MAX_TEMPERATURE_K, Ensemble, Number, require

ROUNDING = 1e-9
"""A total momentum below this part of Σ|p| counts as zero and is left alone, so that a run goes on as it was."""


@dataclass(frozen=True, eq=False)
class System:
    """What moves: structure, masses [amu], velocities [Å·√(eV/amu)] or None, and the `ase.Atoms` that results are copied into."""

    structure: Structure
    masses: Float[np.ndarray, " N"]
    velocities: Float[np.ndarray, "N 3"] | None
    atoms: Any


def read_system(atoms: Any) -> System:
    """Take structure, masses and velocities (None when all are zero) from an `ase.Atoms` or a `Structure`.

    Raises:
        StructureError: for a structure without meaning, or a mass or velocity that is none.
        SimulationError: for constraints, which would be ignored.
    """
    structure = Structure.from_atoms(atoms).check()
    if isinstance(atoms, Structure):
        return System(structure, mass(structure.numbers), None, structure.to_atoms())
    if atoms.constraints:
        name = type(atoms.constraints[0]).__name__
        raise SimulationError(
            f"the atoms carry a constraint ({name}), which dynamics here does not apply; remove it: atoms.set_constraint()"
        )
    masses = atoms.get_masses()
    bad = np.flatnonzero(~(np.isfinite(masses) & (masses > 0)))
    if len(bad):
        raise StructureError(f"atom {bad[0]}: found mass {masses[bad[0]]:g}, expected a number above 0 amu")
    velocities = atoms.get_velocities()
    wrong = np.flatnonzero(~np.isfinite(velocities).all(1))
    if len(wrong):
        raise StructureError(f"atom {wrong[0]}: velocity {velocities[wrong[0]]} is not finite")
    clean = atoms.copy()
    return System(structure, masses, velocities if velocities.any() else None, clean)


def initial_velocities(system: System, ensemble: Ensemble, temperature_K: Number | None, seed: int) -> Float[np.ndarray, "N 3"]:
    """Velocities to start from [Å·√(eV/amu)].

    Drawn at `temperature_K` if it is given; else the atoms' own; else drawn at the ensemble's temperature. Where the ensemble conserves
    momentum, the total is brought to zero.

    Raises:
        SimulationError: for a temperature out of range, or none at all.
    """
    if temperature_K is None and system.velocities is not None:
        return _at_rest(system.velocities, system.masses) if ensemble.conserves_momentum else system.velocities
    if temperature_K is None:
        temperature_K = getattr(ensemble, "temperature_K", None)
    if temperature_K is None:
        raise SimulationError("NVE needs velocities: give temperature_K, or atoms that have some (temperature_K=0 starts from rest)")
    kelvin = require("temperature_K", temperature_K, 0.0, MAX_TEMPERATURE_K, closed=True)
    return maxwell_boltzmann(system.masses, kelvin, ensemble.degrees_of_freedom(len(system.masses)), seed)


def maxwell_boltzmann(
    masses: Float[np.ndarray, " N"], temperature_K: float, degrees_of_freedom: int, seed: int
) -> Float[np.ndarray, "N 3"]:
    """Velocities ∝ exp(−m·v²/2k_BT) without total momentum, scaled so that 2·E_kin/(N_f·k_B) is the temperature exactly."""
    velocities = np.random.default_rng(seed).normal(size=(len(masses), 3)) * np.sqrt(KB * temperature_K / masses)[:, None]
    if len(masses) > 1:
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
