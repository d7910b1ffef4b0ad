"""The contract of every oracle: one answer per structure, screened, and never an exception."""

import errno
import json
import math
import os
import pickle

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from eqpot.core.errors import ConfigError, DataError
from eqpot.graph.structure import Frame, Labels, Structure
from eqpot.oracles import ASEOracle, Failure, Limits, Oracle
from eqpot.oracles.base import screen
from eqpot.oracles.machine import machine_fault

WATER = Structure.from_atoms(molecule("H2O"))


class Scripted(Oracle):
    """Answers with what it was given."""

    name = "scripted"
    settings = {}  # noqa: RUF012

    def __init__(self, answer, **kwargs):
        super().__init__(**kwargs)
        object.__setattr__(self, "answer", answer)

    def compute(self, structure):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def _forces(*rows):
    return Labels(energy=-1.0, forces=np.array(rows, float))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Labels(energy=math.nan), "energy: found nan"),
        (Labels(), "no energy"),
        (Labels(energy=-1.0, charges=np.array([0.3, 0.3, 0.3])), "charges of the atoms sum to 0.9 e, but the structure has 0 e"),
        (Labels(energy=1.0, forces=np.zeros((2, 3))), "expected (3, 3) for 3 atoms"),
        (_forces([0, 0, 500], [0, 0, -500], [0, 0, 0]), "force on atom 0 is 500 eV/Å"),
        (_forces([0, 0, 1], [0, 0, 0], [0, 0, 0]), "forces sum to 0.3333 eV/Å per atom"),
        (_forces([0, 0, math.inf], [0, 0, 0], [0, 0, 0]), "forces: found inf at atom 0"),
        (RuntimeError("SCF not\nconverged"), "scripted: RuntimeError: SCF not converged"),
    ],
)
def test_nonsense_is_a_failure_with_its_reason(answer, reason):
    (result,) = Scripted(answer).label([WATER])
    assert isinstance(result, Failure)
    assert reason in result.reason
    assert "\n" not in result.reason
    assert result.structure is WATER
    assert result.log


def _because(cause):
    error = RuntimeError(f"the calculation failed: {cause}")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "no room", "/disk/density"), "/disk/density on .*: No space left on device, .*free space there"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "/tmp.* on .*: Disk quota exceeded, .*set TMPDIR"),
        (OSError("4096 requested and 0 written"), "requested and 0 written, .*free space there"),
        (OSError("cannot create file (error message = 'No space left on device')"), "free space there"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "free space there"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "ulimit -n"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), "ulimit -n"),
        (_because(OSError(errno.EROFS, os.strerror(errno.EROFS), "/disk/input")), "/disk/input on .*: Read-only file system, .*writable"),
    ],
)
def test_a_fault_of_the_machine_is_no_failure_of_the_structure(error, reason, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    with pytest.raises(DataError, match=reason) as caught:
        Scripted(error).label([WATER])
    assert "\n" not in str(caught.value) and str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_other_errors_of_the_system_are_those_of_the_structure():
    for error in (OSError("Turbomole error: no convergence"), FileNotFoundError(errno.ENOENT, "none", "density"), _because(KeyError("x"))):
        assert machine_fault(error) is None
        assert isinstance(Scripted(error).label([WATER])[0], Failure)
    loop = OSError("one")
    loop.__cause__ = _because(loop)
    assert machine_fault(loop) is None


def test_the_interrupt_of_the_user_is_not_a_failure():
    class Stop(Scripted):
        def compute(self, structure):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stop(None).label([WATER])


def test_one_bad_structure_does_not_cost_the_others():
    overlapping = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 0.05]]))
    image = Structure(np.array([13]), np.zeros((1, 3)), np.diag([0.2, 9, 9]), np.array([True] * 3))
    absurd = Structure(np.array([1]), np.array([[math.nan, 0, 0]]))
    oracle = Scripted(_forces([0, 0, 0]))
    results = oracle.label([Structure(np.array([1]), np.zeros((1, 3))), overlapping, image, absurd, "no structure"])
    assert [type(r) for r in results] == [Frame, Failure, Failure, Failure, Failure]
    for result, part in zip(results[1:], ("0.05 Å apart", "0.2 Å apart", "not finite", "found str"), strict=True):
        assert part in result.reason


def test_a_limit_can_be_switched_off():
    labels = _forces([0, 0, 900], [0, 0, 0], [0, 0, 0])
    assert screen(labels, WATER, Limits(max_force=math.inf, max_net_force=math.inf)) is None
    with pytest.raises(ConfigError, match="max_force"):
        Limits(max_force=math.nan)


def test_emt_through_ase_has_stress_and_gives_the_same_numbers_as_ase():
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.05, seed=1)
    oracle = ASEOracle(EMT, method="EMT", parameters={"asap_cutoff": False})
    (frame,) = oracle.label([atoms])
    atoms.calc = EMT()
    assert frame.labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(frame.labels.forces, atoms.get_forces(), atol=1e-12)
    np.testing.assert_allclose(frame.labels.stress, atoms.get_stress(voigt=False), atol=1e-12)
    assert frame.labels.dipole is None
    assert frame.origin == "EMT"
    assert json.loads(json.dumps(oracle.settings)) == oracle.settings
    assert oracle.settings["parameters"] == {"asap_cutoff": False}


def test_an_element_that_the_method_does_not_know_is_a_failure():
    (result,) = ASEOracle(EMT, method="EMT").label([bulk("Si")])
    assert isinstance(result, Failure)
    assert "Si" in result.reason


def test_each_label_gets_a_fresh_calculator():
    built = []
    oracle = ASEOracle(lambda: built.append(1) or EMT(), method="EMT")
    oracle.label([bulk("Cu"), bulk("Ni")])
    assert len(built) == 2


def test_settings_that_cannot_be_stored_are_refused():
    with pytest.raises(ConfigError, match="parameters"):
        ASEOracle(EMT, method="EMT", parameters={"calculator": EMT})
    with pytest.raises(Exception, match="factory"):  # ours, or that of the type checker of the tests
        ASEOracle(EMT(), method="EMT")
