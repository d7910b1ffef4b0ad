"""The doors of the room: `simulate` and `simulate_many`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from eqpot.core.errors import SimulationError
from eqpot.md.bias import Bias, PositionBias, UncertaintyBias
from eqpot.md.driver import Driver, Plan
from eqpot.md.ensembles import MAX_TEMPERATURE_K, Ensemble, Number, require
from eqpot.md.records import Progress, Run
from eqpot.md.restart import identity, load_restart
from eqpot.md.session import Session
from eqpot.md.systems import initial_velocities, read_system
from eqpot.md.trajectory import check_path, restart_path
from eqpot.potential import Potential
from eqpot.potential.potential import DIRECT_FORCES

PRECISIONS = {"mixed": ("float32", "float64"), "float32": ("float32", "float32"), "float64": ("float64", "float64")}
"""dtype of the network and of the motion."""
FRAMES = (64, 16, 4, 1)
"""Frames that one segment may bring at most; few choices, as each is a program of its own."""
FRAME_MEMORY = 1 << 26
"""Bytes that the frames of one segment may take on the device."""


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
    resume: bool = False,
    checkpoint_s: Number = 60.0,
    keep: bool = True,
    progress: Callable[[Progress], None] | None = None,
    precision: Literal["mixed", "float32", "float64"] = "mixed",
    biases: Sequence[Bias] = (),
    spread_every: int = 1,
    remove_rotation: bool = False,
    max_temperature_K: Number = 10_000.0,
    min_distance: Number = 0.1,
    max_atom_std: Number | None = None,
    max_novelty: Number | None = None,
    skin: Number = 1.0,
    allow_direct_forces: bool = False,
) -> Run:
    """Run molecular dynamics.

        run = simulate(potential, atoms, NVT(temperature_K=300), n_steps=2000, trajectory="run.extxyz")
        print(run.temperature_K.mean(), run.drift(), run.atom_std.max())

    Frames are taken at steps 0, every, 2·every, … Between them nothing is sent to the host. Random numbers come from `seed` and the number of the step alone.
    Atoms under an ASE `FixAtoms` constraint do not move.

    With a trajectory, there is also a log of numbers ('NAME.thermo.csv') and, replaced as the run goes on, 'NAME.restart': the same call with `resume=True`
    goes on from there, and what results is, to the last bit, what would have been.

    Args:
        potential: an `eqpot.Potential`; the mean of its members drives, their spread is recorded. Of several heads the first is used:
            `potential.only(head)` chooses another.
        atoms: an `ase.Atoms` or a `Structure`.
        ensemble: `NVE`, `NVT`, `CSVR`, `Langevin` or `NPT`.
        n_steps: steps to take in all, at least 1.
        seed: of initial velocities and of the ensemble's noise.
        every: steps between frames.
        temperature_K: draw initial velocities at this temperature [K], whatever the atoms have. By default the atoms' velocities are
            used if any is not zero; else they are drawn at the ensemble's temperature.
        trajectory: file for the frames, written as they come: .extxyz or .xyz, .h5 or .h5md (see `eqpot.md.trajectory`).
        overwrite: replace such a file if it exists.
        resume: go on with the run that was writing to this trajectory; one that had not begun begins.
        checkpoint_s: wall time between replacements of the restart file [s].
        keep: keep all frames in memory; otherwise the numbers of all frames and the arrays of the last.
        progress: called with a `Progress` after each frame.
        precision: 'mixed' (network in float32, motion in float64), 'float32' or 'float64'.
        biases: what pushes beside the potential: `HarmonicRestraint`, `SphericalWall`, `PlanarWall`, `UncertaintyBias`.
        spread_every: evaluate all members at every so many steps, at the others the first one alone; the mean drives all the same, by
            impulses (a multiple time step).
            `every` must be a multiple of it; 2 to 4 with timesteps of 0.5 fs.
        remove_rotation: draw velocities without angular momentum, for a molecule or cluster.
        max_temperature_K: the run stops when the instantaneous temperature is above this [K].
        min_distance: the run stops when two atoms are nearer than this [Å].
        max_atom_std: the run stops when the uncertainty of an atom's force is above this [eV/Å].
        max_novelty: the run stops when an atom's surroundings are farther than this from what the potential has seen; one is the edge of it.
        skin: how far beyond the cutoff neighbours are listed [Å]; it changes the speed and no bit of a result.
        allow_direct_forces: accept a potential whose forces are no derivatives of its energy; nothing then conserves the energy.

    Returns:
        the `Run`; of a resumed one, the frames since then.

    Raises:
        SimulationError: for an argument out of range, or direct forces that are not allowed; when the dynamics break (not finite, too hot,
            atoms on top of each other, too unsure), with the last good state in the trajectory, the frame it broke on in 'NAME.offending.extxyz', and all
            frames so far in `error.run`; for a restart file of another run.
        StructureError: for atoms that the potential cannot judge.
        KeyboardInterrupt: passed on when the user stops the run; the trajectory ends with a whole frame, and `run` of the exception has all frames.
    """
    options = {k: v for k, v in locals().items() if k not in ("potential", "atoms", "ensemble", "n_steps", "trajectory")}
    paths = None if trajectory is None else [Path(trajectory)]
    session = open_session(potential, [atoms], [ensemble], n_steps, paths, **options)
    with session.precision():
        return session.record_one()


def simulate_many(
    potential: Potential,
    atoms: Sequence[Any],
    ensembles: Ensemble | Sequence[Ensemble],
    n_steps: int,
    *,
    trajectory: str | Path | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Run]:
    """Run molecular dynamics of many systems in one compiled program: replicas, temperatures, or different structures.

        runs = simulate_many(potential, [atoms] * 4, [NVT(T) for T in (300, 400, 500, 600)], n_steps=2000)

    Each system moves as it would alone with its own seed, to rounding. A system that breaks stands still and says so in `Run.status` and
    `Run.trouble`; the others
    go on. Systems are padded to the largest, so they are best of similar size.

    Args:
        potential, n_steps: see `simulate`.
        atoms: one for each system.
        ensembles: one for all systems, or one for each; all of one kind and with the same timestep.
        trajectory: 'NAME.extxyz' puts the frames of each system into 'NAME-0.extxyz', 'NAME-1.extxyz', …
        seed: of the first system; the next have the next numbers.
        options: all others of `simulate`; biases act on each system.

    Returns:
        a `Run` for each system.

    Raises:
        see `simulate`; a fault of one system is no error here.
    """
    systems = list(atoms)
    kinds = list(ensembles) if isinstance(ensembles, Sequence) else [ensembles] * len(systems)
    if not systems or len(kinds) != len(systems):
        raise SimulationError(f"found {len(systems)} systems and {len(kinds)} ensembles, expected as many of each, at least one")
    path = None if trajectory is None else Path(trajectory)
    paths = None if path is None else [path.with_stem(f"{path.stem}-{k}") for k in range(len(systems))]
    session = open_session(potential, systems, kinds, n_steps, paths, seed=seed, **options)
    with session.precision():
        return session.record()


def open_session(
    potential: Potential,
    atoms: list[Any],
    ensembles: list[Ensemble],
    n_steps: int,
    paths: list[Path] | None,
    *,
    seed: int = 0,
    every: int = 10,
    temperature_K: Number | None = None,
    overwrite: bool = False,
    resume: bool = False,
    checkpoint_s: Number = 60.0,
    keep: bool = True,
    progress: Callable[[Progress], None] | None = None,
    precision: str = "mixed",
    biases: Sequence[Bias] = (),
    spread_every: int = 1,
    remove_rotation: bool = False,
    max_temperature_K: Number = 10_000.0,
    min_distance: Number = 0.1,
    max_atom_std: Number | None = None,
    max_novelty: Number | None = None,
    skin: Number = 1.0,
    allow_direct_forces: bool = False,
) -> Session:
    """Check everything, and make ready to run."""
    _check(potential, ensembles, precision, allow_direct_forces)
    if isinstance(biases, Bias) or not all(isinstance(b, Bias) for b in biases):
        raise SimulationError(f"biases: found {biases!r:.80}, expected a list of biases such as [HarmonicRestraint(...)]")
    for label, value, low, high in (("n_steps", n_steps, 1, 2**31), ("every", every, 1, 2**31), ("seed", seed, 0, 2**32)):
        require_integer(label, value, low, high)
    require_integer("spread_every", spread_every, 1, 101)
    if every % spread_every or (spread_every > 1 and any(isinstance(b, UncertaintyBias) for b in biases)):
        raise SimulationError(f"spread_every: found {spread_every}, expected a divisor of every ({every}), and 1 with an UncertaintyBias")
    hottest = require("max_temperature_K", max_temperature_K, 0.0, MAX_TEMPERATURE_K)
    closest = require("min_distance", min_distance, 0.0, 5.0, closed=True)
    unsurest = np.inf if max_atom_std is None else require("max_atom_std", max_atom_std, 0.0, 1e6)
    strangest = np.inf if max_novelty is None else require("max_novelty", max_novelty, 0.0, 1e6)
    if max_novelty is not None and potential.trust.domain is None:
        raise SimulationError("max_novelty: this potential does not know what it has seen; see eqpot.fit_domain")
    if max_atom_std is not None and not potential.has_sigma:
        raise SimulationError("max_atom_std: this potential predicts no σ: one member without noise; train an ensemble (ensemble.members)")
    width, pause = require("skin", skin, 0.0, 10.0), require("checkpoint_s", checkpoint_s, 0.0, 1e9, closed=True)
    if resume and (overwrite or paths is None):
        raise SimulationError("resume goes on with a trajectory: give its name, and not overwrite")
    paths = paths and [check_path(p, overwrite, resume) for p in paths]
    restrained = any(isinstance(b, PositionBias) for b in biases)
    systems = [replace(read_system(a), restrained=restrained) for a in atoms]
    check_systems(systems, ensembles, biases, potential, remove_rotation)
    seeds = tuple((seed + k) % 2**32 for k in range(len(systems)))
    velocities = [initial_velocities(s, e, temperature_K, k, remove_rotation) for s, e, k in zip(systems, ensembles, seeds, strict=True)]
    network, motion = PRECISIONS[precision]
    settings = {"n_steps": n_steps, "every": every, "seed": seed, "precision": precision, "remove_rotation": remove_rotation}
    settings |= {"spread_every": spread_every, "format": paths[0].suffix if paths else ""}
    settings |= {
        "max_temperature_K": hottest,
        "min_distance": closest,
        "max_atom_std": max_atom_std,
        "max_novelty": max_novelty,
        "skin": width,
    }
    if any(e.ramped for e in ensembles):
        settings["n_steps of the ramp"] = n_steps
    place = restart_path(paths[0]) if paths else None
    with jax.enable_x64(motion == "float64"):
        driven = potential.astype(network)
        what = identity(driven, systems, velocities, ensembles, tuple(biases), **settings)
        restart = load_restart(place, what) if resume and place and place.exists() else None
        if resume and paths and not restart and (there := [p for p in paths if p.exists()]):
            raise SimulationError(
                f"{there[0]}: exists but {place} does not, so there is nothing to go on from; choose another name or overwrite"
            )
        most = FRAME_MEMORY // (100 * sum(len(s.structure) for s in systems))
        frames = next((n for n in FRAMES if n <= most), 1)
        bounds = (hottest, closest, float(unsurest), float(strangest))
        plan = Plan(
            motion,
            seeds,
            bounds,
            width,
            n_steps,
            frames,
            tuple(biases),
            not remove_rotation,
            spread_every if potential.n_members > 1 else 1,
        )
        driver = Driver(driven, systems, velocities, ensembles, plan, restart and (restart.arrays, restart.sizes))
    return Session(driver, every, paths, overwrite, what, restart, pause, keep, progress)


def require_integer(label: str, value: Any, low: int, high: int) -> None:
    """Check a whole number.

    Raises:
        SimulationError: naming the number, what was found and the range.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or not low <= value < high:
        raise SimulationError(f"{label}: found {value!r}, expected an integer from {low} to {high - 1}")


