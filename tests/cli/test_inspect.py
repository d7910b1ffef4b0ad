"""`eqpot inspect` on data with wrong labels, as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eqpot.data import Dataset, prepare_store, read, write
from eqpot.graph import Labels


def inspect(*args):
    """Run the command as a process, as a user would."""
    command = [sys.executable, "-m", "eqpot.cli.main", "inspect", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file in which frame 30 has the forces of the opposite sign."""
    frames = list(read(Path(__file__).parents[2] / "train" / "data" / "ethanol_gfn2.extxyz.xz")[::2])
    labels = frames[30].labels
    frames[30] = frames[30].replace(labels=Labels(labels.energy, -labels.forces))
    path = tmp_path_factory.mktemp("inspect") / "ethanol.extxyz"
    write(path, Dataset(tuple(frames)))
    return path


def test_a_wrong_frame_is_named_in_plain_words_and_is_a_warning(data):
    result = inspect(data)
    assert result.returncode == 0, result.stderr
    assert "1 suspicious frame" in result.stdout and "ethanol.extxyz:frame 30" in result.stdout and "opposite" in result.stdout


def test_suspicious_frames_are_written_with_reasons_and_never_over_a_file(data, tmp_path):
    target = tmp_path / "look.extxyz"
    found = json.loads(inspect(data, "--json", "--write-suspicious", target).stdout)["hygiene"]
    assert [s["frame"] for s in found["suspects"]] == [30] and found["suspects"][0]["reasons"][0]["code"] == "force-sign"
    assert len(found["leverage"]) == 202
    assert len(read(target)) == 1 and "force-sign" not in target.read_text() and "opposite" in target.read_text()
    again = inspect(data, "--write-suspicious", target)
    assert again.returncode == 1 and "exists" in again.stderr
    assert inspect(data, "--write-suspicious", target, "--overwrite").returncode == 0


def test_units_and_names_in_brackets_are_printed(data, tmp_path):
    name = tmp_path / "train[v2].extxyz"
    name.write_bytes(data.read_bytes())
    text = inspect(name).stdout
    assert "energy above reference [eV/atom]" in text and "train[v2].extxyz:frame 30" in text


def test_a_potential_can_be_the_judge(data, tmp_path, potential):
    path = potential.save(tmp_path / "p.safetensors")
    result = inspect(data, "--potential", path)
    assert result.returncode == 0, result.stderr
    assert "p.safetensors" in "".join(result.stdout.split())  # a long path is broken into lines
    assert "is a potential" in inspect(path, "--potential", path).stderr


@pytest.mark.slow
def test_a_potential_of_several_levels_shows_the_reference_energies_of_each(make_potential, tmp_path):
    path = make_potential(tiny=True, heads=("pbe", "scan")).save(tmp_path / "two.safetensors")
    result = inspect(path)
    assert result.returncode == 0, result.stderr
    assert "pbe: H -10.0000" in result.stdout and "scan: H -40.0000" in result.stdout
    assert json.loads(inspect(path, "--json").stdout)["heads"] == ["pbe", "scan"]


def test_labels_under_other_names_and_in_other_units(tmp_path):
    (tmp_path / "h2.extxyz").write_text(
        "".join(f"2\nE_dft={-1.0 - 0.01 * k} pbc='F F F'\nH 0 0 0\nH 0 0 {1.4 + 0.02 * k}\n" for k in range(3))
    )
    result = inspect(tmp_path / "h2.extxyz", "--key", "energy=E_dft", "--unit", "energy=Hartree", "--unit", "length=Bohr", "--json")
    found = json.loads(result.stdout)
    assert found["label_counts"]["energy"] == 3 and found["statistics"]["shortest"]["H-H"] == pytest.approx(1.4 * 0.529177, rel=1e-5)
    assert sum(found["references"][""]["values"].values()) == pytest.approx(-1.01 / 2 * 27.2114, rel=1e-4)
    wrong = inspect(tmp_path / "h2.extxyz", "--key", "enrgy=E_dft")
    assert wrong.returncode == 1 and "--key: found 'enrgy=E_dft', expected LABEL=NAME (did you mean 'energy'?)" in wrong.stderr


@pytest.mark.slow
def test_a_store_shows_what_its_files_show(data, tmp_path):
    prepare_store(read(data), tmp_path / "store")
    from_store, from_file = (json.loads(inspect(path, "--json").stdout) for path in (tmp_path / "store", data))
    assert from_store["content_hash"] == from_file["content_hash"]
    assert [s["frame"] for s in from_store["hygiene"]["suspects"]] == [s["frame"] for s in from_file["hygiene"]["suspects"]] == [30]
    assert "is a store: its keys and units were settled" in inspect(tmp_path / "store", "--unit", "energy=Ry").stderr
