"""The symmetric contraction against full tensors, closed forms and symmetry; weights from coupling tensors of other programs."""

from itertools import permutations
from math import factorial

import e3nn_jax as e3nn
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eqpot.core.errors import ArchiveError, ConfigError
from eqpot.nn.contraction import SymmetricContraction, weights_from_couplings
from eqpot.nn.coupling import clebsch_gordan, degree_slice, product_paths

pytestmark = pytest.mark.usefixtures("double")
SPECIES = (0, 1, 1, 0, 1)
CHANNELS = 3


def planes(l_max, seed=0):
    """Random features [2l+1, atoms, channels]."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(2 * l + 1, len(SPECIES), CHANNELS))) for l in range(l_max + 1))


def contraction(l_in, l_out, correlation, weights=None):
    """A module in float64, with given or random weights."""
    module = SymmetricContraction(l_in, l_out, CHANNELS, 2, correlation, rngs=nnx.Rngs(params=0))
    for L, w in enumerate(weights or [w[...] for w in module.weights]):
        module.weights[L] = nnx.Param(jnp.asarray(w, jnp.float64))
    return module


def apply(module, planes):
    return module(planes, jnp.asarray(SPECIES))


def only(l_in, l_out, correlation, L, first, second=None):
    """A module whose only weight that is not zero is one, that of the named path."""
    paths = [product_paths(l_in, correlation, degree) for degree in range(l_out + 1)]
    weights = [np.zeros((2, len(p), CHANNELS)) for p in paths]
    weights[L][:, [path[:2] for path in paths[L]].index((first, second))] = 1
    return contraction(l_in, l_out, correlation, weights)


def full_factor(factor, l_max):
    """Coefficients [S, (S,) 2L+1] of a factor, on all components."""
    full = np.zeros(((l_max + 1) ** 2,) * max(1, len(factor) - 1) + (2 * factor[-1] + 1,))
    full[tuple(degree_slice(l) for l in factor[:-1] or factor)] = clebsch_gordan(*factor) if len(factor) == 3 else np.eye(full.shape[-1])
    return full


def full_path(path, l_max, L):
    """The tensor U of a path: symmetric in its factors, of unit variance for standard normal factors but for contractions among them."""
    u = full_factor(path.first, l_max)
    if path.second is not None:
        right = full_factor(path.second, l_max)
        letters = "abcd"[: u.ndim - 1], "efgh"[: right.ndim - 1]
        table = clebsch_gordan(path.first[-1], path.second[-1], L)
        u = np.einsum(f"{letters[0]}x,{letters[1]}y,xyz->{''.join(letters)}z", u, right, table)
    order = u.ndim - 1
    u = sum(u.transpose(*p, order) for p in permutations(range(order))) / factorial(order)
    return u / np.sqrt(factorial(order) * np.sum(u**2) / (2 * L + 1))


def contract(u, a):
    """Σ U[m_1 … m_ν, M] A_m1 … A_mν for a [S, N, C]: [M, N, C]."""
    out = np.broadcast_to(u[..., None, None], (*u.shape, *a.shape[1:]))
    for _ in range(u.ndim - 1):
        out = np.einsum("s...nc,snc->...nc", out, a)
    return out


@pytest.mark.parametrize(("l_in", "l_out", "correlation"), [(2, 1, 1), (3, 2, 2), (1, 1, 3), (2, 2, 3), (3, 1, 3), (1, 1, 4), (2, 2, 4)])
def test_contraction_equals_the_full_tensors(l_in, l_out, correlation):
    module, x = contraction(l_in, l_out, correlation), planes(l_in)
    for L, found in enumerate(apply(module, x)):
        w = np.asarray(module.weights[L][...])[SPECIES,]
        terms = [contract(full_path(path, l_in, L), np.concatenate(x)) for path in product_paths(l_in, correlation, L)]
        np.testing.assert_allclose(found, sum(w[:, p] * term for p, term in enumerate(terms)), atol=1e-12)


@pytest.mark.parametrize(("l_in", "l_out", "correlation"), [(2, 2, 3), (3, 1, 4)])
@pytest.mark.parametrize("inversion", [1, -1])
def test_contraction_turns_with_its_input(l_in, l_out, correlation, inversion):
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turns = [np.eye(1), rotation * np.linalg.det(rotation) * inversion]
    for l in range(2, l_in + 1):  # D_l is the part of D_1 ⊗ D_l−1 of highest degree
        table = clebsch_gordan(1, l - 1, l)
        turns.append(np.einsum("ijk,ia,jb,abc->kc", table, turns[1], turns[-1], table))
    module, x = contraction(l_in, l_out, correlation), planes(l_in)
    turn = lambda features: tuple(jnp.einsum("ij,jnc->inc", d, f) for d, f in zip(turns, features, strict=False))  # noqa: E731
    for found, expected in zip(apply(module, turn(x)), turn(apply(module, x)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_powers_of_a_vector():
    """(v·v)/√6, Y_2(v)/√15 and (v·v)²/√120: the numbers are those that make the connected variance one."""
    x = planes(2)
    square = jnp.sum(x[1] ** 2, 0)
    y2 = e3nn.spherical_harmonics("2e", e3nn.IrrepsArray("1o", jnp.moveaxis(x[1], 0, -1)), False, normalization="component").array
    np.testing.assert_allclose(apply(only(2, 0, 2, 0, (1, 1, 0)), x)[0][0], square / np.sqrt(6), atol=1e-12)
    np.testing.assert_allclose(apply(only(2, 2, 2, 2, (1, 1, 2)), x)[2], jnp.moveaxis(y2, -1, 0) / np.sqrt(15), atol=1e-6)
    np.testing.assert_allclose(apply(only(2, 0, 4, 0, (1, 1, 0), (1, 1, 0)), x)[0][0], square**2 / np.sqrt(120), atol=1e-12)


def test_second_order_scalars_are_sums_of_squares():
    module, x = contraction(2, 0, 2), planes(2)
    w = np.asarray(module.weights[0][...])[SPECIES,]
    squares = sum(w[:, 1 + l] * jnp.sum(x[l] ** 2, 0) / np.sqrt(2 * (2 * l + 1)) for l in range(3))
    np.testing.assert_allclose(apply(module, x)[0][0], w[:, 0] * x[0][0] + squares, atol=1e-12)


def test_no_product_of_three_vectors_is_a_scalar():
    """It would be a pseudoscalar: only the even orders are left of vectors alone."""
    x = (jnp.zeros((1, len(SPECIES), CHANNELS)), planes(1)[1])
    module = contraction(1, 0, 3)
    w = np.asarray(module.weights[0][...])[SPECIES,]
    np.testing.assert_allclose(apply(module, x)[0][0], w[:, 2] * jnp.sum(x[1] ** 2, 0) / np.sqrt(6), atol=1e-12)


@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
def test_order_is_at_most_the_correlation(correlation):
    """B(s A) is a polynomial in s of this degree and no less, without a constant."""
    module, x = contraction(2, 1, correlation), planes(2)
    scales = np.linspace(-1, 1, 7)
    values = [np.concatenate(apply(module, tuple(s * f for f in x))).ravel() for s in scales]
    coefficients = np.polynomial.polynomial.polyfit(scales, np.stack(values), 6)
    size = np.abs(coefficients).max(1)
    assert size[0] < 1e-10 and (size[1 : correlation + 1] > 1e-2).all() and (size[correlation + 1 :] < 1e-10).all()


def test_correlation_five_is_refused():
    with pytest.raises(ConfigError, match="1 to 4, got 5"):
        contraction(1, 0, 5)


def chains(l_max, order):
    """(L, parity, tensor) of all couplings (((A A) A) …)_L from left to right: as in MACE neither symmetric nor independent."""
    if order == 1:
        return [(l, (-1) ** l, full_factor((l,), l_max)) for l in range(l_max + 1)]
    found = []
    for L1, parity, left in chains(l_max, order - 1):
        for l in range(l_max + 1):
            for L in range(abs(L1 - l), L1 + l + 1):
                u = np.zeros((*left.shape[:-1], (l_max + 1) ** 2, 2 * L + 1))
                u[..., degree_slice(l), :] = np.tensordot(left, clebsch_gordan(L1, l, L), axes=(-1, 0))
                found.append((L, parity * (-1) ** l, u))
    return found


def chained_couplings(l_max, order, L):
    u = np.stack([u for degree, parity, u in chains(l_max, order) if degree == L and parity == (-1) ** L], -1)
    return np.moveaxis(u, -2, 0)


def e3nn_couplings(l_max, order, L):
    if order == 1:
        return chained_couplings(l_max, 1, L)
    basis = e3nn.reduced_symmetric_tensor_product_basis(e3nn.s2_irreps(l_max), order, keep_ir=e3nn.Irrep(L, (-1) ** L))
    return np.moveaxis(np.asarray(basis.list[0], np.float64), -1, 0)


@pytest.mark.parametrize("couplings", [chained_couplings, e3nn_couplings])
@pytest.mark.parametrize(("l_max", "L", "correlation"), [(2, 0, 3), (2, 1, 3), (1, 0, 4), (1, 1, 4)])
def test_weights_from_couplings_give_the_same_features(couplings, l_max, L, correlation):
    rng, x = np.random.default_rng(1), planes(l_max)
    tensors = [couplings(l_max, order, L) for order in range(1, correlation + 1)]
    weights = [rng.normal(size=(2, u.shape[-1], CHANNELS)) for u in tensors]
    expected = 0
    for u, w in zip(tensors, weights, strict=True):
        terms = [contract(np.moveaxis(u[..., k], 0, -1), np.concatenate(x)) for k in range(u.shape[-1])]
        expected = expected + sum(w[SPECIES, k] * term for k, term in enumerate(terms))
    tensors = [u[0] for u in tensors] if L == 0 else tensors  # as MACE has it
    zeros = [w[...] for w in contraction(l_max, L, correlation).weights][:L]
    module = contraction(l_max, L, correlation, [*zeros, weights_from_couplings(l_max, L, tensors, weights)])
    np.testing.assert_allclose(apply(module, x)[L], expected, atol=1e-5 if couplings is e3nn_couplings else 1e-11)


def test_couplings_in_another_order_of_components_are_refused():
    tensors = [chained_couplings(1, order, 1) for order in (1, 2)]
    weights = [np.ones((2, u.shape[-1], CHANNELS)) for u in tensors]
    weights_from_couplings(1, 1, tensors, weights)
    with pytest.raises(ArchiveError, match="order 1 to degree 1 is no equivariant product"):
        weights_from_couplings(1, 1, [u[[1, 2, 0]] for u in tensors], weights)
    with pytest.raises(ArchiveError, match="order 2 to degree 1 has shape"):
        weights_from_couplings(1, 1, [tensors[0], tensors[1][:, 1:]], weights)
