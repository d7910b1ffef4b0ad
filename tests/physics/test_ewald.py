"""Electrostatics against lattice constants known to many digits, brute force, differences and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.core.errors import StructureError
from eqpot.core.units import COULOMB
from eqpot.physics import EwaldPlan, gaussian_kernel, open_energies, periodic_energies, plan_ewald, point_energies
from eqpot.physics.coulomb import summed

FCC = 0.5 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
HALF, QUARTER = np.full(3, 0.5), np.full(3, 0.25)
LATTICES = {
    "NaCl": (FCC, [0 * HALF, HALF], [1, -1], 0.5, 1.747564594633),
    "CsCl": (np.eye(3), [0 * HALF, HALF], [1, -1], 3**0.5 / 2, 1.762674773070),
    "zincblende": (FCC, [0 * HALF, QUARTER], [1, -1], 3**0.5 / 4, 1.638055053389),
    "fluorite": (FCC, [0 * HALF, QUARTER, 3 * QUARTER], [2, -1, -1], 3**0.5 / 4, 5.038784879788),
}
"""Cell, fractional coordinates, charges, distance of neighbours in lattice constants, and −E times that distance (Crandall, J. Phys. A 16, 1983)."""
WIGNER = 2.837297479481
"""Of a simple cubic lattice in a uniform background: E = −WIGNER K q²/(2 L)."""


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


_points = jax.jit(lambda *arguments: jnp.sum(point_energies(*arguments)))
_soft = jax.jit(lambda *arguments: jnp.sum(periodic_energies(*arguments)), static_argnums=(5, 6))
_vacuum = jax.jit(lambda *arguments: jnp.sum(open_energies(*arguments)), static_argnums=5)


def points(positions, cell, charges, plan=None, tolerance=1e-12):
    """Energy of point charges in a crystal [eV]."""
    plan = plan or plan_ewald(cell, len(positions), tolerance)
    return _points(*(jnp.asarray(x, float) for x in (positions, cell, charges)), plan)


def soft(positions, cell, charges, smearing=0.5, tolerance=1e-14):
    """Energy of Gaussian charges in one periodic structure [eV]."""
    n, (positions, cell, charges) = len(positions), (jnp.asarray(x, float) for x in (positions, cell, charges))
    return _soft(positions, cell[None], charges, jnp.zeros(n, jnp.int32), jnp.ones(n, bool), smearing, tolerance)


def vacuum(positions, charges, smearing=0.5):
    """Energy of Gaussian charges in vacuum [eV]."""
    n, (positions, charges) = len(positions), (jnp.asarray(x, float) for x in (positions, charges))
    return _vacuum(positions, charges, jnp.zeros(n, jnp.int32), jnp.ones(n, bool), jnp.ones(1, bool), smearing)


@pytest.fixture
def salt():
    """Five charges, neutral together, in a triclinic cell."""
    rng = np.random.default_rng(0)
    cell = np.array([[5.0, 0.3, 0], [-0.6, 6.0, 0.4], [1.1, -0.2, 5.5]])
    charges = rng.normal(size=5)
    return rng.random((5, 3)) @ cell, cell, charges - charges.mean()


@pytest.mark.parametrize("name", LATTICES)
def test_madelung_constants(name):
    cell, fractional, charges, distance, constant = LATTICES[name]
    a = 5.64
    energy = points(np.array(fractional) @ (a * cell), a * cell, charges)
    assert -float(energy) / COULOMB * distance * a == pytest.approx(constant, abs=1e-9)


def test_a_tolerance_holds():
    """The error of the energy is of the size that was asked for, and shrinks with it."""
    cell, fractional, charges, distance, constant = LATTICES["NaCl"]
    for tolerance in (1e-4, 1e-6, 1e-8):
        energy = points(np.array(fractional) @ (5 * cell), 5 * cell, charges, tolerance=tolerance)
        assert abs(-float(energy) / COULOMB * distance * 5 - constant) < tolerance


def test_an_ion_in_a_uniform_background():
    energy = points(np.zeros((1, 3)), 7 * np.eye(3), [1.5])
    assert float(energy) == pytest.approx(-WIGNER / (2 * 7) * 1.5**2 * COULOMB, rel=1e-10)


@pytest.mark.parametrize("charge", [0.0, 1.3])
def test_the_division_into_two_parts_cannot_be_seen(salt, charge):
    positions, cell, charges = salt
    plan = plan_ewald(cell, 5, 1e-13)
    wider = plan_ewald(cell, 1, 1e-13)  # for fewer atoms the smearing is larger
    assert wider.smearing > 1.3 * plan.smearing
    one, two = (points(positions, cell, charges + charge, p) for p in (plan, wider))
    assert float(one) == pytest.approx(float(two), rel=1e-10)


def test_frame_supercell_and_choice_of_the_cell(salt):
    positions, cell, charges = salt
    energy = points(positions, cell, charges)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    shifts = np.array(list(np.ndindex(2, 1, 2))) @ cell
    twice = (positions[None] + shifts[:, None]).reshape(-1, 3)
    same = {
        "rotated": points(positions @ rotation, cell @ rotation, charges),
        "moved": points(positions + np.array([0.7, -0.3, 1.1]), cell, charges),
        "another image": points(positions + [[1], [0], [0], [0], [0]] * cell[1], cell, charges),
        "supercell": points(twice, np.array([[2], [1], [2]]) * cell, np.tile(charges, 4)) / 4,
        "skewed": points(positions, np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ cell, charges),
    }
    for name, other in same.items():
        assert float(other) == pytest.approx(float(energy), rel=1e-10), name


@pytest.mark.parametrize("charge", [0.0, 1.3])
def test_forces_stress_and_potential_are_derivatives(salt, charge):
    positions, cell, charges = salt
    charges, plan = charges + charge, plan_ewald(cell, 5, 1e-13)
    rng = np.random.default_rng(2)
    move, strain, change = rng.normal(size=(5, 3)), rng.normal(size=(3, 3)), rng.normal(size=5)

    @jax.jit
    def energy(h):
        deform = jnp.eye(3) + h[1] * strain
        return points((positions + h[0] * move) @ deform, cell @ deform, charges + h[2] * change, plan)

    found = jax.jit(jax.grad(energy))(jnp.zeros(3))
    for k, step in enumerate(1e-3 * np.eye(3)):
        expected = (8 * (energy(step) - energy(-step)) - energy(2 * step) + energy(-2 * step)) / 12e-3
        assert float(found[k]) == pytest.approx(float(expected), rel=1e-7)


def test_curvature_through_a_loop_of_unknown_length(salt):
    """Second derivatives of positions and charges, mixed ones as training needs them, against differences of first ones."""
    positions, cell, charges = salt
    move, change = np.random.default_rng(3).normal(size=(5, 3)), np.random.default_rng(4).normal(size=5)
    slope = jax.jit(jax.grad(lambda h: soft(positions + h[0] * move, cell, charges + h[1] * change)))
    found = jax.jit(jax.jacrev(slope))(jnp.zeros(2))
    step = 1e-4
    expected = np.array([(slope(jnp.asarray(step * e)) - slope(jnp.asarray(-step * e))) / (2 * step) for e in np.eye(2)])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_sum_and_its_derivatives_are_those_of_its_terms():
    def term(c, x, fixed):
        return jnp.sin(x * (c.astype(x.dtype) + 1)) * fixed

    x, fixed = jnp.asarray(0.3), jnp.asarray(2)
    with jax.numpy_dtype_promotion("standard"):
        total = jax.jit(lambda n, x: summed(term, n, x, fixed))
        assert float(total(0, x)) == 0
        for order in range(4):
            expected = sum(2 * k**order * np.sin(0.3 * k + order * np.pi / 2) for k in range(1, 6))
            assert float(total(5, x)) == pytest.approx(expected, rel=1e-12)
            total = jax.jit(jax.grad(total, argnums=1))


def test_gaussian_charges_are_point_charges_at_a_distance():
    positions, charges = np.array([[0, 0, 0], [4.0, 4.0, 4.0]]), [1, -1]
    assert float(soft(positions, 8 * np.eye(3), charges, 0.8)) == pytest.approx(float(points(positions, 8 * np.eye(3), charges)), rel=1e-10)
    assert float(vacuum(positions, charges, 0.8)) == pytest.approx(-COULOMB / np.sqrt(48), rel=1e-12)


def test_a_molecule_in_a_large_box_is_one_in_vacuum():
    """But for its own images: in a conductor they give −2πK d²/(3V), and the rest falls as V^(−5/3)."""
    positions, charges = np.array([[0, 0, 0], [0.9, 0.3, 0], [-0.2, 1.1, 0.4]]), np.array([-0.8, 0.5, 0.3])
    square = np.sum((charges @ positions) ** 2)
    alone, errors = float(vacuum(positions, charges)), []
    for edge in (10, 20):
        images = -2 * np.pi * COULOMB * square / (3 * edge**3)
        difference = float(soft(positions, edge * np.eye(3), charges)) - alone
        errors.append(abs(difference - images))
        assert difference == pytest.approx(images, rel=0.2 if edge == 10 else 0.05)
    assert errors[1] < errors[0] / 20  # 32 in the limit


def test_a_charged_molecule_in_a_large_box():
    positions, charges = np.array([[0, 0, 0], [0.9, 0.3, 0]]), np.array([0.7, 0.3])
    for edge in (20, 40):
        difference = float(soft(positions, edge * np.eye(3), charges)) - float(vacuum(positions, charges))
        assert difference == pytest.approx(-WIGNER * COULOMB / (2 * edge), rel=10 / edge**2)


def test_vacuum_is_a_sum_over_pairs():
    rng = np.random.default_rng(5)
    positions, charges = 4 * rng.normal(size=(37, 3)), rng.normal(size=37)
    distance = np.linalg.norm(positions[None] - positions[:, None], axis=-1)[np.triu_indices(37, 1)]
    product = (charges[None] * charges[:, None])[np.triu_indices(37, 1)]
    for smearing in (0.0, 0.9):
        expected = COULOMB * np.sum(product * np.asarray(gaussian_kernel(jnp.asarray(distance), smearing)))
        assert float(vacuum(positions, charges, smearing)) == pytest.approx(expected, rel=1e-12)


MONOLAYER = (np.array([[0, 0, 0], [2.0, 0, 0]]), np.array([[2.0, 2, 0], [2, -2, 0], [0, 0, 0]]), [1, -1])


def test_a_slab_of_one_layer():
    """Madelung's constant of the square lattice, whichever vector is missing, and wherever the slab lies and looks."""
    positions, cell, charges = MONOLAYER
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        rotation = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))[0]
        energy = soft(positions @ rotation + [3, -40, 7], cell[order] @ rotation, charges, 0.25)
        assert -float(energy) / COULOMB * 2 == pytest.approx(1.615542626713, abs=1e-9)


