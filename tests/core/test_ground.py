"""Errors, elements, records, safe numerics, and what importing the package loads."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqpot
from eqpot.core.elements import atomic_number, mass, symbol
from eqpot.core.errors import StructureError, did_you_mean
from eqpot.core.numerics import safe_norm
from eqpot.core.tree import record, static


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("n_epohcs", ["n_epochs", "lr"], "did you mean 'n_epochs'?"),
        ("Energy", ["energy", "forces"], "did you mean 'energy'?"),
        ("zzz", ["b", "a"], "known: a, b"),
        ("x", [], "known: none"),
    ],
)
def test_hints(word, known, hint):
    assert did_you_mean(word, known) == hint


def test_elements():
    assert [symbol(atomic_number(s)) for s in ("H", "No", "Y", "Og")] == ["H", "No", "Y", "Og"]
    assert mass(np.array([1, 8])) == pytest.approx([1.008, 15.999])
    for wrong in ("X", "Hx", "h", ""):
        with pytest.raises(StructureError, match="is not a chemical element"):
            atomic_number(wrong)


@record
class Pair:
    a: jax.Array
    b: jax.Array
    name: str = static(default="x")


@pytest.fixture
def pair():
    return Pair(jnp.arange(3.0), jnp.ones(3), "p")


def test_records_pass_through_jit_and_keep_their_static_fields(pair):
    out = jax.jit(lambda p: Pair(p.a + p.b, p.b, p.name + "!"))(pair)
    assert (out.name, out.a.tolist()) == ("p!", [1, 2, 3])


def test_records_compile_once_per_static_value(pair):
    f = jax.jit(lambda p: p.a.sum())
    for name in ("p", "p", "q"):
        f(Pair(pair.a + 1, pair.b, name))
    assert f._cache_size() == 2


def test_records_hold_axes_shapes_and_nothing(pair):
    out = jax.vmap(lambda p: p.a * p.b, in_axes=(Pair(0, None, "p"),))(Pair(jnp.ones((4, 3)), pair.b, "p"))
    assert out.shape == (4, 3)
    shapes = jax.eval_shape(lambda: pair)
    assert shapes.a.shape == (3,)
    assert jax.tree.map(lambda _: None, pair).a is None
    doubled = jax.tree.map(lambda x: 2 * x, pair)
    assert doubled.a.tolist() == [0, 2, 4]
    assert jax.grad(lambda p: jnp.sum(p.a * p.b))(pair).b.tolist() == [0, 1, 2]


def test_records_name_their_leaves_and_are_frozen(pair):
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(pair)]
    assert paths == [".a", ".b"]
    with pytest.raises(AttributeError):
        pair.a = 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_is_safe(dtype):
    with jax.enable_x64(dtype == "float64"):
        vectors, mask = jnp.asarray([[3.0, 4, 0], [0, 0, 0], [1e-3, 0, 0]], dtype), jnp.asarray([True, False, True])
        found = safe_norm(vectors, mask, fill=4.1)
        assert found.dtype == dtype
        assert float(found[1]) == float(np.asarray(4.1, dtype))
        np.testing.assert_allclose(found[::2], [5, 1e-3], rtol=1e-6)
        gradient = jax.grad(lambda v: jnp.sum(safe_norm(v, mask, fill=4.1)))
        np.testing.assert_allclose(gradient(vectors), [[0.6, 0.8, 0], [0, 0, 0], [1, 0, 0]], rtol=1e-6)
        hessian = jax.hessian(lambda v: jnp.sum(safe_norm(v, mask, fill=4.1)))(vectors)
        assert np.isfinite(hessian).all()


@pytest.mark.parametrize("cutoff", np.round(np.arange(1.0, 20.0, 0.37), 2))
def test_a_masked_slot_lies_exactly_on_the_cutoff(cutoff):
    """√(r_c²) is not r_c in float32 for one cutoff in seventeen; the envelope would not be zero there."""
    found = safe_norm(jnp.zeros((1, 3), jnp.float32), jnp.zeros(1, bool), fill=float(cutoff))
    assert float(found[0] / jnp.float32(cutoff)) == 1


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, eqpot; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_root()).stdout.split()
    assert "eqpot" in loaded
    assert not {"jax", "jax_md", "flax", "ase", "orbax", "matplotlib", "e3nn_jax", "torch", "tensorflow", "pandas"} & set(loaded)


def test_using_a_potential_does_not_load_dynamics_or_training():
    code = "import sys, eqpot; eqpot.Potential; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_root()).stdout.split())
    assert "eqpot.potential" in loaded
    assert not {"jax_md", "eqpot.training", "eqpot.md", "eqpot.data", "orbax", "torch"} & loaded


def _root():
    from pathlib import Path

    return Path(eqpot.__file__).parents[1]


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'Potentail'"):
        _ = eqpot.Potentail
    assert set(dir(eqpot)) == set(eqpot.__all__)
