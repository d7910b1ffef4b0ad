"""`eqpot inspect` on data with wrong labels, as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eqpot.data import Dataset, read, write
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


def test_a_potential_can_be_the_judge(data, tmp_path, potential):
    path = potential.save(tmp_path / "p.safetensors")
    result = inspect(data, "--potential", path)
    assert result.returncode == 0, result.stderr
    assert "p.safetensors" in "".join(result.stdout.split())  # a long path is broken into lines
    assert "is a potential" in inspect(path, "--potential", path).stderr
