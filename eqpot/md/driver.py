"""Between the compiled segments: makes neighbour tables, reads the status, counts."""

from dataclasses import replace
from time import perf_counter
from typing import Any

import jax
import numpy as np

from eqpot.core.errors import SimulationError
from eqpot.core.units import FS
from eqpot.md import segment
from eqpot.md.ensembles import Ensemble
from eqpot.md.records import Snapshot
from eqpot.md.start import System
from eqpot.md.status import Status
from eqpot.md.table import TableMaker
from eqpot.potential import Potential, place_members


class Driver:
    """Drives a system through time; what it holds is always the last good state.

    Args:
        potential: in the dtype of the network.
        system: what moves.
        velocities: at the start [Å·√(eV/amu)].
        ensemble: how it moves.
        dtype: of the motion.
        seed: of random forces.
        hottest: temperature that stops the run [K].
        skin: of the neighbour tables [Å].

    Attributes:
        status: bits that ended the run, or zero.
        compiles: how often the compiled step was made for this run.
        compile_seconds: wall time of those that were made after the start.
    """

    def __init__(
        self,
        potential: Potential,
        system: System,
        velocities: np.ndarray,
        ensemble: Ensemble,
        dtype: str,
        *,
        seed: int,
        hottest: float,
        skin: float,
    ) -> None:
        self.potential, self.ensemble, self.dtype = potential, ensemble, dtype
        self.status, self.compiles, self.compile_seconds = Status(0), 0, 0.0
        # The motion is relative to the first centre, so that a molecule far from the origin has all digits in float32 too.
        self.centre = system.structure.positions.mean(0)
        start = system.structure.positions - self.centre
        self.masses = system.masses
        self.maker = TableMaker(potential, replace(system.structure, positions=start), skin, dtype)
        self.hottest = np.asarray(hottest, dtype)
        self.table = self.maker.make(start.astype(dtype).astype(np.float64))
        arrays = (np.asarray(x, dtype) for x in (start, velocities * self.masses[:, None], self.masses))
        motion = segment.begin(ensemble, *arrays, np.uint32(seed), dtype)
        self.params, self.motion = place_members(potential.params, motion)
        self.sample: Any = None

    @property
    def step(self) -> int:
        """Steps taken; −1 before the first call of `advance`."""
        return int(self.motion.step)

    def advance(self, end: int) -> Snapshot:
        """The state after `end` steps in all.

        Raises:
            SimulationError: when the dynamics break; `step`, `snapshot` and `proposal` then tell where.
        """
        fresh = False
        while True:
            before = self.step
            status = self._segment(end)
            if not status:
                return self.snapshot()
            if status != Status.STALE or (fresh and self.step == before):
                self.status = status
                raise SimulationError(self._obituary())
            self._renew()
            fresh = True

    def snapshot(self) -> Snapshot:
        """The last good state."""
        state, result, sample = jax.device_get((self.motion.state, self.motion.evaluation, self.sample))
        return Snapshot(
            step=self.step,
            time_fs=self.step * self.ensemble.timestep_fs,
            potential_energy=float(result.energy) + self.maker.reference_energy,
            kinetic_energy=float(sample.kinetic),
            conserved_energy=float(sample.conserved) + self.maker.reference_energy,
            energy_std=float(result.energy_std),
            temperature_K=float(sample.temperature),
            positions=state.position.astype(np.float64) + self.centre,
            velocities=(state.momentum.astype(np.float64) / self.masses[:, None]) * FS,
            forces=result.forces.astype(np.float64),
            atom_std=result.atom_std.astype(np.float64),
        )

    def proposal(self) -> np.ndarray:
        """Positions of the step that could not be taken [Å]."""
        return np.asarray(self.motion.proposal, np.float64) + self.centre

    def _segment(self, end: int) -> Status:
        traced = len(segment.TRACED)
        args = (self.potential.spec, self.params, self.ensemble, self.table, self.hottest, self.motion, np.int32(end))
        self.motion, self.sample = segment.advance(*args)
        self.compiles += len(segment.TRACED) - traced
        return Status(int(self.motion.status))

    def _renew(self) -> None:
        """A table at the last good positions; where it has grown, the step is compiled here, apart from the dynamics."""
        grown = self.maker.grown
        try:
            self.table = self.maker.make(np.asarray(self.motion.state.position, np.float64))
        except SimulationError as error:
            raise SimulationError(f"{self._place()}: {error}") from None
        if self.maker.grown > grown:
            began = perf_counter()
            self._segment(self.step)
            self.compile_seconds += perf_counter() - began

    def _place(self) -> str:
        return f"step {self.step + 1} ({(self.step + 1) * self.ensemble.timestep_fs:g} fs)"

    def _obituary(self) -> str:
        bound = f" of {self.hottest:g} K" if Status.TOO_HOT in self.status else ""
        if self.step < 0:
            return f"the start cannot be run: {self.status.text}{bound}; relax the structure or lower the temperature"
        advice = "is the timestep too long, the start relaxed, the structure within what the potential was trained on?"
        return f"{self._place()}: {self.status.text}{bound} ({advice})"
