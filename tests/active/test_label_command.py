"""Oracles from names and files, and `eqpot label`."""

import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.io import write as write_ase

from eqpot.active.label_output import read_oracle_settings
from eqpot.active.oracle_config import build_oracle, load_oracle
from eqpot.core.errors import ConfigError
from eqpot.data import read
from eqpot.oracles.ase import checksums

sys.path.append(str(Path(__file__).parent))
from label_fakes import lines, until


def copper(n):
    structures = [bulk("Cu", cubic=True) for _ in range(n)]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=seed)
    return structures


def test_short_names_are_oracles():
    names = {"gfn2": "GFN2-xTB", "gfn1": "GFN1-xTB", "emt": "EMT", "GFN2-xTB": "GFN2-xTB", "IPEA1-xTB": "IPEA1-xTB"}
    assert {name: load_oracle(name)[0].name for name in names} == names


def test_a_calculator_by_path_or_short_name_labels_as_it_does_in_ase():
    (atoms,) = copper(1)
    for name in ("ase.calculators.emt.EMT", "emt"):
        oracle, others = build_oracle({"kind": "ase", "calculator": name, "keywords": {"asap_cutoff": True}, "limits": {"max_force": 50}})
        (frame,) = oracle.label([atoms])
        atoms.calc = EMT(asap_cutoff=True)
        assert frame.labels.energy == atoms.get_potential_energy()
        assert oracle.settings["parameters"] == {"calculator": name, "keywords": {"asap_cutoff": True}}
        assert oracle.limits.max_force == 50 and others == ()


SILICON = [3.0, 1.0, 1.3258, 4.8381, 2.0417, 0.0, 22.956, 0.33675, 1.3258, 95.373, 3.0, 0.2, 3.2394, 3264.7]


def tersoff(folder, **changes):
    """The values of an oracle whose parameters are in a file of LAMMPS."""
    folder.mkdir(exist_ok=True)
    (folder / "Si.tersoff").write_text("# J. Tersoff, Phys. Rev. B 37, 6991 (1988)\nSi Si Si " + " ".join(map(str, SILICON)) + "\n")
    keywords = {"potential_file": str(folder / "Si.tersoff"), "skin": 0.2}
    return {"kind": "ase", "calculator": "ase.calculators.tersoff.Tersoff.from_lammps", "keywords": keywords} | changes


def test_a_method_of_a_class_makes_a_calculator(tmp_path):
    (tmp_path / "oracle.yaml").write_text(yaml.safe_dump(tersoff(tmp_path)))
    oracle, _ = load_oracle(str(tmp_path / "oracle.yaml"))
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=0)
    for each in (oracle, pickle.loads(pickle.dumps(oracle))):
        (frame,) = each.label([atoms])
        atoms.calc = Tersoff({("Si", "Si", "Si"): TersoffParameters(*SILICON)})
        assert frame.labels.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        np.testing.assert_allclose(frame.labels.forces, atoms.get_forces(), atol=1e-12)
        assert each.name == "Tersoff" and each.settings == oracle.settings


def test_the_settings_hold_what_is_in_a_file_and_not_where_it_is(tmp_path):
    here, there = (build_oracle(tersoff(tmp_path / name))[0].settings for name in ("a", "b"))
    text = (tmp_path / "a" / "Si.tersoff").read_bytes()
    known = {"file": "Si.tersoff", "sha256": hashlib.sha256(text).hexdigest()}
    assert here == there and here["parameters"]["keywords"] == {"potential_file": known, "skin": 0.2}
    (tmp_path / "a" / "Si.tersoff").write_bytes(text.replace(b"3.0", b"3.1"))
    values = tersoff(tmp_path / "b")
    values["keywords"]["potential_file"] = str(tmp_path / "a" / "Si.tersoff")
    assert build_oracle(values)[0].settings != here


def test_files_are_found_wherever_they_are_named(tmp_path, monkeypatch):
    (tmp_path / "PBE").write_bytes(b"")
    monkeypatch.chdir(tmp_path)  # 'PBE' is no path, though there is such a file
    found = checksums({"files": [str(tmp_path / "PBE")], "xc": "PBE", "n": 1, "none": str(tmp_path / "none"), "folder": str(tmp_path)})
    empty = {"file": "PBE", "sha256": hashlib.sha256(b"").hexdigest()}
    assert found == {"files": [empty], "xc": "PBE", "n": 1, "none": str(tmp_path / "none"), "folder": str(tmp_path)}


