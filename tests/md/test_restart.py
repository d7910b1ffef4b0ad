"""A run that is killed at any moment and resumed is, to the last bit, the run that was not: state, trajectory, log."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.io import read
from morse import cluster, crystal, morse

from eqpot.core import files
from eqpot.core.errors import SimulationError
from eqpot.md import CSVR, NPT, NVE, NVT, HarmonicRestraint, Langevin, Ramp, simulate, simulate_many
from eqpot.md import trajectory as writers

ENSEMBLES = {
    "NVE": NVE(timestep_fs=2.0),
    "NVT": NVT(Ramp(300.0, 400.0), timestep_fs=2.0),
    "CSVR": CSVR(300.0, timestep_fs=2.0),
    "Langevin": Langevin(300.0, timestep_fs=2.0),
    "NPT": NPT(300.0, 1.0, timestep_fs=2.0, cell="flexible"),
}
OPTIONS = {"every": 5, "temperature_K": 300.0, "checkpoint_s": 0.0}


class Camera:
    """Copies a folder at chosen moments of a run: what a kill at that moment would leave. A moment is one write of a part of a file."""

    def __init__(self, monkeypatch, folder: Path, moments: set[int]) -> None:
        self.folder, self.moments, self.now, self.photographs = folder, moments, 0, []
        write, replace = writers.TextFile.write, os.replace

        def write_in_parts(trajectory, frames):
            for frame in frames:
                text = trajectory.text(frame).encode()
                trajectory.file.write(text[: len(text) // 2])
                trajectory.file.flush()
                self.click()
                trajectory.file.seek(trajectory.whole)
                write(trajectory, [frame])
                self.click()

        def replace_slowly(source, target):
            self.click()
            replace(source, target)
            self.click()

        monkeypatch.setattr(writers.TextFile, "write", write_in_parts)
        monkeypatch.setattr(files.os, "replace", replace_slowly)

    def click(self) -> None:
        self.now += 1
        if self.now in self.moments:
            target = self.folder.parent / f"{self.folder.name}-{self.now}"
            shutil.copytree(self.folder, target)
            self.photographs.append(target)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", [n if n == "NPT" else pytest.param(n, marks=pytest.mark.slow) for n in ENSEMBLES])
def test_resumed_after_any_kill_is_uninterrupted(tmp_path, monkeypatch, name):
    """Five moments of some 80: within a frame, within the log, within the replacement of the restart file, between them."""
    home = tmp_path / "run"
    home.mkdir()
    moments = set(np.random.default_rng(list(ENSEMBLES).index(name)).choice(np.arange(1, 60), 5, replace=False).tolist())
    with monkeypatch.context() as patch:
        camera = Camera(patch, home, moments)
        whole = simulate(morse(2), crystal(), ENSEMBLES[name], 60, trajectory=home / "run.extxyz", **OPTIONS)
    assert len(camera.photographs) == 5
    assert len(read(home / "run.extxyz", ":")) == 13
    for place in camera.photographs:
        resumed = simulate(morse(2), crystal(), ENSEMBLES[name], 60, trajectory=place / "run.extxyz", resume=True, **OPTIONS)
        now, then = _bytes(place), _bytes(home)
        assert now["run.extxyz"] == then["run.extxyz"], place.name
        assert now["run.thermo.csv"] == then["run.thermo.csv"], place.name
        assert np.array_equal(resumed.final.positions, whole.final.positions)
        assert np.array_equal(resumed.final.get_velocities(), whole.final.get_velocities())


@pytest.mark.parametrize("name", ENSEMBLES)
@pytest.mark.parametrize("precision", ["mixed", pytest.param("float32", marks=pytest.mark.slow)])
def test_two_halves_are_the_whole(tmp_path, name, precision):
    """2n steps = n, then n more by the same call with more steps; the second half has another neighbour list and another skin."""
    options = {**OPTIONS, "precision": precision}
    ensemble = ENSEMBLES[name] if name != "NVT" else NVT(300.0, timestep_fs=2.0)
    whole = simulate(morse(2), crystal(), ensemble, 80, trajectory=tmp_path / "whole.extxyz", **options)
    simulate(morse(2), crystal(), ensemble, 40, trajectory=tmp_path / "half.extxyz", **options)
    rest = simulate(morse(2), crystal(), ensemble, 80, trajectory=tmp_path / "half.extxyz", resume=True, skin=0.7, **options)
    assert rest.step[0] == 40
    assert (tmp_path / "whole.extxyz").read_bytes() == (tmp_path / "half.extxyz").read_bytes()
    assert np.array_equal(rest.final.positions, whole.final.positions)
    assert np.array_equal(rest.final.cell, whole.final.cell)


@pytest.mark.parametrize("n_steps", [25, 28])
def test_a_run_that_ends_between_frames_is_taken_up_where_it_ended(tmp_path, n_steps):
    """25 steps with a frame at every tenth, given again, and three steps more: the last state is that of the run, not of its start."""
    options = {**OPTIONS, "every": 10, "trajectory": tmp_path / "run.extxyz"}
    simulate(morse(), crystal(), NVE(timestep_fs=2.0), 25, **options)
    again = simulate(morse(), crystal(), NVE(timestep_fs=2.0), n_steps, resume=True, **options)
    whole = simulate(morse(), crystal(), NVE(timestep_fs=2.0), n_steps, **{**OPTIONS, "every": 10})
    assert again.n_steps == n_steps and len(again) == 0
    assert np.array_equal(again.final.positions, whole.final.positions)


def test_a_trajectory_in_hdf5_is_gone_on_with(tmp_path):
    whole = simulate(morse(2), crystal(), ENSEMBLES["NPT"], 40, trajectory=tmp_path / "whole.h5", **OPTIONS)
    simulate(morse(2), crystal(), ENSEMBLES["NPT"], 20, trajectory=tmp_path / "half.h5", **OPTIONS)
    simulate(morse(2), crystal(), ENSEMBLES["NPT"], 40, trajectory=tmp_path / "half.h5", resume=True, **OPTIONS)
    with h5py.File(tmp_path / "half.h5") as file:
        assert file["particles/all/position/step"][:].tolist() == list(range(0, 41, 5))
        assert np.array_equal(file["particles/all/position/value"], whole.positions)
        assert np.array_equal(file["particles/all/box/edges/value"], whole.cell)


@pytest.mark.slow
def test_many_systems_are_gone_on_with(tmp_path):
    atoms, ensembles = [cluster(), crystal(1)], [CSVR(300.0, timestep_fs=2.0), CSVR(500.0, timestep_fs=2.0)]
    simulate_many(morse(), atoms, ensembles, 40, trajectory=tmp_path / "whole.extxyz", **OPTIONS)
    simulate_many(morse(), atoms, ensembles, 20, trajectory=tmp_path / "half.extxyz", **OPTIONS)
    simulate_many(morse(), atoms, ensembles, 40, trajectory=tmp_path / "half.extxyz", resume=True, **OPTIONS)
    for k in range(2):
        assert (tmp_path / f"whole-{k}.extxyz").read_bytes() == (tmp_path / f"half-{k}.extxyz").read_bytes()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from morse import crystal, morse
from eqpot.md import NPT, simulate
simulate(morse(2), crystal(), NPT(300.0, 1.0, timestep_fs=2.0), 4000, every=5, trajectory=sys.argv[1], resume=True, checkpoint_s=0.0)
"""


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("suffix", "pauses"),
    [(".extxyz", (0.3,)), pytest.param(".extxyz", (0.05, 0.4, 0.2), marks=SLOW), pytest.param(".h5", (0.05, 0.4, 0.2), marks=SLOW)],
)
def test_a_killed_process_is_resumed(tmp_path, suffix, pauses):
    """SIGKILL in the midst of writing, every time after another pause; then to the end."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **cache}
    script = [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parents[1]))]
    path = tmp_path / f"run{suffix}"
    for pause in pauses:
        process = subprocess.Popen([*script, str(path)], env=environment)
        log, size = path.with_suffix(".thermo.csv"), path.with_suffix(".thermo.csv").stat().st_size if path.exists() else 0
        deadline = time.time() + 120
        while process.poll() is None and time.time() < deadline and not (log.exists() and log.stat().st_size != size):
            time.sleep(0.01)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*script, str(path)], check=True, env=environment)
    whole = simulate(morse(2), crystal(), NPT(300.0, 1.0, timestep_fs=2.0), 4000, every=5, trajectory=tmp_path / f"whole{suffix}")
    if suffix == ".extxyz":
        assert path.read_bytes() == (tmp_path / "whole.extxyz").read_bytes()
        assert path.with_suffix(".thermo.csv").read_bytes() == (tmp_path / "whole.thermo.csv").read_bytes()
    else:
        with h5py.File(path) as file:
            assert np.array_equal(file["particles/all/position/value"], whole.positions)
            assert file["particles/all/position/step"][:].tolist() == whole.step.tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"ensemble": CSVR(400.0, timestep_fs=2.0)}, "temperature_K was 300.0, now 400.0"),
        ({"ensemble": Langevin(300.0, timestep_fs=2.0)}, "ensemble was 'CSVR', now 'Langevin'|damping_fs was"),
        ({"potential": morse(depth=0.4)}, "potential was"),
        ({"atoms": crystal(seed=1)}, "atoms was"),
        ({"every": 10}, "every was 5, now 10"),
        ({"precision": "float64"}, "precision was 'mixed', now 'float64'|potential was"),
        pytest.param({"biases": [HarmonicRestraint([0], [[0.0, 0, 0]], 1.0)]}, "biases was", marks=SLOW),
    ],
)
def test_another_run_is_refused(tmp_path, changes, reason):
    path = tmp_path / "run.extxyz"
    simulate(morse(), crystal(), CSVR(300.0, timestep_fs=2.0), 10, trajectory=path, **OPTIONS)
    before = _bytes(tmp_path)
    arguments = {"potential": morse(), "atoms": crystal(), "ensemble": CSVR(300.0, timestep_fs=2.0), "n_steps": 20, **OPTIONS} | changes
    with pytest.raises(SimulationError, match=rf"belongs to another run: .*({reason})") as caught:
        simulate(**arguments, trajectory=path, resume=True)
    assert "\n" not in str(caught.value)
    assert _bytes(tmp_path) == before


def test_what_cannot_be_resumed(tmp_path):
    path, ensemble = tmp_path / "run.extxyz", CSVR(300.0, timestep_fs=2.0)
    with pytest.raises(SimulationError, match="give its name"):
        simulate(morse(), crystal(), ensemble, 10, resume=True)
    path.write_text("precious")
    with pytest.raises(SimulationError, match=r"run\.extxyz: exists but .*run\.restart does not"):
        simulate(morse(), crystal(), ensemble, 10, trajectory=path, resume=True)
    assert path.read_text() == "precious"
    path.unlink()
    simulate(morse(), crystal(), ensemble, 10, trajectory=path, **OPTIONS)
    path.write_text("6\n")
    with pytest.raises(SimulationError, match=r"ends before the checkpoint \(found 2, expected at least"):
        simulate(morse(), crystal(), ensemble, 20, trajectory=path, resume=True, **OPTIONS)
    path.with_suffix(".restart").write_bytes(b"\0" * 100)
    with pytest.raises(SimulationError, match=r"run\.restart: cannot be read as a restart file"):
        simulate(morse(), crystal(), ensemble, 20, trajectory=path, resume=True, **OPTIONS)


@pytest.mark.slow
def test_a_stopped_run_goes_on_under_wider_bounds(tmp_path):
    """Too hot at 650 K: with the bound raised the same run goes on, and its trajectory is that of a run that was never stopped."""
    ensemble, path = NVT(Ramp(300.0, 1200.0), timestep_fs=2.0, damping_fs=20.0), tmp_path / "run.extxyz"
    with pytest.raises(SimulationError, match="above the bound of 650 K"):
        simulate(morse(), crystal(), ensemble, 300, trajectory=path, max_temperature_K=650.0, **OPTIONS)
    simulate(morse(), crystal(), ensemble, 300, trajectory=path, resume=True, **OPTIONS)
    simulate(morse(), crystal(), ensemble, 300, trajectory=tmp_path / "whole.extxyz", **OPTIONS)
    assert path.read_bytes() == (tmp_path / "whole.extxyz").read_bytes()