def _check(potential: Any, ensembles: Sequence[Any], precision: Any, allow_direct_forces: bool) -> None:
    if not isinstance(potential, Potential):
        raise SimulationError(
            f"potential: found {type(potential).__name__}, expected an eqpot.Potential; load one with Potential.load(path)"
        )
    if not (potential.conservative or allow_direct_forces):
        raise SimulationError(f"{DIRECT_FORCES}; pass allow_direct_forces=True (--allow-direct-forces) to run it all the same")
    for ensemble in ensembles:
        if not isinstance(ensemble, Ensemble):
            raise SimulationError(f"ensemble: found {ensemble!r:.60}, expected NVE(...), NVT(...), CSVR(...), Langevin(...) or NPT(...)")
    if len({e.timestep_fs for e in ensembles}) > 1:
        raise SimulationError(f"timestep_fs: found {sorted({e.timestep_fs for e in ensembles})}, expected one for all systems")
    if precision not in PRECISIONS:
        raise SimulationError(f"precision: found {precision!r}, expected one of {', '.join(PRECISIONS)}")


def check_systems(systems: list[Any], ensembles: list[Ensemble], biases: Sequence[Bias], potential: Potential, still: bool) -> None:
    for system, ensemble in zip(systems, ensembles, strict=True):
        periodic = system.structure.pbc
        if ensemble.flexible and not (periodic.all() and potential.conservative and not system.n_fixed):
            raise SimulationError(
                f"{type(ensemble).__name__}: found pbc {periodic.tolist()} and {system.n_fixed} fixed atoms, expected a cell that is periodic along all "
                "directions, no fixed atoms, and a potential whose forces are derivatives of its energy"
            )
        if still and (periodic.any() or system.n_fixed):
            raise SimulationError("remove_rotation: expected a molecule or cluster without periodicity and without fixed atoms")
        for bias in biases:
            bias.check(len(system.structure))
    if any(isinstance(b, UncertaintyBias) for b in biases) and potential.n_members < 2:
        raise SimulationError("UncertaintyBias: found a potential with one member, expected an ensemble")


__all__ = ["simulate", "simulate_many"]