def test_two_charged_sheets_are_a_capacitor():
    """E = 2πK q² d/A per cell, a field that does not end: no sum over spherical shells has it."""
    cell, energies = np.diag([2.0, 2.0, 0.0]), []
    for distance in (6.0, 26.0):
        energies.append(float(soft([[0, 0, 0], [0.3, 0.5, distance]], cell, [1, -1])))
    assert energies[1] - energies[0] == pytest.approx(2 * np.pi * COULOMB * 20 / 4, rel=1e-9)


def test_a_slab_is_a_crystal_with_much_vacuum():
    """A slab without dipole across; the crystal's error falls with the vacuum."""
    positions, charges = np.array([[0, 0, 0.0], [1.0, 0.4, 1.2], [0.2, 1.5, -1.2], [1.4, 1.4, 0]]), [1, -1, -1, 1.0]
    cell = np.array([[3.0, 0.2, 0], [0.5, 2.7, 0], [0, 0, 0]])
    thick = cell + np.diag([0, 0, 60.0])
    assert float(soft(positions, thick, charges)) == pytest.approx(float(soft(positions, cell, charges)), rel=1e-3)
    along, step = jnp.zeros((4, 3)).at[1].set(jnp.asarray([0.3, 0.5, 1.0])), 1e-4
    slope = jax.grad(lambda h: soft(positions + h * along, cell, charges))(0.0)
    expected = (soft(positions + step * along, cell, charges) - soft(positions - step * along, cell, charges)) / (2 * step)
    assert float(slope) == pytest.approx(float(expected), rel=1e-6)


