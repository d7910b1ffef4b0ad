"""The linear model of SOAP: laws of a model, that it is linear, and what its invariants are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.basis.soap import primitive_set
from eqpot.core.config import build
from eqpot.core.errors import ConfigError
from eqpot.graph import Structure, collate, prepare
from eqpot.graph.batching import Capacity
from eqpot.models import LinearConfig, Normalization, SumConfig, ZBLConfig, model_config, n_invariants, parameters_of
from eqpot.models.linear import mixing
from eqpot.nn.invariants import invariant_products
from eqpot.potential import ModelSpec, Potential, predict
from eqpot.testing import check_model, check_potential
from eqpot.training import FitConfig
from eqpot.training.finetune import widened

ELEMENTS = ("H", "C", "O")
SMALL = {"cutoff": 3.5, "n_radial": 3, "l_max": 3, "mixtures": 4, "l_mixtures": 2}


def spec_of(config, elements=ELEMENTS):
    shift = tuple(np.linspace(0.3, -0.2, len(elements) * config.n_heads).round(3).tolist())
    return ModelSpec(config, elements, Normalization(6.0, 1.0, shift))


def graph_of(*structures, elements=ELEMENTS, cutoff=3.5):
    return jax.tree.map(jnp.asarray, collate([prepare(s, elements, cutoff) for s in structures], Capacity(3, 16, 64)))


def bent():
    return Structure([8, 1, 6, 1], [[0, 0, 0], [1.0, 0, 0], [-0.4, 1.3, 0], [0.2, 1.9, 0.9]])


def test_laws_of_a_model(draw):
    spec = spec_of(LinearConfig(**SMALL))
    print(check_model(spec, draw(spec, 0)))


def test_laws_in_single_precision(draw):
    spec = spec_of(LinearConfig(**SMALL))
    only = ("rotation", "precision", "cutoff_force", "isolated_atom", "layout", "special_sites")  # hundreds of terms of either sign cancel
    print(check_model(spec, draw(spec, 0), dtype="float32", only=only))


@pytest.mark.slow
def test_laws_of_the_default(draw):
    spec = spec_of(LinearConfig())
    print(check_model(spec, draw(spec, 0), skip=("parameter_gradient", "hessian")))
    print(check_model(spec, draw(spec, 0), dtype="float32", only=("rotation", "precision", "layout")))


@pytest.mark.slow
def test_laws_with_products_of_four(draw):
    spec = spec_of(LinearConfig(**SMALL, correlation=4))
    print(check_model(spec, draw(spec, 0), only=("rotation", "inversion", "forces", "stress", "cutoff_slope", "isolated_atom", "layout")))


def test_a_sum_with_repulsion(draw):
    network = LinearConfig(**SMALL)
    spec = spec_of(SumConfig(terms={"network": network, "repulsion": ZBLConfig(inner=0.8, outer=3.5)}))
    assert spec.config.network == network
    print(check_model(spec, draw(spec, 0), only=("rotation", "forces", "stress", "isolated_atom", "layout")))


@pytest.mark.slow
def test_members_heads_and_archive(draw):
    config = LinearConfig(**SMALL, heads=("low", "high"))
    spec = spec_of(config)
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *[draw(spec, seed) for seed in range(2)])
    potential = Potential(spec, params, tuple((-10.0 * (1 + np.arange(6))).tolist()))
    print(check_potential(potential, only=("archive", "heads", "calculator")))
    assert model_config(config.archived()) == config
    found = potential.only("high").predict(bent())
    assert found.energy == pytest.approx(potential.predict(bent(), head="high").energy, rel=1e-6)


def test_energy_forces_and_stress_are_linear_in_the_weights(draw):
    """And the energy is the sum of invariants times weights in their documented order, for every head."""
    config = LinearConfig(**SMALL, heads=("low", "high"))
    spec, rng = spec_of(config), np.random.default_rng(0)
    graph = graph_of(bent())
    graph = graph.replace(head=jnp.ones_like(graph.head))
    weights = rng.normal(size=(2, 3, n_invariants(config, 3)))
    a, b = draw(spec, 0), jax.tree.map(np.float32, parameters_of(config, weights))
    assert jax.tree.map(np.shape, a) == jax.tree.map(np.shape, b)
    of = jax.jit(lambda params: predict(spec, params, graph, True))
    zero, one, other = (of(p) for p in (jax.tree.map(np.zeros_like, a), a, b))
    both = of(jax.tree.map(lambda x, y: 2 * x - 3 * y, a, b))
    for name in ("energy", "forces", "stress"):
        z, x, y, found = (np.asarray(getattr(p, name)) for p in (zero, one, other, both))
        np.testing.assert_allclose(found - z, 2 * (x - z) - 3 * (y - z), rtol=0, atol=2e-5 * np.abs(found).max())
    columns = np.asarray(jax.jit(lambda g: spec.describe(g).columns())(graph), np.float64)
    expected = np.sum(columns * weights[1][np.asarray(graph.species)], 1)[:4]
    np.testing.assert_allclose((other.atom_energy - zero.atom_energy)[:4], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_usual_sizes_are_those_of_random_surroundings():
    """A thousand atoms, each with a Poisson number of neighbours, at random distances and directions."""
    config, rng = (
        LinearConfig(cutoff=4.0, n_radial=2, l_max=2, smearing=0.5, correlation=3, mixtures=40, l_mixtures=2),
        np.random.default_rng(0),
    )
    spec, rows = ModelSpec(config, ("H",), Normalization(6.0)), []
    describe = jax.jit(spec.describe)
    for count in rng.poisson(6.0, 1000):
        units = rng.normal(size=(count, 3))
        distance = rng.uniform(0.8, 4.0, (count, 1)) / np.linalg.norm(units, axis=1, keepdims=True)
        surroundings = Structure([1] * (count + 1), np.concatenate([np.zeros((1, 3)), units * distance]))
        found = describe(collate([prepare(surroundings, ("H",), 4.0)], Capacity(1, 24, 24)))
        rows.append(jax.tree.map(lambda x: np.asarray(x[0]), (found.average, found.spectrum, found.products)))
    average, spectrum, products = (np.sqrt(np.mean(np.square(x), axis=0)) for x in zip(*rows, strict=True))
    np.testing.assert_allclose(average, 1, atol=0.1)
    np.testing.assert_allclose(spectrum, 1, atol=0.15)
    assert 0.3 < np.median(products) < 3


def test_products_of_two_factors_are_the_power_spectrum():
    """And those of three and four are as many as the contraction's, and unit variance for normal factors."""
    rng = np.random.default_rng(1)
    planes = tuple(jnp.asarray(rng.normal(size=(2 * l + 1, 4000, 1)), jnp.float32) for l in range(3))
    two = np.asarray(invariant_products(planes, 2))
    for l, row in enumerate(two):
        expected = np.sum(np.square(planes[l]), 0) / np.sqrt(2 * (2 * l + 1))
        np.testing.assert_allclose(np.abs(row), expected, rtol=1e-5)
    for order, count in ((3, 5), (4, 9)):
        found = np.asarray(invariant_products(planes, order))[..., 0]
        assert len(found) == count
        assert np.linalg.matrix_rank(found) == count
    with pytest.raises(ConfigError, match="expected 2 to 4, found 5"):
        invariant_products(planes, 5)


