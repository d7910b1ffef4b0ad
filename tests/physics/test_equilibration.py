"""Charges of least energy: two atoms by hand, conductors, the two solvers, derivatives of first and second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.core.units import COULOMB
from eqpot.physics import equilibrated, gaussian_kernel, interactions, open_energies, periodic_energies
from eqpot.physics.equilibration import self_interaction

SIGMA = 1.0
RNG = np.random.default_rng(3)
CRYSTAL = np.array([[4.0, 0.3, 0], [0, 4.4, 0.2], [0.5, 0, 5.0]])
SLAB = CRYSTAL * np.array([[1], [1], [0]])
OPEN = np.zeros((3, 3))


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def batch(cells, n=4, padding=3, charge=0.0):
    """Structures of n atoms each, then a padding structure with atoms that are not there."""
    rng = np.random.default_rng(7)
    cells = np.array([*cells, OPEN])
    sizes = [n] * (len(cells) - 1) + [padding]
    index = np.repeat(np.arange(len(cells)), sizes)
    positions = rng.uniform(0, 1, (len(index), 3)) * 3.5
    mask = index < len(cells) - 1
    chi, eta = rng.normal(0, 2, len(index)), rng.uniform(0.5, 5, len(index))
    total = np.array([charge] * (len(cells) - 1) + [0.0])
    arrays = (positions, cells, chi, eta, total)
    return tuple(jnp.asarray(x) for x in arrays), jnp.asarray(index), jnp.asarray(mask)


def solve(arrays, index, mask, solver="dense", tolerance=1e-6):
    return jitted(*arrays, index, mask, SIGMA, tolerance, solver)


jitted = jax.jit(equilibrated, static_argnums=(7, 8, 9))


def test_two_atoms_by_hand():
    """q = −(χ₁ − χ₂ + (J₁₂ − J₂₂)·Q …)/…: the textbook formula of two hardnesses and one interaction."""
    chi, eta, r = np.array([3.0, -1.0]), np.array([4.0, 6.0]), 2.5
    own, between = self_interaction(SIGMA), COULOMB * float(gaussian_kernel(jnp.asarray(r), SIGMA))
    for total in (0.0, 1.0):
        arrays = (jnp.asarray([[0, 0, 0], [r, 0, 0]]), jnp.zeros((1, 3, 3)), jnp.asarray(chi), jnp.asarray(eta), jnp.asarray([total]))
        charges, energies = solve(arrays, jnp.zeros(2, int), jnp.ones(2, bool))
        first, second = eta + own
        expected = (chi[1] - chi[0] + (second - between) * total) / (first + second - 2 * between)
        np.testing.assert_allclose(charges, [expected, total - expected], rtol=1e-12)
        q = np.array([expected, total - expected])
        assert energies.sum() == pytest.approx(chi @ q + (eta + own) @ q**2 / 2 + between * q[0] * q[1], rel=1e-12)


@pytest.mark.parametrize("solver", ["dense", pytest.param("iterative", marks=pytest.mark.slow)])
def test_no_other_charges_have_less_energy(solver):
    """The energy, worked out by the sums of given charges, grows in every direction that keeps the total charge."""
    (positions, cell, chi, eta, total), index, mask = batch([OPEN, CRYSTAL, SLAB])
    charges, energies = solve((positions, cell, chi, eta, total), index, mask, solver)

    def energy(q):
        isolated = ~jnp.any(cell != 0, (1, 2))
        pairs = open_energies(positions, q, index, mask, isolated, SIGMA) + periodic_energies(positions, cell, q, index, mask, SIGMA, 1e-6)
        return jnp.where(mask, pairs + chi * q + (eta + self_interaction(SIGMA)) * q**2 / 2, 0)

    np.testing.assert_allclose(jax.ops.segment_sum(energies, index), jax.ops.segment_sum(energy(charges), index), rtol=1e-8)
    np.testing.assert_allclose(jax.ops.segment_sum(charges, index), 0, atol=1e-12)
    slope = np.asarray(jax.grad(lambda q: energy(q).sum())(charges))
    for k in range(3):
        assert np.ptp(slope[np.asarray(index) == k]) < 1e-6  # equal potentials: nothing flows
    for _ in range(5):
        change = RNG.normal(size=len(charges)) * np.asarray(mask)
        change -= np.asarray(jax.ops.segment_sum(jnp.asarray(change), index) / 4)[np.asarray(index)] * np.asarray(mask)
        assert energy(charges + 0.01 * change).sum() > energies.sum()


@pytest.mark.slow
@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_both_solvers_agree(charge):
    """Charges, energies, forces and second derivatives, in a batch of a molecule, a crystal and (when neutral) a slab."""
    cells = [OPEN, CRYSTAL] if charge else [OPEN, CRYSTAL, SLAB]
    arrays, index, mask = batch(cells, charge=charge)
    direction = jnp.asarray(RNG.normal(size=arrays[0].shape))

    def of(solver):
        def energy(positions):
            return solve((positions, *arrays[1:]), index, mask, solver)[1].sum()

        forces = jax.jit(jax.grad(energy))
        curvature = jax.jit(jax.grad(lambda x: jnp.vdot(forces(x), direction)))
        return (*solve(arrays, index, mask, solver), forces(arrays[0]), curvature(arrays[0]))

    for dense, iterative in zip(of("dense"), of("iterative"), strict=True):
        np.testing.assert_allclose(iterative, dense, rtol=1e-7, atol=1e-8)
        assert np.isfinite(dense).all()


@pytest.mark.parametrize("solver", ["dense", pytest.param("iterative", marks=pytest.mark.slow)])
def test_derivatives_are_those_of_differences(solver):
    """Of energy and of a charge, by positions, cell and electronegativity."""
    arrays, index, mask = batch([OPEN, CRYSTAL])

    def values(positions, strain, chi):
        moved, cell = positions @ (jnp.eye(3) + strain), arrays[1] @ (jnp.eye(3) + strain)
        charges, energies = solve((moved, cell, chi, *arrays[3:]), index, mask, solver)
        return jnp.stack([energies.sum(), charges[1], charges[5]])

    at = (arrays[0], jnp.zeros((3, 3)), arrays[2])
    values = jax.jit(values)
    slopes = jax.jit(jax.jacrev(values, (0, 1, 2)))(*at)
    for k in range(3):
        step = RNG.normal(size=at[k].shape)
        step /= np.abs(step).max()
        ends = [values(*at[:k], at[k] + sign * 1e-4 * step, *at[k + 1 :]) for sign in (1, -1)]
        found = np.tensordot(np.asarray(slopes[k]), step, step.ndim)
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-4, rtol=1e-5, atol=1e-7)


def test_the_matrix_is_that_of_the_sums():
    """½ qAq is the energy of the sums and of each Gaussian with itself, for neutral charges; no eigenvalue is negative."""
    (positions, cell, *_), index, mask = batch([OPEN, CRYSTAL, SLAB])
    matrix = interactions(positions, cell, index, mask, SIGMA, 1e-6)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9
    q = RNG.normal(size=len(index)) * np.asarray(mask)
    q -= (np.asarray(jax.ops.segment_sum(jnp.asarray(q), index)) / 4)[np.asarray(index)] * np.asarray(mask)
    q = jnp.asarray(q)
    isolated = ~jnp.any(cell != 0, (1, 2))
    sums = open_energies(positions, q, index, mask, isolated, SIGMA) + periodic_energies(positions, cell, q, index, mask, SIGMA, 1e-6)
    np.testing.assert_allclose(q * (matrix @ q) / 2, sums + self_interaction(SIGMA) * q**2 / 2, rtol=1e-9, atol=1e-9)


def test_charge_flows_between_molecules_that_are_far_apart():
    """Two atoms share a charge, however far they are, and attract each other as 1/r²: what a network of finite range cannot say."""

    def force(r):
        arrays = (jnp.zeros((1, 3, 3)), jnp.asarray([4.0, -4.0]), jnp.asarray([1.0, 1.0]), jnp.zeros(1))
        at = jnp.asarray([[0, 0, 0], [r, 0, 0]])
        charges, _ = solve((at, *arrays), jnp.zeros(2, int), jnp.ones(2, bool))
        slope = jax.grad(lambda x: solve((x, *arrays), jnp.zeros(2, int), jnp.ones(2, bool))[1].sum())(at)
        return float(charges[0]), float(slope[1, 0])

    (q, near), (q2, far) = force(50.0), force(500.0)
    assert q < -0.2 and q2 == pytest.approx(q, rel=0.1)
    assert near == pytest.approx(COULOMB * q**2 / 50**2, rel=1e-6) and far == pytest.approx(COULOMB * q2**2 / 500**2, rel=1e-6)


@pytest.mark.parametrize("solver", ["dense", "iterative"])
def test_the_total_charge_is_kept_in_float32(solver):
    arrays, index, mask = batch([OPEN, CRYSTAL], n=20, charge=1.0)
    charges, energies = solve(tuple(x.astype(jnp.float32) for x in arrays), index.astype(jnp.int32), mask, solver, 1e-6)
    exact, _ = solve(arrays, index, mask, solver)
    assert charges.dtype == energies.dtype == jnp.float32
    np.testing.assert_allclose(jax.ops.segment_sum(np.asarray(charges, float), index)[:2], 1.0, atol=1e-6)
    np.testing.assert_allclose(charges, exact, atol=2e-4)


@pytest.mark.parametrize("solver", ["dense", pytest.param("iterative", marks=pytest.mark.slow)])
def test_slopes_of_a_loss_of_forces_are_finite_in_float32(solver):
    """By hardness and electronegativity, with a structure of padding, which has no charges to share."""
    arrays, index, mask = batch([OPEN, CRYSTAL])
    positions, cell, chi, eta, total = (x.astype(jnp.float32) for x in arrays)

    def loss(chi, eta):
        def energy(positions):
            return solve((positions, cell, chi, eta, total), index.astype(jnp.int32), mask, solver)[1].sum()

        return jnp.sum(jax.grad(energy)(positions) ** 2)

    slopes = jax.jit(jax.grad(loss, (0, 1)))(chi, eta)
    assert all(np.isfinite(slope).all() and np.abs(slope).max() > 0 for slope in slopes)
