"""Relaxation: the minima are those of ASE, the forces on atoms and cell are derivatives, and each structure stops on its own."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize import BFGS, LBFGS
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.core.units import EV_PER_A3_TO_GPA
from eqpot.md.bodies import Bodies
from eqpot.md.descent import Descent
from eqpot.md.fire import Fire
from eqpot.md.forces import blank
from eqpot.md.lbfgs import Lbfgs
from eqpot.md.minimize import METHODS, check_choices, relax, relax_many
from eqpot.md.state import Push

TIGHT = {"force_tolerance": 1e-3, "stress_tolerance_GPa": 1e-2, "precision": "float64"}


def sheared(noise: float = 0.05) -> Atoms:
    """A small crystal, strained by some per cent."""
    atoms = crystal(1, noise)
    atoms.set_cell(atoms.cell.array @ np.array([[1.03, 0.05, 0], [0, 0.98, 0.02], [0, 0, 1.01]]), scale_atoms=True)
    return atoms


def by_ase(atoms, optimizer, pressure=None):
    """ASE's minimum, and the steps that it took."""
    atoms = atoms.copy()
    atoms.calc = morse().astype("float64").calculator()
    target = atoms if pressure is None else FrechetCellFilter(atoms, scalar_pressure=pressure / EV_PER_A3_TO_GPA)
    run = optimizer(target, logfile=None)
    assert run.run(fmax=1e-3, steps=500)
    return atoms, run.nsteps


@pytest.fixture(scope="module")
def hot() -> Atoms:
    """A crystal far from rest."""
    return crystal(2, 0.2)


@pytest.mark.parametrize("method", ["fire", "lbfgs"])
def test_the_minimum_of_a_crystal_is_that_of_ase(hot, method):
    relaxed = relax(morse(), hot, method=method, **TIGHT)
    expected, steps = by_ase(hot, LBFGS)
    assert relaxed.converged and relaxed.max_force <= 1e-3
    assert np.linalg.norm(relaxed.atoms.get_forces(), axis=1).max() == pytest.approx(relaxed.max_force)
    assert relaxed.energy == pytest.approx(expected.get_potential_energy(), abs=1e-5)
    assert relaxed.atoms.get_all_distances(mic=True) == pytest.approx(expected.get_all_distances(mic=True), abs=2e-3)
    assert relaxed.energies[0] > relaxed.energies[-1] == relaxed.energy
    assert len(relaxed.energies) == relaxed.n_steps + 1
    if method == "lbfgs":
        assert relaxed.n_evaluations <= 1.1 * steps
        assert (np.diff(relaxed.energies) < 1e-9).all()


