"""Random structures: the atoms of a structure thrown anew, without any two on top of each other."""

from typing import Any

import numpy as np

from eqpot.active.generate_record import Generated, Recipe, Screen, Unmade, content_hash, covalent_radii, drawn
from eqpot.graph.structure import Structure

PLACES = 400
"""Places that are tried for one atom."""
BONDS = (0.85, 1.25)
"""Distance of a new atom of a molecule to the one that it is put beside, in sums of covalent radii."""


def random_structures(
    atoms: Any, n: int, *, volume: tuple[float, float] = (0.9, 1.3), seed: int = 0, screen: Screen | None = None
) -> Generated:
    """Structures of the same composition whose atoms are at random places.

    Periodic along all directions: a cell of the same shape, its volume drawn, atoms anywhere in it. Otherwise a cluster that grows: each atom, in
    random order, is put beside one that is there, at 0.85 to 1.25 sums of covalent radii. None is nearer to another than the screen allows.

    Args:
        atoms: `ase.Atoms` or `Structure`, for composition, cell and charge.
        n: how many.
        volume: range of the cell's volume, in that of the given cell.

    Raises:
        ConfigError, StructureError: for input without meaning.

    Reference: C. J. Pickard, R. J. Needs, J. Phys.: Condens. Matter 23, 053201 (2011).
    """
    start, screen = Structure.from_atoms(atoms).check(), screen or Screen()
    recipe = Recipe("random", {"volume": list(volume)}, seed, content_hash(start))

    def make(rng: np.random.Generator, index: int) -> tuple[Structure, dict[str, Any]]:
        del index
        if not start.pbc.all():
            return Structure(start.numbers, _cluster(start.numbers, rng, screen), charge=start.charge), {}
        size = float(rng.uniform(*volume))
        cell = start.cell * size ** (1 / 3)
        return Structure(start.numbers, _packed(start.numbers, cell, rng, screen), cell, True, start.charge), {"volume": size}

    return drawn(recipe, n, make, screen)


def _packed(numbers: np.ndarray, cell: np.ndarray, rng: np.random.Generator, screen: Screen) -> np.ndarray:
    """Atoms put one after the other into a cell, each at the first place that is free."""
    images = (np.array(list(np.ndindex(3, 3, 3))) - 1) @ cell
    placed = np.zeros((0, 3))
    for k, number in enumerate(numbers):
        limits = screen.limits(np.full(k, number), numbers[:k])
        for position in rng.random((PLACES, 3)) @ cell:
            away = np.linalg.norm(placed[:, None] + images - position, axis=-1).min(1)
            if (away >= limits).all():
                break
        else:
            raise Unmade(f"no room for atom {k}")
        placed = np.vstack([placed, position])
    return placed


def _cluster(numbers: np.ndarray, rng: np.random.Generator, screen: Screen) -> np.ndarray:
    """Atoms put one after the other beside one that is there."""
    radii, order = covalent_radii(numbers), rng.permutation(len(numbers))
    positions = np.zeros((len(numbers), 3))
    for k, atom in enumerate(order[1:], 1):
        there = order[:k]
        limits = screen.limits(np.full(k, numbers[atom]), numbers[there])
        for _ in range(PLACES):
            beside = rng.choice(there)
            direction = rng.normal(size=3)
            distance = rng.uniform(*BONDS) * (radii[atom] + radii[beside])
            place = positions[beside] + distance * direction / np.linalg.norm(direction)
            if (np.linalg.norm(positions[there] - place, axis=1) >= limits).all():
                break
        else:
            raise Unmade(f"no room for atom {atom}")
        positions[atom] = place
    return positions
