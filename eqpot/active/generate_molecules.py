"""What is done with molecules: pairs of atoms at many distances, and turns about single bonds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from eqpot.active.generate_record import Generated, Number, Recipe, Screen, Unmade, bonded, content_hash, covalent_radii, drawn
from eqpot.core.elements import atomic_number, symbol
from eqpot.core.errors import ConfigError, StructureError
from eqpot.graph.structure import Structure

SINGLE = 0.92
"""Shortest single bond in sums of covalent radii: C=C has 0.88, an amide's C–N 0.93, C–C of butadiene 0.96, C–C of ethane 1.01."""
GOLDEN = (np.sqrt(5) - 1) / 2
"""Multiples of it, modulo one, fill an interval evenly however many there are."""


def dimers(
    elements: Sequence[str],
    n: int,
    seed: int = 0,
    *,
    ratios: Sequence[Number] = (0.7, 2.5),
    distances_A: Sequence[Number] | None = None,
    screen: Screen | None = None,
) -> Generated:
    """Pairs of atoms in free space: n distances for each pair of elements, spread evenly over a range whatever n is.

    Args:
        elements: chemical symbols; every pair of them, an element with itself included.
        n: distances for each pair.
        seed: shifts the distances.
        ratios: the range in sums of covalent radii.
        distances_A: the range in Å, in place of that.
        screen: what is refused.

    Raises:
        ConfigError: for no elements or a range that is none.
        StructureError: for a symbol that is no element.
    """
    low, high = (float(x) for x in (ratios if distances_A is None else distances_A))
    if not elements or not 0 < low < high < 100:
        raise ConfigError(f"dimer: found elements {list(elements)} and the range ({low}, {high}), expected symbols and 0 < low < high")
    parts = []
    for pair in combinations_with_replacement(sorted({atomic_number(e) for e in elements}), 2):
        scale = float(covalent_radii(np.array(pair)).sum()) if distances_A is None else 1.0
        parameters = {"elements": [symbol(z) for z in pair], "range_A": [low * scale, high * scale]}
        parts.append(_pair(pair, Recipe("dimer", parameters, seed), n, screen or Screen()))
    return Generated.joined(parts)


def _pair(numbers: tuple[int, ...], recipe: Recipe, n: int, screen: Screen) -> Generated:
    low, high = recipe.parameters["range_A"]
    offset = recipe.rng().uniform()

    def make(rng: np.random.Generator, index: int) -> tuple[Structure, dict[str, Any]]:
        del rng
        distance = low + (high - low) * ((offset + index * GOLDEN) % 1)
        return Structure(numbers, [[0.0, 0.0, 0.0], [0.0, 0.0, distance]]), {"distance_A": distance}

    return drawn(recipe, n, make, screen, tries=1)


@dataclass(frozen=True)
class Torsion:
    """A bond that can turn.

    Attributes:
        atoms: a, i, j, d: the bond is i–j, and the dihedral angle is that of all four.
        moving: what turns with d: the atoms on the side of j.
    """

    atoms: tuple[int, int, int, int]
    moving: tuple[int, ...]

    def turned(self, positions: np.ndarray, angle_deg: Number) -> np.ndarray:
        """Positions with the dihedral angle larger by an angle [degrees] (IUPAC's sign)."""
        _, i, j, _ = self.atoms
        axis = (positions[j] - positions[i]) / np.linalg.norm(positions[j] - positions[i])
        angle, moved, rows = np.radians(angle_deg), np.array(positions), list(self.moving)
        arms = positions[rows] - positions[j]
        # Rodrigues' formula
        along = np.outer(arms @ axis, axis)
        moved[rows] = positions[j] + along + np.cos(angle) * (arms - along) + np.sin(angle) * np.cross(axis, arms)
        return moved


