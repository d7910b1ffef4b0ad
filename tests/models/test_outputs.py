"""What a model says besides energies, and heads that share a network without seeing each other."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.graph import Capacity, collate, prepare
from eqpot.models.readouts import NOISE_FLOOR, neutralised, of_head
from eqpot.potential.archive import flatten

ON = {"noise": True, "charges": True, "direct_forces": True, "heads": ("low", "high")}


@pytest.fixture(scope="module")
def graph(structures):
    """Four structures of two heads and different charges, with an empty fifth."""
    hosts = [prepare(s, ("H", "C", "O"), 3.5, head=k % 2) for k, s in enumerate(structures)]
    ion = prepare(replace(structures[0], charge=2), ("H", "C", "O"), 3.5)
    return collate([*hosts, ion], Capacity(6, 32, 64))


def outputs_of(spec, params, graph):
    return jax.device_get(jax.jit(lambda p, g: spec.evaluate(p, g, spec.describe(g)))(params, graph))


@pytest.fixture(scope="module")
def everything(make_spec, draw):
    spec = make_spec(n_layers=2, correlation=2, **ON)
    return spec, draw(spec, 0)


@pytest.fixture(scope="module")
def said(everything, graph):
    return outputs_of(*everything, graph)


def test_what_is_added_comes_last_and_changes_no_other_parameter(make_spec):
    plain, more = (flatten(make_spec(tiny=True, **keys).init(3)) for keys in ({}, {"noise": True, "charges": True}))
    assert {name.split("/")[0] for name in set(more) - set(plain)} == {"outputs"}
    for name, value in plain.items():
        np.testing.assert_array_equal(more[name], value)


def test_energies_do_not_know_what_else_is_asked(make_spec, draw, graph):
    spec, more = make_spec(tiny=True), make_spec(tiny=True, noise=True, charges=True)
    params = draw(more, 1)
    plain = {name: value for name, value in params.items() if name != "outputs"}
    np.testing.assert_allclose(outputs_of(more, params, graph).energy, outputs_of(spec, plain, graph).energy, atol=1e-6)


def test_charges_sum_to_the_total_charge_and_padding_has_none(said, graph):
    sums = np.asarray(graph.sum_atoms(jnp.asarray(said.charges)))
    np.testing.assert_allclose(sums, [0, 0, 0, 0, 2, 0], atol=2e-6)
    assert not said.charges[~graph.atom_mask].any()
    assert np.abs(said.charges[graph.atom_mask]).max() > 0.1


def test_neutralising_changes_what_must_change_and_nothing_more(graph):
    """A projection: twice is once, and differences within a structure stay."""
    raw = jnp.asarray(np.random.default_rng(0).normal(size=len(graph.positions)).astype(np.float32))
    once = neutralised(raw, graph)
    np.testing.assert_allclose(neutralised(once, graph), once, atol=1e-6)
    first = np.asarray(graph.graph_index == 0) & graph.atom_mask
    np.testing.assert_allclose(np.diff(once[first]), np.diff(raw[first]), atol=1e-6)


def test_noise_is_positive_and_has_a_logarithm_in_padding(everything, said, graph):
    scale = everything[0].normalization.scale
    for noise in (said.force_noise, said.energy_noise):
        assert (noise >= NOISE_FLOOR * scale).all()
        assert (noise[~graph.atom_mask] == 1).all()
    assert not np.allclose(said.force_noise, said.energy_noise)


def test_noise_and_direct_forces_have_the_scale_of_the_data(everything, said, graph):
    """In a data set of ten times larger forces all of them are ten times as large."""
    spec, params = everything
    large = replace(spec, normalization=replace(spec.normalization, scale=10 * spec.normalization.scale))
    found, real = outputs_of(large, params, graph), graph.atom_mask
    for name in ("force_noise", "energy_noise", "forces"):
        np.testing.assert_allclose(getattr(found, name)[real], 10 * getattr(said, name)[real], rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (3, 3)])
def test_a_structure_reads_the_columns_of_its_head(graph, shape):
    """Against a loop: columns are head-major, also behind other axes."""
    n_heads, k = 2, shape[-1]
    values = np.random.default_rng(1).normal(size=(len(graph.positions), *shape[:-1], n_heads * k)).astype(np.float32)
    found = np.asarray(of_head(jnp.asarray(values), jax.device_put(graph), n_heads))
    for i, g in enumerate(graph.graph_index):
        head = graph.head[g]
        np.testing.assert_array_equal(found[i], values[i][..., head * k : (head + 1) * k])


@pytest.mark.parametrize("changed", [0, 1])
def test_heads_are_independent(everything, said, graph, changed):
    """Other columns in the readouts of one head: its structures are predicted otherwise, those of the other to the last bit as before."""
    spec, params = everything
    params = jax.tree.map(np.array, params)
    for readout in (*params["readouts"].values(), *params["outputs"].values()):
        last = readout["weights"][max(readout["weights"])] if isinstance(readout, dict) else readout
        last.reshape(len(last), 2, -1)[:, changed] += 0.5
    found = outputs_of(spec, params, graph)
    mine = graph.atom_mask & (graph.head[graph.graph_index] == changed)
    others = graph.atom_mask & ~mine
    for name in ("energy", "forces", "force_noise", "energy_noise"):
        a, b = getattr(found, name), getattr(said, name)
        np.testing.assert_array_equal(a[others], b[others])
        assert not np.allclose(a[mine], b[mine])
    np.testing.assert_array_equal(found.charges[others], said.charges[others])


def test_each_head_has_its_own_shift(everything, graph):
    """The shift of an element in one head moves the atoms of that element in structures of that head alone."""
    spec, params = everything
    shift = np.array(spec.normalization.shift)
    shift[3 + 1] += 1.0  # carbon in the second head
    other = replace(spec, normalization=replace(spec.normalization, shift=tuple(shift.tolist())))
    change = outputs_of(other, params, graph).energy - outputs_of(spec, params, graph).energy
    carbon = graph.atom_mask & (graph.species == 1) & (graph.head[graph.graph_index] == 1)
    assert (change[carbon] > 0.1).all()
    assert not change[~carbon].any()
