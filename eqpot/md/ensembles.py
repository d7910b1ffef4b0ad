"""What is sampled: the ensembles, as small frozen records that a compiled program takes as arguments.

An ensemble's numbers are leaves of a pytree, so that another temperature or timestep does not compile again, and so that a batch of systems can have
one of each. A step is taken in two halves, with the potential evaluated between them and nowhere else:

    state = ensemble.first(state, push, particles, key)       # where the atoms and the cell go
    ...evaluate the potential there...
    state = ensemble.second(state, push, particles, key)      # what momenta they have there
"""

import math
from abc import abstractmethod
from dataclasses import KW_ONLY, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.errors import SimulationError
from eqpot.core.tree import record, static
from eqpot.core.units import FS, KB
from eqpot.md.maps import Chain, chain_energy, drift, kick, kinetic_energy, noise, rescaling, thermostat
from eqpot.md.state import Particles, Push, State

Number = float | int
"""What users type; kept as float."""
MAX_TIMESTEP_FS = 20.0
MAX_TEMPERATURE_K = 1e6


@record
class Ramp:
    """A number that goes from `first` to `last`, linearly over the steps of a run.

    NVT(temperature_K=Ramp(300, 900))
    """

    first: Any
    last: Any

    def at(self, progress: Any) -> Any:
        """The value after this part of the run, 0 to 1."""
        return self.first + (self.last - self.first) * progress


