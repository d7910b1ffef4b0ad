"""Structures that mean something, and one clear error for each that does not (reliability corpus C)."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqpot.core.errors import DataError, StructureError
from eqpot.graph import Frame, Labels, Structure

CUBE = 4 * np.eye(3)


@pytest.mark.parametrize(
    ("numbers", "positions", "cell", "pbc", "message"),
    [
        ([1, 1], [[0, 0, 0], [0, np.nan, 0]], CUBE, True, "atom 1: position .* is not finite"),
        ([1], [[np.inf, 0, 0]], CUBE, True, "atom 0: position .* is not finite"),
        ([1], [[0, 1e12, 0]], CUBE, False, "atom 0: .* beyond 1e[+]07 Å; are the units right"),
        ([1], [[0, 0, 0]], 0 * CUBE, True, "singular"),
        ([1], [[0, 0, 0]], [[4, 0, 0], [4, 0, 0], [0, 0, 4]], True, "singular there; give independent lattice vectors or set pbc to False"),
        ([1], [[0, 0, 0]], [[4, 0, 0], [0, 4, 0], [0, 0, 0]], True, "singular"),
        ([1], [[0, 0, 0]], [[4, 0, 0], [4, 1e-9, 0], [0, 0, 0]], (True, True, False), "singular"),
        ([1], [[0, 0, 0]], 0.05 * np.eye(3), True, "volume per atom is .* below 0.001"),
        ([1], [[0, 0, 0]], [[np.nan, 0, 0], [0, 4, 0], [0, 0, 4]], True, "not finite"),
        ([], np.zeros((0, 3)), CUBE, True, "no atoms: expected at least one"),
        ([0], [[0, 0, 0]], CUBE, False, "atom 0: atomic number 0 is no element; expected 1 to 118"),
        ([8, 119], [[0, 0, 0], [2, 0, 0]], CUBE, False, "atom 1: atomic number 119"),
        ([-1], [[0, 0, 0]], CUBE, False, "atomic number -1"),
    ],
)
def test_structures_without_meaning(numbers, positions, cell, pbc, message):
    with pytest.raises(StructureError, match=message):
        Structure(numbers, positions, cell, pbc).check()


@pytest.mark.parametrize(
    ("numbers", "positions", "message"),
    [
        ([1, 1], [[0, 0, 0]], r"positions: found shape \(1, 3\), expected \(2, 3\)"),
        ([1] * 4, np.arange(12).reshape(3, 4), r"positions: found shape \(3, 4\), expected \(4, 3\)"),
        ([1, 1], np.arange(6), r"positions: found shape \(6,\)"),
        ([[1, 1]], [[0, 0, 0]], "numbers: found shape"),
        (["O"], [[0, 0, 0]], "numbers: expected numbers"),
        ([1.5], [[0, 0, 0]], "numbers: expected whole numbers"),
        ([1], [["a", 0, 0]], "positions: expected numbers"),
    ],
)
def test_nothing_is_reshaped_or_rounded(numbers, positions, message):
    with pytest.raises(StructureError, match=message):
        Structure(numbers, positions)


@pytest.mark.parametrize(
    "structure",
    [
        Structure([1], [[0, 0, 0]]),
        Structure([1], [[0, 0, 0]], np.eye(3), False),
        Structure([1], [[0, 0, 0]], np.full((3, 3), np.nan), False),
        Structure([1], [[0, 0, 1e4]], np.diag([4.0, 4, 0]), (True, True, False)),
        Structure([118], [[0, 0, 0]], -CUBE, True),
        Structure([1], [[0, 0, 0]], CUBE[[1, 0, 2]], True),
    ],
)
def test_structures_with_meaning(structure):
    assert structure.check() is structure


def test_records_copy_and_cannot_be_changed():
    numbers, positions = np.array([1, 8]), np.array([[0.0, 0, 0], [0, 0, 1]])
    structure = Structure(numbers, positions, CUBE, [True, False, True])
    positions[0] = 7.0
    assert structure.positions[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        structure.positions[0] = 1.0
    with pytest.raises(AttributeError):
        structure.numbers = numbers
    assert (structure.positions.dtype, structure.numbers.dtype, structure.pbc.dtype) == (np.float64, np.int64, bool)
    assert structure.pbc.tolist() == [True, False, True]


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), bulk("Si"), Atoms("Cu", cell=[2, 2, 0], pbc=(1, 1, 0))])
def test_there_and_back_through_ase(atoms):
    again = Structure.from_atoms(atoms).to_atoms()
    assert again == atoms
    structure = Structure.from_atoms(atoms)
    assert Structure.from_atoms(structure) is structure


@pytest.mark.parametrize("key", ["total_charge", "charge"])
def test_the_total_charge_goes_there_and_back_through_ase(key):
    atoms = molecule("H2O")
    assert Structure.from_atoms(atoms).charge == 0.0
    assert not Structure.from_atoms(atoms).to_atoms().info
    atoms.info[key] = -1
    ion = Structure.from_atoms(atoms)
    assert ion.charge == -1.0
    assert Structure.from_atoms(ion.to_atoms()).charge == -1.0


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"total_charge": np.nan}, "charge: found nan, expected the total charge as a finite number"),
        ({"charge": "one"}, "charge: expected numbers"),
        ({"charge": [0.1, 0.2]}, r"charge: found shape \(2,\), expected \(\)"),
        ({"charge": 1, "total_charge": 0}, "expected one total charge; remove one of them"),
    ],
)
def test_total_charges_that_are_none(info, message):
    atoms = molecule("H2")
    atoms.info.update(info)
    with pytest.raises(StructureError, match=message):
        Structure.from_atoms(atoms).check()


@pytest.mark.parametrize("thing", [None, 3, "H2O", np.zeros((2, 3))])
def test_other_things_are_refused(thing):
    with pytest.raises(StructureError, match=r"expected ase\.Atoms or eqpot.Structure, found"):
        Structure.from_atoms(thing)


def test_formula_and_volume():
    assert Structure.from_atoms(molecule("CH3CH2OH")).formula == "C2H6O"
    assert Structure([1], [[0, 0, 0]], -2 * np.eye(3), True).volume == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"energy": np.nan}, "energy: found nan, expected finite"),
        ({"forces": np.zeros((1, 3))}, r"forces: found shape \(1, 3\), expected \(2, 3\) for 2 atoms"),
        ({"forces": np.array([[0, 0, 0], [0, np.inf, 0]])}, "forces: found inf at atom 1"),
        ({"stress": np.zeros(6)}, r"stress: found shape \(6,\)"),
        ({"stress": np.array([[0, 1e-3, 0], [0, 0, 0], [0, 0, 0]])}, "not symmetric"),
        ({"charges": np.array([0.1, np.nan])}, "charges: found nan at atom 1"),
        ({"dipole": np.zeros(2)}, "dipole"),
    ],
)
def test_labels_that_cannot_be_used(labels, message):
    frame = Frame(Structure([1, 1], [[0, 0, 0], [0, 0, 1]]), Labels(**labels), origin="a.xyz:frame 7")
    with pytest.raises(DataError, match=f"^a.xyz:frame 7: .*{message}"):
        frame.check()


def test_labels_that_are_missing_are_not_errors():
    labels = Labels(forces=np.zeros((2, 3)), stress=np.eye(3))
    assert labels.known == ("forces", "stress")
    frame = Frame(Structure([1, 1], [[0, 0, 0], [0, 0, 1]]), labels)
    assert frame.check() is frame
    assert len(frame) == 2
    assert frame.replace(weight=2.0).weight == 2.0
    assert frame.weight == 1.0


def test_a_frame_names_its_origin_for_a_bad_structure():
    with pytest.raises(StructureError, match=r"^b.xyz:frame 0: no atoms"):
        Frame(Structure([], np.zeros((0, 3))), origin="b.xyz:frame 0").check()