def test_alternatives_are_changes(tmp_path):
    file = tmp_path / "oracle.yaml"
    file.write_text(yaml.safe_dump({"kind": "tblite", "multiplicity": 3, "accuracy": 0.5, "alternatives": [{"accuracy": 2.0}]}))
    oracle, (other,) = load_oracle(str(file))
    assert (oracle.accuracy, oracle.multiplicity) == (0.5, 3)
    assert (other.accuracy, other.multiplicity) == (2.0, 3)


def test_which_keywords_of_ase_alternatives_may_change_is_for_the_user_to_say(tmp_path):
    skin = {"alternatives": [{"keywords": {"skin": 1.0}}]}
    with pytest.raises(
        ConfigError, match=r"alternatives\.0: found parameters\.keywords\.skin: 1\.0 .* beside 'keywords': convergence: \[skin\]"
    ):
        build_oracle(tersoff(tmp_path, **skin))
    oracle, (other,) = build_oracle(tersoff(tmp_path, convergence=["skin"], **skin))
    assert other.settings["parameters"]["keywords"]["skin"] == 1.0
    assert oracle.settings == build_oracle(tersoff(tmp_path))[0].settings  # labels do not depend on what is said here
    lj = {"kind": "ase", "calculator": "lj", "keywords": {"epsilon": 0.1}, "convergence": ["rc"]}
    with pytest.raises(ConfigError, match=r"alternatives\.0: found parameters\.keywords\.epsilon: 0\.2 \(the oracle has 0\.1\)"):
        build_oracle(lj | {"alternatives": [{"keywords": {"epsilon": 0.2}, "convergence": ["epsilon"]}]})
    with pytest.raises(ConfigError, match=r"alternatives\.0: found method: 'LJ'"):
        build_oracle(lj | {"alternatives": [{"method": "LJ"}]})


def test_the_keys_of_a_kind_are_the_fields_of_its_oracle(tmp_path):
    (tmp_path / "Si.UPF").write_text('<PP_HEADER element="Si" functional="PBE"/>')
    (tmp_path / "pw.x").write_text("#!/bin/sh\necho '     Program PWSCF v.9.9 starts'\n")
    (tmp_path / "pw.x").chmod(0o755)
    values = {"kind": "espresso", "pseudopotentials": {"Si": "Si.UPF"}, "folder": str(tmp_path), "command": str(tmp_path / "pw.x")}
    values |= {"cutoff_Ry": 30, "starting_magnetization": {"Si": 0.5}, "keywords": {"nspin": 2}, "limits": {"max_force": 50}}
    oracle, (other,) = build_oracle(values | {"alternatives": [{"mixing": 0.2, "keywords": {"mixing_ndim": 4}}]})
    assert (oracle.cutoff_Ry, oracle.mixing, oracle.limits.max_force, oracle.settings["keywords"]) == (30.0, 0.7, 50.0, {"nspin": 2})
    assert (other.cutoff_Ry, other.mixing, other.settings["keywords"]) == (30.0, 0.2, {"nspin": 2, "mixing_ndim": 4})
    for changes, name in [
        ({"cutoff_Ry": 20}, "cutoff_Ry: 20"),
        ({"smearing_width": 0.3}, "smearing_width: 0.3"),
        ({"mixing": 0.2, "keywords": {"nspin": 1}}, "keywords.nspin: 1"),
        ({"keywords": {"vdw_corr": "d3"}}, "keywords.vdw_corr: 'd3' (the oracle has None)"),
    ]:
        with pytest.raises(ConfigError, match=rf"alternatives\.0: found {re.escape(name)}.*; expected the same level of theory"):
            build_oracle(values | {"alternatives": [changes]})


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"kind": "vasp"}, "kind: found 'vasp', expected one of tblite, pyscf, espresso, gpaw, ase"),
        ({"kind": "espresso"}, "the key 'pseudopotentials' is missing"),
        ({"kind": "pyscf", "functionl": "pbe"}, "did you mean 'functional'"),
        ({"kind": "tblite", "acuracy": 1.0}, "did you mean 'accuracy'"),
        ({"kind": "tblite", "method": "GFN2"}, "did you mean 'GFN2-xTB'"),
        (
            {"kind": "tblite", "alternatives": [{"method": "GFN1-xTB"}]},
            "alternatives.0: found method: 'GFN1-xTB' (the oracle has 'GFN2-xTB')",
        ),
        ({"kind": "tblite", "alternatives": [{"multiplicity": 3}]}, "alternatives.0: found multiplicity: 3"),
        ({"kind": "tblite", "alternatives": [{"limits": {}}]}, "alternatives.0: found 'limits', expected changes to the settings"),
        ({"kind": "tblite", "alternatives": [{"acuracy": 1.0}]}, "alternatives.0: unknown key 'acuracy'"),
        ({"kind": "ase", "calculator": "nowhere_at_all.Calculator"}, "pip install nowhere_at_all"),
        ({"kind": "ase", "calculator": "ase.calculators.emt.EMTT"}, "did you mean 'EMT'"),
        ({"kind": "ase", "calculator": "ase.calculators.emmt.EMT"}, "found no 'ase.calculators.emmt.EMT'"),
        ({"kind": "ase", "calculator": "ase.calculators.tersoff.Tersoff.from_lamps"}, "did you mean 'from_lammps'"),
        ({"kind": "ase", "calculator": "ase..EMT"}, "found no 'ase..EMT', expected a dotted path"),
        ({"kind": "ase", "calculator": "emtt"}, "did you mean 'emt'"),
        ({"kind": "ase", "calculator": "os.getcwd"}, "makes a str, expected an ASE calculator"),
        (
            {"kind": "ase", "calculator": "emt", "keywords": {"a": {"b": 1}, "asap_cutoff": True, "fixed_cutoff": 1, "label": []}},
            "cannot be built",
        ),
    ],
)
def test_what_is_wrong_with_an_oracle_is_told_in_one_line(values, reason):
    with pytest.raises(ConfigError) as caught:
        build_oracle(values)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_package_that_a_calculator_needs_is_told(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="pip install not_there_at_all"):
        build_oracle({"kind": "ase", "calculator": "needs_more.Calculator.from_file"})