def test_the_minimum_of_a_cluster_does_not_depend_on_where_and_how_it_lies():
    expected, _ = by_ase(cluster(), BFGS)
    moved = cluster()
    moved.rotate(33, (1, 2, 3))
    moved.positions += [1000.0, -2000.0, 500.0]
    here, there = relax_many(morse(), [cluster(), moved], force_tolerance=1e-3)
    for found in (here, there):
        assert found.converged and found.max_stress_GPa is None
        assert found.energy == pytest.approx(expected.get_potential_energy(), abs=1e-5)
    assert here.atoms.get_all_distances() == pytest.approx(there.atoms.get_all_distances(), abs=1e-3)
    assert here.atoms.positions.mean(0) == pytest.approx(cluster().positions.mean(0), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fire", "lbfgs"])
def test_a_flexible_cell_takes_up_the_pressure(method):
    relaxed = relax(morse(), sheared(), cell="flexible", pressure_GPa=5.0, method=method, **TIGHT)
    expected, steps = by_ase(sheared(), BFGS, 5.0)
    assert relaxed.converged and relaxed.max_stress_GPa is not None and relaxed.max_stress_GPa < 1e-2
    # ASE's sign: stress is negative under compression.
    assert relaxed.atoms.get_stress() * EV_PER_A3_TO_GPA == pytest.approx([-5, -5, -5, 0, 0, 0], abs=1e-2)
    assert relaxed.atoms.get_volume() == pytest.approx(expected.get_volume(), rel=1e-3)

    def enthalpy(atoms):
        return atoms.get_potential_energy() + 5.0 / EV_PER_A3_TO_GPA * atoms.get_volume()

    assert enthalpy(relaxed.atoms) == pytest.approx(enthalpy(expected), abs=1e-5)
    if method == "lbfgs":
        assert relaxed.n_evaluations <= 1.1 * steps


@pytest.mark.slow
def test_an_isotropic_cell_keeps_its_shape_and_room_is_made_for_neighbours_that_come(monkeypatch):
    grown = []
    monkeypatch.setattr(Descent, "_grow", lambda self, grow=Descent._grow: (grow(self), grown.append(self.sizes)))
    wide = crystal(2, 0.0)
    wide.set_cell(wide.cell * 1.12, scale_atoms=True)
    relaxed = relax(morse(), wide, cell="isotropic", **TIGHT)
    ratio = relaxed.atoms.cell.array / np.where(wide.cell.array == 0, 1, wide.cell.array)
    assert relaxed.converged
    assert ratio == pytest.approx(np.eye(3) * ratio[0, 0], abs=1e-12)
    assert np.trace(relaxed.atoms.get_stress(voigt=False)) == pytest.approx(0, abs=1e-3)
    # A third shell of neighbours comes within the cutoff: the result is that of a calculator which knows nothing of lists.
    assert grown
    again = relaxed.atoms.copy()
    again.calc = morse().astype("float64").calculator()
    assert relaxed.energy == pytest.approx(again.get_potential_energy(), abs=1e-8)
    assert relaxed.atoms.cell.array[0, 0] / 2 == pytest.approx(3.7301, abs=1e-3)


@pytest.mark.parametrize("shape", ["isotropic", "flexible"])
def test_generalised_forces_are_derivatives_of_the_enthalpy(shape):
    atoms, potential, pressure = sheared(), morse().astype("float64"), 0.05
    with jax.enable_x64(True):
        land = Bodies(*(jnp.asarray(x) for x in (atoms.cell.array[None], [7.0], pressure, [1.0, 1.0])), shape)
        rng = np.random.default_rng(0)
        way = rng.normal(size=(len(atoms) + 3, 3))
        way[-3:] = np.eye(3) if shape == "isotropic" else way[-3:] + way[-3:].T
        point = np.concatenate([atoms.positions, np.zeros((3, 3))]) + 0.3 * way * (np.arange(len(way)) >= len(atoms))[:, None]

        def at(point):
            positions, cell = (np.asarray(x[0]) for x in land.place(jnp.asarray(point)[None]))
            here = Atoms(atoms.numbers, positions, cell=cell, pbc=True)
            found = potential.predict(here)
            return found.energy + pressure * here.get_volume(), found, jnp.asarray(cell)[None]

        _, found, cell = at(point)
        push = Push(jnp.asarray(found.forces)[None], jnp.asarray(found.stress)[None])
        slope = land.slope(jnp.asarray(point)[None], cell, replace(blank(jnp.asarray(atoms.positions)[None]), push=push))
        step = 1e-4
        numeric = (at(point + step * way)[0] - at(point - step * way)[0]) / (2 * step)
    assert -np.vdot(np.asarray(slope.force[0]), way) == pytest.approx(numeric, rel=1e-6)


def test_fixed_atoms_stay_and_in_a_cell_that_moves_keep_their_fractions(hot):
    held = [0, 5, 9]
    hot = hot.copy()
    hot.set_constraint(FixAtoms(held))
    relaxed = relax(morse(), hot, **TIGHT)
    assert relaxed.converged and (relaxed.atoms.positions[held] == hot.positions[held]).all()
    assert np.linalg.norm(relaxed.atoms.get_forces(apply_constraint=False)[held], axis=1).max() > 0.1
    small = sheared()
    small.set_constraint(FixAtoms([2]))
    fractions = small.cell.scaled_positions(small.positions)
    free = relax(morse(), small, cell="flexible", **TIGHT).atoms
    after = free.cell.scaled_positions(free.positions)
    assert after[2] == pytest.approx(fractions[2], abs=1e-10)
    assert np.abs(after - fractions)[:2].max() > 1e-3


@pytest.mark.slow
def test_many_are_relaxed_as_each_alone(hot):
    several = [crystal(1, 0.02), hot, crystal(1, 0.1, seed=3)]
    together = relax_many(morse(2), several, **TIGHT)
    assert len({one.n_evaluations for one in together}) > 1
    for atoms, one in zip(several, together, strict=True):
        alone = relax(morse(2), atoms, **TIGHT)
        assert one.converged and one.n_evaluations == alone.n_evaluations
        assert one.atoms.positions == pytest.approx(alone.atoms.positions, abs=1e-8)
        assert one.energies == pytest.approx(alone.energies, abs=1e-8)
        assert one.energy_std == pytest.approx(alone.energy_std) and one.energy_std > 0


def test_what_has_not_converged_is_returned_and_says_so(hot):
    short = relax(morse(), hot, max_steps=3, **TIGHT)
    assert not short.converged and short.n_evaluations == 4 and short.max_force > 1e-3
    none = relax(morse(), hot, max_steps=0, **TIGHT)
    assert none.n_steps == 0 and (none.atoms.positions == pytest.approx(hot.positions, abs=1e-12))


def test_the_trajectory_has_every_step(hot, tmp_path):
    path = tmp_path / "steps.extxyz"
    seen = []
    relaxed = relax(morse(2), hot, trajectory=path, progress=seen.append, **TIGHT)
    frames = read(path, ":")
    assert [frame.get_potential_energy() for frame in frames] == pytest.approx(relaxed.energies)
    assert frames[-1].get_forces() == pytest.approx(relaxed.atoms.get_forces(), abs=1e-7)
    assert frames[0].arrays["force_std"].max() > 0
    assert seen[-1].n_converged == 1 and seen[-1].max_force == pytest.approx(relaxed.max_force)
    with pytest.raises(SimulationError, match="exists"):
        relax(morse(2), hot, trajectory=path, **TIGHT)


@pytest.mark.slow
def test_precisions_agree(hot):
    exact, single = (relax(morse(), hot, force_tolerance=5e-3, precision=precision) for precision in ("float64", "float32"))
    assert single.converged and single.energy == pytest.approx(exact.energy, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"force_tolerance": 0}, "force_tolerance"),
        ({"max_steps": -1}, "max_steps"),
        ({"pressure_GPa": 1.0}, "fixed cell"),
        ({"trajectory": "a.h5"}, "suffix"),
    ],
)
def test_arguments_are_checked(options, reason):
    with pytest.raises(SimulationError, match=reason):
        relax(morse(), crystal(1), **options)


