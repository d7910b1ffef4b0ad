"""Every layer turns with its input; the fast forms equal the slow and obvious ones."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eqpot.core.errors import ConfigError
from eqpot.nn import (
    MLP,
    ContractionUpdate,
    DegreeConvolution,
    Edges,
    Gate,
    GateUpdate,
    GridProduct,
    GridUpdate,
    Linear,
    PathConvolution,
    SpeciesLinear,
    choose_backend,
    convolve,
    update,
)
from eqpot.nn.layers import scaled_silu
from eqpot.nn.sphere import harmonics as spherical
from eqpot.nn.sphere import quadrature

pytestmark = pytest.mark.usefixtures("double")
SPECIES = jnp.asarray([0, 1, 1, 0, 1])
CHANNELS = 3
MIRROR = -np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
ROTATION = -MIRROR * np.linalg.det(-MIRROR)


@pytest.fixture
def rngs():
    return nnx.Rngs(params=0)


def in_double(module):
    """The module with its parameters in float64."""
    graphdef, state = nnx.split(module)
    return nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), state))


def turned(features, wigner, rotation):
    return tuple(jnp.einsum("ij,njc->nic", wigner(l, rotation), x) for l, x in enumerate(features))


def assert_features_equal(found, expected, atol=1e-9):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


LAYERS = {
    "linear": (2, lambda rngs: Linear(3, CHANNELS, 4, rngs=rngs), False),
    "species linear": (2, lambda rngs: SpeciesLinear(3, 2, CHANNELS, 4, rngs=rngs), True),
    "gate": (2, lambda rngs: Gate(2, CHANNELS, rngs=rngs), False),
    "grid 2": (3, lambda rngs: GridProduct(3, 2, CHANNELS, 2, 2, rngs=rngs), True),
    "grid 3": (2, lambda rngs: GridProduct(2, 1, CHANNELS, 2, 3, rngs=rngs), True),
    "grid 4": (3, lambda rngs: GridProduct(3, 3, CHANNELS, 2, 4, rngs=rngs), True),
}


@pytest.mark.parametrize("rotation", [ROTATION, MIRROR], ids=["rotation", "mirror"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_turn_with_their_input(name, rotation, rngs, features, wigner):
    l_max, build, with_species = LAYERS[name]
    layer, x = in_double(build(rngs)), features(l_max)
    call = (lambda f: layer(f, SPECIES)) if with_species else layer
    assert_features_equal(call(turned(x, wigner, rotation)), turned(call(x), wigner, rotation), atol=1e-6)


UPDATES = {"contraction": ContractionUpdate, "grid": GridUpdate, "gate": GateUpdate}


def build_update(kind, rngs):
    """An update of messages up to degree 2 (gate: 1) to features up to degree 1."""
    args = (1, CHANNELS, 2) if kind == "gate" else (2, 1, CHANNELS, 2, 3)
    return in_double(UPDATES[kind](*args, rngs=rngs))


@pytest.mark.parametrize("kind", UPDATES)
def test_updates_turn_with_their_input(kind, rngs, features, wigner):
    module, message, kept = build_update(kind, rngs), features(1 if kind == "gate" else 2), features(0, seed=1)
    for matrix in (ROTATION, MIRROR):
        found = module(turned(message, wigner, matrix), kept, SPECIES)
        assert_features_equal(found, turned(module(message, kept, SPECIES), wigner, matrix), atol=1e-6)


def edges(seed=0, atoms=5, slots=4, l_max=2):
    """A neighbour table with masked slots, spherical harmonics and a radial basis that is zero where masked."""
    rng = np.random.default_rng(seed)
    neighbors, vectors = jnp.asarray(rng.integers(0, atoms, (atoms, slots))), jnp.asarray(rng.normal(size=(atoms, slots, 3)))
    mask = jnp.asarray(rng.random((atoms, slots)) > 0.3)
    radial = jnp.where(mask[..., None], jnp.asarray(rng.normal(size=(atoms, slots, 6))), 0.0)
    return neighbors, vectors, mask, radial


def harmonics(vectors, l_max):
    return e3nn.spherical_harmonics(e3nn.s2_irreps(l_max), vectors, True, normalization="component").array


CONVOLUTIONS = {"path": PathConvolution, "degree": DegreeConvolution}


def three_derivatives(function, *arguments):
    """Value, slope, and slope of the squared slope with respect to all arguments."""

    def loss(*a):
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(function(*a)))

    everything = tuple(range(len(arguments)))
    first = jax.grad(loss, everything)

    def roughness(*a):
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss, everything[1:])(*a)))

    return function(*arguments), first(*arguments), jax.grad(roughness, everything)(*arguments)


@pytest.mark.parametrize("backend", ["dense", "blocked"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize(("l_in", "l_edge", "l_out"), [(0, 2, 2), (1, 2, 1)])
@pytest.mark.parametrize("split", [False, True], ids=["row per atom", "rows shared"])
def test_convolutions_equal_e3nn_on_an_edge_list(kind, backend, l_in, l_edge, l_out, split, rngs, features, monkeypatch):
    monkeypatch.setattr("eqpot.nn.kernels.BLOCK", 2)  # the last block is not full
    module, x = in_double(CONVOLUTIONS[kind](l_in, l_edge, l_out, CHANNELS, (6, 4), 3.0, rngs=rngs)), features(l_in)
    neighbors, vectors, mask, radial = edges()
    receivers = jnp.asarray([0, 0, 1, 3, 4]) if split else None
    graphdef, parameters = nnx.split(module)
    filled = jnp.where(mask[..., None], vectors, 1.0)

    def messages(backend):
        def call(parameters, vectors, radial, x):
            y = harmonics(jnp.where(mask[..., None], vectors, 1.0), l_edge)
            radial = jnp.where(mask[..., None], radial, 0.0)
            return convolve(nnx.merge(graphdef, parameters), x, Edges(neighbors, receivers, y, radial), backend)

        return jax.jit(lambda *a: three_derivatives(call, *a))(parameters, filled, radial, x)

    for found, expected in zip(jax.tree.leaves(messages(backend)), jax.tree.leaves(messages("reference")), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(jnp.abs(expected).max())))


@pytest.mark.parametrize("kind", UPDATES)
def test_updates_in_blocks_equal_updates_at_once(kind, rngs, features, monkeypatch):
    monkeypatch.setattr("eqpot.nn.kernels.BLOCK", 2)
    module, message, kept = build_update(kind, rngs), features(1 if kind == "gate" else 2), features(0, seed=1)
    graphdef, parameters = nnx.split(module)

    def results(backend):
        def call(parameters, message, kept):
            return update(nnx.merge(graphdef, parameters), message, kept, SPECIES, backend)

        return jax.jit(lambda *a: three_derivatives(call, *a))(parameters, message, kept)

    for found, expected in zip(jax.tree.leaves(results("blocked")), jax.tree.leaves(results("dense")), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_a_backend_is_known(monkeypatch):
    assert choose_backend() == "blocked"
    assert choose_backend("dense") == "dense"
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    installed = {"cuequivariance_jax"}
    monkeypatch.setattr("eqpot.nn.kernels._installed", lambda package: package in installed)
    assert choose_backend() == "dense"
    with pytest.raises(ConfigError, match="pip install cuequivariance-ops-jax-cu12"):
        choose_backend("cuequivariance")
    installed.add("cuequivariance_ops_jax")
    assert choose_backend("cuequivariance") == "cuequivariance"
    monkeypatch.setattr("jax.default_backend", lambda: "tpu")
    assert choose_backend() == "dense"
    installed.clear()
    with pytest.raises(ConfigError, match=r"pip install 'eqpot\[kernels\]'"):
        choose_backend("cuequivariance")
    with pytest.raises(ConfigError, match="found 'fast', expected auto, dense or blocked or cuequivariance or reference"):
        choose_backend("fast")


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_turn_with_the_edges(kind, rngs, features, wigner):
    module, x = in_double(CONVOLUTIONS[kind](1, 2, 2, CHANNELS, (6, 4), 3.0, rngs=rngs)), features(1)
    neighbors, vectors, _, radial = edges()
    for matrix in (ROTATION, MIRROR):
        found = aggregate(module, turned(x, wigner, matrix), neighbors, harmonics(vectors @ matrix.T, 2), radial)
        expected = turned(aggregate(module, x, neighbors, harmonics(vectors, 2), radial), wigner, matrix)
        assert_features_equal(found, expected, atol=2e-6)


def aggregate(module, x, neighbors, y, radial):
    return convolve(module, x, Edges(neighbors, None, y, radial), "dense")


def test_nothing_in_is_nothing_out(rngs, features):
    """No layer has a bias: an atom without neighbours stays at zero."""
    zero = tuple(jnp.zeros_like(f) for f in features(2))
    for _, build, with_species in LAYERS.values():
        layer = in_double(build(rngs))
        if getattr(layer, "l_in", 2) == 2:
            assert not any(np.any(y) for y in (layer(zero, SPECIES) if with_species else layer(zero)))
    assert not MLP((6, 4, 2), rngs=rngs)(jnp.zeros((3, 6), jnp.float32)).any()


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_masked_slot_sends_nothing(kind, rngs, features):
    module, x = in_double(CONVOLUTIONS[kind](1, 2, 1, CHANNELS, (6, 4), 3.0, rngs=rngs)), features(1)
    neighbors, vectors, mask, radial = edges()
    elsewhere = jnp.where(mask, neighbors, (neighbors + 1) % 5)
    y = harmonics(vectors, 2)
    assert_features_equal(aggregate(module, x, neighbors, y, radial), aggregate(module, x, elsewhere, y, radial), atol=0)


def test_grid_powers_are_exact_and_of_unit_variance(rngs):
    """f² and f³ projected on l = 0: means of powers of a polynomial, whatever the points."""
    points, weights = quadrature(9)
    assert weights.sum() == pytest.approx(1)
    x = np.random.default_rng(0).normal(size=(4000, 9))
    y = e3nn.spherical_harmonics(e3nn.s2_irreps(2), jnp.asarray(points), True, normalization="component").array
    np.testing.assert_allclose(spherical(points, 2), y, atol=1e-6)  # e3nn computes in float32
    fine = quadrature(31)
    for n in (1, 2, 3):
        coarse = ((x @ spherical(points, 2).T) ** n) @ weights
        np.testing.assert_allclose(coarse, ((x @ spherical(fine[0], 2).T) ** n) @ fine[1], rtol=1e-9, atol=1e-9)
    module = in_double(GridProduct(2, 1, 1, 1, 2, rngs=rngs))
    only_second = jnp.zeros((1, 2, 2, 1)).at[:, 1].set(1.0)
    module.weights[...] = only_second
    planes = tuple(jnp.asarray(x[:, l * l : (l + 1) ** 2, None]) for l in range(3))
    scalar, vector = module(planes, jnp.zeros(4000, jnp.int32))
    assert float(jnp.var(scalar)) == pytest.approx(1, rel=0.1)
    assert float(jnp.mean(vector**2)) == pytest.approx(1, rel=0.1)


def test_silu_keeps_the_second_moment():
    x = jnp.asarray(np.random.default_rng(0).normal(size=400_000))
    assert float(jnp.mean(scaled_silu(x) ** 2)) == pytest.approx(1.0, abs=0.01)


def test_species_have_their_own_weights(rngs, features):
    layer, x = in_double(SpeciesLinear(2, 2, CHANNELS, CHANNELS, rngs=rngs)), features(1)
    found = layer(x, SPECIES)
    for l, weight in enumerate(layer.weights):
        np.testing.assert_allclose(found[l], np.einsum("nmc,ncd->nmd", x[l], np.asarray(weight[...])[np.asarray(SPECIES)]), atol=1e-12)
