"""Where new structures come from: what the loop may ask the oracle about.

    samplers:
    - {kind: md, temperature_K: [300, 500, 800], time_ps: 2}
    - {kind: md, temperature_K: [1000, 2000], pressure_GPa: [0, 5], time_ps: 1}
    - {kind: md, temperature_K: 300, time_ps: 1, bias_eV: 0.2}            # pushed to where the ensemble disagrees
    - {kind: relax, n: 8, temperature_K: 600}                             # paths downhill from rattled structures
    - {kind: search, n: 16}                                               # atoms thrown into the cell, then relaxed a little
    - {kind: generate, methods: [{method: vacancy, n: 4}]}                # see `eqpot generate`
    - {kind: crystal}                                                     # at rest and strained, with lattice and elastic constants
    - {kind: pool, files: unlabelled.extxyz}

Each gives structures without labels, in the order in which they came, and depends on the potential, its settings and a seed alone.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from eqpot.active.generate_config import generate_config
from eqpot.active.generate_random import random_structures
from eqpot.active.generate_rattle import rattled
from eqpot.active.generate_record import Generated
from eqpot.active.generate_structures import generate
from eqpot.active.observables import Observable, pair_distribution, series, stiffness
from eqpot.active.query import ABSURD, Band, judge
from eqpot.core.config import Config
from eqpot.core.errors import EqpotError, SimulationError, StructureError
from eqpot.data import Dataset, LabelKeys, read
from eqpot.graph.structure import Frame, Structure
from eqpot.potential import Potential

Numbers = tuple[float, ...]
OnProgress = Callable[[str, float], Any]
"""Called with what is being done and the part of it that is."""


TRUSTED = 0.5
"""Share of the band's upper edge below which a walker that broke off is taken up again."""
STRAINS = ("at rest", *(f"{sign}{component}" for component in ("xx", "yy", "zz", "yz", "xz", "xy") for sign in "+-"))
"""Of the structures that `crystal` brings."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """What a sampler brought.

    Attributes:
        frames: structures; their group says how they came about.
        ends: where each walker of dynamics begins in the next round; empty for the other kinds.
        broken: walkers that left what the potential can be trusted with.
        observables: by name, what was measured on the way, with its statistical error.
        notes: what is worth knowing.
    """

    frames: tuple[Frame, ...] = ()
    ends: tuple[Structure, ...] = ()
    broken: int = 0
    observables: Mapping[str, Observable] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Start:
    """What a sampler begins with.

    Attributes:
        structures: those of the configuration.
        ends: of this sampler in the round before; empty in the first.
        seed: of this sampler in this round.
        band: beyond its upper edge the potential is not to be followed.
    """

    structures: tuple[Structure, ...]
    ends: tuple[Structure, ...]
    seed: int
    band: Band


class Sampler(Config):
    """Base of all kinds."""

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        """Bring structures."""
        raise NotImplementedError


class MDSampler(Sampler):
    """Langevin dynamics, or NPT, on a ladder of temperatures and pressures; a walker stops where the potential cannot be trusted any more."""

    kind: Literal["md"] = "md"
    temperature_K: float | Numbers = Field(description="one walker for each [K]")
    pressure_GPa: float | Numbers | None = Field(default=None, description="… and for each of these; none: the cell is fixed")
    walkers: int = Field(default=1, ge=1, description="for each temperature, pressure and start structure")
    time_ps: float = Field(default=1.0, gt=0, description="length of a round's run of each walker")
    interval_fs: float = Field(default=20.0, gt=0, description="between structures")
    timestep_fs: float = Field(default=0.5, gt=0, le=10)
    friction_per_fs: float = Field(default=0.01, gt=0)
    bias_eV: float = Field(default=0.0, ge=0, description="height of a bias that pushes to where members disagree (UncertaintyBias)")
    bias_width_eV: float = Field(default=0.1, gt=0, description="its width, in standard deviation of the energy")
    go_on: bool = Field(
        default=True,
        description="a walker that came to its end goes on from there in the next round; one that broke off from its last trusted structure",
    )
    max_temperature_K: float = Field(default=10_000.0, gt=0)

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        from eqpot.md import UncertaintyBias, simulate_many

        states = self._states()
        origins = [s for s in start.structures for _ in states for _ in range(self.walkers)]
        chosen = [state for _ in start.structures for state in states for _ in range(self.walkers)]
        begins = list(start.ends) if self.go_on and len(start.ends) == len(origins) else origins
        fine = _trusted(potential, [*begins, *origins], start.band)
        begins = [b if good else o for b, o, good in zip(begins, origins, fine, strict=False)]
        if not any(fine):
            note = f"dynamics was not begun: the start structures are beyond trust (σ of a force of {start.band.high:.2f} eV/Å, or their novelty)"
            return Sampled(broken=len(origins), notes=(note,))
        every = max(1, round(self.interval_fs / self.timestep_fs))
        n_steps = max(every, round(1000 * self.time_ps / self.timestep_fs / every) * every)
        biases = [UncertaintyBias(self.bias_eV, self.bias_width_eV)] if self.bias_eV else []
        runs = simulate_many(
            potential,
            [s.to_atoms() for s in begins],
            [self._ensemble(*state) for state in chosen],
            n_steps,
            seed=start.seed,
            every=every,
            biases=biases,
            max_atom_std=start.band.high if potential.n_members > 1 else None,
            max_novelty=None if potential.trust.domain is None else start.band.max_novelty,
            max_temperature_K=self.max_temperature_K,
            progress=lambda p: progress("dynamics", p.step / p.n_steps),
        )
        frames: list[Frame] = []
        ends = []
        for run, state, begin, origin in zip(runs, chosen, begins, origins, strict=True):
            group = _name(*state)
            made = [Structure(begin.numbers, x, cell, begin.pbc, begin.charge) for x, cell in zip(run.positions, run.cell, strict=True)]
            frames += [Frame(s, origin=f"{group}, {t / 1000:.3f} ps", group=group) for s, t in zip(made[1:], run.time_fs[1:], strict=True)]
            safe = np.flatnonzero(run.max_atom_std <= TRUSTED * start.band.high) if run.status else [len(made) - 1]
            ends.append(made[safe[-1]] if len(safe) and made else origin)
        broken = sum(bool(run.status) for run in runs)
        notes = [f"{_name(*s)}: {run.status.text} after {run.n_steps} steps" for run, s in zip(runs, chosen, strict=True) if run.status]
        return Sampled(tuple(frames), tuple(ends), broken, self._observables(runs, chosen, begins), tuple(notes))

    def _states(self) -> list[tuple[float, float | None]]:
        pressures = (None,) if self.pressure_GPa is None else _several(self.pressure_GPa)
        return [(t, p) for t in _several(self.temperature_K) for p in pressures]

    def _ensemble(self, temperature_K: float, pressure_GPa: float | None) -> Any:
        from eqpot.md import NPT, Langevin

        if pressure_GPa is None:
            return Langevin(temperature_K, timestep_fs=self.timestep_fs, friction_per_fs=self.friction_per_fs)
        return NPT(temperature_K, pressure_GPa, timestep_fs=self.timestep_fs)

    def _observables(self, runs: Sequence[Any], states: Sequence[Any], begins: Sequence[Structure]) -> dict[str, Observable]:
        """Of the walkers that came to their end, by state: the second halves of the runs."""
        found: dict[str, Observable] = {}
        for state in dict.fromkeys(states):
            those = [(r, s) for r, at, s in zip(runs, states, begins, strict=True) if at == state and not r.status and len(r) >= 8]
            if not those:
                continue
            later = [(r.positions[len(r) // 2 :], r.cell[len(r) // 2 :], s) for r, s in those]
            found[f"g(r), {_name(*state)}"] = pair_distribution(later)
            if state[1] is not None:
                volumes = [np.abs(np.linalg.det(cells)) / len(s) for _, cells, s in later]
                found[f"volume, {_name(*state)}"] = series(volumes)
        return found


class RelaxSampler(Sampler):
    """Paths of minimisations that start from rattled structures: what lies between hot and cold."""

    kind: Literal["relax"] = "relax"
    n: int = Field(default=4, ge=1, description="for each start structure")
    temperature_K: float = Field(default=600.0, gt=0, description="of the rattling")
    max_steps: int = Field(default=30, ge=1)
    force_tolerance: float = Field(default=0.02, gt=0, description="[eV/Å]")
    cell: Literal["fixed", "isotropic", "flexible"] = "fixed"

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        made = [rattled(s.to_atoms(), n=self.n, temperature_K=self.temperature_K, seed=start.seed) for s in start.structures]
        return downhill(potential, [m.structure for part in made for m in part], self, "relax", progress)


class SearchSampler(Sampler):
    """Random structures of the compositions of the start structures, relaxed a little: what nobody thought of."""

    kind: Literal["search"] = "search"
    n: int = Field(default=8, ge=1, description="for each start structure")
    volume: tuple[float, float] = Field(default=(0.9, 1.3), description="range of volumes, in those of the start structure; of crystals")
    max_steps: int = Field(default=10, ge=0, description="of relaxation")
    force_tolerance: float = Field(default=0.05, gt=0, description="[eV/Å]")
    cell: Literal["fixed", "isotropic", "flexible"] = "fixed"

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        made = Generated.joined(random_structures(s, self.n, volume=self.volume, seed=start.seed) for s in start.structures)
        if not self.max_steps or not len(made):
            return _of_generated(made, "search")
        found = downhill(potential, [m.structure for m in made], self, "search", progress)
        return Sampled(found.frames, notes=found.notes + _of_generated(made, "search").notes)


class GenerateSampler(Sampler):
    """Structures that `eqpot generate` makes of the start structures, others in each round."""

    kind: Literal["generate"] = "generate"
    methods: tuple[dict[str, Any], ...] = Field(min_length=1)

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        settings = generate_config({"seed": start.seed, "methods": list(self.methods)})
        driver = potential if any(m.needs for m in settings.methods) else None
        made = generate(settings, list(start.structures), driver, progress=lambda name, done, total: progress(name, done / total))
        return _of_generated(made, "")


class CrystalSampler(Sampler):
    """The start structures that are crystals, at rest and strained in six ways, and what a stop rule may watch: lattice and elastic constants."""

    kind: Literal["crystal"] = "crystal"
    strain: float = Field(default=0.01, gt=0, lt=0.1, description="of the strained crystals")
    pressure_GPa: float = Field(default=0.0, description="at which the crystal rests")
    max_steps: int = Field(default=300, ge=1, description="of each relaxation")
    force_tolerance: float = Field(default=0.002, gt=0, description="[eV/Å]")

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        from eqpot.properties import elastic_constants

        frames: list[Frame] = []
        measured: dict[str, Observable] = {}
        notes = []
        for k, structure in enumerate(start.structures):
            if not structure.pbc.all():
                continue
            name = f"crystal {k}, {structure.formula}"
            progress(name, k / len(start.structures))
            try:
                found = elastic_constants(potential, structure, **self.model_dump(exclude={"kind"}))
            except EqpotError as error:
                notes.append(f"{name}: {error}")
                continue
            frames += [
                Frame(s, origin=f"{name}, {what}", group="crystal")
                for what, s in zip(STRAINS, (found.structure, *found.strained), strict=True)
            ]
            measured |= {f"{what}, {name}": value for what, value in stiffness(found, potential.n_members).items()}
        return Sampled(tuple(frames), broken=len(notes), observables=measured, notes=tuple(notes))


class PoolSampler(Sampler):
    """Structures of files, whose labels, if they have any, are not looked at."""

    kind: Literal["pool"] = "pool"
    files: str | tuple[str, ...]
    most: int | None = Field(default=None, ge=1, description="take so many in a round, drawn at random")

    def read(self) -> Dataset:
        """All of the pool, without labels."""
        return read(self.files if isinstance(self.files, str) else list(self.files), keys=LabelKeys.none())

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        frames = self.read().frames
        if self.most is not None and self.most < len(frames):
            chosen = np.sort(np.random.default_rng(start.seed).permutation(len(frames))[: self.most])
            frames = tuple(frames[k] for k in chosen)
        return Sampled(tuple(f if f.group else f.replace(group="pool") for f in frames))


AnySampler = Annotated[
    MDSampler | RelaxSampler | SearchSampler | GenerateSampler | CrystalSampler | PoolSampler, Field(discriminator="kind")
]


def downhill(potential: Potential, structures: Sequence[Structure], settings: Any, group: str, progress: OnProgress) -> Sampled:
    """The steps of relaxations; a structure that cannot be relaxed is counted."""
    from eqpot.md import relax

    frames: list[Frame] = []
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        for k, structure in enumerate(structures):
            progress("relaxation", k / len(structures))
            path = Path(folder) / f"{k}.extxyz"
            options = {"max_steps": settings.max_steps, "force_tolerance": settings.force_tolerance}
            options["cell"] = settings.cell if structure.pbc.all() else "fixed"
            try:
                relax(potential, structure.to_atoms(), trajectory=path, **options)
            except (SimulationError, StructureError) as error:
                notes.append(f"{group} {k}: {error}")
            if path.exists():
                steps = read(str(path), keys=LabelKeys.none()).frames
                frames += [f.replace(origin=f"{group} {k}, step {i}", group=group) for i, f in enumerate(steps)]
    return Sampled(tuple(frames), broken=len(notes), notes=tuple(notes))


def _of_generated(made: Generated, group: str) -> Sampled:
    frames = [m.frame() for m in made]
    missing = tuple(f"{row['method']}: {row['made']} of {row['wanted']} made" for row in made.summary() if row["made"] < row["wanted"])
    return Sampled(tuple(f.replace(group=group or f.group) for f in frames), notes=missing + made.notes)


def _trusted(potential: Potential, structures: Sequence[Structure], band: Band) -> list[bool]:
    """Whether dynamics may begin there: a little inside the edge, as it computes in another precision."""
    judged, inside = judge(potential, [Frame(s) for s in structures]), replace(band, high=0.99 * band.high)
    return [kind != ABSURD for kind in judged.kinds(inside)]


def _several(value: float | Numbers) -> Numbers:
    return value if isinstance(value, tuple) else (value,)


def _name(temperature_K: float, pressure_GPa: float | None) -> str:
    return f"md {temperature_K:g} K" + ("" if pressure_GPa is None else f" {pressure_GPa:g} GPa")
