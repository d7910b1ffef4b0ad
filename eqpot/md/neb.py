"""Nudged elastic band: the path of least energy between two minima, and its saddle.

    path = neb(potential, relax(potential, start).atoms, relax(potential, end).atoms)
    path.barrier_eV, path.saddle

All images are evaluated in one compiled call.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eqpot.core.errors import SimulationError
from eqpot.graph.neighbors import complete_cell
from eqpot.md.band import Band
from eqpot.md.descent import Descent
from eqpot.md.ensembles import Number, require
from eqpot.md.fire import Fire
from eqpot.md.minimize import check_choices
from eqpot.md.relaxation import placed, with_results
from eqpot.md.run import PRECISIONS, require_integer
from eqpot.md.systems import System, read_system
from eqpot.potential import Potential

INTERPOLATIONS = ("idpp", "linear")
"""First guess of a path: straight in the distances between atoms, or in their positions."""
FIRST_PHASE = 5.0
"""The highest image climbs once forces are within this many tolerances: climbing from a crude guess may end at another saddle."""


@dataclass(frozen=True, eq=False)
class Path:
    """A path of least energy.

    Attributes:
        images: `ase.Atoms` from start to end, each with energy and forces; positions are continuous, never folded into the cell.
        energies: of the images, reference energies included [eV].
        energy_std: standard deviation of these over members [eV].
        reaction_coordinate: length of the path from the start, Σ |R_{i+1} − R_i| over all atoms' coordinates [Å].
        barrier_eV: of the highest image above the start.
        reverse_barrier_eV: of the highest image above the end.
        highest: index of the highest image; with a climbing image, the saddle.
        max_force: largest nudged force on an atom of any image [eV/Å]; at a climbing image it is as large as the true force.
        end_forces: largest force on an atom that is free, at start and end [eV/Å].
        n_evaluations: of all images.
        converged: whether `max_force` is within the tolerance.
    """

    images: list[Any]
    energies: Float[np.ndarray, " I"]
    energy_std: Float[np.ndarray, " I"]
    reaction_coordinate: Float[np.ndarray, " I"]
    barrier_eV: float
    reverse_barrier_eV: float
    highest: int
    max_force: float
    end_forces: tuple[float, float]
    n_evaluations: int
    converged: bool

    @property
    def saddle(self) -> Any:
        """The highest image."""
        return self.images[self.highest]


@dataclass(frozen=True)
class NebProgress:
    """Where a band stands: evaluations, most of them, barrier so far [eV], largest nudged force [eV/Å], and whether an image climbs."""

    n_evaluations: int
    max_steps: int
    barrier_eV: float
    max_force: float
    climbing: bool


def neb(
    potential: Potential,
    start: Any,
    end: Any,
    n_images: int = 7,
    *,
    climb: bool = True,
    spring: Number = 0.1,
    force_tolerance: Number = 0.05,
    max_steps: int = 500,
    interpolation: Literal["idpp", "linear"] = "idpp",
    progress: Callable[[NebProgress], None] | None = None,
    precision: Literal["mixed", "float64", "float32"] = "mixed",
) -> Path:
    """Find the path of least energy from one minimum to another, by FIRE on a nudged elastic band with improved tangents.

    Args:
        potential: an `eqpot.Potential`; the mean of its members is followed.
        start, end: the same atoms in the same order and cell, at two minima; across a periodic boundary the shorter way is taken. Atoms that the start holds by
            `FixAtoms` do not move.
        n_images: images in all, the two ends among them, at least 3.
        climb: whether the highest image climbs to the saddle, once the path is roughly found.
        spring: between neighbouring images [eV/Å²].
        force_tolerance: converged when no nudged force on an atom is larger [eV/Å].
        max_steps: evaluations of the path after the first; one that has not converged by then is returned as it is.
        interpolation: of the first guess, 'idpp' or 'linear'.
        progress: called with a `NebProgress` after each block of steps.
        precision: 'mixed' (network in float32, coordinates in float64), 'float32' or 'float64'.

    Returns:
        the `Path`; look at `converged`.

    Raises:
        SimulationError: for an argument out of range, ends that do not belong together or are not relaxed to the tolerance (it says by how much),
            direct forces, atoms on top of each other, or an energy that is not finite.

    Reference: Henkelman and Jónsson, J. Chem. Phys. 113, 9978 (2000); Henkelman, Uberuaga and Jónsson, ibid. 9901; first guess: Smidstrup,
        Pedersen, Stokbro and
    Jónsson, J. Chem. Phys. 140, 214106 (2014).
    """
    check_choices(potential, precision=(precision, PRECISIONS), interpolation=(interpolation, INTERPOLATIONS))
    require_integer("n_images", n_images, 3, 1000)
    require_integer("max_steps", max_steps, 0, 2**31 - 1)
    tolerance = require("force_tolerance", force_tolerance, 0.0, 1e3)
    stiffness = require("spring", spring, 0.0, 1e3)
    first, last = read_system(start), read_system(end)
    _check_ends(first, last)
    guess = interpolate(first, last, n_images, interpolation)
    network, motion = PRECISIONS[precision]
    systems = [replace(first, structure=replace(first.structure, positions=p)) for p in guess]
    with jax.enable_x64(motion == "float64"):
        cells = np.stack([complete_cell(first.structure.cell, first.structure.pbc)] * n_images)
        rough = tolerance * FIRST_PHASE if climb else tolerance
        numbers: list[Any] = [jnp.asarray(np.asarray(x, motion)) for x in (cells, stiffness, 0.0, rough)]
        middle = first.structure.positions.mean(0)
        points = (guess - middle).reshape(1, -1, 3).astype(motion)
        descent = Descent(potential.astype(network), systems, Band(*numbers), points, Fire(), 1)
        _run(descent, None)
        _check_relaxed(descent, tolerance)
        descent.allow(max_steps + 1)
        try:
            _run(descent, progress)
            if climb:
                descent.resume(
                    lambda band: replace(band, climb=jnp.ones_like(band.climb), tolerance=jnp.full_like(band.tolerance, tolerance))
                )
                _run(descent, progress)
        except KeyboardInterrupt as stop:
            stop.reached = _path(descent, first, potential.offset_of(first.structure)).images  # type: ignore[attr-defined]
            raise
        return _path(descent, first, potential.offset_of(first.structure))


def interpolate(first: System, last: System, n_images: int, how: str) -> Float[np.ndarray, "I N 3"]:
    """A first guess of the path [Å], along the shorter way for each atom."""
    from ase.geometry import find_mic
    from ase.mep import NEB

    start = first.atoms.copy()
    ahead = find_mic(last.structure.positions - first.structure.positions, start.cell, start.pbc)[0]
    if np.abs(ahead[first.fixed]).max(initial=0) > 1e-3:
        raise SimulationError("start and end: found fixed atoms at different positions, expected the same")
    ahead[first.fixed] = 0
    images = [start.copy() for _ in range(n_images)]
    for k, image in enumerate(images):
        image.set_positions(first.structure.positions + ahead * (k / (n_images - 1)), apply_constraint=False)
    if how == "idpp":
        NEB(images, method="improvedtangent").interpolate("idpp", mic=True, apply_constraint=False)
    return np.stack([image.positions for image in images])


def _check_ends(first: System, last: System) -> None:
    a, b = first.structure, last.structure
    if not np.array_equal(a.numbers, b.numbers):
        raise SimulationError("start and end: found different atoms, or the same in another order, expected the same in the same order")
    if not (np.array_equal(a.pbc, b.pbc) and np.abs(np.where(a.pbc[:, None], a.cell - b.cell, 0)).max() < 1e-6 and a.charge == b.charge):
        raise SimulationError("start and end: found different cells, periodicity or charge, expected the same; relax both in one cell")
    if np.abs(a.positions - b.positions).max() < 1e-3:
        raise SimulationError("start and end: found the same positions, expected two minima")


def _check_relaxed(descent: Descent, tolerance: float) -> None:
    for name, force in zip(("start", "end"), _end_forces(descent), strict=True):
        if force > tolerance:
            raise SimulationError(
                f"{name}: found a largest force of {force:.3g} eV/Å, expected at most force_tolerance ({tolerance:g}); relax it first with eqpot.relax"
            )


def _end_forces(descent: Descent) -> tuple[float, float]:
    forces = np.linalg.norm(np.asarray(descent.search.evaluation.push.forces), axis=-1).max(-1)
    return float(forces[0]), float(forces[-1])


def _run(descent: Descent, progress: Callable[[NebProgress], None] | None) -> None:
    while descent.going:
        descent.advance()
        if fault := descent.fault():
            raise SimulationError(f"{fault}; try more images, or another first guess (interpolation)")
        if progress:
            band, search = descent.terms.landscape, descent.search
            assert isinstance(band, Band)
            energies, tolerance = np.asarray(search.evaluation.energy), float(band.tolerance)
            most = int(descent.terms.most) - 1
            progress(
                NebProgress(
                    int(search.looks[0]), most, float(energies.max() - energies[0]), float(search.excess[0]) * tolerance, bool(band.climb)
                )
            )


def _path(descent: Descent, first: System, reference: float) -> Path:
    search, band = descent.search, descent.terms.landscape
    assert isinstance(band, Band)
    evaluation = jax.device_get(search.evaluation)
    images = []
    for k, positions in enumerate(np.asarray(search.positions, np.float64)):
        one = jax.tree.map(lambda x, k=k: x[k], evaluation)
        images.append(with_results(placed(first, positions, first.structure.cell), one, reference))
    energies = evaluation.energy.astype(np.float64) + reference
    steps = [np.linalg.norm(b.positions - a.positions) for a, b in pairwise(images)]
    return Path(
        images=images,
        energies=energies,
        energy_std=evaluation.energy_std.astype(np.float64),
        reaction_coordinate=np.concatenate([[0.0], np.cumsum(steps)]),
        barrier_eV=float(energies.max() - energies[0]),
        reverse_barrier_eV=float(energies.max() - energies[-1]),
        highest=int(energies.argmax()),
        max_force=float(search.excess[0]) * float(band.tolerance),
        end_forces=_end_forces(descent),
        n_evaluations=int(search.looks[0]),
        converged=bool(search.excess[0] <= 1),
    )
