"""A dataset is an immutable sequence whose identity is its content."""

import numpy as np
import pytest

from eqpot.data import Dataset, read, write
from eqpot.graph.structure import Frame, Labels, Structure


@pytest.fixture
def dataset(water):
    return Dataset(tuple(water(float(i), 0.01 * i, forces=np.zeros((3, 3))) for i in range(10)))


def isolated(number: int, energy: float) -> Frame:
    return Frame(Structure(np.array([number]), np.zeros((1, 3))), Labels(energy), group="isolated_atom")


def energies(dataset: Dataset) -> list[float]:
    return [f.labels.energy for f in dataset]


def test_it_is_indexed_like_an_array(dataset):
    assert dataset[3].labels.energy == 3.0
    assert dataset[np.int64(-1)].labels.energy == 9.0
    assert energies(dataset[2:5]) == [2.0, 3.0, 4.0]
    assert energies(dataset[np.array([5, 0, -1])]) == [5.0, 0.0, 9.0]
    assert energies(dataset[np.arange(10) > 7]) == [8.0, 9.0]
    assert len(dataset[[]]) == 0
    assert energies(dataset[:2] + dataset[8:]) == [0.0, 1.0, 8.0, 9.0]


def test_a_mask_of_the_wrong_length_is_no_index(dataset):
    with pytest.raises(IndexError):
        dataset[np.ones(4, bool)]


def test_elements_are_in_order_of_atomic_number(dataset):
    assert (dataset + Dataset((isolated(1, -13.0), isolated(92, -1.0), isolated(6, -1.0)))).elements == ("H", "C", "O", "U")


def test_the_hash_depends_on_content_alone(dataset, tmp_path):
    write(tmp_path / "a.xyz", dataset)
    write(tmp_path / "b.xyz.gz", dataset)
    assert read(tmp_path / "a.xyz").content_hash == read(tmp_path / "b.xyz.gz").content_hash == dataset.content_hash


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.replace(labels=Labels(f.labels.energy + 1e-9, f.labels.forces)),
        lambda f: f.replace(labels=Labels(f.labels.energy)),
        lambda f: f.replace(structure=Structure(f.structure.numbers, f.structure.positions + 1e-9)),
        lambda f: f.replace(structure=Structure(f.structure.numbers[::-1], f.structure.positions)),
        lambda f: f.replace(structure=Structure(f.structure.numbers, f.structure.positions, charge=1)),
        lambda f: f.replace(head="another level"),
        lambda f: f.replace(weight=2.0),
    ],
    ids=["energy", "label removed", "position", "element", "total charge", "head", "weight"],
)
def test_the_hash_notices_every_change(dataset, change):
    assert Dataset((change(dataset[0]), *dataset.frames[1:])).content_hash != dataset.content_hash
    assert dataset[::-1].content_hash != dataset.content_hash


def test_parts_are_disjoint_complete_and_follow_the_seed(dataset):
    train, valid = dataset.split(0.7)
    assert sorted(energies(train) + energies(valid)) == energies(dataset)
    assert len(train) == 7
    assert not len(train.overlap(valid))
    assert energies(dataset.split(7, 3)[1]) == energies(valid)
    assert energies(dataset.split(7, 3, seed=1)[1]) != energies(valid)
    assert [len(part) for part in dataset.split(0.5, 0.25, 0.25)] == [5, 2, 3]
    assert [len(part) for part in dataset.split(4, 2)] == [4, 2]
    assert sorted(energies(dataset.shuffle(3))) == energies(dataset)


def test_isolated_atoms_go_into_the_first_part(dataset):
    both = dataset + Dataset((isolated(1, -13.0), isolated(8, -400.0)))
    for seed in range(5):
        assert {-13.0, -400.0} <= set(energies(both.split(4, 8, seed=seed)[0]))


def test_structures_in_two_sets_are_found_whatever_their_labels(dataset, water):
    other = Dataset((water(99.0, 0.03), water(5.0, 0.5), water(1.0, 0.07 + 1e-9), isolated(1, -13.0)))
    assert dataset.overlap(other).tolist() == [3, 7]
    assert Dataset((isolated(1, -13.0),)).overlap(other).size == 0


def test_counts_and_groups(dataset):
    assert dataset.label_counts() == {"energy": 10, "forces": 10, "stress": 0, "charges": 0, "dipole": 0}
    assert (dataset + Dataset((isolated(1, -13.0),))).groups == {"default": 10, "isolated_atom": 1}
    assert repr(dataset) == "Dataset(10 frames; H O; 10 energy, 10 forces)"


def test_only_frames_are_accepted(water):
    with pytest.raises(Exception, match="Frame"):  # DataError, or the type check of the test run, which looks first
        Dataset((water(), 3))
