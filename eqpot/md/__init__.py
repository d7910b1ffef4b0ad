"""Molecular dynamics with a potential, compiled, with the ensemble's doubt in every frame.

    run = simulate(potential, atoms, NVT(temperature_K=300), n_steps=10_000, trajectory="run.extxyz")

The contract of this room:

- **Motion.** The integrators are those of JAX-MD. They work in free space: positions are never folded back, and periodicity lives in the
  neighbour table (shifts × cell), so any cell is right and displacements can be measured at any time.
- **Forces** are the mean over the members of the potential; their spread comes from the same pass and is part of every frame.
- **Segments.** One compiled program advances the system from frame to frame. It looks before each step: a step that would leave the
  neighbour table's range is not taken but waits for a new table, and a step that ends in nonsense (`Status`) is not kept. What has been
  committed is therefore always right, and nothing is computed twice.
- **Precision.** 'mixed' (default): positions, momenta, sums in float64 around a float32 network. 'float32' and 'float64' are all the way.
- **Reproducible.** On one machine, the same seed gives the same trajectory bit for bit, however often frames are written.
- **Degrees of freedom.** NVE and NVT keep the total momentum at zero, so N atoms have 3N − 3; Langevin has 3N. Temperatures are
  2·E_kin/(N_f·k_B) with that number.

Units: eV, Å, amu, K; times in fs and velocities in Å/fs at this door; `Run.final` is an `ase.Atoms` in ASE's units.
"""

from eqpot.md.ensembles import NVE, NVT, Ensemble, Langevin
from eqpot.md.records import Progress, Run
from eqpot.md.run import simulate
from eqpot.md.status import Status

__all__ = ["NVE", "NVT", "Ensemble", "Langevin", "Progress", "Run", "Status", "simulate"]
