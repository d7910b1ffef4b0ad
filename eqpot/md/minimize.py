"""Relaxation: atoms and, if wanted, the cell brought to a minimum of energy or enthalpy.

    relaxed = relax(potential, atoms, cell="flexible")
    relaxed.atoms, relaxed.energy, relaxed.converged

Steps are compiled, in blocks; many structures relax side by side in one program, and each stops on its own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from eqpot.core.errors import SimulationError
from eqpot.core.units import EV_PER_A3_TO_GPA
from eqpot.graph.neighbors import complete_cell
from eqpot.md.bodies import CELLS, Bodies, strain_scale
from eqpot.md.descent import Descent
from eqpot.md.ensembles import Number, require
from eqpot.md.fire import Fire, Method
from eqpot.md.lbfgs import Lbfgs
from eqpot.md.relaxation import Harvest, Relaxation, RelaxationProgress
from eqpot.md.run import PRECISIONS, require_integer
from eqpot.md.systems import System, read_system
from eqpot.md.trajectory import check_path
from eqpot.potential import Potential
from eqpot.potential.potential import DIRECT_FORCES

METHODS: dict[str, Method] = {"fire": Fire(), "lbfgs": Lbfgs()}
"""How to go downhill, by name."""


def relax(
    potential: Potential,
    atoms: Any,
    *,
    force_tolerance: Number = 0.01,
    max_steps: int = 1000,
    cell: Literal["fixed", "isotropic", "flexible"] = "fixed",
    pressure_GPa: Number = 0.0,
    stress_tolerance_GPa: Number = 0.1,
    method: Literal["fire", "lbfgs"] = "lbfgs",
    trajectory: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[RelaxationProgress], None] | None = None,
    precision: Literal["mixed", "float64", "float32"] = "mixed",
) -> Relaxation:
    """Bring a structure to a minimum of E, or of E + P·V where the cell may change.

    Atoms under an ASE `FixAtoms` constraint do not move; where the cell changes, they keep their fractional coordinates.

    Args:
        potential: an `eqpot.Potential`; the mean of its members is minimised, at its first level of theory (`potential.only(head)` chooses another).
        atoms: an `ase.Atoms` or a `Structure`.
        force_tolerance: converged when no free atom has a larger force [eV/Å] …
        max_steps: evaluations of the potential after the first; a structure that has not converged by then is returned as it is.
        cell: 'fixed'; 'isotropic', which keeps the shape; or 'flexible', any deformation without rotation.
        pressure_GPa: P, positive under compression [GPa].
        stress_tolerance_GPa: … and no component of σ + P that the cell can follow is larger [GPa].
        method: 'lbfgs', the fewest evaluations; or 'fire', for starts far from any minimum.
        trajectory: extended XYZ file for the steps, with energy, forces and stress.
        overwrite: replace such a file if it exists.
        progress: called with a `RelaxationProgress` after each block of steps.
        precision: 'mixed' (network in float32, coordinates in float64), 'float32' or 'float64'.

    Returns:
        the `Relaxation`; look at `converged`.

    Raises:
        SimulationError: for an argument out of range, direct forces, atoms on top of each other, or an energy that is not finite.
        StructureError: for atoms that the potential cannot judge.

    Reference: FIRE, Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006); L-BFGS, Liu and Nocedal, Math. Program. 45, 503 (1989).
    """
    options = {k: v for k, v in locals().items() if k not in ("potential", "atoms", "trajectory")}
    return _relax(potential, [atoms], None if trajectory is None else [Path(trajectory)], **options)[0]


def relax_many(potential: Potential, atoms: Sequence[Any], *, trajectory: str | Path | None = None, **options: Any) -> list[Relaxation]:
    """Relax many structures in one compiled program; each as it would alone, to rounding.

    Structures are padded to the largest, and all are evaluated until the last has converged, so they are best of similar size.

    Args:
        potential: see `relax`.
        atoms: the structures.
        trajectory: 'NAME.extxyz' puts the steps of each structure into 'NAME-0.extxyz', 'NAME-1.extxyz', …
        options: all others of `relax`.

    Returns:
        a `Relaxation` for each.

    Raises:
        SimulationError: as `relax`, naming the structure.
    """
    systems = list(atoms)
    if not systems:
        raise SimulationError("no structures: expected at least one ase.Atoms or eqpot.Structure")
    path = None if trajectory is None else Path(trajectory)
    return _relax(potential, systems, path and [path.with_stem(f"{path.stem}-{k}") for k in range(len(systems))], **options)


def _relax(
    potential: Potential,
    atoms: list[Any],
    paths: list[Path] | None,
    *,
    force_tolerance: Number = 0.01,
    max_steps: int = 1000,
    cell: str = "fixed",
    pressure_GPa: Number = 0.0,
    stress_tolerance_GPa: Number = 0.1,
    method: str = "lbfgs",
    overwrite: bool = False,
    progress: Callable[[RelaxationProgress], None] | None = None,
    precision: str = "mixed",
) -> list[Relaxation]:
    check_choices(potential, precision=(precision, PRECISIONS), method=(method, METHODS), cell=(cell, CELLS))
    require_integer("max_steps", max_steps, 0, 2**31 - 1)
    tolerances = (
        require("force_tolerance", force_tolerance, 0.0, 1e3),
        require("stress_tolerance_GPa", stress_tolerance_GPa, 0.0, 1e4) / EV_PER_A3_TO_GPA,
    )
    pressure = require("pressure_GPa", pressure_GPa, -1e4, 1e4) / EV_PER_A3_TO_GPA
    systems = [read_system(a) for a in atoms]
    _check_cells(systems, cell, pressure)
    if paths and (wrong := [p for p in paths if p.suffix not in (".xyz", ".extxyz")]):
        raise SimulationError(f"{wrong[0]}: found suffix '{wrong[0].suffix}', expected .extxyz or .xyz")
    paths = paths and [check_path(p, overwrite) for p in paths]
    network, motion = PRECISIONS[precision]
    with jax.enable_x64(motion == "float64"):
        landscape, points = _coordinates(systems, cell, pressure, tolerances, motion)
        descent = Descent(potential.astype(network), systems, landscape, points, METHODS[method], max_steps + 1)
        return Harvest(descent, potential, paths, progress).all()


def check_choices(potential: Any, **choices: tuple[Any, Any]) -> None:
    """Check the potential, and that each value is among those known.

    Raises:
        SimulationError: for a value that is not, or a potential that has no energy landscape.
    """
    if not isinstance(potential, Potential):
        raise SimulationError(
            f"potential: found {type(potential).__name__}, expected an eqpot.Potential; load one with Potential.load(path)"
        )
    if not potential.conservative:
        raise SimulationError(f"{DIRECT_FORCES}; there is no minimum to be found with it")
    for label, (value, known) in choices.items():
        if value not in known:
            raise SimulationError(f"{label}: found {value!r}, expected one of {', '.join(known)}")


def _check_cells(systems: list[System], cell: str, pressure: float) -> None:
    for system in systems:
        if cell != "fixed" and not system.structure.pbc.all():
            raise SimulationError(
                f"cell '{cell}': found pbc {system.structure.pbc.tolist()}, expected a cell that is periodic along all directions"
            )
    if cell == "fixed" and pressure:
        raise SimulationError("pressure_GPa: found a pressure and a fixed cell, expected cell='isotropic' or 'flexible' with it")


def _coordinates(
    systems: list[System], shape: str, pressure: float, tolerances: tuple[float, float], dtype: str
) -> tuple[Bodies, np.ndarray]:
    """The landscape and its starting point, each structure about its own centre."""
    rows = max(len(s.structure) for s in systems) + (0 if shape == "fixed" else 3)
    points = np.zeros((len(systems), rows, 3), dtype)
    for point, system in zip(points, systems, strict=True):
        point[: len(system.structure)] = system.structure.positions - system.structure.positions.mean(0)
    cells = [complete_cell(s.structure.cell, s.structure.pbc) for s in systems]
    scales = [strain_scale(len(s.structure), c) for s, c in zip(systems, cells, strict=True)]
    numbers: list[Any] = [jnp.asarray(np.asarray(x, dtype)) for x in (cells, scales, pressure, tolerances)]
    return Bodies(*numbers, shape=shape), points
