"""What comes of a relaxation, and how it is brought in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from eqpot.core.errors import SimulationError
from eqpot.core.units import EV_PER_A3_TO_GPA
from eqpot.md.bodies import Bodies
from eqpot.md.descent import Descent
from eqpot.md.systems import System
from eqpot.md.trajectory import guarded
from eqpot.potential import Potential


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What came of a relaxation.

    Attributes:
        atoms: where it came to: an `ase.Atoms` that knows its energy, forces and (of a crystal) stress.
        energy: mean over members, reference energies included [eV].
        energy_std: standard deviation over members [eV].
        max_force: largest |F_i| of any atom that is free [eV/Å].
        max_stress_GPa: largest component of σ + P that the cell could give way to; None where the cell is fixed.
        atom_std: uncertainty of each atom's force, √Σ_xyz σ² over members [eV/Å].
        n_steps: steps that were kept.
        n_evaluations: of the potential, the start and steps that were taken back among them.
        converged: whether force and stress are within the tolerances.
        energies: of the start and after each step that was kept [eV]; without P·V.
    """

    atoms: Any
    energy: float
    energy_std: float
    max_force: float
    max_stress_GPa: float | None
    atom_std: Float[np.ndarray, " N"]
    n_steps: int
    n_evaluations: int
    converged: bool
    energies: Float[np.ndarray, " F"]


@dataclass(frozen=True)
class RelaxationProgress:
    """Where relaxations stand.

    Attributes:
        n_evaluations: of each structure that still goes on.
        max_steps: most evaluations after the first.
        n_converged: structures that have arrived.
        energy: of the structure with the largest force [eV].
        max_force: on any free atom of any structure [eV/Å].
    """

    n_evaluations: int
    max_steps: int
    n_converged: int
    energy: float
    max_force: float


class Harvest:
    """Runs a descent of `Bodies` to its end, and collects what comes.

    Args:
        descent: not yet begun.
        potential: for the reference energies.
        paths: trajectories, one for each system, or None.
        progress: called after each block of steps.
    """

    def __init__(
        self,
        descent: Descent,
        potential: Potential,
        paths: list[Path] | None,
        progress: Callable[[RelaxationProgress], None] | None,
    ) -> None:
        self.descent, self.paths, self.progress = descent, paths, progress
        self.references = [potential.offset_of(s.structure) for s in descent.systems]
        self.energies: list[list[float]] = [[] for _ in descent.systems]

    def all(self) -> list[Relaxation]:
        """Relax all systems.

        Raises:
            SimulationError: when one breaks.
            KeyboardInterrupt: passed on when the user stops; `reached` of the exception has the atoms as far as they came.
        """
        try:
            while self.descent.going:
                self._take(self.descent.advance())
                if fault := self.descent.fault():
                    raise SimulationError(f"{fault}; is the start sensible, and within what the potential was trained on?")
        except KeyboardInterrupt as stop:
            if all(self.energies):
                stop.reached = [self._result(g).atoms for g in range(len(self.energies))]  # type: ignore[attr-defined]
            raise
        return [self._result(g) for g in range(len(self.energies))]

    def _take(self, shots: Any) -> None:
        for g, energies in enumerate(self.energies):
            steps = np.flatnonzero(shots.taken[:, g])
            frames = [jax.tree.map(lambda x, at=(k, g): x[at], shots.evaluation) for k in steps]
            if self.paths and len(frames):
                images = [self._image(g, shots.positions[k, g], shots.cell[k, g], e) for k, e in zip(steps, frames, strict=True)]
                guarded(self.paths[g], write_images, self.paths[g], images, bool(energies))
            energies += [float(e.energy) + self.references[g] for e in frames]
        if self.progress:
            self.progress(self._progress())

    def _progress(self) -> RelaxationProgress:
        search = self.descent.search
        forces = np.linalg.norm(np.asarray(search.evaluation.push.forces), axis=-1).max(-1)
        worst = int(forces.argmax())
        looks, done = np.asarray(search.looks), np.asarray(search.excess) <= 1
        energy = float(search.evaluation.energy[worst]) + self.references[worst]
        return RelaxationProgress(int(looks.max()), int(self.descent.terms.most) - 1, int(done.sum()), energy, float(forces[worst]))

    def _image(self, g: int, positions: np.ndarray, cell: np.ndarray, evaluation: Any) -> Any:
        system = self.descent.systems[g]
        image = placed(system, np.asarray(positions, np.float64), np.asarray(cell, np.float64))
        return with_results(image, evaluation, self.references[g])

    def _result(self, g: int) -> Relaxation:
        search, landscape = self.descent.search, self.descent.terms.landscape
        last = jax.device_get(jax.tree.map(lambda x: x[g], search.evaluation))
        assert isinstance(landscape, Bodies)
        tension = np.abs(np.asarray(landscape.tension(search.evaluation.push.stress)[g])).max() * EV_PER_A3_TO_GPA
        atoms = self._image(g, np.asarray(search.positions[g]), np.asarray(search.cell[g]), last)
        return Relaxation(
            atoms=atoms,
            energy=float(last.energy) + self.references[g],
            energy_std=float(last.energy_std),
            max_force=float(np.linalg.norm(last.push.forces, axis=-1).max()),
            max_stress_GPa=None if landscape.shape == "fixed" else float(tension),
            atom_std=last.atom_std[: len(atoms)].astype(np.float64),
            n_steps=int(search.steps[g]) - 1,
            n_evaluations=int(search.looks[g]),
            converged=bool(search.excess[g] <= 1),
            energies=np.array(self.energies[g]),
        )


def placed(system: System, positions: Float[np.ndarray, "M 3"], cell: Float[np.ndarray, "3 3"]) -> Any:
    """The system's atoms at positions about its centre, in a cell; M is N or, padded, more."""
    structure, atoms = system.structure, system.atoms.copy()
    middle = structure.positions.mean(0)
    where = positions[: len(structure)]
    if structure.pbc.all() and not np.array_equal(cell, structure.cell):
        # The centre follows the cell as atoms do: fractional coordinates of what is fixed stay what they were.
        atoms.set_positions(where + middle @ np.linalg.solve(structure.cell, cell), apply_constraint=False)
        atoms.set_cell(cell)
    else:
        atoms.set_positions(np.where(system.fixed[:, None], structure.positions, where + middle), apply_constraint=False)
    return atoms


def with_results(atoms: Any, evaluation: Any, reference: float) -> Any:
    """The atoms with a calculator that knows energy, forces and, of a crystal, stress; the potential's doubt in `info` and `arrays`."""
    from ase.calculators.singlepoint import SinglePointCalculator

    results: dict[str, Any] = {"energy": float(evaluation.energy) + reference}
    results["forces"] = np.asarray(evaluation.forces[: len(atoms)], np.float64)
    if atoms.pbc.all():
        results["stress"] = np.asarray(evaluation.stress, np.float64)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info["energy_std"] = float(evaluation.energy_std)
    atoms.arrays["force_std"] = np.asarray(evaluation.atom_std[: len(atoms)], np.float64)
    return atoms


def write_images(path: Path, images: list[Any], append: bool) -> None:
    """Write images as extended XYZ, behind those that are there or in place of them."""
    from ase.io import write

    write(path, images, format="extxyz", append=append)
