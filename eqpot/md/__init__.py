"""Molecular dynamics with a potential, compiled, with the ensemble's doubt in every frame.

    run = simulate(potential, atoms, NVT(temperature_K=300), n_steps=10_000, trajectory="run.extxyz")

The contract of this room:

- **Motion** is in free space: positions are never folded back, and periodicity lives in the images of the neighbours, so any cell is right and
  displacements can be measured at any time. The integrators are composed of JAX-MD's maps and a few of our own (`eqpot.md.maps`).
- **Forces** are the mean over the members of the potential; their spread comes from the same pass and is part of every frame. They are a function of positions
  and cell alone, to the last bit: the neighbour list on the device (`eqpot.graph.cell_list`) cannot be seen in a result.
- **Systems** are an axis. One compiled program moves one system or many, each with its own temperature, pressure and random numbers.
- **Segments.** The program looks before each step: a step that ends in nonsense (`Status`), or for which there was no room, is not kept.
What has been committed is
  therefore always right, and nothing is computed twice.
- **Restart** is exact: a run that was killed and resumed gives the bits of one that was not.
- **Precision.** 'mixed' (default): positions, momenta, sums in float64 around a float32 network. 'float32' and 'float64' are all the way.
- **Degrees of freedom.** Where the total momentum is kept at zero, N atoms have 3N − 3; else 3N. Temperatures are 2·E_kin/(N_f·k_B) with that number.

Units: eV, Å, amu, K; times in fs, velocities in Å/fs and pressures in GPa at this door; `Run.final` is an `ase.Atoms` in ASE's units.
"""

from eqpot.md.barostat import NPT
from eqpot.md.bias import Bias, HarmonicRestraint, PlanarWall, SphericalWall, UncertaintyBias
from eqpot.md.ensembles import CSVR, NVE, NVT, Ensemble, Langevin, Ramp
from eqpot.md.exchange import Exchange, replica_exchange
from eqpot.md.implicit import RelaxedGradient, relaxed_gradient, relaxed_structure
from eqpot.md.minimize import relax, relax_many
from eqpot.md.neb import NebProgress, Path, neb
from eqpot.md.records import Progress, Run
from eqpot.md.relaxation import Relaxation, RelaxationProgress
from eqpot.md.run import simulate, simulate_many
from eqpot.md.status import Status

__all__ = [
    "CSVR",
    "NPT",
    "NVE",
    "NVT",
    "Bias",
    "Ensemble",
    "Exchange",
    "HarmonicRestraint",
    "Langevin",
    "NebProgress",
    "Path",
    "PlanarWall",
    "Progress",
    "Ramp",
    "Relaxation",
    "RelaxationProgress",
    "RelaxedGradient",
    "Run",
    "SphericalWall",
    "Status",
    "UncertaintyBias",
    "neb",
    "relax",
    "relax_many",
    "relaxed_gradient",
    "relaxed_structure",
    "replica_exchange",
    "simulate",
    "simulate_many",
]
