"""The mesh against the sum that it approximates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.core.errors import StructureError
from eqpot.physics import mesh_energies, mesh_points, periodic_energies

CELL = np.array([[7.0, 0.5, 0], [-1, 8.0, 0.3], [0.4, 1, 6.5]])
N = 30


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def ions():
    """Positions in and outside of the cell, and charges with a total of 0.3 e."""
    rng = np.random.default_rng(0)
    charges = rng.normal(size=N)
    return jnp.asarray((rng.random((N, 3)) * 1.5 - 0.2) @ CELL), jnp.asarray(charges - charges.mean() + 0.01)


def strained(energy):
    """Energy, and slopes in positions, strain and charges, of an energy of positions, cell and charges."""

    def total(positions, strain, charges):
        deform = jnp.eye(3) + strain
        return jnp.sum(energy(positions @ deform, jnp.asarray(CELL) @ deform, charges))

    return jax.jit(jax.value_and_grad(total, (0, 1, 2)))


def exactly(positions, cell, charges):
    return periodic_energies(positions, cell[None], charges, jnp.zeros(N, jnp.int32), jnp.ones(N, bool), 1.0, 1e-12)


@pytest.mark.parametrize(("order", "bound"), [(8, 1e-5), (6, 1e-4), (4, 1e-2)])
def test_energy_forces_stress_and_potential_are_those_of_the_sum(ions, order, bound):
    positions, charges = ions
    points = mesh_points(CELL, 1.0)
    assert points == (16, 18, 16)
    found = strained(lambda x, cell, q: mesh_energies(x, cell, q, 1.0, points, order))(positions, jnp.zeros((3, 3)), charges)
    expected = strained(exactly)(positions, jnp.zeros((3, 3)), charges)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(one - two) / np.linalg.norm(two) < bound


def test_finer_meshes_are_better_with_the_power_of_the_order(ions):
    positions, charges = ions
    exact, errors = float(jnp.sum(exactly(positions, jnp.asarray(CELL), charges))), []
    for points in ((16, 18, 16), (32, 36, 32)):
        found = jax.jit(lambda x, points=points: jnp.sum(mesh_energies(x, jnp.asarray(CELL), charges, 1.0, points, 4)))(positions)
        errors.append(abs(float(found) - exact))
    assert 10 < errors[0] / errors[1] < 60  # 2⁴ and more


def test_a_lattice_vector_more_changes_nothing(ions):
    positions, charges = ions
    points = mesh_points(CELL, 1.0)
    energy = jax.jit(lambda x: jnp.sum(mesh_energies(x, jnp.asarray(CELL), charges, 1.0, points)))
    moved = positions + jnp.asarray(np.random.default_rng(1).integers(-2, 3, (N, 3)) @ CELL)
    assert float(energy(moved)) == pytest.approx(float(energy(positions)), rel=1e-11)


def test_meshes_that_cannot_work_are_refused():
    with pytest.raises(StructureError, match=r"mesh too coarse: found a spacing of 0.8 Å, expected at most 0.598 Å for charges of 1 Å"):
        mesh_points(CELL, 1.0, spacing=0.8)
    with pytest.raises(StructureError, match="expected three with a volume"):
        mesh_points(np.diag([5.0, 5.0, 0.0]), 1.0)
