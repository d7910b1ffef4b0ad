"""What cannot be simulated ends in one line, with the last good state on disk and nothing of the user's lost."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixedPlane
from ase.io import read
from morse import cluster, crystal, morse

from eqpot.core.errors import EqpotError, SimulationError, StructureError
from eqpot.md import NPT, NVE, NVT, Status, simulate
from eqpot.md.differentiable import begin
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential

GOOD = {"temperature_K": 300.0}


def _one_line(caught):
    assert isinstance(caught.value, EqpotError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_steps": 0}, "n_steps: found 0, expected an integer from 1"),
        ({"n_steps": -5}, "n_steps"),
        ({"every": 0}, "every: found 0"),
        ({"temperature_K": -10.0}, "temperature_K: found -10.0, expected a number in"),
        ({"temperature_K": float("nan")}, "temperature_K"),
        ({"temperature_K": None}, "NVE needs velocities"),
        ({"max_temperature_K": 0.0}, "max_temperature_K"),
        ({"skin": 0.0}, "skin"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_out_of_range(changes, reason):
    arguments = {"n_steps": 5, **GOOD} | changes
    with pytest.raises(SimulationError, match=reason) as caught:
        simulate(morse(), cluster(), NVE(), **arguments)
    _one_line(caught)


def test_direct_forces_are_refused_unless_the_user_says_so():
    config = EquivariantConfig(cutoff=3.0, hidden="4x0e", l_max=1, n_layers=1, correlation=1, radial_hidden=(8,), direct_forces=True)
    spec = ModelSpec(config, ("Cu",), Normalization(5.0, 0.1))
    potential = Potential(spec, spec.init_members([0]), (-3.0,))
    with pytest.raises(SimulationError, match=r"direct forces, which are no derivatives .* pass allow_direct_forces=True") as caught:
        simulate(potential, cluster(), NVE(), 5, **GOOD)
    _one_line(caught)
    run = simulate(potential, cluster(), NVE(), 5, every=5, allow_direct_forces=True, **GOOD)
    np.testing.assert_allclose(run.forces[0], potential.predict(cluster()).forces, atol=1e-6)


def test_atoms_that_no_potential_can_judge():
    twins = Atoms("Cu2", [[0, 0, 0], [0.05, 0, 0]])
    with pytest.raises(StructureError, match=r"atoms . and . are 0\.05 Å apart"):
        simulate(morse(), twins, NVT(300.0), 5)
    with pytest.raises(StructureError, match="element Au is unknown to this potential"):
        simulate(morse(), Atoms("Au2", [[0, 0, 0], [2, 0, 0]]), NVT(300.0), 5)
    with pytest.raises(StructureError, match="not finite"):
        simulate(morse(), Atoms("Cu2", [[0, 0, 0], [np.nan, 0, 0]]), NVT(300.0), 5)
    with pytest.raises(StructureError, match="found list"):
        simulate(morse(), [], NVT(300.0), 5)


def test_masses_velocities_and_constraints_are_checked():
    massless, still, wild = cluster(), cluster(), cluster()
    massless.set_masses([0.0] * 6)
    with pytest.raises(StructureError, match="atom 0: found mass 0"):
        simulate(morse(), massless, NVT(300.0), 5)
    still.set_constraint(FixAtoms(range(6)))
    with pytest.raises(SimulationError, match="all atoms are fixed"):
        simulate(morse(), still, NVT(300.0), 5)
    still.set_constraint(FixedPlane(0, (1, 0, 0)))
    with pytest.raises(SimulationError, match=r"a constraint \(FixedPlane\), which is not applied here"):
        simulate(morse(), still, NVT(300.0), 5)
    wild.set_momenta(np.full((6, 3), np.inf))
    with pytest.raises(StructureError, match="velocity"):
        simulate(morse(), wild, NVT(300.0), 5)


def test_exploding_start(tmp_path):
    """Atoms pressed together: the first steps throw them apart; the start is kept and the frame that broke is saved."""
    atoms = cluster()
    atoms.positions *= 0.35
    path = tmp_path / "run.extxyz"
    with pytest.raises(SimulationError, match="temperature rose above the bound") as caught:
        simulate(morse(), atoms, NVE(timestep_fs=5.0), 100, trajectory=path, **GOOD)
    _one_line(caught)
    saved = read(path, ":")
    run = caught.value.run
    assert len(saved) == len(run) >= 1
    assert np.allclose(saved[0].positions, atoms.positions)
    assert saved[-1].info["step"] == run.n_steps == run.step[-1]
    assert np.isfinite(run.total_energy).all()
    assert (run.temperature_K <= 10_000).all()
    broken = read(tmp_path / "run.offending.extxyz")
    assert np.abs(broken.positions - saved[-1].positions).max() > 0.01
    assert str(tmp_path / "run.offending.extxyz") in str(caught.value)


def test_timestep_too_long_for_the_crystal():
    atoms = crystal()
    atoms.set_velocities(np.where(np.arange(96).reshape(32, 3) == 0, 2.0, 0.0))
    with pytest.raises(SimulationError, match=r"moved by more than half the cutoff|above the bound") as caught:
        simulate(morse(), atoms, NVE(timestep_fs=20.0), 100, max_temperature_K=1e6)
    assert caught.value.run.n_steps < 100


def test_start_too_hot_leaves_an_old_trajectory_alone(tmp_path):
    path = tmp_path / "run.extxyz"
    path.write_text("precious")
    with pytest.raises(SimulationError, match="the start cannot be run: the temperature rose above the bound of 1000 K"):
        simulate(morse(), cluster(), NVE(), 10, temperature_K=5000.0, max_temperature_K=1000.0, trajectory=path, overwrite=True)
    assert path.read_text() == "precious"


def test_numbers_that_are_none():
    """Parameters that were never finite: nothing is committed, no zeros are returned."""
    potential = morse()
    potential.params["depth"][:] = np.nan
    with pytest.raises(SimulationError, match="not finite"):
        simulate(potential, cluster(), NVE(), 10, **GOOD)


def test_interrupt_leaves_whole_frames_and_the_run_so_far(tmp_path):
    def stop(progress):
        if progress.step == 20:
            raise KeyboardInterrupt

    path = tmp_path / "run.extxyz"
    with pytest.raises(KeyboardInterrupt) as caught:
        simulate(morse(), crystal(), NVE(timestep_fs=1.0), 1000, trajectory=path, progress=stop, **GOOD)
    steps = caught.value.run.step.tolist()
    assert steps == list(range(0, 10 * len(steps), 10)) and 20 in steps and len(steps) < 101
    assert [frame.info["step"] for frame in read(path, ":")] == steps


def test_status_explains_itself():
    assert (Status.NOT_FINITE | Status.TOO_HOT).text == "energy, forces or velocities are not finite; the temperature rose above the bound"


def test_a_bound_on_a_sigma_that_there_is_not_is_refused():
    with pytest.raises(SimulationError, match="max_atom_std: this potential predicts no σ"):
        simulate(morse(1), cluster(), NVT(300.0), 5, max_atom_std=1.0)


def test_a_differentiable_run_refuses_what_a_run_refuses():
    """A cell that moves is that of a crystal without fixed atoms."""
    held = crystal(1)
    held.set_constraint(FixAtoms([0]))
    for atoms in (cluster(), held):
        with pytest.raises(SimulationError, match="expected a cell that is periodic along all"):
            begin(morse(), atoms, NPT(300.0))
