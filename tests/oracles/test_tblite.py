"""GFN-xTB: derivatives, units, charges, and what must be refused."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from eqpot.core.elements import atomic_number
from eqpot.core.errors import ConfigError
from eqpot.graph.structure import Frame, Structure
from eqpot.oracles import Failure, TBLiteOracle
from eqpot.oracles.tblite import _valence

pytest.importorskip("tblite")


@pytest.fixture
def bent():
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=3)
    return Structure.from_atoms(atoms)


def _energy(oracle, structure):
    (result,) = oracle.label([structure])
    assert isinstance(result, Frame), result.reason
    return result.labels.energy


def test_forces_are_minus_the_gradient_of_the_energy(bent):
    oracle = TBLiteOracle(accuracy=0.01)
    (frame,) = oracle.label([bent])
    h, numeric = 1e-3, np.zeros((3, 3))
    for index in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[index] = h
        plus, minus = (Structure(bent.numbers, bent.positions + s * step) for s in (1, -1))
        numeric[index] = -(_energy(oracle, plus) - _energy(oracle, minus)) / (2 * h)
    np.testing.assert_allclose(frame.labels.forces, numeric, atol=1e-4)


@pytest.mark.parametrize(
    ("charge", "multiplicity", "text"),
    [
        (0.99999, None, "charge is 0.99999, expected a whole number of electrons"),
        (20.0, None, "charge 20 is more than the 8 valence electrons of H2O"),
        (0.0, 2, "multiplicity 2 is impossible with the 8 valence electrons of H2O"),
        (0.0, 11, "multiplicity 11 is impossible"),
        (1.0, 1, "multiplicity 1 is impossible with the 7 valence electrons"),
    ],
)
def test_electrons_that_cannot_be_are_refused(bent, charge, multiplicity, text):
    """tblite gives finite energies for all of them, eV off; for a charge of 0.99999 one that is 7 eV too high."""
    (result,) = TBLiteOracle(multiplicity=multiplicity).label([replace(bent, charge=charge)])
    assert isinstance(result, Failure) and text in result.reason


@pytest.mark.parametrize(
    ("element", "electrons"), [("He", 2), ("Al", 3), ("Kr", 8), ("Cu", 11), ("Ga", 3), ("Ba", 2), ("Gd", 3), ("W", 6), ("Pb", 4), ("Rn", 8)]
)
def test_valence_electrons(element, electrons):
    assert _valence(atomic_number(element)) == electrons


def test_stress_is_the_strain_derivative_with_tension_positive():
    atoms = molecule("H2O", cell=np.diag([4.0, 4.2, 4.4]), pbc=True)
    oracle = TBLiteOracle("GFN1-xTB", accuracy=0.01)
    (frame,) = oracle.label([atoms])
    h, numeric = 1e-3, np.zeros((3, 3))
    for i, j in [(0, 0), (1, 1), (2, 2), (0, 1)]:
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * h / 2
            strain[j, i] += sign * h / 2
            moved = Structure(atoms.numbers, atoms.positions @ strain, atoms.cell.array @ strain, np.array([True] * 3))
            energies.append(_energy(oracle, moved))
        numeric[i, j] = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
        assert frame.labels.stress[i, j] == pytest.approx(numeric[i, j], abs=1e-5)
    assert frame.labels.dipole is None


def test_units_and_charges_are_those_of_ase(bent):
    (frame,) = TBLiteOracle().label([bent])
    labels = frame.labels
    assert labels.energy / 27.211386 == pytest.approx(-5.07, abs=0.02)  # Hartree, the published GFN2 energy of water
    assert labels.charges.sum() == pytest.approx(0.0, abs=1e-6)
    assert frame.structure.charge == 0.0
    assert np.linalg.norm(labels.dipole) / 0.2081943 == pytest.approx(2.2, abs=0.3)  # Debye


def test_labels_do_not_depend_on_what_was_asked_before(bent):
    oracle = TBLiteOracle()
    (alone,) = oracle.label([bent])
    *_, after = oracle.label([molecule("CH4"), bent])
    # a reused density changes forces by 6e-5 eV/Å; threads that add in another order change the last bit
    assert after.labels.energy == pytest.approx(alone.labels.energy, rel=1e-13)
    np.testing.assert_allclose(after.labels.forces, alone.labels.forces, rtol=0, atol=1e-12)


def test_charge_and_multiplicity_reach_the_hamiltonian():
    water = molecule("H2O")
    charged = molecule("H2O")
    charged.info["total_charge"] = 1
    neutral, doublet, triplet = TBLiteOracle(), TBLiteOracle(multiplicity=2), TBLiteOracle(multiplicity=3)
    assert _energy(doublet, charged) - _energy(neutral, water) > 10
    assert _energy(triplet, water) - _energy(neutral, water) > 3
    (frame,) = doublet.label([charged])
    assert frame.labels.charges.sum() == pytest.approx(1.0, abs=1e-6)
    assert frame.structure.charge == 1.0


@pytest.mark.parametrize(
    ("atoms", "reason"),
    [
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.05]]), "0.05 Å apart"),
        (Atoms("C2", [[0, 0, 0], [0, 0, 0.35]]), "eV/Å, above the limit"),
        (Atoms("Og"), "No support for elements"),
        (molecule("H2O", cell=np.diag([6.0, 6, 12]), pbc=[True, True, False]), "periodic in all directions"),
    ],
)
def test_what_xtb_cannot_do_is_a_failure_not_a_number(atoms, reason):
    (result,) = TBLiteOracle().label([atoms])
    assert isinstance(result, Failure)
    assert reason in result.reason


def test_settings_are_complete_and_storable():
    settings = TBLiteOracle("GFN1-xTB", multiplicity=3).settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["method"] == "GFN1-xTB"
    assert settings["multiplicity"] == 3
    assert settings["version"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "GFN2xTB"}, "did you mean 'GFN2-xTB'"),
        ({"multiplicity": 0}, "at least 1"),
        ({"accuracy": 0.0}, "positive"),
    ],
)
def test_wrong_settings_are_refused_when_the_oracle_is_built(arguments, message):
    with pytest.raises(ConfigError, match=message):
        TBLiteOracle(**arguments)


def test_a_missing_tblite_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(ConfigError, match="pip install tblite"):
        TBLiteOracle()
