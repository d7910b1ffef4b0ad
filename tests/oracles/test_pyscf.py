"""Density-functional theory of molecules through PySCF: derivatives, units, spin, core potentials, and what must be refused."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqpot.core.errors import ConfigError
from eqpot.graph.structure import Frame, Structure
from eqpot.oracles import Failure, PySCFOracle

needs_pyscf = pytest.mark.skipif(importlib.util.find_spec("pyscf") is None, reason="needs the extra 'pyscf'")
needs_dispersion = pytest.mark.skipif(
    importlib.util.find_spec("pyscf") is None or importlib.util.find_spec("pyscf.dispersion") is None, reason="needs pyscf-dispersion"
)
HARTREE = 27.211386


@pytest.fixture
def bent():
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=3)
    return Structure.from_atoms(atoms)


def labels(oracle, structure):
    (result,) = oracle.label([structure])
    assert isinstance(result, Frame), result.reason
    return result.labels


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"grid_level": 0}, marks=needs_pyscf),
        pytest.param({"functional": "b3lyp-d3bj", "basis": "sto-3g", "multiplicity": 3, "grid_level": 1}, marks=needs_dispersion),
    ],
)
def test_forces_are_minus_the_gradient_of_the_energy(bent, settings):
    """On a coarse grid too, and with dispersion; an unrestricted triplet as well."""
    oracle, h = PySCFOracle(**settings), 2e-3
    found = labels(oracle, bent)
    for index in ((1, 1), (2, 2)):
        step = np.zeros((3, 3))
        step[index] = h
        plus, minus = (labels(oracle, Structure(bent.numbers, bent.positions + s * step)).energy for s in (1, -1))
        assert found.forces[index] == pytest.approx(-(plus - minus) / (2 * h), abs=5e-4)
    np.testing.assert_allclose(found.forces.sum(0), 0.0, atol=1e-6)


@needs_pyscf
def test_energies_and_dipoles_are_those_of_the_literature():
    """Hartree–Fock in 6-31G* of water at its geometry of ASE (G2): −76.01 Hartree and 2.2 Debye."""
    found = labels(PySCFOracle("hf", "6-31g*", density_fitting=False), molecule("H2O"))
    assert found.energy / HARTREE == pytest.approx(-76.0098, abs=2e-3)
    assert np.linalg.norm(found.dipole) / 0.2081943 == pytest.approx(2.2, abs=0.1)


@needs_pyscf
def test_the_hydrogen_atom_is_unrestricted_and_a_triplet_must_be_asked_for():
    assert labels(PySCFOracle("hf", "def2-tzvp"), Atoms("H")).energy / HARTREE == pytest.approx(-0.49981, abs=1e-4)
    oxygen = molecule("O2")
    singlet, triplet = (labels(PySCFOracle(basis="sto-3g", multiplicity=m), oxygen).energy for m in (None, 3))
    assert singlet - triplet > 0.5


@needs_pyscf
def test_heavy_elements_get_their_core_potentials():
    """Without it iodine in a def2 basis has −6900 Hartree of core electrons in a basis that cannot hold them; with it, 25 electrons."""
    assert labels(PySCFOracle(), Atoms("HI", [[0, 0, 0], [0, 0, 1.61]])).energy / HARTREE == pytest.approx(-298.3, abs=0.5)


@needs_pyscf
def test_what_does_not_converge_fails_and_the_alternative_does_not(bent):
    (result,) = PySCFOracle(max_iterations=2, basis="sto-3g").label([bent])
    assert isinstance(result, Failure)
    assert "not converged after 2 iterations" in result.reason and "SCF not converged" in result.log
    plain, newton, shifted = (
        labels(PySCFOracle(basis="sto-3g", **changes), bent).energy for changes in ({}, {"second_order": True}, {"level_shift": 5.0})
    )
    assert newton == pytest.approx(plain, abs=1e-6) and shifted == pytest.approx(plain, abs=1e-6)


@needs_pyscf
def test_structures_that_it_cannot_do_are_failures(bent):
    half = Structure(bent.numbers, bent.positions, charge=0.5)
    for atoms, oracle, reason in [
        (bulk("Si"), PySCFOracle(), "only molecules"),
        (half, PySCFOracle(), "whole number"),
        (bent, PySCFOracle(multiplicity=2), "multiplicity 2 is impossible with the 10 electrons of H2O"),
        (Atoms("I2", [[0, 0, 0], [0, 0, 2.7]]), PySCFOracle(basis="cc-pvdz"), "Basis set not found for I"),
    ]:
        (result,) = oracle.label([atoms])
        assert isinstance(result, Failure)
        assert reason in result.reason


@needs_pyscf
def test_settings_are_complete_and_storable():
    oracle = PySCFOracle("r2scan", "def2-tzvp")
    settings = oracle.settings
    assert set(oracle.aids) <= settings.keys()
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["functional"], settings["basis"], settings["grid_level"]) == ("r2scan", "def2-tzvp", 3)
    assert settings["version"] and "dispersion" not in settings


@needs_pyscf
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"functional": "pbee"}, "functional: 'pbee' is not known"),
        ({"basis": "def3-svp"}, "basis: 'def3-svp' is not known"),
        ({"multiplicity": 0}, "at least 1"),
        ({"grid_level": 10}, "0 to 9"),
        ({"convergence": 0.0}, "positive"),
    ],
)
def test_wrong_settings_are_refused_when_the_oracle_is_built(arguments, message):
    with pytest.raises(ConfigError, match=message):
        PySCFOracle(**arguments)


def test_a_missing_pyscf_says_what_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "pyscf"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyscf", None)
    with pytest.raises(ConfigError, match="pip install pyscf"):
        PySCFOracle()
