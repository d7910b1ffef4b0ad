"""Errors are what their names say."""

import numpy as np
import pytest

import eqpot
from eqpot.core.errors import DataError, StructureError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.training.metrics import errors


def test_errors_of_numbers():
    found = errors([np.array([1.0, -1.0]), np.array([[3.0]])])
    assert (found.mae, found.count) == (pytest.approx(5 / 3), 3) and found.rmse == pytest.approx(np.sqrt(11 / 3))
    assert errors([]) is None


def test_evaluation_against_shifted_predictions(potential):
    structures = [Structure([1, 8], [[0, 0, 0], [1.0, 0, k / 10]]) for k in range(3)]
    predicted = potential.predict(structures)
    frames = [
        Frame(s, Labels(energy=r.energy + 0.2, forces=r.forces + 0.1), f"f{k}", group="ab"[k % 2])
        for k, (s, r) in enumerate(zip(structures, predicted, strict=True))
    ]
    evaluation = eqpot.evaluate(potential, Dataset(tuple(frames)))
    assert evaluation.energy_per_atom.mae == pytest.approx(0.1, abs=1e-5)
    assert evaluation.forces.rmse == pytest.approx(0.1, abs=1e-6)
    assert {k: len(v.frames) for k, v in evaluation.by_group().items()} == {"a": 2, "b": 1}
    assert set(evaluation.forces_by_element()) == {"H", "O"}
    error, sigma = evaluation.force_uncertainty()
    assert error == pytest.approx(np.full(6, 0.1 * np.sqrt(3)), abs=1e-6) and (sigma > 0).all()


def test_evaluation_names_the_frame(potential):
    with pytest.raises(DataError, match="no frames"):
        eqpot.evaluate(potential, Dataset(()))
    with pytest.raises(StructureError, match=r"file:frame 4: element U is unknown"):
        eqpot.evaluate(potential, [Frame(Structure([92], [[0, 0, 0]]), origin="file:frame 4")])
