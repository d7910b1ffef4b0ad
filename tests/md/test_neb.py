"""Nudged elastic band: the barrier is ASE's, the saddle is one, and the path has the symmetry of its ends."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import FIRE
from morse import crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.md.band import tangents
from eqpot.md.minimize import relax_many
from eqpot.md.neb import interpolate, neb
from eqpot.md.systems import read_system

LATTICE = 3.7301
"""Of the perfect crystal [Å]."""


@pytest.fixture(scope="module")
def ends():
    """A vacancy, and the vacancy after a neighbour has hopped into it; the hop crosses the boundary of the cell."""
    perfect = crystal(2, 0.0)
    perfect.set_cell(perfect.cell * (LATTICE / 3.75), scale_atoms=True)
    hole = perfect.positions[0].copy()
    neighbour = int(np.argmin(perfect.get_distances(0, range(1, len(perfect)), mic=True)))
    del perfect[0]
    hopped = perfect.copy()
    hopped.positions[neighbour] = hole + perfect.cell.array[0]
    return [r.atoms for r in relax_many(morse(), [perfect, hopped], force_tolerance=5e-4, precision="float64")]


@pytest.fixture(scope="module")
def path(ends):
    """Its path of least energy."""
    return neb(morse(), *ends, n_images=7, force_tolerance=3e-3, precision="float64")


def test_the_barrier_of_a_vacancy_is_that_of_ase(ends, path):
    images = [ends[0].copy() for _ in range(6)] + [ends[1].copy()]
    for image in images:
        image.calc = morse().astype("float64").calculator()
    band = NEB(images, climb=True, method="improvedtangent", k=0.1)
    band.interpolate("linear", mic=True)
    assert FIRE(band, logfile=None).run(fmax=5e-3, steps=300)
    energies = [image.get_potential_energy() for image in images]
    assert path.converged
    assert path.barrier_eV == pytest.approx(max(energies) - energies[0], abs=1e-3)
    assert path.reverse_barrier_eV == pytest.approx(max(energies) - energies[-1], abs=1e-3)
    assert path.energies[0] == pytest.approx(energies[0], abs=1e-6)


def test_a_symmetric_path_has_symmetric_energies(path):
    assert path.highest == 3
    assert path.energies == pytest.approx(path.energies[::-1], abs=1e-3)
    assert np.ptp(path.energies) > 0.5
    assert np.diff(path.reaction_coordinate) == pytest.approx(np.diff(path.reaction_coordinate)[::-1], abs=2e-2)


def test_the_saddle_has_no_force_and_one_way_down(path):
    assert np.linalg.norm(path.saddle.get_forces(), axis=1).max() <= 3e-3
    calculator, step = morse().astype("float64"), 1e-3
    atoms = path.saddle
    moved = []
    for index in range(3 * len(atoms)):
        for sign in (step, -step):
            image = atoms.copy()
            image.positions[index // 3, index % 3] += sign
            moved.append(image)
    forces = np.array([result.forces for result in calculator.predict(moved)]).reshape(3 * len(atoms), 2, -1)
    hessian = (forces[:, 1] - forces[:, 0]) / (2 * step)
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    assert values[0] < -0.1 and values[1] > -1e-3
    assert (np.abs(values) < 1e-3).sum() == 3


def test_the_images_are_continuous_and_the_ends_are_where_they_were(ends, path):
    assert len(path.images) == 7
    assert path.images[0].positions == pytest.approx(ends[0].positions, abs=1e-10)
    across = ends[0].cell.scaled_positions(path.images[-1].positions - ends[1].positions)
    assert across == pytest.approx(np.round(across), abs=1e-10)
    assert max(np.abs(b.positions - a.positions).max() for a, b in zip(path.images[:-1], path.images[1:], strict=True)) < 1.0
    assert max(path.end_forces) <= 5e-4


@pytest.mark.slow
def test_without_a_climbing_image_the_barrier_is_lower_between_images(ends, path):
    blunt = neb(morse(), *ends, n_images=6, climb=False, force_tolerance=0.02, precision="float64")
    sharp = neb(morse(), *ends, n_images=6, force_tolerance=0.02, precision="float64")
    assert blunt.converged and sharp.converged
    assert blunt.barrier_eV < path.barrier_eV - 0.02
    assert sharp.barrier_eV == pytest.approx(path.barrier_eV, abs=1e-3)


def test_tangents_point_uphill_and_weigh_slopes_at_an_extremum():
    ahead, behind = jnp.asarray([[[1.0, 0, 0]]]), jnp.asarray([[[0, 1.0, 0]]])

    def along(*energy):
        return np.asarray(tangents(ahead, behind, jnp.asarray(energy, jnp.float32)))[0, 0]

    assert along(0, 1, 2) == pytest.approx([1, 0, 0])
    assert along(2, 1, 0) == pytest.approx([0, 1, 0])
    # Henkelman and Jónsson (2000), eqs. 10-11: the larger difference weighs the side of the higher neighbour.
    assert along(1, 2, 0) == pytest.approx(np.array([1, 2, 0]) / np.sqrt(5))
    assert along(0, 2, 1) == pytest.approx(np.array([2, 1, 0]) / np.sqrt(5))
    assert np.linalg.norm(along(1, 1, 1)) == pytest.approx(1)


def test_the_first_guess_keeps_atoms_apart():
    """Two atoms that change places meet on the straight line, and not by their distances."""
    start = crystal(2, 0.01)
    end = start.copy()
    end.positions[[0, 1]] = start.positions[[1, 0]]

    def nearest(how):
        images = interpolate(read_system(start), read_system(end), 7, how)
        return np.linalg.norm(images[3, 0] - images[3, 1])

    assert nearest("linear") < 1e-6
    assert nearest("idpp") > 0.5


@pytest.mark.slow
def test_fixed_atoms_do_not_move(ends):
    held = [20, 21]
    start, end = (atoms.copy() for atoms in ends)
    end.positions[held] = start.positions[held]
    start.set_constraint(FixAtoms(held))
    found = neb(morse(), start, end, n_images=7, force_tolerance=0.1, max_steps=30, precision="float64")
    assert all((image.positions[held] == start.positions[held]).all() for image in found.images)


def test_ends_must_be_minima_and_belong_together(ends):
    start, end = ends
    shaken = start.copy()
    shaken.rattle(0.05, seed=1)
    with pytest.raises(SimulationError, match=r"start: found a largest force of [0-9.]+ eV/Å, expected at most .*relax it first"):
        neb(morse(), shaken, end, precision="float64")
    wrong = end.copy()
    wrong.set_cell(end.cell * 1.01)
    for other, reason in ((wrong, "different cells"), (end[:-1], "different atoms"), (start, "same positions")):
        with pytest.raises(SimulationError, match=reason):
            neb(morse(), start, other)
    with pytest.raises(SimulationError, match="n_images"):
        neb(morse(), start, end, 2)
    with pytest.raises(SimulationError, match="spring"):
        neb(morse(), start, end, spring=-1.0)
    broken = replace(morse(), params={k: np.full_like(v, np.nan) for k, v in morse().params.items()})
    with pytest.raises(SimulationError, match="not finite"):
        neb(broken, start, end, precision="float64")
