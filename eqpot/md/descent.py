"""Going downhill with many systems at once, compiled: a block of steps without a word to the host.

What the coordinates mean (`Landscape`), how to choose the next point (`eqpot.md.fire.Method`) and the loop here know nothing of each
other. Systems come in groups
that step together: each alone when structures are relaxed, all in one for the images of a path.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.errors import SimulationError, StructureError
from eqpot.core.tree import record
from eqpot.graph import Structure
from eqpot.graph.batching import species_index
from eqpot.graph.cell_list import Candidates
from eqpot.graph.graph import Either
from eqpot.graph.grid import choose_grid, require_apart
from eqpot.graph.neighbors import MIN_DISTANCE
from eqpot.md.driver import enough
from eqpot.md.ensembles import NVE
from eqpot.md.fire import Method
from eqpot.md.forces import Evaluation, Field, Sizes, blank, evaluate, has_room, no_candidates, refresh
from eqpot.md.segment import choose
from eqpot.md.state import Particles
from eqpot.md.status import Status
from eqpot.md.systems import System, particles_of
from eqpot.potential import ModelSpec, Potential, place_members

BLOCK = 50
"""Steps that a block has at most."""
BLOCK_MEMORY = 1 << 27
"""Bytes that the frames of a block may take on the device."""
SKIN = 0.5
"""How far beyond the cutoff neighbours are listed [Å]."""


@record
class Slope:
    """What a landscape says of a point: energy [eV], generalised forces [eV/Å], and what should vanish, in units of the tolerances; G groups of R rows."""

    energy: Float[Array, " G"]
    force: Float[Array, "G R 3"]
    excess: Float[Array, " G"]


class Landscape(ABC):
    """Interface: what generalised coordinates mean. A record of arrays, with an axis of systems where it has one."""

    @abstractmethod
    def place(self, point: Float[Array, "G R 3"]) -> tuple[Float[Array, "S N 3"], Float[Array, "S 3 3"]]:
        """Positions and cell [Å]."""

    @abstractmethod
    def slope(self, point: Float[Array, "G R 3"], cell: Float[Array, "S 3 3"], evaluation: Evaluation) -> Slope:
        """Energy and generalised forces; converged where the excess is at most one."""


@record
class Search:
    """All that is carried from step to step; what is kept of a group belongs together and is good.

    Attributes:
        trial: the point to evaluate next [Å].
        memory: of the method.
        looks: evaluations so far.
        steps: points kept, the start among them.
        status: bits of `Status`; a group with one set stands still.
        excess: see `Slope`, of the point kept; infinite before there is one.
        positions, cell, evaluation: of the point kept.
        candidates: neighbours.
        slots: neighbours that the atom with most had, at the last evaluation.
    """

    trial: Float[Array, "G R 3"]
    memory: Any
    looks: Int[Array, " G"]
    steps: Int[Array, " G"]
    status: Int[Array, " G"]
    excess: Float[Array, " G"]
    positions: Float[Array, "S N 3"]
    cell: Float[Array, "S 3 3"]
    evaluation: Evaluation
    candidates: Candidates
    slots: Int[Array, ""]


@record
class Terms:
    """What does not change while searching: the landscape, what the systems consist of, most evaluations, and the noise of an energy [eV]."""

    landscape: Landscape
    field: Field
    particles: Particles
    most: Int[Either, ""]
    noise: Float[Array, " G"]


@record
class Shot:
    """A step as it leaves the device; good for the groups that took it."""

    taken: Bool[Array, " G"]
    positions: Float[Array, "S N 3"]
    cell: Float[Array, "S 3 3"]
    evaluation: Evaluation


def under_way(search: Search, most: Int[Either, ""]) -> Bool[Array, " G"]:
    """Which groups are not there yet, and may look further."""
    return (search.status == 0) & (search.excess > 1) & (search.looks < most)


@partial(jax.jit, static_argnames=("spec", "sizes", "method", "block"))
def descend(spec: ModelSpec, sizes: Sizes, method: Method, block: int, terms: Terms, search: Search) -> tuple[Search, Shot]:
    """A block of steps; what follows the end, or a step for which there was no room, is empty."""

    def take(s: Search) -> Search:
        positions, cell = terms.landscape.place(s.trial)
        candidates, _ = refresh(s.candidates, terms.field, terms.particles, positions, cell, sizes)
        result, slots = evaluate(spec, terms.field, terms.particles, candidates, positions, cell, sizes)
        slope = terms.landscape.slope(s.trial, cell, result)
        fault = judge(slope, result)
        good, memory, trial = jax.vmap(method.following)(s.memory, s.trial, slope.energy, slope.force, terms.noise)
        going = under_way(s, terms.most) & has_room(candidates, slots, sizes)
        kept = going & good & (fault == 0)
        s = replace(s, candidates=candidates, slots=slots, looks=s.looks + going.astype(jnp.int32), steps=s.steps + kept.astype(jnp.int32))
        s = replace(
            s, status=jnp.where(going, fault, s.status), memory=choose(going, memory, s.memory), trial=choose(going, trial, s.trial)
        )
        new = (slope.excess, positions, cell, result)
        excess, positions, cell, result = choose(kept, new, (s.excess, s.positions, s.cell, s.evaluation))
        return replace(s, excess=excess, positions=positions, cell=cell, evaluation=result)

    def step(s: Search, _: Any) -> tuple[Search, Shot]:
        go = under_way(s, terms.most).any() & has_room(s.candidates, s.slots, sizes)
        new = jax.lax.cond(go, take, lambda s: s, s)
        return new, Shot(new.steps > s.steps, new.positions, new.cell, new.evaluation)

    return jax.lax.scan(step, search, None, length=block)


def judge(slope: Slope, result: Evaluation) -> Int[Array, " G"]:
    """Bits of `Status` for each group."""
    groups = len(slope.energy)
    finite = jnp.isfinite(slope.energy + slope.excess) & jnp.isfinite(slope.force).all((1, 2))
    close = (result.nearest < MIN_DISTANCE).reshape(groups, -1).any(1)
    faults = jnp.where(finite, 0, int(Status.NOT_FINITE)) | jnp.where(close, int(Status.TOO_CLOSE), 0)
    return faults.astype(jnp.int32)


class Descent:
    """Drives a search from the host: gives room to neighbours, brings the frames.

    Args:
        potential: in the dtype of the network.
        systems: what is moved.
        landscape: made from the systems' positions about their centres (`Descent.centres`).
        points: to start from, [groups, rows, 3].
        method: how to choose the next point.
        most: evaluations at most.
    """

    def __init__(
        self, potential: Potential, systems: Sequence[System], landscape: Landscape, points: np.ndarray, method: Method, most: int
    ) -> None:
        self.potential, self.systems, self.method = potential, systems, method
        self.sizes = self._first_sizes()
        dtype, groups = points.dtype, len(points)
        species = [species_index(s.structure, potential.elements) for s in systems]
        particles = particles_of(systems, [NVE()] * len(systems), species, str(dtype))
        cutoff, radius = (np.asarray(x, dtype) for x in (potential.cutoff, potential.cutoff + SKIN))
        # An energy is a sum of the network's numbers, each with the rounding of its dtype.
        noise = np.full(groups, 20 * np.finfo(potential.dtype).eps * max(len(s.structure) for s in systems), dtype)
        search = self._begin(landscape, jnp.asarray(points))
        params, *placed = place_members(potential.params, landscape, particles, search, noise)
        landscape, particles, self.search, noise = placed
        self.terms = Terms(landscape, Field(params, cutoff, radius, judge=potential.judge), particles, np.asarray(most, np.int32), noise)
        frame = 100 * sum(len(s.structure) for s in systems)
        self.block = max(1, min(BLOCK, BLOCK_MEMORY // frame))

    @property
    def going(self) -> bool:
        """Whether there is more to do."""
        return bool(under_way(self.search, self.terms.most).any())

    def advance(self) -> Any:
        """One block; returns its `Shot` on the host, with a leading axis of steps."""
        while True:
            self.search, shots = descend(self.potential.spec, self.sizes, self.method, self.block, self.terms, self.search)
            if bool(has_room(self.search.candidates, self.search.slots, self.sizes)):
                return jax.device_get(shots)
            self._grow()
            if np.asarray(shots.taken).any():
                return jax.device_get(shots)

    def allow(self, most: int) -> None:
        """Set how many evaluations there may be in all."""
        self.terms = replace(self.terms, most=np.asarray(most, np.int32))

    def resume(self, change: Callable[[Any], Landscape]) -> None:
        """Go on from where it is in a changed landscape, with nothing remembered of the way."""
        search = self.search
        self.terms = replace(self.terms, landscape=change(self.terms.landscape))
        self.search = replace(search, memory=jax.vmap(self.method.start)(search.trial), excess=jnp.full_like(search.excess, jnp.inf))

    def fault(self) -> str | None:
        """What went wrong, in words, with the number of the group if there are several; None if nothing did."""
        bits = np.asarray(self.search.status)
        if not bits.any():
            return None
        first = int(np.flatnonzero(bits)[0])
        place = f"structure {first}: " if len(bits) > 1 else ""
        texts = {Status.NOT_FINITE: "energy or forces are not finite", Status.TOO_CLOSE: f"two atoms are nearer than {MIN_DISTANCE} Å"}
        return place + "; ".join(text for bit, text in texts.items() if bit & bits[first]) + f" after {int(self.search.steps[first])} steps"

    def _begin(self, landscape: Landscape, points: Array) -> Search:
        positions, cell = landscape.place(points)
        zero, none = jnp.zeros(len(points), jnp.int32), no_candidates(positions, self.sizes)
        excess = jnp.full(len(points), jnp.inf, points.dtype)
        memory = jax.vmap(self.method.start)(points)
        return Search(points, memory, zero, zero, zero, excess, positions, cell, blank(positions), none, jnp.zeros((), jnp.int32))

    def _first_sizes(self) -> Sizes:
        most = 1
        for number, system in enumerate(self.systems):
            try:
                most = max(most, require_apart(system.structure, self.potential.cutoff))
            except StructureError as error:
                raise SimulationError(str(error) if len(self.systems) == 1 else f"structure {number}: {error}") from None
        return Sizes(choose_grid([s.structure for s in self.systems], self.potential.cutoff + SKIN), enough(most, 1))

    def _grow(self) -> None:
        """More room, after a step that could not be taken for lack of it."""
        needs, sizes, search = np.asarray(self.search.candidates.needs).max(0), self.sizes, self.search
        grid = replace(sizes.grid, per_bin=enough(int(needs[0]), sizes.grid.per_bin), slots=enough(int(needs[1]), sizes.grid.slots))
        if needs[2]:
            try:
                grid = choose_grid(self._structures(), self.potential.cutoff + SKIN, grid)
            except StructureError as error:
                raise SimulationError(f"the cell cannot be relaxed: {error}") from None
        self.sizes = Sizes(grid, enough(int(search.slots), sizes.slots))
        empty = jax.device_put(no_candidates(search.positions, self.sizes), search.positions.sharding)
        self.search = replace(search, candidates=empty, slots=jnp.zeros_like(search.slots))

    def _structures(self) -> list[Structure]:
        """The systems at the points that are to be evaluated next."""
        positions, cells = (np.asarray(x, np.float64) for x in self.terms.landscape.place(self.search.trial))
        found = []
        for system, where, cell in zip((s.structure for s in self.systems), positions, cells, strict=True):
            shape = np.where(system.pbc[:, None], cell, system.cell)
            found.append(replace(system, positions=where[: len(system)], cell=shape))
        return found