def test_structures_of_a_batch_do_not_see_each_other(salt):
    """A crystal, two molecules, a slab, padding atoms, and a structure without atoms: each as alone."""
    positions, cell, charges = salt
    slab, none = MONOLAYER, np.zeros((3, 3))
    places = (positions, positions + 1, slab[0], positions[:2], none)
    x, q = (jnp.asarray(np.concatenate(a), float) for a in (places, (charges, charges + 1, slab[2], charges[:2], [9, 9, 9])))
    cells = jnp.asarray([cell, none, slab[1], none, none], float)
    index, mask = jnp.asarray([0] * 5 + [1] * 5 + [2] * 2 + [3] * 2 + [4] * 3, jnp.int32), jnp.arange(17) < 14
    periodic = jax.jit(periodic_energies, static_argnums=(5, 6))(x, cells, q, index, mask, 0.5, 1e-10)
    free = jax.jit(open_energies, static_argnums=5)(x, q, index, mask, ~jnp.any(cells != 0, (1, 2)), 0.5)
    found = [float(e.sum()) for e in (periodic[:5], free[5:10], periodic[10:12], free[12:14])]
    expected = [soft(positions, cell, charges, tolerance=1e-10), vacuum(positions + 1, charges + 1)]
    expected += [soft(*slab, tolerance=1e-10), vacuum(positions[:2], charges[:2])]
    np.testing.assert_allclose(found, [float(e) for e in expected], rtol=1e-12)
    assert not np.any(periodic[5:10]) and not np.any(free[:5]) and not np.any(free[10:12])
    assert not np.any(periodic[12:]) and not np.any(free[14:])


def test_a_strain_changes_the_vectors_without_a_jump():
    """Vectors enter and leave as a cell grows; the energy of Gaussian charges, at a poor tolerance, has no steps beyond it."""
    rng = np.random.default_rng(7)
    fractional, charges = rng.random((4, 3)), np.array([1, -1, 1, -1])
    scale = 1 + np.linspace(0, 0.08, 400)
    energy = jax.jit(lambda s: soft(fractional @ np.eye(3) * 6 * s, np.eye(3) * 6 * s, charges, 0.8, 1e-2))
    curve = np.array([float(energy(s)) for s in scale])
    bend = np.diff(curve, 2)
    assert np.abs(np.diff(bend)).max() < 0.1 * np.abs(bend).max()


def test_a_cell_without_volume_is_refused():
    with pytest.raises(StructureError, match="expected three with a volume"):
        plan_ewald(MONOLAYER[1], 2)
    assert isinstance(plan_ewald(np.eye(3), 1), EwaldPlan)
