"""GPAW: silicon against finite differences where it is installed, and what must be refused."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqpot.core.errors import ConfigError
from eqpot.graph.structure import Frame
from eqpot.oracles import Failure, GPAWOracle

needs_gpaw = pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="needs the extra 'gpaw'")
CHEAP = {"functional": "LDA", "cutoff": 200.0, "kpoint_density": 0.9}


def silicon(scale=1.0, move=0.0):
    atoms = bulk("Si", a=5.43 * scale)
    atoms.positions[1] += [0.1 + move, 0.05, 0.0]
    return atoms


@needs_gpaw
@pytest.mark.slow
def test_forces_of_silicon_are_the_gradient_and_compression_pushes_outwards():
    oracle, h = GPAWOracle(**CHEAP), 5e-3
    results = oracle.label([silicon(), silicon(move=h), silicon(move=-h), silicon(0.95), silicon(1.05)])
    assert all(isinstance(r, Frame) for r in results)
    found, plus, minus, pressed, pulled = (r.labels for r in results)
    assert found.forces[1, 0] == pytest.approx(-(plus.energy - minus.energy) / (2 * h), abs=1e-2)
    assert np.trace(pressed.stress) < -0.03 and np.trace(pulled.stress) > 0.03  # ASE's sign: tension is positive


@needs_gpaw
def test_what_does_not_converge_is_a_failure_with_the_programs_output():
    (result,) = GPAWOracle(**CHEAP, max_iterations=2).label([silicon()])
    assert isinstance(result, Failure)
    assert "not converged after 2 iterations" in result.reason and "SCF iterations" in result.log


@needs_gpaw
def test_an_atom_of_silicon_is_magnetic():
    """Two unpaired electrons lower its energy by some tenths of an eV (Hund); without moments to start from, spins stay paired, which is refused."""
    atom = Atoms("Si", [[0, 0, 0]], cell=np.diag([5.0, 5.1, 5.2]), pbc=True)
    given = CHEAP | {"kpoint_density": 0.1}
    (without,), (with_spin,) = (GPAWOracle(**given, **spin).label([atom]) for spin in ({}, {"magnetic_moments": {"Si": 2.0}}))
    assert 0.2 < without.labels.energy - with_spin.labels.energy < 2.0
    with pytest.raises(ConfigError, match=r"spinpol, which starts without magnetization.*magnetic_moments: {Fe: 2.3}"):
        GPAWOracle(**given, keywords={"spinpol": True})


@needs_gpaw
def test_structures_that_it_cannot_do_are_failures():
    (result,) = GPAWOracle(**CHEAP).label([molecule("H2O")])
    assert "only fully periodic cells" in result.reason


@needs_gpaw
def test_settings_are_complete_and_storable():
    oracle = GPAWOracle("RPBE", keywords={"mixer": {"beta": 0.02}})
    settings = oracle.settings
    assert {aid.partition(".")[0] for aid in oracle.aids} <= settings.keys()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["functional"] == settings["setups"]["name"] == "RPBE" and len(settings["setups"]["sha256"]) == 64
    assert settings["setups"] != GPAWOracle("LDA").settings["setups"]


@needs_gpaw
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"functional": "PBEE"}, "functional: 'PBEE' is not known to GPAW"),
        ({"keywords": {"mixxer": {}}}, "cannot be built with these keywords"),
        ({"keywords": {"xc": "PBE"}}, "which the oracle sets itself"),
        ({"cutoff": 0.0}, "positive"),
    ],
)
def test_wrong_settings_are_refused_when_the_oracle_is_built(arguments, reason):
    with pytest.raises(ConfigError) as caught:
        GPAWOracle(**arguments)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_gpaw_says_what_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "gpaw"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gpaw", None)
    with pytest.raises(ConfigError, match="pip install gpaw gpaw-data"):
        GPAWOracle()