def test_an_unknown_name_is_told():
    with pytest.raises(ConfigError, match="did you mean 'gfn2'"):
        load_oracle("gfn22")


@pytest.mark.slow
def test_the_command_goes_on_after_an_interrupt(tmp_path):
    write_ase(tmp_path / "in.extxyz", copper(12))
    values = {"kind": "ase", "calculator": "label_fakes.SlowEMT", "method": "EMT"}
    (tmp_path / "oracle.yaml").write_text(yaml.safe_dump(values))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])}
    words = [
        sys.executable,
        "-m",
        "eqpot.cli.main",
        "label",
        "in.extxyz",
        "-o",
        "out.extxyz",
        "--oracle",
        "oracle.yaml",
        "--workers",
        "1",
        "--json",
    ]
    store = tmp_path / "out.extxyz.labels"

    def start():
        return subprocess.Popen(words, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    first = start()
    until(lambda: first.poll() is not None or lines(store) >= 3)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 130 and "what was finished is saved" in errors
    kept = lines(store)
    assert 3 <= kept < 12 and not (tmp_path / "out.extxyz").exists()
    second = start()
    output, _ = second.communicate(timeout=60)
    told = json.loads(output)
    assert second.returncode == 0
    assert (told["asked"], told["cached"], told["computed"], told["failed"]) == (12, kept, 12 - kept, 0)
    for frame, atoms in zip(read(tmp_path / "out.extxyz"), copper(12), strict=True):
        atoms.calc = EMT()
        np.testing.assert_allclose(frame.labels.forces, atoms.get_forces(), atol=1e-6)  # ASE writes positions to 1e-8 Å
    assert read_oracle_settings(tmp_path / "out.extxyz")["method"] == "EMT"
    third = start()
    assert "--overwrite" in third.communicate(timeout=60)[1] and third.returncode == 1


def test_the_command_tells_failures(tmp_path, capsys, monkeypatch):
    from eqpot.cli.console import console
    from eqpot.cli.label import label

    monkeypatch.setattr(console, "_width", 200)
    write_ase(tmp_path / "in.extxyz", [*copper(1), bulk("Si")])
    label([str(tmp_path / "in.extxyz")], tmp_path / "out.extxyz", "emt", workers=1)
    shown = capsys.readouterr().out
    assert "frame 1" in shown and "Si" in shown
    assert len(read(tmp_path / "out.extxyz")) == 1
