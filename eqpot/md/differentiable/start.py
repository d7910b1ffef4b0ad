"""Where a differentiable trajectory sets out from: one system, with all that its path depends on as leaves of a pytree."""

import copy
from dataclasses import replace
from math import ceil
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from eqpot.core.errors import SimulationError
from eqpot.core.tree import record, static
from eqpot.graph.batching import species_index
from eqpot.graph.grid import choose_grid, require_apart
from eqpot.graph.neighbors import complete_cell
from eqpot.md.ensembles import Ensemble, Number, empty_chain, require
from eqpot.md.forces import Field, Sizes
from eqpot.md.run import PRECISIONS, check_systems
from eqpot.md.state import Particles, State
from eqpot.md.systems import System, initial_velocities, particles_of, read_system
from eqpot.potential import ModelSpec, Potential

STATE = ("positions", "momenta", "cell")


@record
class Start:
    """A system before its first step; no axis of systems (`jax.vmap` makes one).

    Attributes:
        field: parameters of the potential (leading member axis), its cutoff and the radius of the neighbour list [Å].
        ensemble: how the system moves.
        particles: masses [amu] and what else the system consists of.
        state: positions [Å], momenta [amu·Å·√(eV/amu)], cell [Å].
        key: of the random numbers; those of a step depend on it and on the number of the step alone, so that noise is a fixed function of what is
            differentiated.
        spec: the potential without parameters.
        sizes: room for neighbours.
    """

    field: Field
    ensemble: Any
    particles: Particles
    state: State
    key: Array
    spec: ModelSpec = static()
    sizes: Sizes = static()

    def having(self, **changes: Any) -> "Start":
        """The same start with other numbers, which may be traced: what a function to be differentiated does first.

            jax.grad(lambda kelvin: loss(trajectory(start.having(temperature_K=kelvin), 100)))(300.0)

        Args:
            changes: `params`, `masses`, `positions`, `momenta`, `cell` (at the same Cartesian positions), and the fields of the ensemble, such as
                `temperature_K`, `timestep_fs`, `friction_per_fs`. Their ranges are not checked, as a traced number has none.

        Raises:
            SimulationError: for a name that the start does not have.
        """
        numbers = {n: changes.pop(n) for n in list(changes) if n in _numbers(self.ensemble)}
        state = {n: changes.pop(n) for n in STATE if n in changes}
        field = replace(self.field, params=changes.pop("params")) if "params" in changes else self.field
        particles = replace(self.particles, masses=changes.pop("masses")) if "masses" in changes else self.particles
        if changes:
            known = ("params", "masses", *STATE, *_numbers(self.ensemble))
            raise SimulationError(f"Start.having: found '{next(iter(changes))}', expected one of {', '.join(known)}")
        return replace(
            self, field=field, particles=particles, state=replace(self.state, **state), ensemble=_changed(self.ensemble, numbers)
        )


def begin(
    potential: Potential,
    atoms: Any,
    ensemble: Ensemble,
    *,
    seed: int = 0,
    temperature_K: Number | None = None,
    precision: str = "float64",
    skin: Number = 1.0,
    room: Number = 1.3,
) -> Start:
    """Make a system ready for `trajectory`; velocities and noise are those of `eqpot.md.simulate` with the same seed.

    Args:
        potential: the mean of its members drives.
        atoms: an `ase.Atoms` or a `Structure`.
        ensemble: any of `eqpot.md`.
        seed: of initial velocities and noise.
        temperature_K: of the initial velocities, as in `simulate` [K].
        precision: 'float64' (as gradients of long products need it), 'mixed' or 'float32'; all but the last need `jax.enable_x64(True)` around what follows.
        skin: how far beyond the cutoff neighbours are listed [Å]; a list is made once a segment, and atoms may move by half of this within it.
        room: how many times the neighbours of the start there is room for, 1 to 10.

    Raises:
        SimulationError: for an argument out of range, or a potential with direct forces.
        StructureError: for atoms that the potential cannot judge.
    """
    if not isinstance(potential, Potential) or not isinstance(ensemble, Ensemble):
        found = f"{type(potential).__name__} and {type(ensemble).__name__}"
        raise SimulationError(f"begin: found {found}, expected an eqpot.Potential, atoms, and an ensemble such as NVE() or Langevin(300.0)")
    if not potential.conservative:
        raise SimulationError("begin: found a potential with direct forces, expected one whose forces are derivatives of its energy")
    if precision not in PRECISIONS:
        raise SimulationError(f"precision: found {precision!r}, expected one of {', '.join(PRECISIONS)}")
    network, dtype = PRECISIONS[precision]
    system = read_system(atoms)
    check_systems([system], [ensemble], (), potential, False)
    potential.spec.config.check(system.structure)
    species = species_index(system.structure, potential.elements)
    velocities = initial_velocities(system, ensemble, temperature_K, seed)
    width = require("skin", skin, 0.0, 10.0)
    cutoff, radius = (np.asarray(x, dtype) for x in (potential.cutoff, potential.cutoff + width))
    with jax.enable_x64(dtype == "float64"):
        return Start(
            field=Field(jax.tree.map(lambda x: np.asarray(x, network), potential.params), cutoff, radius),
            ensemble=jax.tree.map(lambda x: np.asarray(x, dtype), ensemble),
            particles=jax.tree.map(lambda x: np.asarray(x[0]), particles_of([system], [ensemble], [species], dtype)),
            state=_state(system, velocities, ensemble, dtype),
            key=jax.random.PRNGKey(np.uint32(seed)),
            spec=potential.spec,
            sizes=_sizes(system, potential.cutoff, width, require("room", room, 0.99, 10.0)),
        )


def _state(system: System, velocities: np.ndarray, ensemble: Ensemble, dtype: str) -> State:
    structure = system.structure
    positions, momenta, cell = (
        np.asarray(x, dtype)
        for x in (structure.positions, velocities * system.masses[:, None], complete_cell(structure.cell, structure.pbc))
    )
    chain = jax.tree.map(lambda x: np.asarray(x, dtype), empty_chain(ensemble, dtype))
    return State(positions, momenta, cell, chain, np.zeros((3, 3), dtype), np.zeros((), dtype))


def _sizes(system: System, cutoff: float, skin: float, room: float) -> Sizes:
    """Static sizes with `room` times what the start needs."""
    most = require_apart(system.structure, cutoff)
    grid = choose_grid([system.structure], cutoff + skin)
    per_bin = min(len(system.structure), ceil(room * grid.per_bin))
    return Sizes(replace(grid, per_bin=per_bin, slots=ceil(room * grid.slots)), max(1, ceil(room * most)))


def _numbers(ensemble: Any) -> tuple[str, ...]:
    """Names of the ensemble's numbers, without what is static."""
    return tuple(n for n, f in type(ensemble).__dataclass_fields__.items() if not f.metadata.get("static"))


def _changed(ensemble: Any, numbers: dict[str, Any]) -> Any:
    """The ensemble with other numbers; its own checks need a value, which a traced number has not."""
    twin = copy.copy(ensemble)
    for name, value in numbers.items():
        object.__setattr__(twin, name, value)
    return twin
