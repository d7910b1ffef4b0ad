"""Symmetry functions against a double loop written from Behler's formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.basis import angular_functions, angular_weights, cutoff_function, directions, element_pairs, radial_functions
from eqpot.basis.symmetry_functions import angular_set, radial_set

CUTOFF, POWERS, N_ELEMENTS = 4.0, (1, 2, 4, 8), 3


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def neighbors():
    """Positions of 12 neighbours, one of them beyond the cutoff, and their elements."""
    rng = np.random.default_rng(0)
    units = rng.normal(size=(12, 3))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return units * np.append(rng.uniform(0.7, 3.9, 11), 4.3)[:, None], rng.integers(0, N_ELEMENTS, 12)


def ending(r):
    """1 − 10x³ + 15x⁴ − 6x⁵."""
    x = r / CUTOFF
    return 1 - 10 * x**3 + 15 * x**4 - 6 * x**5 if x < 1 else 0.0


def published(vectors, elements, n_radial=5, n_angular=2):
    """G² and G⁵, one neighbour and one pair of neighbours at a time."""
    centers, width = radial_set(CUTOFF, n_radial)
    pairs = list(zip(*element_pairs(N_ELEMENTS), strict=True))
    radial, angular = np.zeros((N_ELEMENTS, n_radial)), np.zeros((len(pairs), n_angular, 2 * len(POWERS)))
    for j, (v, a) in enumerate(zip(vectors, elements, strict=True)):
        r = np.linalg.norm(v)
        radial[a] += np.exp(-width * (r - centers) ** 2) * ending(r)
        for k in range(j):
            s, b = np.linalg.norm(vectors[k]), elements[k]
            row, cosine = pairs.index((min(a, b), max(a, b))), v @ vectors[k] / (r * s)
            for i, eta in enumerate(angular_set(CUTOFF, n_angular)):
                each = [2.0 ** (1 - zeta) * (1 + sign * cosine) ** zeta for zeta in POWERS for sign in (1, -1)]
                angular[row, i] += np.array(each) * np.exp(-eta * (r**2 + s**2)) * ending(r) * ending(s)
    return radial, angular


def computed(vectors, elements):
    """The same by sums over neighbours."""
    return _computed(jnp.asarray(vectors), jnp.asarray(elements))


@jax.jit
def _computed(vectors, elements):
    n_radial, n_angular = 5, 2
    distance = jnp.linalg.norm(vectors, axis=-1)
    element = jax.nn.one_hot(elements, N_ELEMENTS, dtype=vectors.dtype)
    weights = angular_weights(distance, CUTOFF, n_angular)
    harmonics = directions(vectors / distance[:, None], max(POWERS))
    moments = jnp.einsum("ms,mz,mb->szb", harmonics, element, weights)[None]
    squares = jnp.einsum("mz,mb->zb", element, weights**2)[None]
    radial = jnp.einsum("mz,mb->zb", element, radial_functions(distance, CUTOFF, n_radial))
    return radial, angular_functions(moments, squares, POWERS)[0]


def test_sums_over_neighbours_are_the_published_sums_over_pairs(neighbors):
    for found, expected in zip(computed(*neighbors), published(*neighbors), strict=True):
        assert (expected != 0).any()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_single_precision_keeps_its_digits(neighbors):
    vectors, elements = neighbors
    for found, expected in zip(computed(vectors.astype(np.float32), elements), published(vectors, elements), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_rotations_reflections_and_other_orders_change_nothing(neighbors):
    vectors, elements = neighbors
    rng = np.random.default_rng(1)
    rotation, order = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.permutation(len(vectors))
    for changed in (vectors @ rotation, -vectors @ rotation):
        for found, expected in zip(computed(changed[order], elements[order]), computed(vectors, elements), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_an_angle_is_told_from_another():
    """Two neighbours at equal distances: for ζ = 1, λ = 1 the function is w²(1 + cos θ), and λ = −1 its opposite."""
    for angle in (0.0, 0.4, np.pi / 2, 2.5, np.pi):
        vectors = 1.5 * np.array([[1, 0, 0], [np.cos(angle), np.sin(angle), 0]])
        found = np.asarray(computed(vectors, [0, 1])[1])[1]  # the pair of elements (0, 1)
        weight = np.exp(-angular_set(CUTOFF, 2) * 2 * 1.5**2) * ending(1.5) ** 2
        np.testing.assert_allclose(found[:, 0], weight * (1 + np.cos(angle)), atol=1e-13)
        np.testing.assert_allclose(found[:, 1], weight * (1 - np.cos(angle)), atol=1e-13)


def test_products_of_harmonics_are_legendre_polynomials_of_the_angle():
    u, v = np.random.default_rng(2).normal(size=(2, 20, 3))
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
    harmonics = jax.jit(directions, static_argnums=1)
    products = np.asarray(harmonics(jnp.asarray(u), 8) * harmonics(jnp.asarray(v), 8))
    for l in range(9):
        expected = np.polynomial.legendre.Legendre.basis(l)((u * v).sum(1))
        np.testing.assert_allclose(products[:, l**2 : (l + 1) ** 2].sum(1), expected, atol=1e-13)


def test_derivatives_are_finite_for_atoms_in_a_row():
    """On all axes, and at both poles of the harmonics: angles of 0 and π, where arccos has no slope."""
    row = np.array([[0, 0, 1.0], [0, 0, 2.0], [0, 0, -1.0], [1.3, 0, 0], [-1.3, 0, 0]])
    loss = lambda vectors: sum(jnp.sum(x**2) for x in computed(vectors, [0, 0, 1, 2, 2]))  # noqa: E731
    assert np.isfinite(jax.jit(jax.grad(loss))(jnp.asarray(row))).all()
    curvature = jax.jit(jax.vmap(jax.jacfwd(jax.jacrev(lambda u: directions(u, 4)))))
    assert np.isfinite(curvature(jnp.asarray(row))).all()


def test_all_functions_end_smoothly():
    """Value, first and second derivative vanish at the cutoff; the third of f_c is −60/r_c³ just inside."""
    for function in (
        lambda r: cutoff_function(r, CUTOFF),
        lambda r: radial_functions(r, CUTOFF, 5)[-1],
        lambda r: angular_weights(r, CUTOFF, 2)[0],
    ):
        for derivative in (function, jax.grad(function), jax.grad(jax.grad(function))):
            assert abs(derivative(jnp.asarray(CUTOFF - 1e-8))) < 1e-6
            assert derivative(jnp.asarray(CUTOFF)) == 0
            assert derivative(jnp.asarray(CUTOFF + 0.1)) == 0
    third = jax.grad(jax.grad(jax.grad(lambda r: cutoff_function(r, CUTOFF))))
    np.testing.assert_allclose(third(jnp.asarray(CUTOFF - 1e-9)), -60 / CUTOFF**3, rtol=1e-6)


def test_the_default_sets():
    centers, width = radial_set(6.0, 8)
    np.testing.assert_allclose(centers, 0.8 + 0.65 * np.arange(8))
    assert width == pytest.approx(1 / (2 * 0.65**2))
    np.testing.assert_allclose(1 / np.sqrt(2 * angular_set(6.0, 3)), [3.0, 1.5, 0.75])
