"""Errors are what their names say."""

import numpy as np
import pytest

import eqpot
from eqpot.core.errors import DataError, StructureError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.potential import Result
from eqpot.training.metrics import Evaluation, errors


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


def result(structure, forces, **rest):
    """What two members that agree but for ±0.1 eV/Å say."""
    members = np.stack([forces + 0.1, forces - 0.1])
    spread = members.std(0, ddof=1)
    return Result(
        0.0, forces, None, 0.0, spread, None, 0.0, spread, np.zeros(2), members, None, np.zeros(len(structure)), structure.numbers, **rest
    )


def test_force_errors_are_binned_by_the_length_of_the_reference_force():
    lengths, off = np.array([0.003, 0.15, 0.15, 3.0, 700.0]), np.array([0.01, 0.02, 0.04, 0.3, 7.0])
    structure = Structure(np.full(5, 6), 2.0 * np.arange(15).reshape(5, 3))
    reference, error = np.zeros((5, 3)), np.zeros((5, 3))
    reference[:, 1], error[:, 2] = lengths, off
    evaluation = Evaluation((Frame(structure, Labels(forces=reference)),), (result(structure, reference + error),))
    bins = evaluation.forces_by_magnitude()
    assert [(b.low, b.high, b.count) for b in bins] == [(0, 0.01, 1), (0.1, 0.2, 2), (2, 5, 1), (500, np.inf, 1)]
    assert [b.error for b in bins] == pytest.approx([0.01, 0.03, 0.3, 7.0])
    assert [b.relative for b in bins] == pytest.approx([0.01 / 0.003, 0.2, 0.1, 0.01])
    assert Evaluation((), ()).forces_by_magnitude() == []


def test_what_an_error_of_an_element_is_to_be_compared_with():
    structure = Structure([1, 8], [[0, 0, 0], [1, 0, 0]])
    reference = np.array([[3.0, 0, 0], [0, 4.0, 4.0]])
    evaluation = Evaluation((Frame(structure, Labels(forces=reference)),), (result(structure, reference),))
    assert evaluation.force_size_by_element() == pytest.approx({"H": np.sqrt(3), "O": np.sqrt(32 / 3)})


def test_charges_and_dipoles_count_where_label_and_prediction_exist():
    structure = Structure([1, 8], [[0, 0, 0], [1, 0, 0]])
    both = Labels(charges=np.array([0.5, -0.5]), dipole=np.array([1.0, 0, 0]))
    rows = [
        (both, {"charges": np.array([0.4, -0.4]), "dipole": np.array([1.0, 0, 0.3])}),
        (Labels(), {"charges": np.zeros(2), "dipole": np.zeros(3)}),
        (both, {"charges": np.array([0.4, -0.4])}),
    ]
    frames, results = zip(*[(Frame(structure, labels), result(structure, np.zeros((2, 3)), **said)) for labels, said in rows], strict=True)
    summary = Evaluation(frames, results).summary()
    assert summary["charges"] == pytest.approx({"mae": 0.1, "rmse": 0.1, "count": 4})
    assert summary["dipole"] == pytest.approx({"mae": 0.1, "rmse": 0.3 / np.sqrt(3), "count": 3})
    assert "forces" not in summary


def test_evaluation_names_the_frame(potential):
    with pytest.raises(DataError, match="no frames"):
        eqpot.evaluate(potential, Dataset(()))
    with pytest.raises(StructureError, match=r"file:frame 4: element U is unknown"):
        eqpot.evaluate(potential, [Frame(Structure([92], [[0, 0, 0]]), origin="file:frame 4")])
