"""`eqpot learning-curve` as a user meets it."""

import json
import subprocess
import sys

import pytest

TOY = """
name: toy
data: {{train: {data}, valid: 8, test: 8}}
model: {{cutoff: 3.5, hidden: 4x0e, l_max: 1, correlation: 2, n_layers: 1, n_radial: 4, radial_hidden: [4], readout_hidden: 4}}
training: {{epochs: 2, batch_size: 8}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a configuration and 60 frames."""
    from pathlib import Path

    from eqpot.data import read, write

    home = tmp_path_factory.mktemp("curve")
    write(home / "ethanol.extxyz", read(Path(__file__).parents[2] / "train" / "data" / "ethanol_gfn2.extxyz.xz")[:60])
    (home / "toy.yaml").write_text(TOY.format(data=home / "ethanol.extxyz"))
    return home


def curve(folder, *args):
    """The command in a folder."""
    command = [sys.executable, "-m", "eqpot.cli.main", "learning-curve", "toy.yaml", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_a_study_is_trained_then_read_back(folder):
    study = ("--sizes", "8,16", "--seeds", "1", "--capacities", "2", "--json")
    first = curve(folder, *study)
    assert first.returncode == 0, first.stderr
    made = json.loads(first.stdout)
    assert [(p["model"], p["size"]) for p in made["points"]] == [("2 channels", n) for n in (8, 16)]
    assert all(p["test"]["forces"]["mae"] > 0 and p["test"]["frames"] == 8 for p in made["points"])
    assert {law["quantity"] for law in made["laws"]} == {"energy_per_atom", "forces"} and made["laws"][0]["b_error"] is None
    home = folder / "runs" / "toy-learning-curve"
    assert "</html>" in (home / "learning_curve.html").read_text()
    assert json.loads(curve(folder, *study).stdout) == made


@pytest.mark.parametrize(
    "args, message",
    [
        (("--sizes", "8,x"), "sizes: found '8,x', expected whole numbers"),
        (("training.epohcs=3", "--sizes", "8,16"), "did you mean 'epochs'"),
    ],
)
def test_what_makes_no_curve_is_one_line(folder, args, message):
    result = curve(folder, *args)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("eqpot: ")]
    assert message in line