class Ensemble:
    """Interface of all ensembles.

    Attributes:
        timestep_fs: length of one step [fs].
        conserves_momentum: whether the total momentum stays what it was; it is then set to zero at the start and
            does not count as a degree of freedom.
        flexible: whether the cell moves.
        chain_length: thermostats of a Nosé–Hoover chain.
    """

    timestep_fs: Number
    conserves_momentum: bool = True
    flexible: bool = False
    chain_length: int = 0

    @abstractmethod
    def first(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        """To the positions and cell at the end of the step."""

    @abstractmethod
    def second(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        """To the momenta at the end of the step."""

    def extended(self, state: State, particles: Particles) -> Float[Array, ""]:
        """What the energy of thermostats and barostat adds to kinetic and potential energy to make the conserved quantity [eV]."""
        del particles
        return -state.work

    def at(self, progress: Any) -> "Ensemble":
        """The ensemble after this part of the run, its ramps replaced by numbers."""
        return jax.tree.map(lambda x: x.at(progress) if isinstance(x, Ramp) else x, self, is_leaf=lambda x: isinstance(x, Ramp))

    @property
    def ramped(self) -> bool:
        """Whether anything changes during the run."""
        return any(isinstance(x, Ramp) for x in jax.tree.leaves(self, is_leaf=lambda x: isinstance(x, Ramp)))

    @property
    def keeps_account(self) -> bool:
        """Whether there is a conserved quantity."""
        return True

    def degrees_of_freedom(self, n_free: int, anchored: bool = False, rotates: bool = True) -> int:
        """3N for N free atoms; 3 less where momentum is conserved (unless the atom is single, others are fixed, or restraints take it up), 3 less where
        angular momentum is zero and is conserved."""
        if not self.conserves_momentum or anchored or n_free == 1:
            return 3 * n_free
        return 3 * n_free - 3 - (0 if rotates else 2 if n_free == 2 else 3)

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            if field.metadata.get("static") or field.name not in RANGES:
                continue
            value, name, (low, high) = getattr(self, field.name), f"{type(self).__name__}.{field.name}", RANGES[field.name]
            if isinstance(value, Ramp):
                value = Ramp(require(f"{name}, first", value.first, low, high), require(f"{name}, last", value.last, low, high))
            else:
                value = require(name, value, low, high)
            object.__setattr__(self, field.name, value)


RANGES = {
    "timestep_fs": (0.0, MAX_TIMESTEP_FS),
    "temperature_K": (0.0, MAX_TEMPERATURE_K),
    "damping_fs": (0.0, 1e6),
    "friction_per_fs": (0.0, 10.0),
    "pressure_damping_fs": (0.0, 1e7),
    "compressibility_per_GPa": (0.0, 1e3),
}
"""What numbers may be."""


def require(name: str, value: Any, low: Number, high: Number, closed: bool = False) -> float:
    """The value as a float, if it is a number in (low, high], or in [low, high] when `closed`.

    Raises:
        SimulationError: naming the quantity, what was found and the range.
    """
    ok = np.ndim(value) == 0 and (isinstance(value, int | float) or hasattr(value, "__float__"))
    number = float(value) if ok else math.nan
    if not (low < number <= high or (closed and number == low)):
        raise SimulationError(f"{name}: found {value!r}, expected a number in {'[' if closed else '('}{low:g}, {high:g}]")
    return number


def require_slow(ensemble: Any, name: str, timesteps: int) -> None:
    """Check that a time of coupling is long beside the timestep."""
    found, least = getattr(ensemble, name), timesteps * ensemble.timestep_fs
    if found < least:
        raise SimulationError(
            f"{type(ensemble).__name__}.{name}: found {found:g}, expected at least {'five' if timesteps == 5 else timesteps} timesteps ({least:g})"
        )


def verlet_first(state: State, push: Push, particles: Particles, time: Any) -> State:
    """Kick for half the time, drift for all of it."""
    momenta = kick(state.momenta, push.forces, time / 2)
    return replace(state, momenta=momenta, positions=drift(state.positions, momenta, particles.masses, time))


def rescale(state: State, particles: Particles, kT: Any, damping: Any, time: Any, key: Array) -> State:
    """Stochastic rescaling of the momenta; the heat is counted as work."""
    kinetic = kinetic_energy(state.momenta, particles.masses)
    factor = rescaling(kinetic, particles.dof, kT, damping, time, key)
    return replace(state, momenta=state.momenta * factor, work=state.work + kinetic * (factor**2 - 1))


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

    def first(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        return verlet_first(state, push, particles, self.timestep_fs * FS)

    def second(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        return replace(state, momenta=kick(state.momenta, push.forces, self.timestep_fs * FS / 2))


@record
class NVT(Ensemble):
    """Constant temperature: Nosé–Hoover chain.

    The chain has masses Q₁ = N_f·k_B·T·τ² and Q_k = k_B·T·τ², τ = `damping_fs`, so that it breathes with a period of about
    √2·π·τ; N_f = 3N − 3 as the total momentum is conserved. Its conserved quantity is E + Σ p_k²/2Q_k + N_f·k_B·T·ξ₁ + k_B·T·Σ_{k>1} ξ_k.

    Attributes:
        temperature_K: [K], above 0, or a `Ramp`.
        timestep_fs: [fs], in (0, 20].
        damping_fs: time τ of the coupling [fs], at least five timesteps.
        chain_length: thermostats in the chain, 2 to 10.

    Raises:
        SimulationError: for a value out of range.

    Reference: Martyna, Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996).
    """

    temperature_K: Any
    _: KW_ONLY
    timestep_fs: Number = 0.5
    damping_fs: Number = 50.0
    chain_length: int = static(default=3)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chain_length not in range(2, 11):
            raise SimulationError(f"NVT.chain_length: found {self.chain_length!r}, expected an integer from 2 to 10")
        require_slow(self, "damping_fs", 5)

    @property
    def keeps_account(self) -> bool:
        return not self.ramped

    def first(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        return verlet_first(self._thermostat(state, particles), push, particles, self.timestep_fs * FS)

    def second(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        return self._thermostat(replace(state, momenta=kick(state.momenta, push.forces, self.timestep_fs * FS / 2)), particles)

    def extended(self, state: State, particles: Particles) -> Float[Array, ""]:
        return chain_energy(state.chain, particles.dof, KB * self.temperature_K, self.damping_fs * FS)

    def _thermostat(self, state: State, particles: Particles) -> State:
        args = (particles.dof, KB * self.temperature_K, self.damping_fs * FS, self.timestep_fs * FS)
        momenta, chain = thermostat(state.momenta, particles.masses, state.chain, *args)
        return replace(state, momenta=momenta, chain=chain)


@record
class CSVR(Ensemble):
    """Constant temperature: stochastic velocity rescaling, global and gentle; dynamics between rescalings are Newton's.

    The kinetic energy follows dK = (K̄ − K)·dt/τ + 2·√(K·K̄/(N_f·τ))·dW, K̄ = N_f·k_B·T/2. Conserved: E minus the heat given.

    Attributes:
        temperature_K: [K], above 0, or a `Ramp`.
        timestep_fs: [fs], in (0, 20].
        damping_fs: time τ in which the kinetic energy is brought to its mean [fs].

    Raises:
        SimulationError: for a value out of range.

    Reference: Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007).
    """

    temperature_K: Any
    _: KW_ONLY
    timestep_fs: Number = 0.5
    damping_fs: Number = 100.0

    def first(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        return verlet_first(state, push, particles, self.timestep_fs * FS)

    def second(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        state = replace(state, momenta=kick(state.momenta, push.forces, self.timestep_fs * FS / 2))
        return rescale(state, particles, KB * self.temperature_K, self.damping_fs * FS, self.timestep_fs * FS, key)


@record
class Langevin(Ensemble):
    """Constant temperature: Langevin dynamics, BAOAB splitting.

    dp = F·dt − γ·p·dt + √(2γ·m·k_B·T)·dW. The centre of mass diffuses, so there are 3N degrees of freedom. Conserved: E minus the heat given.

    Attributes:
        temperature_K: [K], above 0, or a `Ramp`.
        timestep_fs: [fs], in (0, 20].
        friction_per_fs: γ [1/fs], in (0, 10]; 1/γ is the time in which velocities are forgotten.

    Raises:
        SimulationError: for a value out of range.

    Reference: Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013).
    """

    temperature_K: Any
    _: KW_ONLY
    timestep_fs: Number = 0.5
    friction_per_fs: Number = 0.01
    conserves_momentum = False

    def first(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        time, masses, moves = self.timestep_fs * FS, particles.masses, particles.free[:, None]
        before = kick(state.momenta, push.forces, time / 2)
        halfway = drift(state.positions, before, masses, time / 2)
        after = jnp.where(moves, noise(before, masses, KB * self.temperature_K, self.friction_per_fs / FS, time, key), 0)
        heat = kinetic_energy(after, masses) - kinetic_energy(before, masses)
        return replace(state, momenta=after, positions=drift(halfway, after, masses, time / 2), work=state.work + heat)

    def second(self, state: State, push: Push, particles: Particles, key: Array) -> State:
        return replace(state, momenta=kick(state.momenta, push.forces, self.timestep_fs * FS / 2))


def empty_chain(ensemble: Ensemble, dtype: Any) -> Chain:
    """The chain before the start."""
    return Chain(*jnp.zeros((2, ensemble.chain_length), dtype))


def stacked(ensembles: list[Ensemble], dtype: str) -> Ensemble:
    """One ensemble whose numbers have a leading axis of systems.

    Raises:
        SimulationError: when they are not of one kind.
    """
    structures = {jax.tree.structure(e) for e in ensembles}
    if len(structures) > 1:
        raise SimulationError(
            f"ensembles: found {', '.join(sorted({type(e).__name__ for e in ensembles}))} with unlike choices; "
            "all systems of a run need the same kind of ensemble, with numbers of their own"
        )
    return jax.tree.map(lambda *leaves: np.asarray(leaves, dtype), *ensembles)
