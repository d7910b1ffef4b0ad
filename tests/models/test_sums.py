"""Sums of terms: what adds, what comes from one term alone, and what cannot be a sum."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import NETWORK

from eqpot.core.config import build
from eqpot.core.errors import ArchiveError, ConfigError
from eqpot.graph import Structure, collate, prepare
from eqpot.graph.batching import Capacity
from eqpot.models import (
    AtomOutputs,
    EnergyModel,
    EquivariantConfig,
    InversePowerConfig,
    Normalization,
    SumConfig,
    SumModel,
    ZBLConfig,
    build_model,
    model_config,
)
from eqpot.physics import pair_radii, zbl_pairs, zbl_switched
from eqpot.potential import ModelSpec, Potential, predict
from eqpot.potential.archive import flatten
from eqpot.testing import check_model
from eqpot.training import FitConfig

ELEMENTS = ("H", "C", "O")
SUM = {"kind": "sum", "terms": {"network": {"kind": "equivariant", **NETWORK}, "repulsion": {"kind": "zbl"}}}
NORMALIZATION = Normalization(6.0, 1.0, (0.3, 0.1, -0.2))


run = jax.jit(lambda spec, params, graph: predict(spec, params, graph, with_stress=True), static_argnums=0)


@pytest.fixture(scope="module")
def graph():
    """Atoms far too near each other, with others at their usual distances, padded in every direction."""
    rng = np.random.default_rng(0)
    close = Structure([1, 6, 8, 6], [[0, 0, 0], [0.5, 0, 0], [1.3, 0.4, 0], [2.6, 0, 0.3]])
    crystal = Structure([6, 8, 1], rng.random((3, 3)) * 2, [[2, 0.3, 0], [0, 2.2, 0], [0.1, 0, 2.4]], True)
    return jax.tree.map(jnp.asarray, collate([prepare(s, ELEMENTS, 3.5) for s in (close, crystal)], Capacity(3, 12, 128)))


def dimer(distance):
    """C-H, padded as the other graph."""
    pair = Structure([6, 1], [[0, 0, 0], [distance, 0, 0]])
    return jax.tree.map(jnp.asarray, collate([prepare(pair, ELEMENTS, 3.5)], Capacity(3, 12, 128)))


def predicted(config, params, graph):
    return jax.device_get(run(ModelSpec(config, ELEMENTS, NORMALIZATION), params, graph))


def test_energies_forces_and_stress_are_sums_and_the_rest_is_the_network(graph):
    config = build(SumConfig, SUM)
    spec = ModelSpec(config, ELEMENTS, NORMALIZATION)
    params = spec.init(0)
    whole, network = predicted(config, params, graph), predicted(config.network, params["terms"]["network"], graph)
    repulsion = predicted(ZBLConfig(), {}, graph.replace(edge_mask=graph.edge_mask & _within(graph, 3.0)))
    assert repulsion.energy[0] > 10
    for name in ("energy", "atom_energy", "forces", "stress"):
        np.testing.assert_allclose(getattr(whole, name), getattr(network, name) + getattr(repulsion, name), rtol=2e-6, atol=2e-5)
    np.testing.assert_array_equal(whole.features, network.features)


def _within(graph, radius):
    return jnp.linalg.norm(graph.edge_vectors(), axis=-1) < radius


def test_a_network_has_the_same_parameters_alone_and_in_a_sum():
    """Their names alone are those of before there were sums, and behind 'terms/network' in one."""
    alone = flatten(ModelSpec(EquivariantConfig(**NETWORK), ELEMENTS, NORMALIZATION).init(3))
    together = flatten(ModelSpec(build(SumConfig, SUM), ELEMENTS, NORMALIZATION).init(3))
    assert {name.split("/")[0] for name in alone} == {"embedding", "layers", "readouts"}
    assert set(together) == {f"terms/network/{name}" for name in alone}
    for name, value in alone.items():
        np.testing.assert_array_equal(together[f"terms/network/{name}"], value)


def test_gradients_are_finite_where_slots_are_masked(graph):
    """Empty rows, empty atoms and masked slots that point at an atom itself, in single precision."""
    config = SumConfig(terms={"a": ZBLConfig(), "b": InversePowerConfig(trainable=True), "n": EquivariantConfig(**NETWORK)})
    spec = ModelSpec(config, ELEMENTS, NORMALIZATION)

    def loss(params, positions):
        found = predict(spec, params, graph.replace(positions=positions), with_stress=True)
        return jnp.sum(found.forces**2) + jnp.sum(found.energy) + jnp.sum(found.stress**2)

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(spec.init(0), graph.positions)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert np.abs(gradients[0]["terms"]["b"]["strength"]).max() > 0


def test_a_trainable_wall_starts_as_the_fixed_one_and_is_symmetric(graph):
    fixed, trainable = InversePowerConfig(strengths={"H-C": 0.5}), InversePowerConfig(strengths={"C-H": 0.5}, trainable=True)
    params = ModelSpec(trainable, ELEMENTS, NORMALIZATION).init(0)
    np.testing.assert_allclose(predicted(trainable, params, graph).energy, predicted(fixed, {}, graph).energy, rtol=1e-6)
    lopsided = {"strength": params["strength"].at[0, 1].set(2.0)}
    assert predicted(trainable, lopsided, graph).energy[0] > predicted(fixed, {}, graph).energy[0]
    halves = predicted(trainable, lopsided, dimer(0.5)).atom_energy
    np.testing.assert_allclose(halves[0], halves[1], rtol=1e-6)


def test_an_atom_has_half_of_its_pair():
    """C-H at 0.5 Å: the energy of the pair, computed by hand of the formula, in equal parts."""
    pairs = zbl_pairs([6, 1], *pair_radii([6, 1]))
    expected = float(zbl_switched(jnp.asarray(0.5), jax.tree.map(lambda values: jnp.asarray(values[0, 1], jnp.float32), pairs)))
    found = predicted(ZBLConfig(), {}, dimer(0.5))
    np.testing.assert_allclose(found.atom_energy[:2], expected / 2, rtol=1e-5)
    np.testing.assert_allclose(found.energy[0], expected, rtol=1e-5)
    wall = predicted(InversePowerConfig(strengths={"H-C": 0.5}, outer=1.0), {}, dimer(0.5)).atom_energy
    np.testing.assert_allclose(wall[:2], 0.25 * (1 - 21 / 2**5 + 35 / 2**6 - 15 / 2**7) * 2**12, rtol=1e-5)


def test_a_term_reads_what_another_said_before(graph):
    class Coulomb(EnergyModel):
        reads = ("charges",)
        cutoff = receptive_field = 1.0

        def describe(self, graph):
            return jnp.sum(graph.positions**2, -1)

        def __call__(self, graph, geometry, charges):
            return AtomOutputs(charges * geometry, jnp.zeros((len(geometry), 0), geometry.dtype))

    network = build_model(EquivariantConfig(**NETWORK, charges=True), ELEMENTS, NORMALIZATION, 0)
    model = SumModel({"network": network, "coulomb": Coulomb()})
    found, said = model(graph, model.describe(graph)), network(graph, network.describe(graph))
    np.testing.assert_allclose(found.energy, said.energy + said.charges * jnp.sum(graph.positions**2, -1), rtol=1e-6)
    np.testing.assert_array_equal(found.charges, said.charges)


def test_a_term_sees_its_own_neighbours_only(graph):
    """A term that counts what it is shown, in a sum with a wider one."""

    class Counts(EnergyModel):
        def __init__(self, cutoff):
            self.cutoff = self.receptive_field = cutoff

        def describe(self, graph):
            return graph.sum_rows(jnp.sum(graph.edge_mask, -1).astype(graph.positions.dtype))

        def __call__(self, graph, geometry):
            return AtomOutputs(geometry, geometry[:, None])

    geometry = SumModel({"wide": Counts(3.5), "narrow": Counts(1.5)}).describe(graph)
    np.testing.assert_array_equal(geometry["wide"], np.asarray(graph.edge_mask).sum(-1))
    np.testing.assert_array_equal(geometry["narrow"], (np.asarray(graph.edge_mask) & _within(graph, 1.5)).sum(-1))
    assert geometry["narrow"].sum() < geometry["wide"].sum()


def test_equal_sums_are_equal_whatever_the_order_of_their_keys():
    other = {"kind": "sum", "terms": dict(reversed(copy.deepcopy(SUM["terms"]).items()))}
    other["terms"]["repulsion"]["pairs"] = {"O-H": [0.2, 0.6], "C-C": [0.3, 0.9]}
    one = copy.deepcopy(SUM)
    one["terms"]["repulsion"]["pairs"] = {"C-C": [0.3, 0.9], "H-O": [0.2, 0.6]}
    a, b = (ModelSpec(build(SumConfig, v), ELEMENTS, NORMALIZATION) for v in (one, other))
    assert a == b and hash(a) == hash(b) and list(a.config.terms) == list(b.config.terms) == ["network", "repulsion"]
    assert a != ModelSpec(build(SumConfig, SUM), ELEMENTS, NORMALIZATION)
    for config in (a.config, *a.config.terms.values()):
        again = model_config(config.archived()) if config.kind in ("sum", "equivariant") else build(type(config), config.archived())
        assert again == config and hash(again) == hash(config)
    assert build(FitConfig, {"model": a.config.model_dump(exclude_unset=True)}).model == a.config


def test_a_head_alone_is_a_sum_with_the_same_terms(structures):
    network = EquivariantConfig(**NETWORK, heads=("low", "high"))
    spec = ModelSpec(SumConfig(terms={"network": network, "wall": InversePowerConfig(trainable=True)}), ELEMENTS, Normalization(6.0))
    potential = Potential(spec, spec.init_members([0, 1]), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    alone = potential.only("high")
    assert alone.heads == () and set(alone.spec.config.terms) == {"network", "wall"} and alone.reference_energies == (4.0, 5.0, 6.0)
    found, expected = alone.predict(structures[0]), potential.predict(structures[0], head="high")
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-5)
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-6)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"repulsion": {"kind": "zbl"}}, r"terms: found repulsion \(zbl\), expected one network among them"),
        ({}, "terms: found none, expected one network"),
        ({"a": NETWORK, "b": NETWORK}, "terms: 'a' and 'b' both give features; expected one network in a sum"),
        ({"a": {**NETWORK, "direct_forces": True}}, "terms: 'a' has direct_forces, which would leave out the forces of the other terms"),
        ({"a/b": NETWORK}, "the term 'a/b': expected a name of letters"),
        ({"network": NETWORK, "r": {"kind": "zbll"}}, "the kind 'zbll' is unknown, did you mean 'zbl'"),
        ({"network": NETWORK, "r": {"kind": "sum", "terms": {}}}, "the kind 'sum' cannot be a term of a sum"),
        ({"network": NETWORK, "r": {"kind": "zbl", "iner": 1}}, r"unknown key 'model\.terms\.r\.iner': did you mean 'inner'"),
        ({"network": {"hiden": "4x0e"}}, r"unknown key 'model\.terms\.network\.hiden': did you mean 'hidden'"),
        ({"network": NETWORK, "r": {"kind": "zbl", "inner": 2.0, "outer": 1.5}}, "found an inner radius of 2 Å and an outer one of 1.5 Å"),
        (
            {"network": NETWORK, "r": {"kind": "zbl", "pairs": {"C-H": [0.9, 0.9]}}},
            "the pair C-H has the radii 0.9 and 0.9 Å, expected inner below",
        ),
        (
            {"network": NETWORK, "r": {"kind": "zbl", "pairs": {"CH": [0.1, 0.9]}}},
            "found the pair 'CH', expected two elements such as 'C-H'",
        ),
        ({"network": NETWORK, "r": {"kind": "zbl", "pairs": {"C-Hx": [0.1, 0.9]}}}, "the pair 'C-Hx': 'Hx' is not a chemical element"),
        ({"network": NETWORK, "r": {"kind": "inverse-power", "strengths": {"C-H": 1, "H-C": 2}}}, "the pair C-H is given twice"),
        ({"network": NETWORK, "r": {"kind": "inverse-power", "strengths": {"C-H": -1}}}, "strengths.C-H: found -1"),
    ],
)
def test_sums_that_cannot_be(terms, message):
    with pytest.raises(ConfigError, match=message) as error:
        build(FitConfig, {"model": {"kind": "sum", "terms": terms}})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"kind": "zbl"}, "'zbl' is a term beside a network and no model alone; expected kind: sum"),
        (ZBLConfig(), "'zbl' is a term beside a network"),
        ({"kind": "mace"}, "the kind 'mace' is unknown"),
        ({"kind": "sum"}, r"the key 'model\.terms' is missing"),
        ({"cutof": 3}, r"unknown key 'model\.cutof': did you mean 'cutoff'"),
    ],
)
def test_models_that_cannot_be(model, message):
    with pytest.raises(ConfigError, match=message):
        build(FitConfig, {"model": model})


def test_elements_without_parameters():
    berkelium = ("H", "Bk")
    for config, cure in ((ZBLConfig(), "give inner and outer radius in pairs"), (InversePowerConfig(outer=1.0), "give A in strengths")):
        with pytest.raises(ConfigError, match=f"H-Bk: no covalent radius is known for one of them; {cure}"):
            build_model(config, berkelium, Normalization(), 0)
    build_model(ZBLConfig(outer=1.0), berkelium, Normalization(), 0)
    with pytest.raises(ConfigError, match=r"H-H: found an inner radius of 0.5 Å and an outer one of 0.465 Å"):
        build_model(ZBLConfig(inner=0.5), ELEMENTS, Normalization(), 0)


def test_an_archive_of_a_term_alone_is_refused(make_potential, tmp_path):
    path = make_potential(tiny=True).save(tmp_path / "p.safetensors")
    from eqpot.potential.archive import read_archive, write_archive

    header, tensors = read_archive(path)
    write_archive(path, {**header, "model": ZBLConfig().archived()}, tensors)
    with pytest.raises(ArchiveError, match="'zbl' is a term beside a network"):
        Potential.load(path)


def test_normalization_belongs_to_the_network(graph):
    """Data of ten times the energy make ten times the network, and the same repulsion."""
    config = build(SumConfig, SUM)
    params = ModelSpec(config, ELEMENTS, NORMALIZATION).init(0)
    large = ModelSpec(config, ELEMENTS, Normalization(6.0, 10.0, (3.0, 1.0, -2.0)))
    network = predicted(config.network, params["terms"]["network"], graph)
    difference = jax.device_get(run(large, params, graph)).energy - predicted(config, params, graph).energy
    np.testing.assert_allclose(difference, 9 * network.energy, rtol=1e-4, atol=1e-4)


NETWORKS = {
    "equivariant": {"kind": "equivariant", **NETWORK},
    "behler-parrinello": {"kind": "behler-parrinello", "cutoff": 3.5, "n_radial": 3, "n_angular": 1, "powers": [1, 2], "hidden": [4]},
    "linear": {"kind": "linear", "cutoff": 3.5, "n_radial": 2, "l_max": 1, "correlation": 2, "mixtures": 4},
}
KNOWN = {
    "repulsion": {"kind": "zbl"},
    "wall": {"kind": "inverse-power", "trainable": True},
    "dispersion": {"kind": "d3", "functional": "pbe", "reach": 8, "cn_reach": 8},
    "coulomb": {"kind": "coulomb", "background": "uniform"},
    "equilibration": {"kind": "charge-equilibration", "background": "uniform"},
}
GIVES = {"coulomb": {"charges": True}, "equilibration": {"electronegativity": True}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "electrostatics"),
    [("equivariant", "coulomb"), ("equivariant", "equilibration"), ("behler-parrinello", None), ("linear", None)],
)
def test_all_terms_together_obey_the_laws(draw, network, electrostatics):
    """Every network with every known term at once; electrostatics with the network that says what it needs."""
    left_out = {"coulomb", "equilibration"} - {electrostatics}
    terms = {name: term for name, term in KNOWN.items() if name not in left_out}
    config = build(SumConfig, {"kind": "sum", "terms": {**terms, "network": {**NETWORKS[network], **GIVES.get(electrostatics, {})}}})
    spec = ModelSpec(config, ELEMENTS, NORMALIZATION)
    print(check_model(spec, draw(spec, 0), skip=("hessian", "work", "cutoff_slope")))
