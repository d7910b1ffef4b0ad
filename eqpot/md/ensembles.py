"""What is sampled: the ensembles, as small frozen records that a compiled program takes as arguments.

An ensemble's numbers are leaves of a pytree, so that another temperature or timestep does not compile again.
"""

import math
from abc import abstractmethod
from dataclasses import KW_ONLY, fields
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.errors import SimulationError
from eqpot.core.tree import record, static
from eqpot.core.units import FS, KB
from eqpot.md.integrator import Integrator, jax_md

Number = float | int
"""What users type; kept as float."""
MAX_TIMESTEP_FS = 20.0
MAX_TEMPERATURE_K = 1e6


class Ensemble:
    """Interface of all ensembles.

    Attributes:
        timestep_fs: length of one step [fs].
        conserves_momentum: whether the total momentum stays what it was; it is then set to zero at the start and
            does not count as a degree of freedom.
    """

    timestep_fs: Number
    conserves_momentum: bool = True

    @abstractmethod
    def integrator(self, dtype: Any) -> Integrator:
        """The scheme of JAX-MD that samples this ensemble, computing in `dtype`."""

    def degrees_of_freedom(self, n_atoms: int) -> int:
        """3N − 3 where momentum is conserved (3 for a single atom, which is free to move), 3N elsewhere."""
        return 3 * n_atoms - 3 if self.conserves_momentum and n_atoms > 1 else 3 * n_atoms

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            if field.metadata.get("static"):
                continue
            low, high = _RANGES[field.name]
            value = require(f"{type(self).__name__}.{field.name}", getattr(self, field.name), low, high)
            object.__setattr__(self, field.name, value)


_RANGES = {
    "timestep_fs": (0.0, MAX_TIMESTEP_FS),
    "temperature_K": (0.0, MAX_TEMPERATURE_K),
    "damping_fs": (0.0, 1e6),
    "friction_per_fs": (0.0, 10.0),
}


def require(name: str, value: Any, low: Number, high: Number, closed: bool = False) -> float:
    """The value as a float, if it is a number in (low, high], or in [low, high] when `closed`.

    Raises:
        SimulationError: naming the quantity, what was found and the range.
    """
    ok = isinstance(value, int | float) or hasattr(value, "__float__")
    number = float(value) if ok else math.nan
    if not (low < number <= high or (closed and number == low)):
        raise SimulationError(f"{name}: found {value!r}, expected a number in {'[' if closed else '('}{low:g}, {high:g}]")
    return number


@record
class NVE(Ensemble):
    """Constant energy: velocity Verlet.

    Attributes:
        timestep_fs: [fs], in (0, 20]; a fifteenth of the fastest vibration's period, 0.5 fs with hydrogen.

    Raises:
        SimulationError: for a value out of range.

    Reference: Swope et al., J. Chem. Phys. 76, 637 (1982).
    """

    _: KW_ONLY
    timestep_fs: Number = 0.5

    def integrator(self, dtype: Any) -> Integrator:
        simulate, shift = jax_md()
        init, step = simulate.nve(_given_forces, shift, dt=self.timestep_fs * FS)

        def start(key: Array, positions: Array, momenta: Array, masses: Array, forces: Array) -> Any:
            return init(key, positions, kT=0.0, mass=masses, momenta=momenta, forces=forces)

        return Integrator(start, step, lambda state, total: total)


@record
class NVT(Ensemble):
    """Constant temperature: Nosé–Hoover chain.

    The chain has masses Q₁ = N_f·k_B·T·τ² and Q_k = k_B·T·τ², τ = `damping_fs`, so that it breathes with a period of about
    √2·π·τ; N_f = 3N − 3 as the total momentum is conserved. (JAX-MD counts 3N, which would keep a molecule of nine atoms
    12 % too hot; this is corrected here.) Its conserved quantity is E + Σ p_k²/2Q_k + N_f·k_B·T·ξ₁ + k_B·T·Σ_{k>1} ξ_k.

    Attributes:
        temperature_K: [K], above 0.
        timestep_fs: [fs], in (0, 20].
        damping_fs: time τ of the coupling [fs], at least five timesteps.
        chain_length: thermostats in the chain, 2 to 10.

    Raises:
        SimulationError: for a value out of range.

    Reference: Martyna, Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996).
    """

    temperature_K: Number
    _: KW_ONLY
    timestep_fs: Number = 0.5
    damping_fs: Number = 50.0
    chain_length: int = static(default=3)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chain_length not in range(2, 11):
            raise SimulationError(f"NVT.chain_length: found {self.chain_length!r}, expected an integer from 2 to 10")
        if self.damping_fs < 5 * self.timestep_fs:
            raise SimulationError(f"NVT.damping_fs: found {self.damping_fs:g}, expected at least five timesteps ({5 * self.timestep_fs:g})")

    def integrator(self, dtype: Any) -> Integrator:
        simulate, shift = jax_md()
        kT = jnp.asarray(KB * self.temperature_K, dtype)
        options = {"chain_length": self.chain_length, "tau": self.damping_fs * FS}
        init, step = simulate.nvt_nose_hoover(_given_forces, shift, self.timestep_fs * FS, kT, **options)

        def start(key: Array, positions: Array, momenta: Array, masses: Array, forces: Array) -> Any:
            state = init(key, positions, mass=masses, momenta=momenta, forces=forces)
            return state.set(chain=state.chain.set(degrees_of_freedom=self.degrees_of_freedom(len(positions))))

        def conserved(state: Any, total: Array) -> Array:
            chain = state.chain
            potential = kT * (chain.degrees_of_freedom * chain.position[0] + jnp.sum(chain.position[1:]))
            return total + jnp.sum(chain.momentum**2 / (2 * chain.mass)) + potential

        return Integrator(start, step, conserved)


@record
class Langevin(Ensemble):
    """Constant temperature: Langevin dynamics, BAOAB splitting.

    dp = F·dt − γ·p·dt + √(2γ·m·k_B·T)·dW. The centre of mass diffuses, so there are 3N degrees of freedom and no conserved energy.

    Attributes:
        temperature_K: [K], above 0.
        timestep_fs: [fs], in (0, 20].
        friction_per_fs: γ [1/fs], in (0, 10]; 1/γ is the time in which velocities are forgotten.

    Raises:
        SimulationError: for a value out of range.

    Reference: Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013).
    """

    temperature_K: Number
    _: KW_ONLY
    timestep_fs: Number = 0.5
    friction_per_fs: Number = 0.01
    conserves_momentum = False

    def integrator(self, dtype: Any) -> Integrator:
        simulate, shift = jax_md()
        dt, kT, gamma = (jnp.asarray(x, dtype) for x in (self.timestep_fs * FS, KB * self.temperature_K, self.friction_per_fs / FS))
        init, step = simulate.nvt_langevin(_given_forces, shift, dt, kT, gamma)

        def start(key: Array, positions: Array, momenta: Array, masses: Array, forces: Array) -> Any:
            return init(key, positions, mass=masses, momenta=momenta, forces=forces)

        return Integrator(start, step, lambda state, total: jnp.full_like(total, jnp.nan))


def _given_forces(positions: Float[Array, "N 3"], *, forces: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
    """The force function that JAX-MD asks for; the forces themselves are an argument of each step, see `Integrator`."""
    del positions
    return forces
