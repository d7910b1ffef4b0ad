"""The door of the room: `simulate`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import jax

from eqpot.core.errors import SimulationError
from eqpot.core.units import FS
from eqpot.md.driver import Driver
from eqpot.md.ensembles import MAX_TEMPERATURE_K, Ensemble, Number, require
from eqpot.md.records import Progress, Run, Snapshot, stack
from eqpot.md.start import System, initial_velocities, read_system
from eqpot.md.trajectory import Trajectory, check_path, guarded, open_trajectory, write_offending
from eqpot.potential import Potential
from eqpot.potential.potential import DIRECT_FORCES

PRECISIONS = {"mixed": ("float32", "float64"), "float32": ("float32", "float32"), "float64": ("float64", "float64")}
"""dtype of the network and of the motion."""


def simulate(
    potential: Potential,
    atoms: Any,
    ensemble: Ensemble,
    n_steps: int,
    *,
    seed: int = 0,
    every: int = 10,
    temperature_K: Number | None = None,
    trajectory: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    precision: Literal["mixed", "float32", "float64"] = "mixed",
    max_temperature_K: Number = 10_000.0,
    skin: Number = 0.2,
    allow_direct_forces: bool = False,
) -> Run:
    """Run molecular dynamics.

        run = simulate(potential, atoms, NVT(temperature_K=300), n_steps=2000, trajectory="run.extxyz")
        print(run.temperature_K.mean(), run.drift(), run.atom_std.max())

    Frames are taken at steps 0, every, 2·every, … Between them nothing is sent to the host but the news that the neighbour table must be
    made anew. Random numbers come from `seed` alone.

    Args:
        potential: an `eqpot.Potential`; the mean of its members drives, their spread is recorded. Of several heads the first is used:
            `potential.only(head)` chooses another.
        atoms: an `ase.Atoms` or a `Structure`.
        ensemble: `NVE`, `NVT` or `Langevin`.
        n_steps: steps to take, at least 1.
        seed: of initial velocities and of Langevin's noise.
        every: steps between frames.
        temperature_K: draw initial velocities at this temperature [K], whatever the atoms have. By default the atoms' velocities are
            used if any is not zero; else they are drawn at the ensemble's temperature.
        trajectory: file for the frames, written as they come: .extxyz or .xyz, .h5 or .h5md (see `eqpot.md.trajectory`).
        overwrite: replace such a file if it exists.
        progress: called with a `Progress` after each frame.
        precision: 'mixed' (network in float32, motion in float64), 'float32' or 'float64'.
        max_temperature_K: the run stops when the instantaneous temperature is above this [K].
        skin: how far beyond the cutoff neighbours are listed [Å]; it changes the speed, and results by rounding only. Small molecules
            list all pairs instead.
        allow_direct_forces: accept a potential whose forces are no derivatives of its energy; nothing then conserves the energy.

    Returns:
        the `Run`.

    Raises:
        SimulationError: for an argument out of range, or direct forces that are not allowed; when the dynamics break (not finite, too hot,
            atoms on top of each other), with the last good state in the trajectory, the frame it broke on in 'NAME.offending.extxyz', and all
            frames so far in `error.run`.
        StructureError: for atoms that the potential cannot judge.
        KeyboardInterrupt: passed on when the user stops the run; the trajectory ends with a whole frame, and `run` of the exception has all frames.
    """
    _check(potential, ensemble, precision, allow_direct_forces)
    for name, value, low, high in (("n_steps", n_steps, 1, 2**31), ("every", every, 1, 2**31), ("seed", seed, 0, 2**32)):
        _require_integer(name, value, low, high)
    hottest = require("max_temperature_K", max_temperature_K, 0.0, MAX_TEMPERATURE_K)
    width = require("skin", skin, 0.0, 10.0)
    path = None if trajectory is None else check_path(trajectory, overwrite)
    system = read_system(atoms)
    velocities = initial_velocities(system, ensemble, temperature_K, seed)
    network, motion = PRECISIONS[precision]
    with jax.enable_x64(motion == "float64"):
        driver = Driver(potential.astype(network), system, velocities, ensemble, motion, seed=seed, hottest=hottest, skin=width)
        return _Log(driver, system, n_steps, path, overwrite, progress).record(every)


def _require_integer(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not low <= value < high:
        raise SimulationError(f"{name}: found {value!r}, expected an integer from {low} to {high - 1}")


def _check(potential: Any, ensemble: Any, precision: Any, allow_direct_forces: bool) -> None:
    if not isinstance(potential, Potential):
        raise SimulationError(
            f"potential: found {type(potential).__name__}, expected an eqpot.Potential; load one with Potential.load(path)"
        )
    if not (potential.conservative or allow_direct_forces):
        raise SimulationError(f"{DIRECT_FORCES}; pass allow_direct_forces=True (--allow-direct-forces) to run it all the same")
    if not isinstance(ensemble, Ensemble):
        raise SimulationError(f"ensemble: found {ensemble!r:.60}, expected NVE(...), NVT(...) or Langevin(...)")
    if precision not in PRECISIONS:
        raise SimulationError(f"precision: found {precision!r}, expected one of {', '.join(PRECISIONS)}")


@dataclass
class _Log:
    """Takes frames from a driver and puts them where they are wanted."""

    driver: Driver
    system: System
    n_steps: int
    path: Path | None
    overwrite: bool
    progress: Callable[[Progress], None] | None
    frames: list[Snapshot] = field(default_factory=list)
    writer: Trajectory | None = None
    began: float = 0.0

    def record(self, every: int) -> Run:
        """Run to the end, a frame at each multiple of `every`."""
        try:
            self._begin()
            for step in range(every, self.n_steps + 1, every):
                self._take(self.driver.advance(step))
            self.driver.advance(self.n_steps)
        except (SimulationError, KeyboardInterrupt) as error:
            self._salvage(error)
            raise
        finally:
            if self.writer:
                guarded(self.writer.path, self.writer.close)
        return self._run()

    def _begin(self) -> None:
        """Evaluate the start (which compiles), then open the file: a start that fails harms no old trajectory."""
        first = self.driver.advance(0)
        self.began = perf_counter()
        if self.path:
            self.writer = open_trajectory(self.path, self.system, self.overwrite)
        self._take(first)

    def _take(self, frame: Snapshot) -> None:
        self.frames.append(frame)
        if self.writer:
            guarded(self.writer.path, self.writer.write, frame)
        if self.progress:
            doubt = float(frame.atom_std.max())
            speed = self._speed(self._seconds())
            self.progress(Progress(frame.step, self.n_steps, frame.time_fs, frame.temperature_K, frame.potential_energy, doubt, speed))

    def _salvage(self, error: BaseException) -> None:
        """Put the last good state and the frame that broke on disk, and what there is of the run into the error."""
        driver = self.driver
        if driver.status and self.path:
            place = write_offending(self.path, self.system, driver.proposal())
            error.args = (f"{error.args[0]}; the frame that broke is in {place}",)
        if driver.step >= 0:
            if driver.step > (self.frames[-1].step if self.frames else -1):
                self._take(driver.snapshot())
            error.run = self._run()  # type: ignore[attr-defined]

    def _seconds(self) -> float:
        """Wall time of the dynamics, without compilation."""
        return perf_counter() - self.began - self.driver.compile_seconds

    def _speed(self, seconds: float) -> float:
        """Nanoseconds per day."""
        return self.driver.step * self.driver.ensemble.timestep_fs * 1e-6 * 86400 / max(seconds, 1e-9)

    def _run(self) -> Run:
        seconds, driver = self._seconds(), self.driver
        return stack(
            self.frames,
            final=self._final(),
            n_steps=driver.step,
            seconds=seconds,
            ns_per_day=self._speed(seconds),
            rebuilds=driver.maker.made - 1,
            growths=driver.maker.grown,
            compiles=driver.compiles,
        )

    def _final(self) -> Any:
        from ase.calculators.singlepoint import SinglePointCalculator

        last, atoms = self.driver.snapshot(), self.system.atoms.copy()
        atoms.set_positions(last.positions)
        atoms.set_velocities(last.velocities / FS)
        atoms.calc = SinglePointCalculator(atoms, energy=last.potential_energy, forces=last.forces)
        return atoms
