"""Dynamics as a sampler: what it visits until the potential cannot be trusted any more."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from eqpot.active.observables import Observable, pair_distribution, series
from eqpot.active.query import ABSURD, Band, judge
from eqpot.active.sampler_base import OnProgress, Sampled, Sampler, Start
from eqpot.core.elements import symbol
from eqpot.core.errors import ConfigError
from eqpot.graph.structure import Frame, Structure
from eqpot.potential import Potential

Numbers = tuple[float, ...]
TRUSTED = 0.5
"""Share of the band's upper edge below which a walker that broke off is taken up again."""


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

    def check(self, structures: Sequence[Structure], elements: Collection[str]) -> None:
        super().check(structures, elements)
        if not any(map(self._moves, structures)):
            raise ConfigError(
                "samplers: md with pressure_GPa found no start structure that is periodic in all directions; leave pressure_GPa out"
            )

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        from eqpot.md import UncertaintyBias, simulate_many

        states = self._states()
        structures = [s for s in start.structures if self._moves(s) and {symbol(int(z)) for z in s.numbers} <= set(potential.elements)]
        origins = [s for s in structures for _ in states for _ in range(self.walkers)]
        chosen = [(state, k) for k in range(len(structures)) for state in states for _ in range(self.walkers)]
        begins = list(start.ends) if self.go_on and len(start.ends) == len(origins) else origins
        fine = _trusted(potential, [*begins, *origins], start.band)
        begins = [b if good else o for b, o, good in zip(begins, origins, fine, strict=False)]
        every = max(1, round(self.interval_fs / self.timestep_fs))
        n_steps = max(every, round(1000 * self.time_ps / self.timestep_fs / every) * every)
        if not any(fine):
            note = f"dynamics was not begun: the start structures are unknown or beyond trust (σ of a force of {start.band.high:.2f} eV/Å, or their novelty)"
            return Sampled(broken=len(origins), lost=len(origins) * n_steps // every, notes=(note,))
        biases = [UncertaintyBias(self.bias_eV, self.bias_width_eV)] if self.bias_eV else []
        runs = simulate_many(
            potential,
            [s.to_atoms() for s in begins],
            [self._ensemble(*state) for state, _ in chosen],
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
        for run, (state, _), begin, origin in zip(runs, chosen, begins, origins, strict=True):
            group = _name(*state)
            made = [Structure(begin.numbers, x, cell, begin.pbc, begin.charge) for x, cell in zip(run.positions, run.cell, strict=True)]
            frames += [Frame(s, origin=f"{group}, {t / 1000:.3f} ps", group=group) for s, t in zip(made[1:], run.time_fs[1:], strict=True)]
            safe = np.flatnonzero(run.max_atom_std <= TRUSTED * start.band.high) if run.status else [len(made) - 1]
            ends.append(made[safe[-1]] if len(safe) and made else origin)
        broken = sum(bool(run.status) for run in runs)
        lost = len(runs) * n_steps // every - len(frames)
        notes = [
            f"{_name(*s)}: {run.status.text} after {run.n_steps} steps" for run, (s, _) in zip(runs, chosen, strict=True) if run.status
        ]
        measured = {} if self.bias_eV else self._observables(runs, chosen, structures)
        return Sampled(tuple(frames), tuple(ends), broken, lost, measured, tuple(notes))

    def _moves(self, structure: Structure) -> bool:
        return self.pressure_GPa is None or bool(structure.pbc.all())

    def _states(self) -> list[tuple[float, float | None]]:
        pressures = (None,) if self.pressure_GPa is None else _several(self.pressure_GPa)
        return [(t, p) for t in _several(self.temperature_K) for p in pressures]

    def _ensemble(self, temperature_K: float, pressure_GPa: float | None) -> Any:
        from eqpot.md import NPT, Langevin

        if pressure_GPa is None:
            return Langevin(temperature_K, timestep_fs=self.timestep_fs, friction_per_fs=self.friction_per_fs)
        return NPT(temperature_K, pressure_GPa, timestep_fs=self.timestep_fs)

    def _observables(self, runs: Sequence[Any], chosen: Sequence[Any], structures: Sequence[Structure]) -> dict[str, Observable]:
        """Of the walkers that came to their end, by state and start structure: the second halves of the runs."""
        found: dict[str, Observable] = {}
        for state, k in dict.fromkeys(chosen):
            those = [r for r, walker in zip(runs, chosen, strict=True) if walker == (state, k) and not r.status and len(r) >= 8]
            if not those:
                continue
            name = _name(*state) + (f", {k} {structures[k].formula}" if len(structures) > 1 else "")
            later = [(r.positions[len(r) // 2 :], r.cell[len(r) // 2 :], structures[k]) for r in those]
            found[f"g(r), {name}"] = pair_distribution(later)
            if state[1] is not None:
                found[f"volume, {name}"] = series([np.abs(np.linalg.det(cells)) / len(structures[k]) for _, cells, _ in later])
        return found


def _trusted(potential: Potential, structures: Sequence[Structure], band: Band) -> list[bool]:
    """Whether dynamics may begin there: a little inside the edge, as it computes in another precision."""
    frames, inside = [Frame(s) for s in structures], replace(band, high=0.99 * band.high)
    judged = judge(potential, frames)
    fine = {id(frame) for frame, kind in zip(judged.frames, judged.kinds(inside), strict=True) if kind != ABSURD}
    return [id(frame) in fine for frame in frames]


def _several(value: float | Numbers) -> Numbers:
    return value if isinstance(value, tuple) else (value,)


def _name(temperature_K: float, pressure_GPa: float | None) -> str:
    return f"md {temperature_K:g} K" + ("" if pressure_GPa is None else f" {pressure_GPa:g} GPa")
