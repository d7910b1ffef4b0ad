"""`eqpot md` parses, runs, prints."""

import json

import pytest
from ase.build import molecule
from ase.io import read, write
from typer import Typer
from typer.testing import CliRunner

from eqpot.cli.md import md
from eqpot.core.errors import EqpotError
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential

app = Typer()
app.command()(md)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    config = EquivariantConfig(cutoff=3.0, hidden="4x0e", l_max=1, n_layers=1, correlation=1, radial_hidden=(8,))
    spec = ModelSpec(config, ("H", "O"), Normalization(5.0, 0.1, (0.0, 0.0)))
    Potential(spec, spec.init_members([0, 1]), (0.0, 0.0)).save(folder / "water.safetensors")
    write(folder / "water.xyz", molecule("H2O"), format="extxyz")
    return folder


def _run(files, *options, **kwargs):
    return CliRunner().invoke(app, [str(files / "water.safetensors"), str(files / "water.xyz"), *options], **kwargs)


def test_direct_forces_need_a_word_from_the_user(tmp_path, files):
    config = EquivariantConfig(cutoff=3.0, hidden="4x0e", l_max=1, n_layers=1, correlation=1, radial_hidden=(8,), direct_forces=True)
    spec = ModelSpec(config, ("H", "O"), Normalization(5.0, 0.1))
    Potential(spec, spec.init_members([0]), (0.0, 0.0)).save(tmp_path / "direct.safetensors")
    arguments = [str(tmp_path / "direct.safetensors"), str(files / "water.xyz"), "--steps", "2", "-o", str(tmp_path / "out.xyz"), "--json"]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, EqpotError)
    assert "--allow-direct-forces" in str(refused.exception)
    assert CliRunner().invoke(app, [*arguments, "--allow-direct-forces"], catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize("ensemble", ["nve", *(pytest.param(e, marks=pytest.mark.slow) for e in ("nvt", "csvr", "langevin"))])
def test_runs_and_writes(files, tmp_path, ensemble):
    path = tmp_path / "out.extxyz"
    result = _run(files, "--ensemble", ensemble, "--temperature", "200", "--steps", "20", "-o", str(path), "--json", catch_exceptions=False)
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["steps"] == 20
    assert summary["frames"] == 3
    assert abs(summary["energy_drift_meV_per_atom_per_ps"]) < 10
    assert summary["max_force_std_eV_per_A"] >= summary["mean_force_std_eV_per_A"] > 0
    frames = read(path, ":")
    assert len(frames) == 3
    options = ["--index", "-1", "--ensemble", ensemble, "--steps", "1", "-o", str(tmp_path / "two.xyz")]
    again = CliRunner().invoke(app, [str(files / "water.safetensors"), str(path), *options], catch_exceptions=False)
    assert "trajectory" in again.stdout
    assert read(tmp_path / "two.xyz", 0).get_velocities() == pytest.approx(frames[-1].get_velocities(), abs=1e-6)


@pytest.mark.slow
def test_time_instead_of_steps(files, tmp_path):
    result = _run(files, "--time-ps", "0.01", "--timestep", "0.5", "-o", str(tmp_path / "a.h5"), "--json", catch_exceptions=False)
    assert json.loads(result.stdout)["steps"] == 20


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--steps", "5", "--time-ps", "1"], "both"),
        (["--steps", "0"], "n_steps"),
        (["--time-ps", "-1"], "time-ps"),
        (["--temperature", "-3"], "temperature_K"),
        (["--timestep", "1e25"], "timestep_fs"),
        (["--index", "7"], "frame 7"),
        (["--ensemble", "npt"], "expected a cell that is periodic"),
        (["--pressure", "1"], "expected npt"),
        (["--ensemble", "nve", "--final-temperature", "500"], "expected a thermostat"),
        (["--resume", "--overwrite"], "not overwrite"),
        (["-o", "out.dcd"], "suffix"),
    ],
)
def test_bad_options_are_one_line(files, options, reason):
    result = _run(files, *options)
    assert isinstance(result.exception, EqpotError)
    assert reason in str(result.exception)
    assert "\n" not in str(result.exception)


def test_resume_goes_on_exactly(files, tmp_path):
    halves, whole = tmp_path / "halves.extxyz", tmp_path / "whole.extxyz"
    options = ["--final-temperature", "400"]
    _run(files, "--steps", "40", "-o", str(whole), catch_exceptions=False)
    _run(files, "--steps", "20", "-o", str(halves), catch_exceptions=False)
    assert _run(files, "--steps", "40", "-o", str(halves), "--resume", catch_exceptions=False).exit_code == 0
    assert halves.read_bytes() == whole.read_bytes()
    other = _run(files, "--steps", "40", "-o", str(halves), "--resume", *options)
    assert "belongs to another run" in str(other.exception)


def test_help_is_for_scientists(files):
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert all(word in text for word in ("thermostat", "Timestep in fs", "velocities", "Trajectory"))


def test_a_compressed_structure_is_read(tmp_path):
    from ase.build import molecule
    from ase.io import write

    from eqpot.cli.md import _read

    write(tmp_path / "water.extxyz.xz", molecule("H2O"), format="extxyz")
    assert _read(tmp_path / "water.extxyz.xz", 0).get_chemical_formula() == "H2O"


def test_a_run_that_ended_between_frames_can_be_given_again(files, tmp_path):
    """The second time there is nothing to do, and no frame to make a mean of."""
    options = ["--steps", "25", "--every", "10", "-o", str(tmp_path / "out.extxyz"), "--json"]
    _run(files, *options, catch_exceptions=False)
    again = json.loads(_run(files, *options, "--resume", catch_exceptions=False).stdout)
    assert again["steps"] == 25 and again["frames"] == 0 and again["mean_temperature_K"] is None
