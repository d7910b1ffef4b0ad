"""Between the compiled segments: gives room to neighbours, reads the status, brings frames to the host, counts."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqpot.core.errors import StructureError
from eqpot.core.units import EV_PER_A3_TO_GPA, FS
from eqpot.graph.batching import round_up, species_index
from eqpot.graph.grid import GROWTH, choose_grid, require_apart
from eqpot.graph.neighbors import complete_cell
from eqpot.graph.structure import Structure
from eqpot.md import segment
from eqpot.md.bias import Bias
from eqpot.md.ensembles import Ensemble, empty_chain, stacked
from eqpot.md.forces import Field, Sizes, has_room, is_stressed, no_candidates
from eqpot.md.records import Snapshot
from eqpot.md.state import State
from eqpot.md.status import Status
from eqpot.md.systems import System, particles_of
from eqpot.potential import Potential, place_members


@dataclass(frozen=True)
class Plan:
    """How systems are driven.

    Attributes:
        dtype: of the motion.
        seeds: of each system's random forces.
        bounds: temperature [K], distance [Å], σ [eV/Å] and novelty that stop a system.
        skin: of the neighbour lists [Å].
        n_steps: of the whole run, which ramps are spread over.
        frames: most frames that a segment brings.
        biases: what pushes beside the potential.
        rotates: whether the systems' angular momentum counts.
        stride: steps between evaluations of all members.
    """

    dtype: str
    seeds: tuple[int, ...]
    bounds: tuple[float, float, float, float]
    skin: float
    n_steps: int
    frames: int = 1
    biases: tuple[Bias, ...] = ()
    rotates: bool = True
    stride: int = 1


class Driver:
    """Drives systems through time; what it holds is always the last good state of each.

    Args:
        potential: in the dtype of the network.
        systems: what moves.
        velocities: of each system at the start [Å·√(eV/amu)].
        ensembles: how each moves.
        plan: everything else.
        restart: arrays of `arrays()` to go on from, and the sizes that they were computed with.

    Attributes:
        sizes: room for neighbours; it never shrinks, so that a run compiles once unless systems become denser.
        growths: how often it had to grow.
        compiles: how often the compiled step was made for this run.
        compile_seconds: wall time of those that were made after the start.
    """

    def __init__(
        self,
        potential: Potential,
        systems: Sequence[System],
        velocities: Sequence[np.ndarray],
        ensembles: Sequence[Ensemble],
        plan: Plan,
        restart: tuple[dict[str, np.ndarray], Sizes] | None = None,
    ) -> None:
        self.potential, self.systems, self.ensembles, self.plan = potential, systems, ensembles, plan
        self.growths, self.compiles, self.compile_seconds = 0, 0, 0.0
        # The motion is relative to the first centre, so that a molecule far from the origin has all digits in float32 too.
        # Biases are at places, which all systems share: with them, so is the centre.
        self.centres = [(systems[0] if plan.biases else s).structure.positions.mean(0) for s in systems]
        self.references = [potential.offset_of(s.structure) for s in systems]
        species = [species_index(s.structure, potential.elements) for s in systems]
        self.particles = particles_of(systems, ensembles, species, plan.dtype, plan.rotates)
        self.ensemble, self.radius = stacked(list(ensembles), plan.dtype), potential.cutoff + plan.skin
        self.bounds = segment.Bounds(*(np.asarray(b, plan.dtype) for b in plan.bounds))
        self.length = np.asarray(plan.n_steps, plan.dtype)
        self.keys = jnp.stack([jax.random.PRNGKey(np.uint32(s)) for s in plan.seeds])
        self.sizes = restart[1] if restart else self._first_sizes()
        biases = tuple(b.centred(self.centres[0]) for b in plan.biases)
        cutoff, radius = (np.asarray(x, plan.dtype) for x in (potential.cutoff, self.radius))
        state = jax.tree.map(jnp.asarray, self._start(velocities))
        motion = segment.begin(state, no_candidates(state.positions, self.sizes))
        motion = fill(motion, restart[0]) if restart else motion
        rest = (self.ensemble, self.particles, self.bounds, self.keys, self.length, motion)
        params, *placed = place_members(potential.params, *rest)
        first = place_members(jax.tree.map(lambda x: x[:1], potential.params)) if plan.stride > 1 else None
        self.field = Field(params, cutoff, radius, biases, first, potential.judge)
        self.ensemble, self.particles, self.bounds, self.keys, self.length, self.motion = placed

    @property
    def steps(self) -> np.ndarray:
        """Steps taken by each system; −1 before the first call of `advance`."""
        return np.asarray(self.motion.step)

    @property
    def statuses(self) -> list[Status]:
        """What has stopped each system, or `Status(0)`."""
        return [Status(int(bits)) for bits in np.asarray(self.motion.status)]

    def advance(self, ends: Sequence[int]) -> list[list[Snapshot | None]]:
        """Go on to the last of `ends`, ascending and at most `plan.frames`.

        Returns:
            for each of `ends` a frame of each system; None where the system did not get there.
        """
        frames: list[list[Snapshot | None]] = [[None] * len(self.systems) for _ in ends]
        while True:
            shots = self._segment(ends)
            steps = np.asarray(shots.step)
            reached = steps[: len(ends)] == np.asarray(ends)[:, None]
            if reached.any():
                host = jax.device_get(shots)
                for f, g in np.argwhere(reached):
                    if frames[f][g] is None:
                        frames[f][g] = self._snapshot(jax.tree.map(lambda x, at=(f, g): x[at], host), int(g))
            if bool(has_room(self.motion.candidates, self.motion.slots, self.sizes)):
                return frames
            self._grow()

    def warm_up(self) -> None:
        """Compile the step, and take none."""
        self._segment([-2])

    def clear_status(self) -> None:
        """Let systems go on that were stopped."""
        self.motion = replace(self.motion, status=jnp.zeros_like(self.motion.status))

    def permute(self, order: np.ndarray, scale: np.ndarray) -> None:
        """Let system k take the place in phase space that system `order[k]` had, its momenta multiplied by `scale[k]`; all of one composition."""
        motion = self.motion
        state, evaluation = jax.tree.map(lambda x: x[order], (motion.state, motion.evaluation))
        centres = np.stack(self.centres)
        moved = state.positions + jnp.asarray(centres[order] - centres, state.positions.dtype)[:, None]
        state = replace(state, positions=moved, momenta=state.momenta * jnp.asarray(scale, state.momenta.dtype)[:, None, None])
        self.motion = replace(motion, state=state, evaluation=evaluation, candidates=self._no_candidates())

    def snapshot(self, system: int = 0) -> Snapshot:
        """The last good state; where only the first member was evaluated there (`stride`), by all of them now."""
        motion = self.motion
        sample = segment.observe(self.ensemble, self.particles, self.length, motion)
        shot = jax.device_get(segment.Shot(motion.step, motion.state, motion.evaluation, sample))
        found = self._snapshot(jax.tree.map(lambda x: x[system], shot), system)
        return found if found.step % self.plan.stride == 0 else self._by_all(found, system)

    def _by_all(self, found: Snapshot, system: int) -> Snapshot:
        """The same state with what all members say of it; impulses are between two strides, so nothing is conserved here."""
        result = self.potential.predict(replace(self.systems[system].structure, positions=found.positions, cell=found.cell))
        stress = found.stress if result.stress is None else result.stress
        return replace(
            found,
            potential_energy=result.energy,
            conserved_energy=np.nan,
            energy_std=result.energy_std,
            pressure_GPa=found.pressure_GPa - float(np.trace(stress - found.stress)) / 3 * EV_PER_A3_TO_GPA,
            mean_atom_std=float(result.atom_std.mean()),
            max_atom_std=float(result.atom_std.max()),
            max_novelty=found.max_novelty if result.novelty is None else float(result.novelty.max()),
            forces=result.forces,
            atom_std=result.atom_std,
            novelty=found.novelty if result.novelty is None else result.novelty,
            stress=stress,
        )

    def trouble(self, system: int = 0) -> Structure:
        """The step that could not be taken."""
        structure = self._structure(system)
        positions = np.asarray(self.motion.trouble[system], np.float64)[: len(structure)] + self.centres[system]
        return replace(structure, positions=positions)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that a run needs to go on exactly as it would have."""
        return {name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(kept(self.motion)))}

    def _segment(self, ends: Sequence[int]) -> Any:
        traced = len(segment.TRACED)
        padded = np.full(self.plan.frames, -2, np.int32)
        padded[: len(ends)] = ends
        arguments = (self.field, self.ensemble, self.particles, self.bounds, self.keys, self.length, self.motion, padded)
        self.motion, shots = segment.advance(self.potential.spec, self.sizes, *arguments)
        self.compiles += len(segment.TRACED) - traced
        jax.block_until_ready(self.motion)
        return shots

    def _grow(self) -> None:
        """More room, after a step that could not be taken for lack of it; the new step is compiled here, apart from the dynamics."""
        needs, sizes = np.asarray(self.motion.candidates.needs).max(0).tolist(), self.sizes
        grid = replace(sizes.grid, per_bin=enough(needs[0], sizes.grid.per_bin), slots=enough(needs[1], sizes.grid.slots))
        if needs[2]:
            grid = choose_grid([self._structure(g) for g in range(len(self.systems))], self.radius, grid)
        self.sizes = replace(sizes, grid=grid, slots=enough(int(self.motion.slots), sizes.slots))
        self.motion = replace(self.motion, candidates=self._no_candidates(), slots=jnp.zeros_like(self.motion.slots))
        self.growths += 1
        began = perf_counter()
        self._segment([-2])
        self.compile_seconds += perf_counter() - began

    def _no_candidates(self) -> Any:
        return jax.device_put(no_candidates(self.motion.trouble, self.sizes), self.motion.trouble.sharding)

    def _structure(self, system: int) -> Structure:
        """A system where it is now."""
        structure, state = self.systems[system].structure, self.motion.state
        cell = np.where(structure.pbc[:, None], np.asarray(state.cell[system], np.float64), structure.cell)
        return replace(structure, positions=np.asarray(state.positions[system], np.float64)[: len(structure)], cell=cell)

    def _first_sizes(self) -> Sizes:
        most = 1
        for number, system in enumerate(self.systems):
            try:
                most = max(most, require_apart(system.structure, self.potential.cutoff))
            except StructureError as error:
                raise StructureError(str(error) if len(self.systems) == 1 else f"system {number}: {error}") from None
        # Each slot costs time at every step: no more than are needed now, rounded up; most structures never need another.
        return Sizes(choose_grid([s.structure for s in self.systems], self.radius), round_up(most, ratio=1.1), self.plan.stride)

    def _positions(self) -> list[np.ndarray]:
        return [s.structure.positions - c for s, c in zip(self.systems, self.centres, strict=True)]

    def _padded(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        most = max(map(len, rows))
        return np.stack([np.pad(r, ((0, most - len(r)), (0, 0))) for r in rows]).astype(self.plan.dtype)

    def _start(self, velocities: Sequence[np.ndarray]) -> State:
        momenta = self._padded([v * s.masses[:, None] for v, s in zip(velocities, self.systems, strict=True)])
        cells = np.stack([complete_cell(s.structure.cell, s.structure.pbc) for s in self.systems]).astype(self.plan.dtype)
        number = len(self.systems)
        chain = jax.tree.map(lambda x: np.stack([x] * number), empty_chain(self.ensembles[0], self.plan.dtype))
        zeros = np.zeros((number, 3, 3), self.plan.dtype)
        return State(self._padded(self._positions()), momenta, cells, chain, zeros, zeros[:, 0, 0])

    def _snapshot(self, shot: Any, g: int) -> Snapshot:
        state, result, sample, system = shot.state, shot.evaluation, shot.sample, self.systems[g]
        n, reference, ensemble = len(system.structure), self.references[g], self.ensembles[g]
        solid, knows = system.structure.pbc.all() and is_stressed(self.potential.spec), self.potential.trust.domain is not None
        momenta, cell = state.momenta[:n].astype(np.float64), state.cell.astype(np.float64)
        stress = result.stress.astype(np.float64)
        kinetic = (momenta[:, :, None] * momenta[:, None, :] / system.masses[:, None, None]).sum(0) / abs(np.linalg.det(cell))
        return Snapshot(
            step=int(shot.step),
            time_fs=int(shot.step) * ensemble.timestep_fs,
            potential_energy=float(result.energy) + reference,
            kinetic_energy=float(sample.kinetic),
            conserved_energy=float(sample.conserved) + reference if ensemble.keeps_account else np.nan,
            bias_energy=float(result.bias),
            energy_std=float(result.energy_std),
            temperature_K=float(sample.temperature),
            pressure_GPa=float(np.trace(kinetic - stress)) / 3 * EV_PER_A3_TO_GPA if solid else np.nan,
            mean_atom_std=float(result.atom_std[:n].mean()),
            max_atom_std=float(result.atom_std[:n].max()),
            max_novelty=float(result.novelty[:n].max()) if knows else np.nan,
            positions=state.positions[:n].astype(np.float64) + self.centres[g],
            velocities=momenta / system.masses[:, None] * FS,
            forces=result.forces[:n].astype(np.float64),
            atom_std=result.atom_std[:n].astype(np.float64),
            novelty=result.novelty[:n].astype(np.float64) if knows else np.full(n, np.nan),
            cell=np.where(system.structure.pbc[:, None], cell, system.structure.cell),
            stress=stress if solid else np.full((3, 3), np.nan),
        )


def kept(motion: segment.Motion) -> dict[str, Any]:
    """What a restart file keeps of a motion: all but the neighbours."""
    return {field.name: getattr(motion, field.name) for field in fields(motion) if field.name != "candidates"}


def fill(motion: segment.Motion, arrays: dict[str, np.ndarray]) -> segment.Motion:
    """A motion with its leaves replaced by those of `Driver.arrays`; its neighbours stay empty."""
    paths, tree = jax.tree_util.tree_flatten_with_path(kept(motion))
    return replace(motion, **jax.tree.unflatten(tree, [jnp.asarray(arrays[name(path)]) for path, _ in paths]))


def name(path: Any) -> str:
    """A leaf's name in a restart file."""
    return ".".join(str(getattr(key, "name", getattr(key, "key", key))) for key in path)


def enough(needed: int, had: int) -> int:
    """Room for what is needed and a little more; no less than there was."""
    return had if needed <= had else round_up(int(np.ceil(needed * GROWTH)), ratio=1.1)