def rotatable_bonds(structure: Structure) -> tuple[Torsion, ...]:
    """Single bonds outside of rings with atoms off the axis at both ends; the smaller side moves.

    Bonds are pairs nearer than `BOND` sums of covalent radii, and single when longer than `SINGLE` of it; what a bond's length does not tell
    is not known here.

    Raises:
        StructureError: for what is periodic.
    """
    if structure.pbc.any():
        raise StructureError(f"torsion: found {structure.formula} with pbc {structure.pbc.tolist()}, expected a molecule in free space")
    bonds = bonded(structure)
    neighbors: list[list[int]] = [[] for _ in range(len(structure))]
    for i, j in bonds.tolist():
        neighbors[i].append(j)
        neighbors[j].append(i)
    radii, found = covalent_radii(structure.numbers), []
    for i, j in bonds.tolist():
        if np.linalg.norm(structure.positions[j] - structure.positions[i]) < SINGLE * (radii[i] + radii[j]):
            continue
        side, other = _side(neighbors, j, i), _side(neighbors, i, j)
        if i in side:
            continue
        i, j, side = (i, j, side) if len(side) <= len(other) else (j, i, other)
        a, d = _beside(structure, neighbors, i, j), _beside(structure, neighbors, j, i)
        if a is not None and d is not None:
            found.append(Torsion((a, i, j, d), tuple(sorted(side - {j}))))
    return tuple(found)


def _side(neighbors: list[list[int]], start: int, closed: int) -> set[int]:
    """Atoms that are reached from `start` without the bond to `closed`; `closed` is among them when the bond is in a ring."""
    reached, front = {start}, [k for k in neighbors[start] if k != closed]
    while front:
        atom = front.pop()
        if atom not in reached:
            reached.add(atom)
            front += neighbors[atom]
    return reached


def _beside(structure: Structure, neighbors: list[list[int]], at: int, towards: int) -> int | None:
    """A neighbour of an atom that is not on the axis towards another."""
    axis = structure.positions[towards] - structure.positions[at]
    for k in neighbors[at]:
        arm = structure.positions[k] - structure.positions[at]
        if k != towards and np.linalg.norm(np.cross(axis, arm)) > 0.1 * np.linalg.norm(axis) * np.linalg.norm(arm):
            return k
    return None


def torsions(atoms: Any, n: int | None = None, seed: int = 0, *, step_deg: Number | None = None, screen: Screen | None = None) -> Generated:
    """A molecule turned about its single bonds: by random angles about all of them, or each in turn by multiples of a step.

    Bond lengths and angles stay. A structure with bonds that the start has not, or without some that it has, is refused.

    Args:
        atoms: a molecule.
        n: structures with random angles.
        seed: of the angles.
        step_deg: in place of n: for each bond, all multiples of this angle below 360°.
        screen: what is refused.

    Raises:
        StructureError: for what is periodic, or has no such bond.
        ConfigError: unless one of n and step_deg is given.
    """
    structure = Structure.from_atoms(atoms).check()
    if (n is None) == (step_deg is None) or (step_deg is not None and not 0 < step_deg <= 180):
        raise ConfigError(f"torsion: found n {n} and step_deg {step_deg}, expected a number n, or a step from above 0 to 180 degrees")
    axes, bonds = rotatable_bonds(structure), bonded(structure)
    if not axes:
        raise StructureError(f"torsion: found no single bond outside of rings to turn about in {structure.formula}")
    per_bond = 0 if step_deg is None else int(np.ceil(360 / step_deg - 1e-9)) - 1

    def angles(rng: np.random.Generator, index: int) -> dict[int, float]:
        if step_deg is None:
            return dict(enumerate(rng.uniform(-180, 180, len(axes)).tolist()))
        return {index // per_bond: (index % per_bond + 1) * float(step_deg)}

    def make(rng: np.random.Generator, index: int) -> tuple[Structure, dict[str, Any]]:
        positions, turns = structure.positions, angles(rng, index)
        for k, angle in turns.items():
            positions = axes[k].turned(positions, angle)
        turned = replace(structure, positions=positions)
        if not np.array_equal(bonded(turned), bonds):
            raise Unmade("atoms that are not bonded came together")
        return turned, {"dihedrals": [list(axes[k].atoms) for k in turns], "angles_deg": list(turns.values())}

    parameters = {} if step_deg is None else {"step_deg": float(step_deg)}
    recipe = Recipe("torsion", parameters, seed, content_hash(structure))
    return drawn(recipe, n or len(axes) * per_bond, make, screen or Screen(), tries=None if step_deg is None else 1)
