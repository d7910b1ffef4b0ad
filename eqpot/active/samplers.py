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
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from eqpot.active.generate_config import GenerateConfig, generate_config
from eqpot.active.generate_random import random_structures
from eqpot.active.generate_record import Generated
from eqpot.active.generate_structures import generate
from eqpot.active.observables import Observable, stiffness
from eqpot.active.sampler_base import OnProgress, Sampled, Sampler, Start
from eqpot.active.sampler_md import MDSampler
from eqpot.core.errors import ConfigError, EqpotError, SimulationError, StructureError
from eqpot.data import Dataset, LabelKeys, read
from eqpot.graph.structure import Frame, Structure
from eqpot.potential import Potential

STRAINS = ("at rest", *(f"{sign}{component}" for component in ("xx", "yy", "zz", "yz", "xz", "xy") for sign in "+-"))
"""Of the structures that `crystal` brings."""


class RelaxSampler(Sampler):
    """Paths of minimisations that start from rattled structures: what lies between hot and cold."""

    kind: Literal["relax"] = "relax"
    n: int = Field(default=4, ge=1, description="for each start structure")
    temperature_K: float = Field(default=600.0, gt=0, description="of the rattling")
    max_steps: int = Field(default=30, ge=1)
    force_tolerance: float = Field(default=0.02, gt=0, description="[eV/Å]")
    cell: Literal["fixed", "isotropic", "flexible"] = "fixed"

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        rattle = {"method": "rattle", "n": self.n, "temperature_K": self.temperature_K}
        made = generate({"seed": start.seed, "methods": [rattle]}, list(start.structures))
        return downhill(potential, made, self, "relax", progress)


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
        return downhill(potential, made, self, "search", progress)


class GenerateSampler(Sampler):
    """Structures that `eqpot generate` makes of the start structures, others in each round."""

    kind: Literal["generate"] = "generate"
    methods: tuple[dict[str, Any], ...] = Field(min_length=1)

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        settings = self._settings(start.seed)
        driver = potential if any(m.needs for m in settings.methods) else None
        made = generate(settings, list(start.structures), driver, progress=lambda name, done, total: progress(name, done / total))
        return _of_generated(made, "")

    def _settings(self, seed: int) -> GenerateConfig:
        return generate_config({"seed": seed, "methods": list(self.methods)})

    @model_validator(mode="after")
    def _sensible(self) -> "GenerateSampler":
        self._settings(0)
        return self


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
        return Sampled(tuple(frames), broken=len(notes), lost=len(notes), observables=measured, notes=tuple(notes))


class PoolSampler(Sampler):
    """Structures of files, whose labels, if they have any, are not looked at."""

    kind: Literal["pool"] = "pool"
    files: str | tuple[str, ...]
    most: int | None = Field(default=None, ge=1, description="take so many in a round, drawn at random")

    def check(self, structures: Sequence[Structure], elements: Collection[str]) -> None:
        """It needs none, but a potential that has seen its elements."""
        if unseen := sorted(set(self.read().elements) - {*elements}):
            raise ConfigError(
                f"samplers: the pool has {', '.join(unseen)}, expected only what the start has ({', '.join(sorted(elements))}): nothing could be said "
                "about those structures; add some to start.structures, or isolated atoms of these elements"
            )

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


def downhill(potential: Potential, made: Generated, settings: Any, group: str, progress: OnProgress) -> Sampled:
    """The steps of relaxations; a structure that cannot be relaxed is counted."""
    from eqpot.md import relax

    frames: list[Frame] = []
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        for k, structure in enumerate(m.structure for m in made):
            progress("relaxation", k / len(made))
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
    missing = _of_generated(made, group).notes
    return Sampled(tuple(frames), broken=len(notes), lost=len(notes), notes=(*notes, *missing))


def _of_generated(made: Generated, group: str) -> Sampled:
    frames = [m.frame() for m in made]
    missing = tuple(f"{row['method']}: {row['made']} of {row['wanted']} made" for row in made.summary() if row["made"] < row["wanted"])
    return Sampled(tuple(f.replace(group=group or f.group) for f in frames), notes=missing + made.notes)
