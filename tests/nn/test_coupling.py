"""The coupling tables against closed forms and against counting."""

from itertools import combinations_with_replacement

import e3nn_jax as e3nn
import numpy as np
import pytest

from eqpot.nn.coupling import (
    clebsch_gordan,
    convolution_paths,
    pair_paths,
    path_block,
    product_paths,
    quadruple_paths,
    triple_paths,
)

PATHS = {2: pair_paths, 3: triple_paths, 4: quadruple_paths}


def count_couplings(l_max, order, L):
    """Multiplicity of degree L, natural parity, in the symmetric power of 0 ⊕ 1 ⊕ … ⊕ l_max: states counted by their m."""
    states = [(l, m) for l in range(l_max + 1) for m in range(-l, l + 1)]
    totals = [sum(m for _, m in s) for s in combinations_with_replacement(states, order) if (sum(l for l, _ in s) - L) % 2 == 0]
    return totals.count(L) - totals.count(L + 1)


def test_two_vectors_to_a_scalar_are_their_dot_product():
    np.testing.assert_allclose(clebsch_gordan(1, 1, 0)[..., 0], np.eye(3) / np.sqrt(3), atol=1e-7)


def test_two_vectors_to_a_vector_are_their_cross_product():
    levi_civita = np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        levi_civita[i, j, k], levi_civita[j, i, k] = 1, -1
    table = clebsch_gordan(1, 1, 1)
    np.testing.assert_allclose(np.abs(np.sum(table * levi_civita)) / 6, 1 / np.sqrt(2), atol=1e-7)
    np.testing.assert_allclose(table, levi_civita * table[0, 1, 2], atol=1e-7)


def test_two_vectors_to_a_tensor_are_symmetric_and_traceless():
    table = clebsch_gordan(1, 1, 2)
    np.testing.assert_allclose(table, table.transpose(1, 0, 2), atol=1e-7)
    np.testing.assert_allclose(np.einsum("iim->m", table), 0, atol=1e-6)


@pytest.mark.parametrize(("l1", "l2", "l3"), [(0, 0, 0), (0, 2, 2), (1, 1, 2), (1, 2, 1), (2, 2, 2), (3, 2, 1), (3, 3, 2)])
def test_unit_variance_in_is_unit_variance_out(l1, l2, l3):
    table = clebsch_gordan(l1, l2, l3)
    np.testing.assert_allclose(np.einsum("ijk,ijm->km", table, table), np.eye(2 * l3 + 1), atol=2e-6)


@pytest.mark.parametrize(("l1", "l2", "l3"), [(1, 1, 2), (2, 1, 3), (2, 2, 2), (3, 2, 3)])
def test_couplings_turn_with_their_factors(l1, l2, l3, wigner):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    d1, d2, d3 = (wigner(l, rotation) for l in (l1, l2, l3))
    table = clebsch_gordan(l1, l2, l3)
    np.testing.assert_allclose(np.einsum("ai,bj,ijk->abk", d1, d2, table), np.einsum("abm,mk->abk", table, d3), atol=2e-6)


def test_tables_are_exact_to_double_precision():
    table = clebsch_gordan(2, 1, 1)
    np.testing.assert_allclose(np.einsum("ijk,ijm->km", table, table), np.eye(3), atol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("l_max", [1, 2, 3])
@pytest.mark.parametrize("L", [0, 1, 2])
def test_paths_are_complete_and_without_repetition(order, l_max, L):
    """Independent, by the rank of their coefficients in each block of degrees; as many as there are makes them complete."""
    paths = PATHS[order](l_max, L)
    assert len(paths) == count_couplings(l_max, order, L)
    for degrees in {path.degrees for path in paths}:
        blocks = [path_block(p.first, p.second, L)[1].ravel() * p.scale for p in paths if p.degrees == degrees]
        assert np.linalg.cond(np.stack(blocks)) < 30


@pytest.mark.parametrize(("l_max", "order", "L"), [(1, 3, 1), (2, 3, 0), (1, 4, 0), (1, 4, 1), (2, 4, 0)])
def test_as_many_paths_as_e3nn_finds(l_max, order, L):
    basis = e3nn.reduced_symmetric_tensor_product_basis(e3nn.s2_irreps(l_max), order, keep_ir=e3nn.Irrep(L, (-1) ** L))
    assert len(PATHS[order](l_max, L)) == basis.irreps.num_irreps


def test_the_known_number_of_paths():
    """By hand for l_max = 1: s³ and s·(v·v) make a scalar; s²v and v(v·v) a vector; s⁴, s²(v·v) and (v·v)² a scalar of order four."""
    assert [len(triple_paths(1, L)) for L in (0, 1)] == [2, 2]
    assert len(quadruple_paths(1, 0)) == 3


def test_the_order_of_paths_is_fixed():
    """Saved potentials rely on it."""
    assert [path[:2] for path in product_paths(1, 3, 1)] == [((1,), None), ((0, 1, 1), None), ((0, 0, 0), (1,)), ((1, 1, 0), (1,))]
    flat = [(*path.first, *path.second) for path in triple_paths(3, 1)]
    assert flat == [
        (0, 0, 0, 1), (0, 1, 1, 2), (0, 2, 2, 3), (1, 1, 0, 1), (1, 1, 2, 3), (1, 2, 1, 2),
        (1, 2, 2, 2), (1, 3, 2, 3), (1, 3, 3, 3), (2, 2, 2, 3), (2, 2, 4, 3), (3, 3, 2, 3),
    ]  # fmt: skip
    assert [path.scale for path in triple_paths(1, 1)] == pytest.approx([1.0, np.sqrt(0.6)])
    assert [path[:2] for path in quadruple_paths(1, 1)] == [((0, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 1, 1))]


def test_convolution_paths():
    assert convolution_paths(0, 2, 2) == ((0, 0, 0), (0, 1, 1), (0, 2, 2))
    assert (1, 1, 1) not in convolution_paths(1, 1, 1)
    assert set(convolution_paths(1, 1, 1)) == {(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)}
    assert all((a + b + c) % 2 == 0 and abs(a - b) <= c <= a + b for a, b, c in convolution_paths(3, 3, 3))
