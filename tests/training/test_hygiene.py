"""A potential as judge of labels."""

import numpy as np
import pytest

from eqpot.core.errors import StructureError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.training.hygiene import examine, opinion_of


@pytest.fixture(scope="module")
def labelled(potential, toy):
    """Sixty trimers and tetramers labelled by the potential itself, with a little noise."""
    make, _ = toy
    rng = np.random.default_rng(2)
    structures = [make(rng, 3 + k % 2) for k in range(60)]
    results = potential.predict(structures)
    frames = [
        Frame(s, Labels(r.energy + 0.002 * rng.normal(), r.forces + 0.01 * rng.normal(size=r.forces.shape)), origin=f"toy:frame {k}")
        for k, (s, r) in enumerate(zip(structures, results, strict=True))
    ]
    return Dataset(tuple(frames))


def dirty(dataset, k, energy=0.0, forces=1.0):
    """The set with the energy of frame k shifted and its forces multiplied."""
    frames = list(dataset)
    old = frames[k].labels
    frames[k] = frames[k].replace(labels=Labels(old.energy + energy, old.forces * forces))
    return Dataset(tuple(frames))


def test_labels_of_the_potential_itself_are_unsuspected(labelled, potential):
    assert examine(labelled, potential).suspects == ()


def test_a_shifted_energy_is_found_with_its_size_while_the_forces_agree(labelled, potential):
    (suspect,) = examine(dirty(labelled, 9, energy=0.05), potential).suspects
    assert suspect.frame == 9 and suspect.origin == "toy:frame 9"
    (reason,) = suspect.reasons
    assert reason.code == "energy" and reason.numbers["residual"] == pytest.approx(0.05, abs=0.015)


def test_forces_of_the_opposite_sign_are_found_without_touching_the_energy(labelled, potential):
    largest = int(np.argmax([np.abs(f.labels.forces).max() for f in labelled]))
    (suspect,) = examine(dirty(labelled, largest, forces=-1.0), potential).suspects
    assert (suspect.frame, [r.code for r in suspect.reasons]) == (largest, ["force-sign"])


def test_the_opinion_of_a_potential_is_its_prediction(labelled, potential):
    opinion = opinion_of(potential, labelled)
    result = potential.predict(labelled[4].structure)
    assert opinion.energies[4] == pytest.approx(result.energy, abs=1e-5)
    np.testing.assert_allclose(opinion.forces[4], result.forces, atol=1e-5)
    features = potential.descriptors(labelled[4].structure)
    numbers = labelled[4].structure.numbers
    np.testing.assert_allclose(
        opinion.descriptors[4], np.concatenate([features[numbers == z].sum(0) for z in (1, 8)]), rtol=1e-4, atol=1e-5
    )


def test_double_precision_says_the_same(labelled, make_potential):
    double = make_potential(tiny=True, dtype="float64")
    assert [s.frame for s in examine(dirty(labelled, 9, energy=0.05), double).suspects] == [9]


def test_an_element_that_the_potential_does_not_know_is_named(labelled, potential):
    strange = Frame(Structure(np.array([14, 1]), np.array([[0, 0, 0], [0, 0, 1.5]])), Labels(-1.0), origin="x:frame 0")
    with pytest.raises(StructureError, match="x:frame 0"):
        examine(Dataset((*labelled, strange)), potential)


def test_without_frames_there_is_nothing_to_find(potential):
    assert examine(Dataset(()), potential).suspects == () and examine(Dataset(())).suspects == ()
