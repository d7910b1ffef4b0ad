"""What the page draws is the structure: its bonds, its cell, its errors."""

import json
import re

import numpy as np
import pytest

from eqpot.graph import Structure
from eqpot.training.structures3d import MOST_ATOMS, Scene, describe, scenes

WATER = Structure([8, 1, 1], [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])


def rows(scene):
    """Bonds as [bonds, 4]."""
    return np.reshape(describe(scene)["bonds"], (-1, 4))


def test_halves_of_a_bond_meet_in_its_middle():
    bonds = rows(Scene(WATER, "", ""))
    assert sorted(bonds[:, 0]) == [0, 0, 1, 2]  # two bonds, a half from either end; the hydrogens are not bonded
    ends = WATER.positions[bonds[:, 0].astype(int)] + bonds[:, 1:]
    middles = {tuple(np.round(m, 1) + 0.0) for m in ends}
    assert middles == {(0.0, 0.4, -0.2), (0.0, -0.4, -0.2)}


def test_bonds_reach_periodic_images_and_the_cell_has_its_edges():
    diamond = Structure([6, 6], [[0, 0, 0], [0.8925, 0.8925, 0.8925]], 1.785 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]), True)
    bonds = rows(Scene(diamond, "", ""))
    assert np.bincount(bonds[:, 0].astype(int)).tolist() == [4, 4]  # tetrahedral, though only one neighbour is in the cell
    assert np.linalg.norm(bonds[:, 1:], axis=1) == pytest.approx(np.full(8, 1.546 / 2), abs=0.01)
    edges = np.reshape(describe(Scene(diamond, "", ""))["cell"], (-1, 2, 3))
    lengths = np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1)
    assert len(edges) == 12 and lengths == pytest.approx(np.full(12, 1.785 * np.sqrt(2)), abs=2e-3)
    assert len(np.unique(np.round(edges.reshape(-1, 3), 2), axis=0)) == 8


@pytest.mark.parametrize("pbc, edges", [((True, True, False), 4), ((False, False, True), 1), ((False, False, False), 0)])
def test_only_periodic_directions_have_edges(pbc, edges):
    structure = Structure([6], [[0, 0, 0]], 5 * np.eye(3), pbc)
    assert len(describe(Scene(structure, "", ""))["cell"]) == 6 * edges


def test_errors_are_in_meV_and_the_worst_atom_comes_first():
    scene = describe(Scene(WATER, "", "", error=np.array([0.1, 0.3, 0.2]), sigma=np.array([0.05, 0.06, 0.07])))
    assert scene["error"] == [100.0, 300.0, 200.0] and scene["order"] == [1, 2, 0] and scene["sigma"] == [50.0, 60.0, 70.0]
    broken = describe(Scene(WATER, "", "", error=np.array([0.1, 0.3, np.nan])))
    assert broken["error"][2] is None and broken["order"][0] == 2


def test_the_first_look_is_a_rotation():
    for structure in (WATER, Structure([6], [[0, 0, 0]], 5 * np.eye(3), True), Structure([6], [[1, 2, 3]])):
        view = np.reshape(describe(Scene(structure, "", ""))["view"], (3, 3))
        assert view @ view.T == pytest.approx(np.eye(3), abs=1e-3) and np.linalg.det(view) == pytest.approx(1, abs=1e-3)


def test_of_a_large_structure_the_surroundings_of_the_worst_atom_are_drawn():
    n, worst = MOST_ATOMS + 300, 1400
    structure = Structure(np.full(n, 6), np.stack([3.0 * np.arange(n), np.zeros(n), np.zeros(n)], 1))
    error = np.where(np.arange(n) == worst, 1.0, 0.1)
    scene = describe(Scene(structure, "", "", error=error))
    assert len(scene["kind"]) == MOST_ATOMS and worst in scene["index"] and scene["index"][scene["order"][0]] == worst
    assert 3 * len(scene["kind"]) == len(scene["xyz"]) and scene["index"] == sorted(scene["index"])


def test_the_page_holds_all_that_is_drawn_and_nothing_can_break_out():
    html = scenes([Scene(WATER, "caption", '"></script><b>', error=np.array([0.1, 0.3, 0.2])), Scene(WATER, "", "")])
    found = re.search(r'<script type="application/json" id="structures">(.*?)</script>', html)
    data = json.loads(found[1])
    assert data["top"] == pytest.approx(300) and len(data["structures"]) == 2 == html.count("<figure>")
    assert '"></script><b>' not in html and scenes([]) == ""
    assert "http" not in html
