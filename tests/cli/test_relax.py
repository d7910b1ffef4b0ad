"""`eqpot relax` and `eqpot neb` parse, run, print."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from typer import Typer
from typer.testing import CliRunner

from eqpot.cli.neb import neb
from eqpot.cli.relax import relax
from eqpot.core.errors import EqpotError

app = Typer()
app.command()(relax)
app.command()(neb)


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_potential):
    """A potential, a crystal, and a molecule in two places."""
    folder = tmp_path_factory.mktemp("relax")
    make_potential(tiny=True, members=2).save(folder / "toy.safetensors")
    write(folder / "crystal.xyz", Atoms("CO", [[0, 0, 0], [1.5, 1.6, 1.4]], cell=np.eye(3) * 3.2, pbc=True), format="extxyz")
    write(folder / "start.xyz", Atoms("OH", [[0, 0, 0], [1.2, 0, 0]]), format="extxyz")
    write(folder / "end.xyz", Atoms("OH", [[0, 0, 0], [0, 1.2, 0]]), format="extxyz")
    return folder


def _run(files, verb, *words, **kwargs):
    names = [str(files / word) if (files / word).exists() else str(word) for word in words]
    return CliRunner().invoke(app, [verb, str(files / "toy.safetensors"), *names], **kwargs)


def test_a_crystal_is_relaxed_and_written(files, tmp_path):
    out, steps = tmp_path / "out.extxyz", tmp_path / "steps.extxyz"
    options = ["--cell", "isotropic", "--steps", "4", "-o", out, "--trajectory", steps]
    result = _run(files, "relax", "crystal.xyz", *options, "--json", catch_exceptions=False)
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["energy_gained_eV"] > 0 and summary["energy_std_eV"] > 0 and summary["max_stress_GPa"] is not None
    relaxed = read(out)
    assert relaxed.get_potential_energy() == pytest.approx(summary["energy_eV"], abs=1e-6)
    assert relaxed.get_volume() == pytest.approx(summary["volume_A3"])
    assert np.linalg.norm(relaxed.get_forces(), axis=1).max() == pytest.approx(summary["max_force_eV_per_A"], abs=1e-6)
    assert len(read(steps, ":")) == summary["steps"] + 1
    again = _run(files, "relax", "crystal.xyz", "-o", out)
    assert isinstance(again.exception, EqpotError) and "exists" in str(again.exception)


@pytest.mark.slow
def test_a_path_is_found_and_written(files, tmp_path):
    out = tmp_path / "path.extxyz"
    options = ["--images", "5", "--steps", "5", "--force-tolerance", "100", "-o", out]
    result = _run(files, "neb", "start.xyz", "end.xyz", *options, "--json", catch_exceptions=False)
    summary = json.loads(result.stdout)
    assert summary["converged"] and len(summary["energies_eV"]) == len(read(out, ":")) == 5
    assert summary["barrier_eV"] == pytest.approx(max(summary["energies_eV"]) - summary["energies_eV"][0])
    table = _run(files, "neb", "start.xyz", "end.xyz", *options, "--overwrite", catch_exceptions=False).stdout
    assert all(word in table for word in ("path found", "barrier eV", "highest", "images"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("relax", "start.xyz", "--cell", "flexible"), "periodic"),
        (("relax", "start.xyz", "--pressure", "2"), "fixed cell"),
        (("relax", "start.xyz", "-o", "out.cif"), "suffix"),
        (("relax", "none.xyz"), "no such file"),
        (("neb", "start.xyz", "start.xyz"), "same positions"),
        (("neb", "start.xyz", "crystal.xyz"), "different atoms"),
        (("neb", "start.xyz", "end.xyz", "--force-tolerance", "1e-9"), "relax it first"),
    ],
)
def test_bad_input_is_one_line(files, tmp_path, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    result = _run(files, *words)
    assert isinstance(result.exception, EqpotError)
    assert reason in str(result.exception) and "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("verb", "words"), [("relax", ("minimum", "GPa", "eV/Å", "size and shape")), ("neb", ("barrier", "saddle", "Images"))]
)
def test_help_is_for_scientists(verb, words):
    text = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).stdout
    assert all(word in text for word in words)
