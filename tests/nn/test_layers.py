"""Every layer turns with its input; the fast forms equal the slow and obvious ones."""

from itertools import permutations

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eqpot.nn import MLP, ContractionUpdate, Convolution, Gate, GateUpdate, Linear, SpeciesLinear, SymmetricContraction
from eqpot.nn.coupling import clebsch_gordan, degree_slice, pair_couplings, triple_couplings
from eqpot.nn.layers import scaled_silu

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
    return tuple(jnp.einsum("ij,jnc->inc", wigner(l, rotation), x) for l, x in enumerate(features))


def assert_features_equal(found, expected, atol=1e-9):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


LAYERS = {
    "linear": (2, lambda rngs: Linear(3, CHANNELS, 4, rngs=rngs), False),
    "species linear": (2, lambda rngs: SpeciesLinear(3, 2, CHANNELS, 4, rngs=rngs), True),
    "gate": (2, lambda rngs: Gate(2, CHANNELS, rngs=rngs), False),
    "contraction 1": (2, lambda rngs: SymmetricContraction(2, 1, CHANNELS, 2, 1, rngs=rngs), True),
    "contraction 2": (3, lambda rngs: SymmetricContraction(3, 2, CHANNELS, 2, 2, rngs=rngs), True),
    "contraction 3": (2, lambda rngs: SymmetricContraction(2, 2, CHANNELS, 2, 3, rngs=rngs), True),
}


