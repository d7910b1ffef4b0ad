"""`eqpot relax` and `eqpot neb` parse, run, print."""

import dataclasses
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
from eqpot.potential import Potential

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


def test_an_interrupt_keeps_where_the_search_stood(files, tmp_path, monkeypatch):
    from eqpot.md.relaxation import Harvest

    take = Harvest._take

    def stop(self, shots):
        take(self, shots)
        raise KeyboardInterrupt

    monkeypatch.setattr(Harvest, "_take", stop)
    out = tmp_path / "out.extxyz"
    result = _run(files, "relax", "start.xyz", "--force-tolerance", "1e-6", "-o", out)
    assert result.exit_code != 0 and "not converged; where it stood is in" in " ".join(result.output.split())
    assert np.abs(read(out).positions - read(files / "start.xyz").positions).max() > 0


def test_a_level_of_theory_is_named_where_there_are_several(files, tmp_path):
    """Of two heads with other reference energies: neither is taken unasked, each gives its own energy."""
    base = Potential.load(files / "toy.safetensors")
    norm = dataclasses.replace(base.spec.normalization, shift=2 * base.spec.normalization.shift)
    spec = dataclasses.replace(base.spec, config=base.spec.config.changed(heads=("old", "new")), normalization=norm)
    both = Potential(spec, spec.init_members([0, 1]), (*base.reference_energies, *(e - 3.0 for e in base.reference_energies)))
    both.save(files / "heads.safetensors")
    arguments = ["relax", str(files / "heads.safetensors"), str(files / "start.xyz"), "--steps", "0", "--json"]
    refused = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "a.extxyz")])
    assert isinstance(refused.exception, EqpotError) and "2 levels of theory (old, new)" in str(refused.exception)
    energies = []
    for head in both.heads:
        found = CliRunner().invoke(app, [*arguments, "--head", head, "-o", str(tmp_path / f"{head}.extxyz")], catch_exceptions=False)
        energies.append(json.loads(found.stdout)["energy_eV"])
        assert energies[-1] == pytest.approx(both.predict(read(files / "start.xyz"), head).energy, abs=1e-4)
    assert energies[0] - energies[1] == pytest.approx(6, abs=0.5)
