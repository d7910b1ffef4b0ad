"""The command line as a user meets it: help, JSON, one-line errors, exit codes."""

import json
import subprocess
import sys

import pytest

TINY = """
name: toy
data: {{train: {data}, valid: 8}}
model: {{cutoff: 3.5, hidden: 8x0e, l_max: 1, correlation: 2, n_layers: 1, n_radial: 4, radial_hidden: [8], readout_hidden: 4}}
ensemble: {{members: 2}}
training: {{epochs: 2, batch_size: 8}}
"""


def eqpot(*args, folder=None):
    """Run the command as a process, as a user would."""
    command = [sys.executable, "-m", "eqpot.cli.main", *map(str, args)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a small fit in it: (folder, data file, result of the fit)."""
    from pathlib import Path

    from eqpot.data import read, write

    folder = tmp_path_factory.mktemp("cli")
    shipped = read(Path(__file__).parents[2] / "train" / "data" / "ethanol_gfn2.extxyz.xz")
    data = folder / "ethanol.extxyz"
    write(data, shipped[:60])
    (folder / "fit.yaml").write_text(TINY.format(data=data))
    return folder, data, eqpot("fit", "fit.yaml", "seed=3", "--json", folder=folder)


def fault(result, code=1):
    """The one line of an error."""
    assert result.returncode == code, result.stderr
    lines = [line for line in result.stderr.strip().splitlines() if line.startswith("eqpot: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr
    return lines[0]


@pytest.mark.parametrize("verb", ["inspect", "fit", "evaluate", "md", "config"])
def test_every_verb_explains_itself(verb):
    result = eqpot(verb, "--help")
    assert result.returncode == 0 and "Usage" in result.stdout and len(result.stdout) > 300


def test_fit_writes_potential_report_and_log(run):
    folder, _, result = run
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout)
    assert made["errors"]["validation"]["forces"]["mae"] > 0
    for name in ("potential.safetensors", "report.html", "log.jsonl"):
        assert (folder / "runs" / "toy" / name).stat().st_size > 100


def test_evaluate_inspect_and_md_use_what_fit_made(run):
    folder, data, _ = run
    potential = folder / "runs" / "toy" / "potential.safetensors"
    found = json.loads(eqpot("evaluate", potential, data, "--index", ":10", "--json").stdout)
    assert found["frames"] == 10 and found["forces"]["mae"] > 0 and found["uncertainty"]
    assert json.loads(eqpot("inspect", potential, "--json").stdout)["members"] == 2
    assert json.loads(eqpot("inspect", data, "--json").stdout)["label_counts"]["forces"] == 60
    text = eqpot("evaluate", potential, data, "--report", folder / "r.html")
    assert text.returncode == 0 and "meV/Å" in text.stdout and (folder / "r.html").exists()
    ran = eqpot("md", potential, data, "--index", 5, "--steps", 20, "--output", folder / "md.extxyz", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["steps"] == 20
    assert "exists" in fault(eqpot("md", potential, data, "--index", 5, "--steps", 20, "--output", folder / "md.extxyz"))


@pytest.mark.slow
def test_the_same_fit_gives_its_result_again_and_another_one_is_refused(run):
    folder, _, _ = run
    before = (folder / "runs" / "toy" / "potential.safetensors").read_bytes()
    assert eqpot("fit", "fit.yaml", "seed=3", "--json", folder=folder).returncode == 0
    assert (folder / "runs" / "toy" / "potential.safetensors").read_bytes() == before
    assert "seed was 3, now 4" in fault(eqpot("fit", "fit.yaml", "seed=4", folder=folder))


def test_bad_input_is_one_line_and_leaves_nothing_behind(run, tmp_path):
    folder, data, _ = run
    potential = folder / "runs" / "toy" / "potential.safetensors"
    assert "did you mean 'epochs'" in fault(eqpot("fit", folder / "fit.yaml", "training.epohcs=3", folder=tmp_path))
    assert "cannot be read" in fault(eqpot("fit", "missing.yaml", folder=tmp_path))
    assert "section.key=value" in fault(eqpot("fit", folder / "fit.yaml", "seed", folder=tmp_path))
    (tmp_path / "empty.extxyz").write_text("")
    assert "empty.extxyz" in fault(eqpot("inspect", "empty.extxyz", folder=tmp_path))
    (tmp_path / "cut.safetensors").write_bytes(potential.read_bytes()[:500])
    assert "cut.safetensors" in fault(eqpot("evaluate", "cut.safetensors", data, folder=tmp_path))
    (tmp_path / "u.extxyz").write_text("1\nProperties=species:S:1:pos:R:3 energy=1.0\nU 0 0 0\n")
    line = fault(eqpot("evaluate", potential, "u.extxyz", folder=tmp_path))
    assert "element U" in line and "u.extxyz" in line and "H, C, O" in line
    assert "index: found 'x'" in fault(eqpot("evaluate", potential, data, "--index", "x"))
    assert not (tmp_path / "runs").exists()


def test_wrong_usage_is_exit_code_two():
    assert eqpot("fit").returncode == 2 and eqpot("nonsense").returncode == 2


def test_the_configuration_reference_is_up_to_date():
    """docs/configuration.md is what `eqpot config` prints."""
    from pathlib import Path

    from eqpot.cli.config import reference
    from eqpot.training import FitConfig

    assert (Path(__file__).parents[2] / "docs" / "configuration.md").read_text() == reference(FitConfig)