@pytest.mark.parametrize("rotation", [ROTATION, MIRROR], ids=["rotation", "mirror"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_turn_with_their_input(name, rotation, rngs, features, wigner):
    l_max, build, with_species = LAYERS[name]
    layer, x = in_double(build(rngs)), features(l_max)
    call = (lambda f: layer(f, SPECIES)) if with_species else layer
    assert_features_equal(call(turned(x, wigner, rotation)), turned(call(x), wigner, rotation), atol=1e-6)


@pytest.mark.parametrize("kind", ["contraction", "gate"])
def test_updates_turn_with_their_input(kind, rngs, features, wigner):
    update = ContractionUpdate(2, 1, CHANNELS, 2, 2, rngs=rngs) if kind == "contraction" else GateUpdate(1, CHANNELS, 2, rngs=rngs)
    update, message = in_double(update), features(2 if kind == "contraction" else 1)
    kept = features(0, seed=1)
    found = update(turned(message, wigner, ROTATION), kept, SPECIES)
    assert_features_equal(found, turned(update(message, kept, SPECIES), wigner, ROTATION), atol=1e-6)


def contraction_reference(module, features, species):
    """Full U tensors, symmetrised over all orders of their factors, contracted one atom and channel at a time."""
    l_in, a = module.l_in, np.concatenate(features)
    size, outputs = (l_in + 1) ** 2, []
    for L, weights in enumerate(module.weights):
        w = np.asarray(weights[...])[species]  # [N, paths, C]
        tensors = [np.zeros((size, 2 * L + 1))]
        tensors[0][degree_slice(L)] = np.eye(2 * L + 1)
        for l1, l2 in pair_couplings(l_in, L) if module.correlation >= 2 else ():
            u = np.zeros((size, size, 2 * L + 1))
            u[degree_slice(l1), degree_slice(l2)] = clebsch_gordan(l1, l2, L)
            tensors.append(normalised(u))
        for l1, l2, L12, l3, _ in triple_couplings(l_in, L) if module.correlation >= 3 else ():
            u = np.zeros((size, size, size, 2 * L + 1))
            u[degree_slice(l1), degree_slice(l2), degree_slice(l3)] = np.einsum(
                "abm,mcn->abcn", clebsch_gordan(l1, l2, L12), clebsch_gordan(L12, l3, L)
            )
            tensors.append(normalised(u))
        out = np.zeros((2 * L + 1, *w.shape[::2]))
        for path, u in enumerate(tensors):
            for n, c in np.ndindex(*w.shape[::2]):
                value = u
                for _ in range(u.ndim - 1):
                    value = np.tensordot(a[:, n, c], value, axes=1)
                out[:, n, c] += w[n, path, c] * value
        outputs.append(out)
    return tuple(outputs)


def normalised(u):
    """Symmetric in its factors, and of unit variance for standard normal factors but for contractions among them."""
    order = u.ndim - 1
    u = sum(u.transpose(*p, order) for p in permutations(range(order))) / len(list(permutations(range(order))))
    return u / np.sqrt(len(list(permutations(range(order)))) * np.sum(u**2) / u.shape[-1])


@pytest.mark.parametrize(("l_in", "l_out", "correlation"), [(2, 1, 1), (3, 2, 2), (1, 1, 3), (2, 2, 3), (3, 1, 3)])
def test_contraction_equals_the_full_tensors(l_in, l_out, correlation, rngs, features):
    module, x = in_double(SymmetricContraction(l_in, l_out, CHANNELS, 2, correlation, rngs=rngs)), features(l_in)
    assert_features_equal(module(x, SPECIES), contraction_reference(module, x, np.asarray(SPECIES)), atol=1e-10)


def test_second_order_scalars_are_sums_of_dot_products(rngs, features):
    module, x = in_double(SymmetricContraction(2, 0, CHANNELS, 2, 2, rngs=rngs)), features(2)
    w = np.asarray(module.weights[0][...])[np.asarray(SPECIES)]
    expected = w[:, 0] * x[0][0]
    for path, (l, _) in enumerate(pair_couplings(2, 0), start=1):
        expected = expected + w[:, path] * jnp.sum(x[l] ** 2, 0) / np.sqrt(2 * (2 * l + 1))
    np.testing.assert_allclose(module(x, SPECIES)[0][0], expected, atol=1e-6)


def test_third_order_does_not_depend_on_the_order_of_factors(rngs, features):
    """B(A) is a cubic polynomial: its third difference is symmetric, and third order vanishes to third order."""
    module, x = in_double(SymmetricContraction(2, 1, CHANNELS, 2, 3, rngs=rngs)), features(2)
    scaled = [module(tuple(s * f for f in x), SPECIES) for s in (-1.0, 1.0, 2.0)]
    for L in range(2):
        even, odd = (scaled[1][L] + scaled[0][L]) / 2, (scaled[1][L] - scaled[0][L]) / 2
        first = (8 * odd - (scaled[2][L] - 4 * even)) / 6
        third = odd - first
        np.testing.assert_allclose(scaled[2][L], 2 * first + 4 * even + 8 * third, atol=1e-9)
        linear_part = np.asarray(module.weights[L][...])[np.asarray(SPECIES), 0] * x[L]
        np.testing.assert_allclose(first, linear_part, atol=1e-9)


def edges(seed=0, atoms=5, slots=4, l_max=2):
    """A neighbour table with masked slots, spherical harmonics and a radial basis that is zero where masked."""
    rng = np.random.default_rng(seed)
    neighbors, vectors = jnp.asarray(rng.integers(0, atoms, (atoms, slots))), jnp.asarray(rng.normal(size=(atoms, slots, 3)))
    mask = jnp.asarray(rng.random((atoms, slots)) > 0.3)
    radial = jnp.where(mask[..., None], jnp.asarray(rng.normal(size=(atoms, slots, 6))), 0.0)
    return neighbors, vectors, mask, radial


def harmonics(vectors, l_max):
    return e3nn.spherical_harmonics(e3nn.s2_irreps(l_max), vectors, True, normalization="component").array


def convolution_reference(module, features, neighbors, vectors, mask, radial):
    """e3nn's tensor product on a list of edges, path by path, and a scatter."""
    i, slot = np.nonzero(np.asarray(mask))
    j = np.asarray(neighbors)[i, slot]
    weights = module.radial(radial)[i, slot].reshape(len(i), len(module.paths), CHANNELS)
    columns = [[] for _ in module.mix]
    for p, (l1, l2, l3) in enumerate(module.paths):
        sender = e3nn.IrrepsArray(e3nn.Irreps([(1, (l1, (-1) ** l1))]), jnp.moveaxis(features[l1], 0, -1)[j])
        y = e3nn.spherical_harmonics(e3nn.Irreps([(1, (l2, (-1) ** l2))]), vectors[i, slot], True, normalization="component")
        product = e3nn.tensor_product(sender, y[:, None], filter_ir_out=[e3nn.Irrep(l3, (-1) ** l3)])
        message = product.array * weights[:, p, :, None]
        columns[l3].append(jnp.zeros((len(neighbors), CHANNELS, 2 * l3 + 1)).at[i].add(message))
    return tuple(
        jnp.einsum("ncm,cd->mnd", jnp.concatenate(c, 1), mix[...]) * module.scale for c, mix in zip(columns, module.mix, strict=True)
    )


@pytest.mark.parametrize(("l_in", "l_edge", "l_out"), [(0, 2, 2), (1, 2, 1), (2, 3, 2)])
def test_convolution_equals_e3nn_on_an_edge_list(l_in, l_edge, l_out, rngs, features):
    module, x = in_double(Convolution(l_in, l_edge, l_out, CHANNELS, (6, 4), 3.0, rngs=rngs)), features(l_in)
    neighbors, vectors, mask, radial = edges()

    def fast(vectors, x):
        return module(x, neighbors, harmonics(vectors, l_edge), radial)

    def slow(vectors, x):
        return convolution_reference(module, x, neighbors, vectors, mask, radial)

    assert_features_equal(fast(vectors, x), slow(vectors, x), atol=2e-6)
    loss = lambda f: lambda v, x: sum(jnp.sum(jnp.sin(y)) for y in f(v, x))  # noqa: E731
    found, expected = (jax.grad(loss(f), argnums=(0, 1))(vectors, x) for f in (fast, slow))
    np.testing.assert_allclose(jnp.where(mask[..., None], found[0], 0), expected[0], atol=1e-5)
    assert_features_equal(found[1], expected[1], atol=1e-5)


def test_convolution_turns_with_the_edges(rngs, features, wigner):
    module, x = in_double(Convolution(1, 2, 2, CHANNELS, (6, 4), 3.0, rngs=rngs)), features(1)
    neighbors, vectors, _, radial = edges()
    for matrix in (ROTATION, MIRROR):
        found = module(turned(x, wigner, matrix), neighbors, harmonics(vectors @ matrix.T, 2), radial)
        expected = turned(module(x, neighbors, harmonics(vectors, 2), radial), wigner, matrix)
        assert_features_equal(found, expected, atol=2e-6)


def test_nothing_in_is_nothing_out(rngs, features):
    """No layer has a bias: an atom without neighbours stays at zero."""
    zero = tuple(jnp.zeros_like(f) for f in features(2))
    for _, build, with_species in LAYERS.values():
        layer = in_double(build(rngs))
        if getattr(layer, "l_in", 2) == 2:
            assert not any(np.any(y) for y in (layer(zero, SPECIES) if with_species else layer(zero)))
    assert not MLP((6, 4, 2), rngs=rngs)(jnp.zeros((3, 6), jnp.float32)).any()


def test_a_masked_slot_sends_nothing(rngs, features):
    module, x = in_double(Convolution(1, 2, 1, CHANNELS, (6, 4), 3.0, rngs=rngs)), features(1)
    neighbors, vectors, mask, radial = edges()
    elsewhere = jnp.where(mask, neighbors, (neighbors + 1) % 5)
    y = harmonics(vectors, 2)
    assert_features_equal(module(x, neighbors, y, radial), module(x, elsewhere, y, radial), atol=0)


def test_silu_keeps_the_second_moment():
    x = jnp.asarray(np.random.default_rng(0).normal(size=400_000))
    assert float(jnp.mean(scaled_silu(x) ** 2)) == pytest.approx(1.0, abs=0.01)


def test_species_have_their_own_weights(rngs, features):
    layer, x = in_double(SpeciesLinear(2, 2, CHANNELS, CHANNELS, rngs=rngs)), features(1)
    found = layer(x, SPECIES)
    for l, weight in enumerate(layer.weights):
        np.testing.assert_allclose(found[l], np.einsum("mnc,ncd->mnd", x[l], np.asarray(weight[...])[np.asarray(SPECIES)]), atol=1e-12)
