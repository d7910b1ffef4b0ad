"""What is judged: each force vector, energy per atom and stress component beside its own σ, and the structure that it is of."""

import json
from dataclasses import replace

import numpy as np
import pytest

from eqpot.graph import Frame, Labels, Structure
from eqpot.training import Evaluation, evaluate
from eqpot.training.errors_and_sigmas import all_scores, errors_and_sigmas
from eqpot.uncertainty.scores import summarise


@pytest.fixture(scope="module")
def judged(potential):
    """Two crystals of different size with all labels, and a molecule with an energy only."""
    rng = np.random.default_rng(0)
    corner = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1.2, 1.2, 0.3]])
    sizes, frames = [(4, True), (3, True), (2, False)], []
    for n, periodic in sizes:
        structure = Structure([8, 1, 1, 6][:n], corner[:n] + rng.normal(0, 0.05, (n, 3)), 6 * np.eye(3), periodic)
        stress = rng.normal(0, 0.01, (3, 3))
        full = Labels(energy=-10.0 * n, forces=rng.normal(size=(n, 3)), stress=stress + stress.T)
        frames.append(Frame(structure, full if periodic else Labels(energy=-3.0)))
    return evaluate(potential, frames)


def test_every_quantity_is_beside_its_own_sigma(judged):
    pairs = errors_and_sigmas(judged)
    assert list(pairs) == ["forces", "energy_per_atom", "stress"]
    one, two, three = judged.results
    assert pairs["forces"].sigmas == pytest.approx(np.concatenate([one.atom_std, two.atom_std]))
    assert pairs["forces"].errors == pytest.approx(judged.force_uncertainty()[0])
    assert pairs["energy_per_atom"].sigmas == pytest.approx([one.energy_std / 4, two.energy_std / 3, three.energy_std / 2])
    assert pairs["energy_per_atom"].errors == pytest.approx([abs(one.energy + 40) / 4, abs(two.energy + 30) / 3, abs(three.energy + 3) / 2])
    first = [np.abs(one.stress - judged.frames[0].labels.stress)[a, b] for a in range(3) for b in range(a, 3)]
    assert pairs["stress"].errors[:6] == pytest.approx(first) and len(pairs["stress"].errors) == 12
    assert pairs["stress"].sigmas[:6] == pytest.approx(np.full(6, np.sqrt((one.stress_std**2).mean())))
    assert [part.dimensions for part in pairs.values()] == [3, 1, 1]


def test_structures_and_elements_belong_to_their_atoms(judged):
    forces = errors_and_sigmas(judged)["forces"]
    assert forces.structures.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert forces.elements.tolist() == ["O", "H", "H", "C", "O", "H", "H"]
    hydrogen = forces.by_element()["H"]
    assert hydrogen.errors == pytest.approx(forces.errors[[1, 2, 5, 6]]) and hydrogen.structures.tolist() == [0, 0, 1, 1]
    assert errors_and_sigmas(judged)["energy_per_atom"].structures.tolist() == [0, 1, 2]


def test_scores_of_all_are_json_with_elements_and_ranges(judged):
    pairs = errors_and_sigmas(judged)
    scores = json.loads(json.dumps(all_scores(pairs, ranges=True)))
    assert set(scores["forces"]["elements"]) == {"H", "C", "O"} and scores["forces"]["elements"]["H"]["count"] == 4
    assert scores["energy_per_atom"]["crps"] == summarise(pairs["energy_per_atom"].errors, pairs["energy_per_atom"].sigmas, 1)["crps"]
    low, high = scores["forces"]["ranges"]["factor"]
    assert low <= scores["forces"]["factor"] <= high
    assert "ranges" not in all_scores(pairs)["forces"]


def test_what_has_no_sigma_or_no_label_is_not_there(judged, potential):
    assert errors_and_sigmas(evaluate(potential.member(0), judged.frames)) == {}
    bare = Evaluation(tuple(replace(f, labels=Labels(energy=f.labels.energy)) for f in judged.frames), judged.results)
    assert set(errors_and_sigmas(bare)) == {"energy_per_atom"}
