"""What is done to crystals: strain, vacancies, interstitials, surfaces."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np

from eqpot.active.generate_record import Generated, Number, Recipe, Screen, Unmade, content_hash, drawn
from eqpot.core.elements import atomic_number
from eqpot.core.errors import ConfigError, StructureError
from eqpot.graph.neighbors import complete_cell
from eqpot.graph.structure import Structure

LISTED = 10_000
"""Ways to choose sites up to which all are listed, so that none is drawn twice."""
POINTS = 256
"""Points that are looked at in one try to place an interstitial."""


def strained(
    atoms: Any, n: int, seed: int = 0, *, volumetric: Sequence[Number] = (-0.06, 0.06), shear: Number = 0.03, screen: Screen | None = None
) -> Generated:
    """Homogeneously strained crystals: cell and positions times F = (1 + v)^(1/3)·exp(e).

    v is drawn evenly from `volumetric` and is the relative change of the volume, exactly; e is symmetric and without trace, its components drawn evenly
    from ±`shear`. Fractional coordinates stay. F is symmetric: there is no rotation.

    Raises:
        StructureError: for what is not periodic in all directions.
        ConfigError: for ranges that are none.
    """
    structure = _bulk(atoms, "strain")
    low, high = (float(v) for v in volumetric)
    if not (-0.9 < low <= high < 10 and 0 <= shear < 1):
        raise ConfigError(f"found volumetric ({low}, {high}) and shear {shear}, expected −0.9 < low ≤ high < 10 and 0 ≤ shear < 1")

    def make(rng: np.random.Generator, index: int) -> tuple[Structure, dict[str, Any]]:
        del index
        volume, draw = rng.uniform(low, high), rng.uniform(-shear, shear, (3, 3))
        deviator = np.triu(draw) + np.triu(draw, 1).T
        values, vectors = np.linalg.eigh(deviator - np.eye(3) * np.trace(deviator) / 3)
        deformation = np.cbrt(1 + volume) * (vectors * np.exp(values)) @ vectors.T
        moved = replace(structure, positions=structure.positions @ deformation, cell=structure.cell @ deformation)
        return moved, {"volume_change": volume, "deformation": deformation.tolist()}

    parameters = {"volumetric": [low, high], "shear": float(shear)}
    return drawn(Recipe("strain", parameters, seed, content_hash(structure)), n, make, screen or Screen())


def with_vacancies(
    atoms: Any, n: int, seed: int = 0, *, count: int = 1, element: str | None = None, screen: Screen | None = None
) -> Generated:
    """Structures with `count` atoms (of one element, if named) taken out at random; no choice of sites comes twice.

    Sites that symmetry makes equal are different sites here. The total charge stays.

    Raises:
        StructureError: when there are fewer such atoms, or none would be left.
        ConfigError: for a count below 1.
    """
    structure = Structure.from_atoms(atoms).check()
    sites = np.arange(len(structure)) if element is None else np.flatnonzero(structure.numbers == atomic_number(element))
    if count < 1:
        raise ConfigError(f"count: found {count}, expected at least 1 vacancy")
    if count > len(sites) or count >= len(structure):
        raise StructureError(f"vacancy: found {len(sites)} {element or ''} sites in {structure.formula}, too few to take out {count}")
    recipe = Recipe("vacancy", {"count": count, "element": element}, seed, content_hash(structure))
    ways = math.comb(len(sites), count)
    listed = None
    if ways <= LISTED:
        listed = np.array(list(combinations(sites.tolist(), count)))[recipe.rng().permutation(ways)]
    seen: set[tuple[int, ...]] = set()

    def make(rng: np.random.Generator, index: int) -> tuple[Structure, dict[str, Any]]:
        if listed is not None and index >= ways:
            raise Unmade(f"there are only {ways} ways to choose the sites")
        out = listed[index] if listed is not None else np.sort(rng.choice(sites, count, replace=False))
        chosen = tuple(int(k) for k in out)
        if listed is None and chosen in seen:
            raise Unmade("the same sites were drawn before")
        seen.add(chosen)
        kept = np.delete(np.arange(len(structure)), out)
        left = replace(structure, numbers=structure.numbers[kept], positions=structure.positions[kept])
        return left, {"sites": list(chosen)}

    return drawn(recipe, n, make, screen or Screen(), tries=1 if listed is not None else None)


def with_interstitials(
    atoms: Any, n: int, seed: int = 0, *, element: str | None = None, count: int = 1, screen: Screen | None = None
) -> Generated:
    """Structures with `count` further atoms in random places that the screen allows.

    Args:
        atoms: periodic in at least one direction; along the others, places are between the outermost atoms.
        n: structures.
        seed: of the draws.
        element: of the new atoms; by default that of an atom drawn at random.
        count: new atoms in each.
        screen: what is refused; a larger `nearest` keeps to the wider holes.

    Raises:
        StructureError: for a molecule.
        ConfigError: for a count below 1.
    """
    structure = Structure.from_atoms(atoms).check()
    if not structure.pbc.any():
        raise StructureError(f"interstitial: found {structure.formula} without periodicity, expected a crystal or a slab")
    if count < 1:
        raise ConfigError(f"count: found {count}, expected at least 1 interstitial")
    screen, kind = screen or Screen(), None if element is None else atomic_number(element)

    def make(rng: np.random.Generator, index: int) -> tuple[Structure, dict[str, Any]]:
        del index
        grown = structure
        for _ in range(count):
            number = int(rng.choice(structure.numbers)) if kind is None else kind
            place = _hole(grown, number, rng, screen)
            grown = replace(grown, numbers=np.append(grown.numbers, number), positions=np.vstack([grown.positions, place]))
        return grown, {"places": grown.positions[-count:].tolist()}

    parameters = {"element": element, "count": count, "nearest": screen.nearest, "min_distance": screen.min_distance}
    return drawn(Recipe("interstitial", parameters, seed, content_hash(structure)), n, make, screen)


def _hole(structure: Structure, number: int, rng: np.random.Generator, screen: Screen) -> np.ndarray:
    """The first of `POINTS` random points that is far enough from all atoms."""
    from ase.geometry import get_distances

    cell = complete_cell(structure.cell, structure.pbc)
    fractional = structure.positions @ np.linalg.inv(cell)
    low = np.where(structure.pbc, 0.0, fractional.min(0))
    width = np.where(structure.pbc, 1.0, np.ptp(fractional, axis=0))
    points = (low + width * rng.uniform(size=(POINTS, 3))) @ cell
    _, distances = get_distances(points, structure.positions, cell=cell, pbc=structure.pbc)
    least = screen.limits(structure.numbers, np.full(len(structure), number))
    free = np.flatnonzero((np.asarray(distances) >= least).all(1))
    if not len(free):
        raise Unmade(f"no hole for an interstitial in {POINTS} random points")
    return points[free[0]]


def surfaces(
    atoms: Any,
    miller: Sequence[Sequence[int]],
    *,
    layers: Sequence[int] = (4,),
    vacuum_A: Number = 10.0,
    periodic: bool = True,
    screen: Screen | None = None,
) -> Generated:
    """Slabs cut from a crystal by `ase.build.surface`: one for each pair of Miller indices and number of layers; nothing is random.

    Args:
        atoms: the crystal; Miller indices belong to its cell, so give the conventional one.
        miller: indices (h, k, l).
        layers: of the crystal's cell along the normal.
        vacuum_A: on each side [Å].
        periodic: also along the normal, as most programs want a slab; else pbc is False there.
        screen: what is refused.

    Raises:
        StructureError: for what is not periodic in all directions, or charged.
        ConfigError: for indices that are all zero, and layers or vacuum out of range.
    """
    from ase.build import surface

    structure = _bulk(atoms, "surface")
    choices = [([int(i) for i in indices], int(count)) for indices, count in product(miller, layers)]
    if structure.charge:
        raise StructureError(f"surface: found a total charge of {structure.charge:g}, expected a neutral crystal")
    if not choices or any(len(i) != 3 or not any(i) or count < 1 for i, count in choices) or not 0 < vacuum_A < 1e3:
        raise ConfigError(f"surface: found {choices}, vacuum {vacuum_A:g} Å; expected indices such as [1, 1, 0], layers ≥ 1, vacuum > 0")

    def slab(indices: list[int], count: int) -> tuple[Structure, dict[str, Any]]:
        # Told to make it periodic, ASE 3.29 folds along the normal, and rounding puts half of a layer on the other side of the slab.
        cut = surface(structure.to_atoms(), indices, count, vacuum=vacuum_A)
        cut.pbc = [True, True, periodic]
        return Structure.from_atoms(cut), {}

    parts = []
    for indices, count in choices:
        parameters = {"miller": indices, "layers": count, "vacuum_A": float(vacuum_A), "periodic": periodic}
        recipe = Recipe("surface", parameters, 0, content_hash(structure))
        parts.append(drawn(recipe, 1, lambda rng, index, at=(indices, count): slab(*at), screen or Screen(), tries=1))
    return Generated.joined(parts)


def _bulk(atoms: Any, method: str) -> Structure:
    structure = Structure.from_atoms(atoms).check()
    if not structure.pbc.all():
        raise StructureError(f"{method}: found {structure.formula} with pbc {structure.pbc.tolist()}, expected a crystal, periodic in all")
    return structure
