"""Trajectories: exact, readable by others, whole frames only, and nothing written over."""

import shutil

import h5py
import numpy as np
import pytest
from ase.constraints import FixAtoms
from ase.io import read
from morse import cluster, crystal, morse

import eqpot
from eqpot.core.errors import SimulationError
from eqpot.md import NVE, NVT, relax, simulate
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


def test_charge_and_fixed_atoms_are_kept(tmp_path):
    """An ion read back is an ion, and what was held is held."""
    atoms = cluster()
    atoms.info["total_charge"] = -1.0
    atoms.set_constraint(FixAtoms([1, 4]))
    for name in ("run.extxyz", "run2.h5"):
        simulate(morse(), atoms, NVT(300.0), 10, trajectory=tmp_path / name)
    last = read(tmp_path / "run.extxyz", -1)
    assert last.constraints[0].get_indices().tolist() == [1, 4]
    assert {f.structure.charge for f in eqpot.read(tmp_path / "run.extxyz")} == {-1.0}
    rest = simulate(morse(), last, NVT(300.0), 10)
    assert np.array_equal(rest.final.positions[[1, 4]], atoms.positions[[1, 4]])
    with h5py.File(tmp_path / "run2.h5") as file:
        assert file["eqpot/total_charge"][()] == -1.0 and np.flatnonzero(file["eqpot/fixed"]).tolist() == [1, 4]


def test_what_is_said_of_another_geometry_is_not_passed_on(tmp_path):
    """A frame of a trajectory says its temperature, and a labelled one its energy: neither is that of where a run ends."""
    simulate(morse(2), cluster(), NVT(300.0), 10, trajectory=tmp_path / "run.extxyz")
    start = read(tmp_path / "run.extxyz", -1)
    start.info |= {"REF_energy": -1.0, "name": "mine"}
    for final in (simulate(morse(2), start, NVT(300.0), 5).final, relax(morse(2), start).atoms):
        assert final.info["name"] == "mine" and not {"temperature_K", "pressure_GPa", "step", "REF_energy"} & set(final.info)
    assert not relax(morse(2), start).atoms.get_velocities().any()


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


@pytest.fixture
def small_disk():
    """No file can be larger than 30 kB: a write takes what there is room for, and then fails, as on a disk that fills up."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_costs_no_frame(tmp_path, small_disk):
    path = tmp_path / "run.extxyz"
    with pytest.raises(SimulationError, match=r"run\.extxyz: cannot be written \(File too large\)") as caught:
        simulate(morse(), crystal(), NVT(300.0), 200, every=10, trajectory=path)
    frames = read(path, ":")
    assert 2 <= len(frames) < 21 and len(frames[-1]) == 32
    assert len(caught.value.run) >= len(frames)
    assert np.array_equal(caught.value.run.positions[: len(frames)], [f.positions for f in frames])


def test_h5md_asks_for_room_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(SimulationError, match=r"run\.h5: cannot be written \(needs .* MB for all frames"):
        simulate(morse(), cluster(), NVT(300.0), 100, trajectory=tmp_path / "run.h5")
    assert not (tmp_path / "run.h5").exists()


def test_two_formats_of_one_name_do_not_share_a_log(tmp_path):
    simulate(morse(), cluster(), NVT(300.0), 10, trajectory=tmp_path / "run.extxyz")
    before = (tmp_path / "run.thermo.csv").read_bytes()
    with pytest.raises(SimulationError, match=r"run\.thermo\.csv: exists, of another trajectory"):
        simulate(morse(), cluster(), NVT(300.0), 10, trajectory=tmp_path / "run.h5")
    with pytest.raises(SimulationError, match=r"format was '\.extxyz', now '\.h5'"):
        simulate(morse(), cluster(), NVT(300.0), 20, trajectory=tmp_path / "run.h5", resume=True)
    assert (tmp_path / "run.thermo.csv").read_bytes() == before


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