def test_mixtures_of_an_element_do_not_depend_on_the_others():
    few, many = mixing((1, 8), 3, 5), mixing((1, 6, 8), 3, 5)
    np.testing.assert_array_equal(few[0], many[0][[0, 2]])
    np.testing.assert_array_equal(few[1], many[1])


@pytest.mark.slow
def test_a_new_element_changes_nothing_for_the_known_ones(draw):
    """Invariants of an element that is not there are zero: the same weights, widened, give the same energies."""
    config = LinearConfig(**SMALL)
    small, large = (ModelSpec(config, elements, Normalization(6.0)) for elements in (("H", "O"), ("H", "C", "O")))
    base = Potential(small, jax.tree.map(lambda x: x[None], draw(small, 0)), (0.0, 0.0))
    params = jax.tree.map(lambda x: np.asarray(x[0]), widened(base, large, [0], [0]))
    water = Structure([8, 1, 1], [[0, 0, 0], [1.0, 0, 0], [-0.4, 1.1, 0]])
    energies = [
        np.asarray(predict(spec, p, graph_of(water, elements=spec.elements)).energy)[0]
        for spec, p in ((small, jax.tree.map(lambda x: x[0], base.params)), (large, params))
    ]
    assert energies[1] == pytest.approx(energies[0], rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff": 0.5}, "model.cutoff: found 0.5"),
        ({"n_radial": 0}, "model.n_radial: found 0"),
        ({"l_max": 40}, "model.l_max: found 40"),
        ({"smearing": 0.0}, "model.smearing: found 0"),
        ({"correlation": 5}, "model.correlation: found 5"),
        ({"heads": ["a", "a"]}, "heads: found"),
        ({"cutof": 4.0}, r"unknown key 'model\.cutof': did you mean 'cutoff'"),
    ],
)
def test_configurations_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        build(FitConfig, {"model": {"kind": "linear", **changes}})
    assert "\n" not in str(error.value)


def test_what_the_model_cannot_do_is_refused():
    config = LinearConfig(**SMALL)
    assert config.changed(heads=("a", "b"), preset=None, direct_forces=False).heads == ("a", "b")
    with pytest.raises(ConfigError, match="noise: a network of the kind linear does not have it"):
        config.changed(noise=True)
    with pytest.raises(ConfigError, match=r"shift: found 1 values, expected one per element \(3\)"):
        ModelSpec(config, ELEMENTS, Normalization(6.0, 1.0, (0.1,))).init(0)
    with pytest.raises(ConfigError, match="12 functions within 2 Å are too alike"):
        primitive_set(2.0, 12, 0)
