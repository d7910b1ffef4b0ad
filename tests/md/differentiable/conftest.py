"""A Lennard-Jones fluid, cut off smoothly."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from morse import PairSpec

from eqpot.md import CSVR, simulate
from eqpot.md.differentiable import collect
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import Potential

ARGON = {"epsilon": 120 * units.kB, "sigma": 3.4}
"""Depth [eV] and diameter [Å] of the usual argon model."""
CUTOFF = 8.0


@dataclass(frozen=True)
class LennardJonesSpec(PairSpec):
    """4ε·[(σ/r)¹² − (σ/r)⁶]."""

    @staticmethod
    def pair(params, distance):
        sixth = (params["sigma"] / distance) ** 6
        return 4 * params["epsilon"] * (sixth**2 - sixth)


def lennard_jones(epsilon: float = 1.0, sigma: float = 1.0) -> Potential:
    """Argon, with depth and diameter as multiples of the usual ones."""
    spec = LennardJonesSpec(EquivariantConfig(cutoff=CUTOFF, n_layers=1), ("Ar",), Normalization())
    params = {"epsilon": np.array([epsilon * ARGON["epsilon"]]), "sigma": np.array([sigma * ARGON["sigma"]])}
    return Potential(spec, {k: v.astype(np.float32) for k, v in params.items()}, (0.0,))


def fluid(repeat: int = 3, reduced_density: float = 0.4) -> Atoms:
    """4·repeat³ atoms of argon, on the lattice from which they melt at once above the critical temperature."""
    return bulk("Ar", "fcc", a=(4 * ARGON["sigma"] ** 3 / reduced_density) ** (1 / 3), cubic=True) * repeat


def run_fluid(potential: Potential, atoms: Atoms, kelvin: float, n_steps: int, every: int = 25):
    """Simulate argon at a constant temperature."""
    ensemble = CSVR(kelvin, timestep_fs=20.0, damping_fs=400.0)
    return simulate(potential, atoms, ensemble, n_steps, every=every, precision="float32", temperature_K=kelvin, skin=2.5)


def sampler(atoms: Atoms, kelvin: float, n_steps: int, skip: int = 20):
    """A function that simulates with a potential and collects the frames. It always begins with the same atoms, so that all runs are one program."""
    return lambda potential: collect(potential, run_fluid(potential, atoms, kelvin, n_steps), kelvin, skip=skip)
