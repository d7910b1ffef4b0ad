"""The convolution as a segmented polynomial equals e3nn on a list of edges. On a CPU this is cuEquivariance's method "naive"; nothing here needs a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eqpot.core.errors import ConfigError
from eqpot.nn import Convolution, DegreeConvolution, Edges, PathConvolution, convolve

pytest.importorskip("cuequivariance_jax")
CONVOLUTIONS = {"path": PathConvolution, "degree": DegreeConvolution}
CHANNELS, ATOMS, SLOTS = 3, 5, 4
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
"""Of the largest number compared: some hundred roundings of a sum."""


def build(kind, degrees, dtype):
    """A convolution, split, and random (vectors of harmonics, radial basis, features) of one dtype."""
    module = CONVOLUTIONS[kind](*degrees, CHANNELS, (6, 4), 3.0, rngs=nnx.Rngs(params=0))
    graphdef, parameters = nnx.split(module)
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    l_in, l_edge, _ = degrees
    features = tuple(draw(ATOMS, 2 * l + 1, CHANNELS) for l in range(l_in + 1))
    arguments = draw(ATOMS, SLOTS, (l_edge + 1) ** 2), draw(ATOMS, SLOTS, 6), features
    return graphdef, jax.tree.map(lambda p: p.astype(dtype), parameters), arguments


def table(split):
    """Neighbours, receivers of rows, and mask of slots."""
    rng = np.random.default_rng(1)
    receivers = jnp.asarray([0, 0, 1, 3, 4]) if split else None
    return jnp.asarray(rng.integers(0, ATOMS, (ATOMS, SLOTS))), receivers, jnp.asarray(rng.random((ATOMS, SLOTS)) > 0.3)


def messages(graphdef, backend, split):
    neighbors, receivers, mask = table(split)

    def call(parameters, harmonics, radial, features):
        radial = jnp.where(mask[..., None], radial, 0)
        return convolve(nnx.merge(graphdef, parameters), features, Edges(neighbors, receivers, harmonics, radial), backend)

    return call


def three_derivatives(function):
    """Value, slope, and slope of the squared slope, in parameters, harmonics, radial basis and features."""

    def loss(*a):
        return sum(jnp.sum(jnp.sin(y)) for y in function(*a))

    def roughness(*a):
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss, (1, 2, 3))(*a)))

    everything = (0, 1, 2, 3)
    return jax.jit(lambda *a: (function(*a), jax.grad(loss, everything)(*a), jax.grad(roughness, everything)(*a)))


def assert_equal(found, expected, dtype):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, atol=TOLERANCE[dtype] * max(1.0, float(jnp.abs(b).max())))


CASES = [
    ("path", (0, 2, 1), False, "float64"),  # harmonics that no path uses
    ("path", (1, 2, 1), True, "float64"),
    ("path", (1, 2, 1), False, "float32"),
    ("degree", (1, 2, 1), False, "float64"),
    ("degree", (1, 1, 1), True, "float32"),
    pytest.param("path", (2, 1, 2), True, "float64", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind, degrees, split, dtype", CASES)
def test_the_polynomial_equals_e3nn_on_an_edge_list(kind, degrees, split, dtype):
    with jax.enable_x64(dtype == "float64"):
        graphdef, parameters, arguments = build(kind, degrees, dtype)
        found, expected = (three_derivatives(messages(graphdef, b, split))(parameters, *arguments) for b in ("cuequivariance", "reference"))
        assert_equal(found, expected, dtype)


def test_members_can_be_mapped():
    graphdef, parameters, arguments = build("path", (1, 2, 1), "float32")
    members = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), parameters)
    call = messages(graphdef, "cuequivariance", True)
    found = jax.jit(jax.vmap(lambda p: call(p, *arguments)))(members)
    expected = [call(jax.tree.map(lambda p, m=m: p[m], members), *arguments) for m in (0, 1)]
    assert_equal(found, jax.tree.map(lambda *x: jnp.stack(x), *expected), "float32")


def test_forward_derivatives_equal_reverse_ones():
    graphdef, parameters, arguments = build("path", (1, 2, 1), "float32")
    call = messages(graphdef, "cuequivariance", False)
    forward, reverse = (jac(lambda y: call(parameters, y, *arguments[1:])) for jac in (jax.jacfwd, jax.jacrev))
    assert_equal(forward(arguments[0]), reverse(arguments[0]), "float32")


def test_a_masked_slot_sends_nothing():
    graphdef, parameters, (harmonics, radial, features) = build("path", (1, 2, 1), "float32")
    neighbors, _, mask = table(False)
    module, radial = nnx.merge(graphdef, parameters), jnp.where(mask[..., None], radial, 0)
    elsewhere = jnp.where(mask, neighbors, (neighbors + 1) % ATOMS)
    here, there = (convolve(module, features, Edges(n, None, harmonics, radial), "cuequivariance") for n in (neighbors, elsewhere))
    for a, b in zip(here, there, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_gpu_gets_the_fused_kernel_with_indices(monkeypatch):
    """Without a CUDA platform cuEquivariance says that it falls back to "naive"; what it was asked for is what is tested."""
    import cuequivariance_jax as cuex

    calls, original = [], cuex.segmented_polynomial
    monkeypatch.setattr("eqpot.nn.cuequivariance.cuex.segmented_polynomial", lambda *a, **k: calls.append((a, k)) or original(*a, **k))
    monkeypatch.setattr("eqpot.nn.cuequivariance.find_spec", lambda name: name)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    graphdef, parameters, arguments = build("path", (1, 2, 1), "float32")
    with pytest.warns(UserWarning, match="requires CUDA"):
        found = messages(graphdef, "cuequivariance", True)(parameters, *arguments)
    (polynomial, _, _, indices), options = calls[0]
    neighbors, receivers, _ = table(True)
    assert options["method"] == "uniform_1d"
    assert indices[0] is None and indices[2] is None
    np.testing.assert_array_equal(indices[1], neighbors.ravel())
    np.testing.assert_array_equal(indices[3], jnp.repeat(receivers, SLOTS))
    for operand in (*polynomial.inputs, *polynomial.outputs):
        assert set(operand.segments) in ({(CHANNELS,)}, {()})  # one mode, the same in all: what the kernel takes
    assert_equal(found, messages(graphdef, "reference", True)(parameters, *arguments), "float32")


def test_another_convolution_is_refused():
    class Other(Convolution):
        def radial_functions(self):
            return 1

        def sums(self, senders, harmonics, radial):
            raise NotImplementedError

    _, _, (harmonics, radial, features) = build("path", (1, 2, 1), "float32")
    module = Other(1, 2, 1, CHANNELS, (6, 4), 3.0, rngs=nnx.Rngs(params=0))
    with pytest.raises(ConfigError, match="found Other: choose backend 'dense'"):
        convolve(module, features, Edges(table(False)[0], None, harmonics, radial), "cuequivariance")
