"""Constant pressure: a cell that moves."""

from dataclasses import KW_ONLY, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.errors import SimulationError
from eqpot.core.tree import record, static
from eqpot.core.units import EV_PER_A3_TO_GPA, FS, KB
from eqpot.md.bodies import exponential
from eqpot.md.ensembles import Ensemble, Number, Ramp, require_slow, rescale, verlet_first
from eqpot.md.maps import kick
from eqpot.md.state import Particles, Push, State, pressure, volume

SHAPES = ("isotropic", "anisotropic", "flexible")


@record
class NPT(Ensemble):
    """Constant temperature and pressure: stochastic rescaling of velocities and of the cell.

    Positions, cell and, inversely, momenta are deformed by exp(X), X symmetric, with

        X = (β/3τ)·(P − P₀)·dt + √(2β·k_B·T/(3τ·V))·dW   (its trace alone, or its diagonal alone, where the cell keeps its shape)

    P being the instantaneous pressure tensor and dW a symmetric matrix of noise, variance dt on and dt/2 off the diagonal. This samples
    exp(−(H + P₀V)/k_BT)·dV without the
    oscillations of an inertial barostat; β only sets, with τ, how fast. Temperature is kept as by `CSVR`. Conserved: E minus heat and work of the cell.

    Attributes:
        temperature_K: [K], above 0, or a `Ramp`.
        pressure_GPa: P₀ [GPa], or a `Ramp`; or six numbers xx, yy, zz, yz, xz, xy, positive under compression.
        timestep_fs: [fs], in (0, 20].
        damping_fs: time of the thermostat [fs].
        pressure_damping_fs: time τ of the barostat [fs], at least 50 timesteps.
        compressibility_per_GPa: β [1/GPa], an estimate: 0.46 for water, 0.01 for silicon.
        cell: 'isotropic' (one factor), 'anisotropic' (a factor along each Cartesian axis) or 'flexible' (any deformation without rotation).

    Raises:
        SimulationError: for a value out of range.

    Reference: Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020); Del Tatto, Raiteri, Bernetti, Bussi, Appl. Sci. 12, 1139 (2022). There X is an Itô
    increment with full noise; a symmetric exponent needs no drift but that above (docs/dynamics.md).
    """

    temperature_K: Any
    pressure_GPa: Any = 0.0
    _: KW_ONLY
    timestep_fs: Number = 0.5
    damping_fs: Number = 100.0
    pressure_damping_fs: Number = 1000.0
    compressibility_per_GPa: Number = 0.05
    cell: str = static(default="isotropic")
    flexible = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell not in SHAPES:
            raise SimulationError(f"NPT.cell: found '{self.cell}', expected one of {', '.join(SHAPES)}")
        require_slow(self, "pressure_damping_fs", 50)
        target = self.pressure_GPa
        checked = Ramp(_tensor(target.first), _tensor(target.last)) if isinstance(target, Ramp) else _tensor(target)
        object.__setattr__(self, "pressure_GPa", checked)

    def first(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        state = verlet_first(state, push, particles, self.timestep_fs * FS)
        strain = self._strain(state, push, particles, jax.random.fold_in(key, 1))
        grow, shrink = exponential(strain), exponential(-strain)
        work = state.work - volume(state.cell) / 2 * jnp.vdot(pressure(state.momenta, particles.masses, state.cell, push.stress), strain)
        return replace(
            state, positions=state.positions @ grow, momenta=state.momenta @ shrink, cell=state.cell @ grow, strain=strain, work=work
        )

    def second(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        inside = pressure(state.momenta, particles.masses, state.cell, push.stress)
        state = replace(state, work=state.work - volume(state.cell) / 2 * jnp.vdot(inside, state.strain))
        state = replace(state, momenta=kick(state.momenta, push.forces, self.timestep_fs * FS / 2))
        return rescale(state, particles, KB * self.temperature_K, self.damping_fs * FS, self.timestep_fs * FS, key)

    def _strain(self, state: State, push: Push, particles: Particles, key: Array) -> Float[Array, "3 3"]:
        speed = self.compressibility_per_GPa * EV_PER_A3_TO_GPA * self.timestep_fs / self.pressure_damping_fs
        excess = pressure(state.momenta, particles.masses, state.cell, push.stress) - self.pressure_GPa / EV_PER_A3_TO_GPA
        spread = jnp.sqrt(2 * speed * KB * self.temperature_K / (3 * volume(state.cell)))
        white = jax.random.normal(key, (3, 3), state.cell.dtype)
        strain = speed / 3 * excess + spread * (white + white.T) / 2
        # The diagonal of (W + Wᵀ)/2 has variance 1, what is off it 1/2.
        unit = jnp.eye(3, dtype=state.cell.dtype)
        if self.cell == "isotropic":
            return unit * jnp.trace(strain) / 3
        return unit * strain if self.cell == "anisotropic" else strain


def _tensor(value: Any) -> Float[np.ndarray, "3 3"]:
    """A pressure tensor [GPa] from one number or six."""
    try:
        numbers = np.asarray(value, float)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.shape == (3, 3):
        numbers = numbers[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] if np.allclose(numbers, numbers.T) else np.full(6, np.nan)
    if numbers.shape not in ((), (6,)) or not (np.abs(numbers) <= 1e4).all():
        raise SimulationError(
            f"NPT.pressure_GPa: found {value!r}, expected a number of GPa, or six (xx, yy, zz, yz, xz, xy), of at most 10 000"
        )
    xx, yy, zz, yz, xz, xy = numbers * [1, 1, 1, 0, 0, 0] if numbers.shape == () else numbers
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
