"""Structures to test on, scaled to a model's cutoff so that each atom has neighbours, and few enough to be fast."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eqpot.core.elements import atomic_number
from eqpot.graph import Structure


def _numbers(elements: Sequence[str], n: int) -> np.ndarray:
    return np.array([atomic_number(elements[k % len(elements)]) for k in range(n)])


def scattered(elements: Sequence[str], n: int, edge: float, closest: float, rng: np.random.Generator) -> Structure:
    """`n` atoms in a cube without periodicity, none nearer than `closest`."""
    points: list[np.ndarray] = []
    while len(points) < n:
        trial = rng.random(3) * edge
        if all(np.linalg.norm(trial - p) > closest for p in points):
            points.append(trial)
    return Structure(_numbers(elements, n), np.array(points))


def crystal(elements: Sequence[str], n: int, cell: np.ndarray, closest: float, rng: np.random.Generator) -> Structure:
    """`n` atoms at random in a periodic cell, none (nor its image) nearer than `closest`."""
    images = np.array(list(np.ndindex(3, 3, 3))) - 1
    points: list[np.ndarray] = []
    while len(points) < n:
        trial = rng.random(3) @ cell
        if all(np.linalg.norm(trial - p + images @ cell, axis=1).min() > closest for p in points):
            points.append(trial)
    return Structure(_numbers(elements, n), np.array(points), cell, True)


def general(elements: Sequence[str], cutoff: float, seed: int = 0) -> list[Structure]:
    """A molecule, a sheared triclinic crystal, a left-handed one and a slab without a third lattice vector."""
    rng = np.random.default_rng(seed)
    closest = 0.35 * cutoff
    molecule = scattered(elements, 6, 1.1 * cutoff, closest, rng)
    sheared = cutoff * np.array([[1.0, 0.0, 0.0], [0.35, 0.95, 0.0], [-0.2, 0.3, 1.05]])
    left = cutoff * np.array([[0.1, 1.0, 0.0], [0.95, 0.0, 0.15], [0.2, -0.25, 1.1]])
    slab = crystal(elements, 4, cutoff * np.array([[1.0, 0.1, 0.0], [-0.2, 1.1, 0.0], [0.0, 0.0, 1.0]]), closest, rng)
    flat = np.array(slab.cell)
    flat[2] = 0.0
    return [
        molecule,
        crystal(elements, 4, sheared, closest, rng),
        crystal(elements, 3, left, closest, rng),
        Structure(slab.numbers, slab.positions, flat, (True, True, False)),
    ]


def primitive(elements: Sequence[str], cutoff: float) -> list[Structure]:
    """Cells far smaller than the cutoff, all sites of inversion or tetrahedral symmetry: fcc with one atom and zincblende with two."""
    fcc = 0.5 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    a, b = 0.75 * cutoff, 1.1 * cutoff
    return [
        Structure(_numbers(elements, 1), np.zeros((1, 3)), a * fcc, True),
        Structure(_numbers(elements, 2), b * np.array([[0.0, 0, 0], [0.25, 0.25, 0.25]]), b * fcc, True),
    ]


def symmetric(elements: Sequence[str], cutoff: float) -> list[Structure]:
    """Where derivatives like to break: three atoms in a row on the z axis, the same along x, and one atom alone."""
    step = 0.5 * cutoff
    row = np.array([[0.0, 0, -step], [0, 0, 0], [0, 0, step]])
    numbers = _numbers(elements, 3)[[0, 1, 0]]
    return [Structure(numbers, row), Structure(numbers, row[:, [2, 0, 1]]), alone(elements[-1])]


def alone(element: str, edge: float = 0.0) -> Structure:
    """One atom, in a periodic cube when an edge [Å] is given."""
    return Structure([atomic_number(element)], np.zeros((1, 3)), edge * np.eye(3), edge > 0)


def repeat(structure: Structure, counts: tuple[int, int, int]) -> Structure:
    """A supercell."""
    shifts = np.array(list(np.ndindex(*counts))) @ structure.cell
    positions = (structure.positions[None] + shifts[:, None]).reshape(-1, 3)
    cell = np.array(counts)[:, None] * structure.cell
    return Structure(np.tile(structure.numbers, len(shifts)), positions, cell, structure.pbc, len(shifts) * structure.charge)


def moved(structure: Structure, positions: np.ndarray, cell: np.ndarray | None = None) -> Structure:
    """The same atoms elsewhere."""
    return replace(structure, positions=positions, cell=structure.cell if cell is None else cell)
