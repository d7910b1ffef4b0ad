"""Derivatives beyond what the conformance suite asks of every model."""

from functools import partial

import jax
import numpy as np
import pytest

from eqpot.graph import Capacity, collate, prepare
from eqpot.potential import hessian_vector_product, predict, predict_members
from eqpot.potential.derivatives import volumes


@pytest.fixture
def graph(potential, structures):
    return collate([prepare(s, potential.elements, potential.cutoff) for s in structures], Capacity(5, 24, 64), "float64")


@pytest.fixture
def member(potential):
    return jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), potential.params)


def test_volumes_are_infinite_where_there_is_no_full_cell(graph, structures):
    with jax.enable_x64(True):
        found = np.asarray(volumes(graph))
    np.testing.assert_allclose(found[1:3], [structures[1].volume, structures[2].volume])
    assert np.isinf(found[[0, 3, 4]]).all()


def test_stress_changes_neither_energy_nor_forces_and_is_zero_without_a_volume(potential, member, graph):
    with jax.enable_x64(True):
        plain, full = (jax.jit(partial(predict, potential.spec, with_stress=s))(member, graph) for s in (False, True))
    assert plain.stress is None
    np.testing.assert_allclose(plain.energy, full.energy, atol=1e-12)
    np.testing.assert_allclose(plain.forces, full.forces, atol=1e-12)
    assert not np.asarray(full.stress)[[0, 3, 4]].any()
    assert np.asarray(full.stress)[1].any()


def test_padding_has_no_energy_and_no_force(potential, member, graph):
    with jax.enable_x64(True):
        found = jax.jit(partial(predict, potential.spec))(member, graph)
    assert not np.asarray(found.forces)[~graph.atom_mask].any()
    assert not np.asarray(found.atom_energy)[~graph.atom_mask].any()
    assert np.asarray(found.energy)[-1] == 0


def test_the_hessian_is_symmetric_and_has_no_translations(potential, member, graph):
    rng = np.random.default_rng(0)
    u, v = (rng.normal(size=graph.positions.shape) * graph.atom_mask[:, None] for _ in range(2))
    with jax.enable_x64(True):
        hessian = jax.jit(partial(hessian_vector_product, potential.spec))
        hu, hv, shift = (np.asarray(hessian(member, graph, x)) for x in (u, v, np.ones_like(u)))
    assert float(np.sum(v * hu)) == pytest.approx(float(np.sum(u * hv)), rel=1e-10)
    np.testing.assert_allclose(shift[graph.atom_mask], 0, atol=1e-10)


def test_members_side_by_side_equal_members_in_turn(potential, graph, monkeypatch):
    """The path that an accelerator takes (vmap) against the one that a CPU takes (map)."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), potential.params)
    with jax.enable_x64(True):
        in_turn = jax.jit(partial(predict_members, potential.spec))(params, graph)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        side_by_side = jax.jit(partial(predict_members, potential.spec))(params, graph)
    for a, b in zip(jax.tree.leaves(in_turn), jax.tree.leaves(side_by_side), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)
