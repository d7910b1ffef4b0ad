"""A run in progress: takes frames from a driver and puts them where they are wanted."""

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import jax

from eqpot.core.errors import SimulationError
from eqpot.core.units import FS
from eqpot.md.driver import Driver
from eqpot.md.records import Progress, Run, Snapshot, stack, thinned
from eqpot.md.restart import Restart, save_restart
from eqpot.md.status import Status
from eqpot.md.trajectory import ThermoLog, Trajectory, guarded, open_trajectory, restart_path, thermo_path, write_offending

Shots = list[Snapshot | None]
"""A frame of each system; None of one that did not get there."""
SEGMENT_S = 0.5
"""Wall time that a segment should take: long beside what the host does after it, short for someone who waits [s]."""


class Session:
    """Runs a driver to the end, a frame at each multiple of `every`.

    Args:
        driver: of the systems.
        every: steps between frames.
        paths: trajectories, one for each system, or None.
        overwrite: replace them.
        identity: what the run is, for the restart file.
        restart: where it stood, if it goes on.
        pause: wall time between checkpoints [s].
        keep: whether frames stay in memory.
        progress: called after each frame.
    """

    def __init__(
        self,
        driver: Driver,
        every: int,
        paths: list[Path] | None,
        overwrite: bool,
        identity: dict[str, Any],
        restart: Restart | None,
        pause: float,
        keep: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.driver, self.every, self.paths, self.overwrite = driver, every, paths, overwrite
        self.identity, self.restart, self.pause, self.keep, self.progress = identity, restart, pause, keep, progress
        self.frames: list[list[Any]] = [[] for _ in driver.systems]
        self.writers: list[list[Trajectory]] = []
        self.began = self.saved = perf_counter()
        self.first_step, self.busy = 0, 0.0

    def precision(self) -> AbstractContextManager[Any]:
        """The context in which this session computes."""
        return jax.enable_x64(self.driver.plan.dtype == "float64")

    def record_one(self) -> Run:
        """The run of a single system; a fault is an error.

        Raises:
            SimulationError: when the dynamics break; `error.run` has what there is of the run.
        """
        (run,) = self.record()
        if not run.status:
            return run
        error = SimulationError(self._obituary(run))
        error.run = run  # type: ignore[attr-defined]
        raise error

    def record(self) -> list[Run]:
        """Run all systems to the end, or until the user stops them."""
        try:
            self._begin()
            self._go_on()
            self._finish()
        except (SimulationError, KeyboardInterrupt) as error:
            if self.frames[0]:
                runs = [self._run(g) for g in range(len(self.frames))]
                error.run, error.runs = runs[0], runs  # type: ignore[union-attr]
            with suppress(SimulationError):  # what went wrong first is what matters
                self._keep_place(error)
            raise
        finally:
            failed = sys.exc_info()[0] is not None
            for writer in (w for writers in self.writers for w in writers):
                with suppress(SimulationError) if failed else nullcontext():
                    guarded(writer.path, writer.close)
        return [self._run(g) for g in range(len(self.frames))]

    def _begin(self) -> None:
        """Evaluate the start (which compiles), then open the files: a start that fails harms no old trajectory."""
        driver = self.driver
        if self.restart:
            driver.clear_status()
            self.first_step = int(driver.steps.max())
            self._open(self.restart.places)
            if self.first_step % self.every == 0:
                self._remember([[driver.snapshot(g) for g in range(len(driver.systems))]])
            driver.warm_up()
            self.began = perf_counter()
            return
        frames = driver.advance([0])[0]
        if not any(frames):
            raise SimulationError(f"the start cannot be run: {self._reason(0)}; relax the structure or lower the temperature")
        self.began = perf_counter()
        if self.paths:
            self._save([0] * (2 * len(self.paths)), fresh=True)
            self._open(None)
        self._take([frames])

    def _open(self, places: list[int] | None) -> None:
        """Open trajectories and logs, at the places that a restart file names; a file that was to be begun there is begun."""
        n_frames = self.driver.plan.n_steps // self.every + 1
        for k, path in enumerate(self.paths or []):
            system = self.driver.systems[k]
            trajectory, log = (place or None for place in (places[2 * k : 2 * k + 2] if places else (0, 0)))
            replaces = self.overwrite or (places is not None and trajectory is None)
            self.writers.append([open_trajectory(path, system, replaces, trajectory, n_frames)])
            self.writers[-1].append(guarded(path, ThermoLog, thermo_path(path), system, "w", log))
        if places and not any(places):
            self._write([[self.driver.snapshot(g) for g in range(len(self.driver.systems))]])

    def _go_on(self) -> None:
        driver, n_steps = self.driver, self.driver.plan.n_steps
        wanted, done = 1, int(driver.steps.max())
        while done < n_steps and not all(driver.statuses):
            ends = list(range(done - done % self.every + self.every, n_steps + 1, self.every))[:wanted] or [n_steps]
            began = perf_counter()
            compiled = driver.compile_seconds
            frames = driver.advance(ends)
            seconds = perf_counter() - began - (driver.compile_seconds - compiled)
            self.busy += seconds
            done = int(driver.steps.max())
            self._take([shots for end, shots in zip(ends, frames, strict=True) if end % self.every == 0])
            wanted = min(driver.plan.frames, max(1, math.ceil(wanted * min(4.0, SEGMENT_S / max(seconds, 1e-4)))))
            if self.paths and perf_counter() - self.saved > self.pause:
                self._save(self._places())

    def _finish(self) -> None:
        """The last state on disk; of a system that broke also the last good frame, and the one it broke on."""
        if self.paths:
            self._save(self._places())
        for g, status in enumerate(self.driver.statuses):
            last = self.frames[g][-1].step if self.frames[g] else -1
            if status and self.driver.steps[g] > last:
                shots: Shots = [None] * len(self.frames)
                shots[g] = self.driver.snapshot(g)
                self._take([shots])
            if status and self.paths:
                write_offending(self.paths[g], self.driver.systems[g], self.driver.trouble(g))

    def _keep_place(self, error: BaseException) -> None:
        """When the user stops the run between two segments, nothing need be done twice."""
        last = max((frames[-1].step for frames in self.frames if frames), default=-1)
        if isinstance(error, KeyboardInterrupt) and self.writers and last == self.driver.steps.max():
            self._save(self._places())

    def _places(self) -> list[int]:
        return [w.whole for writers in self.writers for w in writers]

    def _save(self, places: list[int], fresh: bool = False) -> None:
        assert self.paths
        if not fresh:
            for writer in (w for writers in self.writers for w in writers):
                guarded(writer.path, writer.sync)
        save_restart(restart_path(self.paths[0]), Restart(self.driver.arrays(), self.driver.sizes, places, self.identity))
        self.saved = perf_counter()

    def _take(self, frames: Sequence[Shots]) -> None:
        """Frames of a segment, in memory and on disk before anybody hears of them."""
        self._remember(frames)
        self._write(frames)
        for shots in frames:
            if self.progress and (alive := [s for s in shots if s]):
                doubt = max(s.max_atom_std for s in alive)
                kelvin, energy = (sum(getattr(s, k) for s in alive) / len(alive) for k in ("temperature_K", "potential_energy"))
                first = alive[0]
                self.progress(
                    Progress(first.step, self.driver.plan.n_steps, first.time_fs, kelvin, energy, doubt, self._speed(self._seconds()))
                )

    def _remember(self, frames: Sequence[Shots]) -> None:
        for kept, *shots in zip(self.frames, *frames, strict=True):
            for shot in filter(None, shots):
                if kept and not self.keep:
                    kept[-1] = thinned(kept[-1])
                kept.append(shot)

    def _write(self, frames: Sequence[Shots]) -> None:
        for writers, *shots in zip(self.writers, *frames, strict=False):
            if alive := [s for s in shots if s]:
                for writer in writers:
                    guarded(writer.path, writer.write, alive)

    def _seconds(self) -> float:
        """Wall time of the dynamics, without compilation."""
        return perf_counter() - self.began - self.driver.compile_seconds

    def _speed(self, seconds: float) -> float:
        """Nanoseconds per day, of one system."""
        steps = int(self.driver.steps.max()) - self.first_step
        return max(steps, 0) * self.driver.ensembles[0].timestep_fs * 1e-6 * 86400 / max(seconds, 1e-9)

    def _run(self, g: int) -> Run:
        seconds, driver = self._seconds(), self.driver
        status = driver.statuses[g]
        return stack(
            self.frames[g],
            len(driver.systems[g].structure),
            final=self.final(g) if driver.steps[g] >= 0 else driver.systems[g].atoms.copy(),
            n_steps=max(0, int(driver.steps[g])),
            seconds=seconds,
            ns_per_day=self._speed(seconds),
            rebuilds=max(0, int(driver.motion.searches) - 1 - driver.growths),
            growths=driver.growths,
            compiles=driver.compiles,
            host_fraction=max(0.0, 1 - self.busy / seconds) if self.busy else 0.0,
            status=status,
            trouble=driver.trouble(g).to_atoms() if status else None,
        )

    def final(self, g: int) -> Any:
        """The last good state of a system as `ase.Atoms`."""
        from ase.calculators.singlepoint import SinglePointCalculator

        last, atoms = self.driver.snapshot(g), self.driver.systems[g].atoms.copy()
        atoms.set_cell(last.cell)
        atoms.set_positions(last.positions, apply_constraint=False)
        atoms.set_velocities(last.velocities / FS)
        atoms.calc = SinglePointCalculator(atoms, energy=last.potential_energy, forces=last.forces)
        return atoms

    def _reason(self, g: int) -> str:
        status, (hottest, closest, unsurest, strangest) = self.driver.statuses[g], self.driver.plan.bounds
        bounds = {Status.TOO_HOT: f"{hottest:g} K", Status.TOO_CLOSE: f"{closest:g} Å", Status.TOO_UNSURE: f"{unsurest:g} eV/Å"}
        bounds[Status.TOO_NOVEL] = f"{strangest:g}"
        return status.text + "".join(f" of {text}" for bit, text in bounds.items() if bit in status)

    def _obituary(self, run: Run) -> str:
        step = run.n_steps + 1
        place = f"; the frame that broke is in {write_name(self.paths[0])}" if self.paths else ""
        advice = "is the timestep too long, the start relaxed, the structure within what the potential was trained on?"
        return f"step {step} ({step * self.driver.ensembles[0].timestep_fs:g} fs): {self._reason(0)} ({advice}){place}"


def write_name(path: Path) -> str:
    """Name of the file with the offending frame."""
    from eqpot.md.trajectory import offending_path

    return str(offending_path(path))
