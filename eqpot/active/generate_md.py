"""Structures along molecular dynamics, driven by a potential or by an oracle itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from eqpot.active.generate_record import Generated, Made, Missing, Number, Recipe, Screen, content_hash
from eqpot.core.errors import ConfigError, EqpotError, SimulationError
from eqpot.core.units import KB
from eqpot.graph.structure import Structure
from eqpot.md import Langevin, simulate
from eqpot.md.restart import fingerprint
from eqpot.oracles import Oracle
from eqpot.oracles.base import screen as screen_labels
from eqpot.potential import Potential

Progress = Callable[[int, int], None]
"""Called with the steps taken and all steps of a trajectory."""
Shots = tuple[list[tuple[Structure, float]], str]
"""Frames with their instantaneous temperature [K], and why there are no more ('' when there are all)."""


def md_frames(
    atoms: Any,
    temperature_K: Number | Sequence[Number],
    n: int,
    seed: int = 0,
    *,
    potential: Potential | None = None,
    oracle: Oracle | None = None,
    timestep_fs: Number = 0.5,
    interval_fs: Number = 50.0,
    equilibration_fs: Number = 500.0,
    friction_per_fs: Number = 0.01,
    screen: Screen | None = None,
    progress: Progress | None = None,
) -> Generated:
    """n frames of Langevin dynamics at each temperature.

    Structures that the screen refuses are missing, for a trajectory has no other frame in their place; so are all frames after dynamics that broke.

    Args:
        atoms: where to start.
        temperature_K: one or several [K]; each has a trajectory of its own.
        n: frames of each.
        seed: of velocities and random forces.
        potential: what drives: either this,
        oracle: or this, called afresh at every step.
        timestep_fs: [fs].
        interval_fs: between frames [fs].
        equilibration_fs: before the first frame [fs], rounded up to whole intervals.
        friction_per_fs: of the Langevin thermostat [1/fs].
        screen: what is refused.
        progress: called after each interval.

    Raises:
        ConfigError: unless there is one of potential and oracle, or for times that are none.
        StructureError, SimulationError: for what cannot be driven at all.
    """
    structure, screen = Structure.from_atoms(atoms).check(), screen or Screen()
    temperatures = [float(t) for t in np.atleast_1d(temperature_K)]
    if (potential is None) == (oracle is None):
        raise ConfigError("md: expected one thing that drives, a potential or an oracle")
    for name, value in {"temperature_K": min(temperatures), "timestep_fs": timestep_fs, "n": n, "friction_per_fs": friction_per_fs}.items():
        if not 0 < value < 1e6:
            raise ConfigError(f"{name}: found {value}, expected a number above 0")
    if not (interval_fs >= timestep_fs and 0 <= equilibration_fs < 1e9):
        raise ConfigError(
            f"found interval_fs {interval_fs} and equilibration_fs {equilibration_fs}, expected at least a timestep, and at least 0"
        )
    every, first = round(interval_fs / timestep_fs), max(1, int(np.ceil(equilibration_fs / interval_fs)))
    shared = {"timestep_fs": timestep_fs, "interval_fs": interval_fs, "equilibration_fs": equilibration_fs}
    shared = {k: float(v) for k, v in (shared | {"friction_per_fs": friction_per_fs}).items()}
    parts = []
    for temperature in temperatures:
        parameters = {"temperature_K": temperature, **shared, **_driver(potential, oracle)}
        recipe = Recipe("md", parameters, seed, content_hash(structure))
        drive = _with_potential if potential is not None else _with_oracle
        shots, why = drive(potential or oracle, structure, recipe, every, first + n - 1, progress)
        parts.append(_collected(recipe, shots[first - 1 :], n, why, screen, first))
    return Generated.joined(parts)


def _driver(potential: Potential | None, oracle: Oracle | None) -> dict[str, Any]:
    if potential is not None:
        return {"potential": fingerprint(potential.params, repr(potential.spec), potential.dtype)}
    assert oracle is not None
    return {"oracle": dict(oracle.settings)}


def _collected(recipe: Recipe, shots: list[tuple[Structure, float]], n: int, why: str, screen: Screen, first: int) -> Generated:
    made, missing = [], []
    for index, (structure, temperature) in enumerate(shots):
        reason = screen.fault(structure)
        if reason is None:
            time = (first + index) * recipe.parameters["interval_fs"]
            made.append(Made(structure, recipe, index, drawn={"time_fs": time, "temperature_K": temperature}))
        else:
            missing.append(Missing("md", recipe.parent, index, reason))
    missing += [Missing("md", recipe.parent, index, why) for index in range(len(shots), n)]
    return Generated(tuple(made), tuple(missing))


def _with_potential(potential: Any, structure: Structure, recipe: Recipe, every: int, frames: int, progress: Progress | None) -> Shots:
    p, why = recipe.parameters, ""
    ensemble = Langevin(p["temperature_K"], timestep_fs=p["timestep_fs"], friction_per_fs=p["friction_per_fs"])
    tell = None if progress is None else lambda now: progress(now.step, now.n_steps)
    try:
        run = simulate(potential, structure, ensemble, every * frames, seed=recipe.number() % 2**32, every=every, progress=tell)
    except SimulationError as error:
        run, why = getattr(error, "run", None), f"the dynamics broke: {error}"
        if run is None:
            raise
    images = [replace(structure, positions=xyz, cell=cell) for xyz, cell in zip(run.positions, run.cell, strict=True)]
    return list(zip(images[1:], run.temperature_K[1:].tolist(), strict=True)), why


class OracleCalculator(Calculator):
    """An oracle's energy and forces for ASE's dynamics, which end at the first that cannot be believed; nothing is carried from one step to the next."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  (the attribute's name in ASE)

    def __init__(self, oracle: Oracle, charge: float) -> None:
        super().__init__()
        self.oracle, self.charge = oracle, charge

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        structure = Structure.from_atoms(self.atoms, self.charge)
        labels = self.oracle.compute(structure)
        if labels.forces is None:
            raise ConfigError(f"md: {self.oracle.name} gives no forces, expected an oracle that does")
        if reason := screen_labels(labels, structure, self.oracle.limits):
            raise SimulationError(f"{self.oracle.name}: {reason}")
        self.results = {"energy": labels.energy, "forces": labels.forces}


