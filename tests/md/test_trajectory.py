"""Trajectories: exact, readable by others, whole frames only, and nothing written over."""

import h5py
import numpy as np
import pytest
from ase.io import read
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.md import NVE, NVT, simulate
from eqpot.md.trajectory import ExtendedXYZ


@pytest.mark.parametrize("make", [pytest.param(crystal, marks=pytest.mark.slow), cluster])
def test_ase_reads_extended_xyz_back(tmp_path, make):
    atoms = make()
    atoms.pbc &= [True, True, False]
    path = tmp_path / "run.extxyz"
    run = simulate(morse(3), atoms, NVT(300.0, timestep_fs=2.0), 30, every=10, trajectory=path)
    frames = read(path, ":")
    assert len(frames) == 4
    for k, frame in enumerate(frames):
        assert np.array_equal(frame.positions, run.positions[k])
        assert np.array_equal(frame.get_forces(), run.forces[k])
        assert np.array_equal(frame.arrays["force_std"], run.atom_std[k])
        assert frame.get_potential_energy() == run.potential_energy[k]
        assert frame.get_kinetic_energy() == pytest.approx(run.kinetic_energy[k], rel=1e-12)
        assert frame.info["energy_std"] == run.energy_std[k]
        assert frame.info["temperature_K"] == run.temperature_K[k]
        assert (frame.info["step"], frame.info["time_fs"]) == (10 * k, 20.0 * k)
        assert np.array_equal(frame.pbc, atoms.pbc)
        assert np.allclose(frame.cell, atoms.cell, atol=0)
        assert frame.get_chemical_symbols() == atoms.get_chemical_symbols()
    assert np.allclose(frames[-1].get_velocities(), run.final.get_velocities(), rtol=1e-14)


def test_a_run_goes_on_from_its_trajectory(tmp_path):
    path = tmp_path / "run.xyz"
    whole = simulate(morse(), cluster(), NVE(timestep_fs=1.0), 40, temperature_K=300.0, precision="float64")
    simulate(morse(), cluster(), NVE(timestep_fs=1.0), 20, temperature_K=300.0, precision="float64", trajectory=path)
    rest = simulate(morse(), read(path, -1), NVE(timestep_fs=1.0), 20, precision="float64")
    assert np.allclose(rest.final.positions, whole.final.positions, atol=1e-12)


def test_own_masses_are_kept(tmp_path):
    atoms = cluster()
    atoms.set_masses([65.0] * 6)
    simulate(morse(), atoms, NVT(300.0), 10, trajectory=tmp_path / "run.xyz")
    assert read(tmp_path / "run.xyz", -1).get_masses().tolist() == [65.0] * 6


@pytest.mark.parametrize("suffix", [".h5", ".h5md"])
def test_h5md_layout(tmp_path, suffix):
    path = tmp_path / f"run{suffix}"
    run = simulate(morse(2), crystal(), NVT(300.0, timestep_fs=2.0), 30, every=10, trajectory=path)
    with h5py.File(path) as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        particles = file["particles/all"]
        for name, value in (("position", run.positions), ("velocity", run.velocities), ("force", run.forces), ("force_std", run.atom_std)):
            assert np.array_equal(particles[name]["value"], value)
            assert particles[name]["step"][:].tolist() == [0, 10, 20, 30]
            assert particles[name]["time"][:].tolist() == [0.0, 20.0, 40.0, 60.0]
            assert particles[name]["value"].attrs["unit"]
        assert np.array_equal(particles["species"], crystal().numbers)
        assert np.array_equal(particles["box/edges/value"], np.stack([crystal().cell.array] * 4))
        assert list(particles["box"].attrs["boundary"]) == ["periodic"] * 3
        assert np.array_equal(file["observables/potential_energy/value"], run.potential_energy)
        assert np.array_equal(file["observables/conserved_energy/value"], run.conserved_energy)


@pytest.mark.parametrize("name", ["run.extxyz", "run.h5"])
def test_nothing_is_written_over_unasked(tmp_path, name):
    path = tmp_path / name
    path.write_text("precious")
    with pytest.raises(SimulationError, match="exists; choose another name, pass overwrite=True, or resume=True"):
        simulate(morse(), cluster(), NVT(300.0), 10, trajectory=path)
    assert path.read_text() == "precious"
    simulate(morse(), cluster(), NVT(300.0), 10, trajectory=path, overwrite=True)
    assert path.read_bytes()[:8] != b"precious"


@pytest.mark.parametrize(("name", "reason"), [("run.traj", r"suffix '\.traj'"), ("nowhere/run.xyz", "no folder"), ("folder.xyz", "exists")])
def test_paths_that_cannot_be(tmp_path, name, reason):
    (tmp_path / "folder.xyz").mkdir()
    with pytest.raises(SimulationError, match=reason):
        simulate(morse(), cluster(), NVT(300.0), 10, trajectory=tmp_path / name, overwrite=True)


def test_a_full_disk_is_one_line_and_leaves_whole_frames(tmp_path, monkeypatch):
    text, frames = ExtendedXYZ.text, []

    def fill(self, frame):
        frames.append(frame)
        if len(frames) == 3:
            self.file.write(b"6\nhalf a fra")
            raise OSError(28, "No space left on device")
        return text(self, frame)

    monkeypatch.setattr(ExtendedXYZ, "text", fill)
    path = tmp_path / "run.xyz"
    with pytest.raises(SimulationError, match=r"run\.xyz: cannot be written \(No space left on device\)") as caught:
        simulate(morse(), cluster(), NVT(300.0), 100, trajectory=path)
    assert len(read(path, ":")) == 2
    steps = caught.value.run.step.tolist()
    assert steps == list(range(0, 10 * len(steps), 10)) and 20 in steps
