"""The neighbour list is an implementation detail: no choice about it may change the physics, and most not a single bit."""

import jax
import numpy as np
import pytest
from ase.build import bulk
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError, StructureError
from eqpot.graph import Capacity, collate, prepare
from eqpot.graph.structure import Structure
from eqpot.md import NPT, NVE, NVT, Langevin, simulate
from eqpot.potential import predict

HOT = {"temperature_K": 900.0, "precision": "float64"}
FAST = NVE(timestep_fs=2.0)


def test_what_lies_beyond_the_cutoff_adds_nothing():
    structure = Structure.from_atoms(crystal())
    with jax.enable_x64(True):
        potential = morse().astype("float64")
        member = jax.tree.map(lambda x: x[0], potential.params)
        near, far = (
            predict(
                potential.spec, member, jax.device_put(collate([prepare(structure, ("Cu",), 5.0 + skin)], Capacity(1, 32, 140), "float64"))
            )
            for skin in (0.0, 2.0)
        )
    assert np.allclose(near.forces, far.forces, rtol=0, atol=1e-12)
    assert np.allclose(near.atom_energy, far.atom_energy, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", [FAST, NPT(900.0, 5.0, timestep_fs=2.0, cell="flexible", compressibility_per_GPa=0.1)])
def test_skin_changes_no_bit(ensemble):
    """Forces are a function of positions and cell alone: lists made every few steps or once give the same trajectory."""
    narrow, wide = (simulate(morse(), crystal(), ensemble, 300, skin=skin, temperature_K=900.0) for skin in (0.15, 2.5))
    assert narrow.rebuilds > 20
    assert wide.rebuilds < 3
    assert np.array_equal(narrow.positions, wide.positions)
    assert np.array_equal(narrow.cell, wide.cell)
    assert np.array_equal(narrow.potential_energy, wide.potential_energy)


def test_lattice_vectors_and_far_places_change_nothing():
    atoms, moved = crystal(), crystal()
    atoms.set_momenta(np.random.default_rng(1).normal(size=(32, 3)) * 2)
    moved.set_momenta(atoms.get_momenta())
    images = np.random.default_rng(0).integers(-3, 4, (32, 3)) @ atoms.cell.array
    moved.positions += images + np.array([1e3, -2e3, 5e2])
    here, there = (simulate(morse(), a, FAST, 200, precision="float64") for a in (atoms, moved))
    shift = there.positions - here.positions - (images + np.array([1e3, -2e3, 5e2]))
    assert np.abs(shift).max() < 1e-8


@pytest.mark.slow
def test_atoms_cross_the_boundary_unwrapped():
    """A gas-like crystal streams through its cell; positions go on and on, energy stays."""
    atoms = crystal(noise=0.0)
    atoms.positions += np.array([0.01, 0.01, 0.01])
    potential = morse(depth=0.02)
    run = simulate(potential, atoms, NVT(2000.0, timestep_fs=2.0), 2000, seed=1, precision="float64")
    assert np.abs(run.positions[-1] - run.positions[0]).max() > 4.0
    assert np.abs(np.diff(run.positions, axis=0)).max() < 1.5
    checked = run.final.copy()
    checked.calc = potential.astype("float64").calculator()
    assert checked.get_potential_energy() == pytest.approx(run.final.get_potential_energy(), abs=1e-9)
    assert np.abs(checked.get_forces() - run.final.get_forces()).max() < 1e-9
    assert run.rebuilds > 3


def test_a_cell_smaller_than_the_cutoff_moves_like_its_supercell():
    small = bulk("Cu", "fcc", a=3.75, cubic=True)
    small.positions += np.random.default_rng(0).normal(size=(4, 3)) * 0.1
    large = small * 2
    runs = [simulate(morse(), a, FAST, 100, temperature_K=0.0, precision="float64") for a in (small, large)]
    images = runs[1].positions.reshape(11, 8, 4, 3) - runs[1].positions[:1].reshape(1, 8, 4, 3)
    assert np.abs(images - (runs[0].positions - runs[0].positions[0])[:, None]).max() < 1e-9


@pytest.mark.slow
def test_room_grows_when_the_system_becomes_denser():
    """A gas of atoms condenses: the number of neighbours rises above every capacity chosen at the start."""
    rng = np.random.default_rng(3)
    atoms = crystal(noise=0.0) * (1, 1, 2)
    atoms.set_cell(atoms.cell.array * 1.5, scale_atoms=True)
    atoms.positions += rng.normal(size=atoms.positions.shape) * 0.2
    run = simulate(morse(depth=1.0), atoms, Langevin(600.0, timestep_fs=4.0, friction_per_fs=0.01), 1500, every=100)
    assert run.growths >= 1
    assert run.compiles == 1 + run.growths
    final = run.final.copy()
    final.calc = morse(depth=1.0).calculator()
    assert np.abs(final.get_forces() - run.final.get_forces()).max() < 1e-3


def test_a_molecule_may_fall_apart():
    """Bins that no longer fit the atoms, and atoms that leave each other's range, are no trouble."""
    atoms = cluster()
    atoms.set_velocities(atoms.positions * 0.05)
    run = simulate(morse(depth=0.05), atoms, FAST, 500, precision="float64")
    assert np.linalg.norm(run.positions[-1, 0] - run.positions[-1, 1]) > 10.0
    assert run.forces[-1] == pytest.approx(np.zeros((6, 3)), abs=1e-12)


def test_a_cell_that_grows_and_shrinks_gets_another_grid():
    """Under 40 GPa, then set free: bins and reach that were right at the start are not to the end."""
    atoms = crystal() * (2, 1, 1)
    squeezed = simulate(morse(), atoms, NPT(300.0, 60.0, timestep_fs=2.0, compressibility_per_GPa=0.2), 400, every=50)
    assert squeezed.final.get_volume() < 0.85 * atoms.get_volume()
    assert squeezed.growths >= 1
    checked = squeezed.final.copy()
    checked.calc = morse().calculator()
    assert np.abs(checked.get_forces() - squeezed.final.get_forces()).max() < 1e-3


def test_atoms_that_meet_are_an_error():
    """At the start they are named; on the way the run stops."""
    atoms = cluster()
    atoms.positions[1] = atoms.positions[0] + [0.01, 0, 0]
    with pytest.raises(StructureError, match=r"atoms 0 and 1 are 0\.01 Å apart"):
        simulate(morse(), atoms, NVT(300.0), 10)
    pair = cluster()[:2]
    pair.set_velocities(-pair.positions * 0.05)
    with pytest.raises(SimulationError, match=r"two atoms came nearer than the bound of 1\.5 Å"):
        simulate(morse(depth=0.01), pair, FAST, 500, min_distance=1.5)


def test_a_run_that_is_too_unsure_stops_there():
    """The ensemble's members differ by 2 % in depth: σ grows with the forces as the crystal is heated."""
    calm = simulate(morse(3), crystal(), FAST, 10, temperature_K=300.0)
    bound = 1.3 * calm.max_atom_std.max()
    with pytest.raises(SimulationError, match="the uncertainty of a force rose above the bound") as caught:
        simulate(morse(3), crystal(), FAST, 1000, temperature_K=900.0, max_atom_std=bound)
    run = caught.value.run
    assert run.max_atom_std.max() <= bound
    assert morse(3).predict(run.trouble).atom_std.max() > bound