def _with_oracle(oracle: Any, structure: Structure, recipe: Recipe, every: int, frames: int, progress: Progress | None) -> Shots:
    from ase import units
    from ase.md.langevin import Langevin as AseLangevin

    p, rng, atoms = recipe.parameters, recipe.rng(), structure.to_atoms()
    atoms.calc = OracleCalculator(oracle, structure.charge)
    atoms.set_velocities(rng.normal(size=(len(atoms), 3)) * np.sqrt(KB * p["temperature_K"] / atoms.get_masses())[:, None])
    dynamics = AseLangevin(
        atoms, p["timestep_fs"] * units.fs, friction=p["friction_per_fs"] / units.fs, fixcm=False, rng=rng, temperature_K=p["temperature_K"]
    )
    shots: list[tuple[Structure, float]] = []
    try:
        for frame in range(1, frames + 1):
            dynamics.run(every)
            shots.append((_image(structure, atoms), float(atoms.get_temperature())))
            if progress:
                progress(frame * every, frames * every)
    except ConfigError:
        raise
    except Exception as error:  # a program that gives up on a structure raises whatever it likes
        reason = str(error) if isinstance(error, EqpotError) else f"{type(error).__name__}: {error}"
        return shots, f"the dynamics broke: {' '.join(reason.split())}"
    return shots, ""


def _image(structure: Structure, atoms: Atoms) -> Structure:
    return replace(structure, positions=atoms.get_positions())
