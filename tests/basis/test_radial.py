"""The radial basis and its envelope, against their definitions."""

from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.basis import bessel, polynomial_envelope


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def test_bessel_functions_are_orthonormal():
    cutoff, count = 4.3, 6
    nodes, weights = np.polynomial.legendre.leggauss(200)
    r, w = jnp.asarray(cutoff * (nodes + 1) / 2), cutoff * weights / 2
    b = np.asarray(bessel(r, cutoff, count))
    np.testing.assert_allclose(np.einsum("r,ri,rj->ij", w * np.asarray(r) ** 2, b, b), np.eye(count), atol=1e-12)


def test_bessel_functions_vanish_at_the_cutoff_and_have_their_limit_at_the_centre():
    np.testing.assert_allclose(bessel(jnp.asarray([4.3]), 4.3, 5), 0, atol=1e-14)
    limit = np.sqrt(2 / 4.3) * np.arange(1, 6) * np.pi / 4.3
    np.testing.assert_allclose(bessel(jnp.asarray([1e-6]), 4.3, 5)[0], limit, rtol=1e-9)


@pytest.mark.parametrize("order", range(3, 13))
def test_the_envelope_is_the_published_polynomial(order):
    p, x = order, np.linspace(0, 1, 101)[:-1]
    published = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    np.testing.assert_allclose(polynomial_envelope(jnp.asarray(4.0 * x), 4.0, p), published, atol=1e-13 * comb(p + 2, 2) * 4)


@pytest.mark.parametrize("order", [3, 5, 6, 9])
def test_value_and_two_derivatives_vanish_at_the_cutoff(order):
    u = lambda r: polynomial_envelope(r, 5.0, order)  # noqa: E731
    derivatives = [u, jax.grad(u), jax.grad(jax.grad(u))]
    assert [float(d(jnp.asarray(0.0))) for d in derivatives] == [1.0, 0.0, 0.0]
    for d in derivatives:
        assert abs(float(d(jnp.asarray(5.0 - 1e-9)))) < 1e-7
        assert float(d(jnp.asarray(5.0))) == 0
        assert float(d(jnp.asarray(5.1))) == 0
        assert float(d(jnp.asarray(500.0))) == 0


def test_the_envelope_falls():
    u = np.asarray(polynomial_envelope(jnp.linspace(0, 5, 400), 5.0))
    assert (np.diff(u) <= 0).all()
    assert ((u >= 0) & (u <= 1)).all()


def test_float32_keeps_its_digits_near_the_cutoff():
    """The textbook form leaves noise of 3e-6 there, of either sign."""
    r = np.float32(5.0) * (1 - np.logspace(-6, -2, 200, dtype=np.float32))
    exact = np.asarray(polynomial_envelope(jnp.asarray(r, jnp.float64), 5.0))
    found = np.asarray(polynomial_envelope(jnp.asarray(r), 5.0))
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert np.abs(found - exact).max() < 1e-9


@pytest.mark.parametrize("cutoff", [4.1, 5.0, 19.87, 1.234567])
def test_precision_in_is_precision_out(cutoff):
    for dtype in (jnp.float32, jnp.float64):
        r = jnp.asarray([0.5, 1.0], dtype)
        assert polynomial_envelope(r, cutoff).dtype == dtype
        assert bessel(r, cutoff, 3).dtype == dtype
