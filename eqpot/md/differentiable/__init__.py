"""Differentiable simulation: gradients through trajectories, and through averages of frames.

Two ways to the derivative of what a simulation says:

- **Through the trajectory** (`begin`, `trajectory`): the integrators of `eqpot.md` as a pure function of parameters, masses, positions, momenta, cell and the
  numbers of the ensemble. Exact for the path taken, so right for what happens on the way (a relaxation, a pulse, a short transient), and for damped motion; for
  averages over chaotic motion its gradients grow without bound. Memory grows with √n_steps.
- **Through the weights of frames** (`collect`, `weights`, `fit_observables`): averages in equilibrium under a nearby potential, from frames of an ordinary
  `simulate`. No derivative goes through time, so the length of the simulation costs nothing.

The contract of this room:

- A `Start` is a pytree; `start.having(name=value)` puts traced numbers in their place. Noise is drawn from the start's key and the number of the step, so it is
  a fixed function of what is differentiated.
- A path is that of `simulate` with the same seed; lists of neighbours are made once a segment and have no derivative.
- What went wrong is said by `Path.faults`; then all numbers and gradients are NaN, and `Path.check` says what to do.
- Observables are of one frame, smooth, and in the units that their docstring names.

Units: those of `eqpot.md`; inside eV, Å, amu, momenta in amu·Å·√(eV/amu).
"""

from eqpot.md.differentiable.fit import FitStep, Target, fit_observables
from eqpot.md.differentiable.observables import density, kinetic_temperature, pair_distance, radial_bins, radial_distribution
from eqpot.md.differentiable.reweighting import effective_size, reweighted, weights
from eqpot.md.differentiable.samples import Samples, collect, energies, pressures
from eqpot.md.differentiable.start import Start, begin
from eqpot.md.differentiable.trajectory import Fault, Moment, Path, trajectory, value_and_gradient

__all__ = [
    "Fault",
    "FitStep",
    "Moment",
    "Path",
    "Samples",
    "Start",
    "Target",
    "begin",
    "collect",
    "density",
    "effective_size",
    "energies",
    "fit_observables",
    "kinetic_temperature",
    "pair_distance",
    "pressures",
    "radial_bins",
    "radial_distribution",
    "reweighted",
    "trajectory",
    "value_and_gradient",
    "weights",
]