def test_faults_are_one_clear_line():
    with pytest.raises(SimulationError, match="method: found 'newton', expected one of fire, lbfgs"):
        check_choices(morse(), method=("newton", METHODS))
    with pytest.raises(SimulationError, match=r"expected an eqpot\.Potential"):
        check_choices("file")
    with pytest.raises(SimulationError, match="periodic along all"):
        relax(morse(), cluster(), cell="flexible")
    on_top = Atoms("Cu2", [[0, 0, 0], [0, 0, 0.01]])
    with pytest.raises(SimulationError, match="apart"):
        relax(morse(), on_top)
    # A well turned upside down: inside of its top the atoms fall onto each other.
    with pytest.raises(SimulationError, match=r"nearer than 0.1 Å after \d+ steps"):
        relax(morse(depth=-0.35), Atoms("Cu2", [[0, 0, 0], [0, 0, 2.0]]))
    broken = morse()
    broken = replace(broken, params={k: np.full_like(v, np.nan) for k, v in broken.params.items()})
    with pytest.raises(SimulationError, match="structure 0: energy or forces are not finite"):
        relax_many(broken, [cluster(), cluster()])


def rosenbrock(point):
    """A curved valley; its floor is at (1, 1, 0)."""
    x, y, z = point[0]
    return 0.1 * ((1 - x) ** 2 + 100 * (y - x**2) ** 2 + z**2)


@pytest.mark.parametrize(("method", "most"), [(Lbfgs(), 120), (Fire(), 2000)])
def test_methods_find_the_floor_of_a_curved_valley(method, most):
    with jax.enable_x64(True):
        point = jnp.asarray([[-1.2, 1.0, 0.5]])
        memory, kept, rejected = method.start(point), [], 0
        judge = jax.jit(lambda m, p: method.following(m, p, rosenbrock(p), -jax.grad(rosenbrock)(p), jnp.asarray(1e-12)))
        for _ in range(most):
            good, memory, following = judge(memory, point)
            if good:
                kept.append(float(rosenbrock(point)))
                last = point
            rejected += not good
            assert np.abs(following - last).max() <= 0.2 + 1e-12
            point = following
    assert np.asarray(last[0]) == pytest.approx([1, 1, 0], abs=1e-3)
    if isinstance(method, Lbfgs):
        assert rejected > 0 and (np.diff(kept) < 1e-11).all()
