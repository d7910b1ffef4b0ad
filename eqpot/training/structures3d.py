"""Structures that can be turned in the page: spheres coloured by the error of their force, bonds, and the cell.

They are drawn by `viewer.js`, about a hundred lines on a plain canvas. The libraries that do more bring over three megabytes of script
into every file, or fetch it from a network; a report should open anywhere and weigh little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.data.distances import pairs
from eqpot.graph import Structure
from eqpot.training.page import embedded, number, resource

MOST_ATOMS = 1200
"""Atoms drawn of one structure; of a larger one, those nearest to the atom with the largest error."""
BOND = 1.2
"""Atoms closer than this many sums of their covalent radii are joined by a bond."""
BALL = 0.55
"""Radius of a sphere in covalent radii."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A structure to be drawn.

    Attributes:
        structure: the atoms.
        caption: HTML below it, already escaped.
        label: what a screen reader says.
        error: length of the force error of each atom [eV/Å], [atoms]; None without forces.
        sigma: predicted σ of the same; None for a single member.
    """

    structure: Structure
    caption: str
    label: str
    error: np.ndarray | None = None
    sigma: np.ndarray | None = None


def scenes(items: Sequence[Scene]) -> str:
    """Views of structures, with one scale of colours for all of them."""
    if not items:
        return ""
    known = [1000 * s.error[np.isfinite(s.error)] for s in items if s.error is not None]
    top = max((float(e.max()) for e in known if len(e)), default=0.0)
    figures = [
        f'<figure><canvas data-structure="{k}" tabindex="0" role="img" aria-label="{escape(s.label)}"></canvas>'
        f'<output aria-live="polite"></output><figcaption>{s.caption}</figcaption></figure>'
        for k, s in enumerate(items)
    ]
    data = {"top": round(top, 3), "structures": [describe(s) for s in items]}
    return f'{_legend(top)}<div class="grid atoms">{"".join(figures)}</div>{embedded("structures", data)}<script>{resource("viewer.js")}</script>'


def _legend(top: float) -> str:
    """The scale of colours, and how to turn things."""
    hint = (
        "Drag or use the arrow keys to turn; click, then the wheel or + and − to zoom; the space bar goes from the worst atom on; 0 resets."
    )
    text = f'<p class="dim screen">{hint}</p>'
    if top <= 0:
        return text
    scale = f"force error of an atom: 0 <i></i> {number(top)} meV/Å"
    return f'<p class="scale">{scale} <button id="coloring" type="button">colour by element</button></p>{text}'


def describe(scene: Scene) -> dict[str, Any]:
    """What `viewer.js` draws, JSON-able; see there. Positions to a thousandth of an Å."""
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors

    structure = scene.structure
    error = None if scene.error is None else 1000 * np.asarray(scene.error, float)
    shown = _nearest(structure, error)
    kinds, kind = np.unique(structure.numbers[shown], return_inverse=True)
    order = np.arange(len(shown)) if error is None else np.argsort(-np.nan_to_num(error[shown], nan=np.inf), kind="stable")
    return {
        "symbols": [symbol(z) for z in kinds],
        "radii": np.round(BALL * covalent_radii[kinds], 3).tolist(),
        "colors": np.round(255 * jmol_colors[kinds]).astype(int).tolist(),
        "kind": kind.tolist(),
        "index": shown.tolist(),
        "xyz": np.round(structure.positions[shown], 3).ravel().tolist(),
        "bonds": _half_bonds(structure, shown),
        "cell": np.round(_edges(structure), 3).ravel().tolist(),
        "view": np.round(_view(structure), 4).ravel().tolist(),
        "error": [] if error is None else _rounded(error[shown]),
        "sigma": [] if scene.sigma is None else _rounded(1000 * np.asarray(scene.sigma, float)[shown]),
        "order": order.tolist(),
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    """To four significant digits, None for what is not finite."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]


def _nearest(structure: Structure, error: np.ndarray | None) -> np.ndarray:
    """Indices of the atoms to draw."""
    if len(structure) <= MOST_ATOMS:
        return np.arange(len(structure))
    middle = structure.positions[0 if error is None else int(np.argmax(np.nan_to_num(error, nan=np.inf)))]
    return np.sort(np.argsort(np.linalg.norm(structure.positions - middle, axis=1))[:MOST_ATOMS])


def _half_bonds(structure: Structure, shown: np.ndarray) -> list[int | float]:
    """Flat rows (atom, half of the vector to its neighbour); a bond to a periodic image ends in the air."""
    from ase.data import covalent_radii

    place = np.full(len(structure), -1)
    place[shown] = np.arange(len(shown))
    radii = covalent_radii[structure.numbers]
    i, j, vectors, distance = pairs(structure, 2 * BOND * float(radii.max()))
    bonded = (distance < BOND * (radii[i] + radii[j])) & (place[i] >= 0)
    halves = np.round(vectors[bonded] / 2, 2).tolist()
    return [value for atom, half in zip(place[i[bonded]].tolist(), halves, strict=True) for value in (atom, *half)]


def _edges(structure: Structure) -> np.ndarray:
    """End points of the edges of the cell along its periodic directions, [ends, 3]; those of a molecule are none."""
    vectors = structure.cell[structure.pbc]
    corners = [np.array(c) for c in product((0, 1), repeat=len(vectors))]
    ends = [(c, c + step) for c in corners for step in np.eye(len(vectors), dtype=int) if (c + step).max(initial=0) <= 1]
    return np.array([point @ vectors for edge in ends for point in edge]).reshape(-1, 3)


def _view(structure: Structure) -> np.ndarray:
    """The first look: a crystal slightly from above along its second vector, a molecule on its broad side; a rotation [3, 3]."""
    if structure.pbc.any():
        a, b = np.radians((-76.0, -20.0))
        about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
        return np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) @ about_z
    _, _, axes = np.linalg.svd(structure.positions - structure.positions.mean(0))
    return axes * np.array([[1], [1], [np.linalg.det(axes)]])
