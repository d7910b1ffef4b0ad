"""Architectures that can be built, and clear words for those that cannot."""

import jax
import numpy as np
import pytest

from eqpot.core.config import build
from eqpot.core.errors import ConfigError
from eqpot.models import EquivariantConfig, Normalization, build_model
from eqpot.models.config import OUTPUTS, PRESETS, parse_hidden
from eqpot.potential import ModelSpec


@pytest.mark.parametrize(("text", "expected"), [("64x0e", (64, 0)), ("8x0e + 8x1o", (8, 1)), ("4x0e+4x1o+4x2e", (4, 2))])
def test_hidden(text, expected):
    assert parse_hidden(text) == expected


@pytest.mark.parametrize(
    "text", ["", "64", "8x0e + 4x1o", "8x1o", "8x0e + 8x1e", "8x0e + 8x2e", "0x0e", "-1x0e", "8x0o", "ax0e", "8x0e + "]
)
def test_hidden_that_the_kernels_cannot_do(text):
    with pytest.raises(ConfigError, match=r"hidden: .*expected"):
        build(EquivariantConfig, {"hidden": text})


@pytest.mark.parametrize("cutoff", [-4, 0, float("nan"), float("inf"), 1e9, "long"])
def test_cutoffs_out_of_range(cutoff):
    with pytest.raises(ConfigError, match="cutoff: found"):
        build(EquivariantConfig, {"cutoff": cutoff})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"l_mx": 2}, "unknown key 'l_mx': did you mean 'l_max'"),
        ({"l_max": 7}, "l_max: found 7"),
        ({"correlation": 5}, "correlation: found 5"),
        ({"n_layers": 0}, "n_layers: found 0"),
        ({"update": "mace"}, "update: found 'mace'"),
        ({"update": "gate", "correlation": 3}, "^model: update 'gate' makes no products: found correlation 3, expected 1"),
        ({"hidden": "8x0e + 8x1o + 8x2e", "l_max": 1}, "^model: hidden goes to degree 2.* l_max is 1"),
        ({"radial_hidden": [0]}, "radial_hidden"),
        ({"radial_hidden": []}, None),
        ({"preset": "mace-medum"}, "preset: found 'mace-medum', did you mean 'mace-medium'"),
        ({"preset": 3}, "preset: found '3', known: mace-"),
        ({"direct_forces": True, "l_max": 0, "hidden": "8x0e"}, "^model: direct_forces are read from features of degree 1: found l_max 0"),
        ({"heads": ["pbe", "pbe"]}, r"heads: found .*'pbe', 'pbe'.*expected names that differ"),
        ({"heads": ["pbe", ""]}, "heads: found .*expected names that differ, none of them empty"),
    ],
)
def test_faults_are_named(values, message):
    if message is None:
        build(EquivariantConfig, values, "model")
        return
    with pytest.raises(ConfigError, match=message):
        build(EquivariantConfig, values, "model")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_models_that_any_key_changes(name):
    preset = build(EquivariantConfig, {"preset": name})
    assert build(EquivariantConfig, preset.model_dump(mode="json")) == preset  # what an archive keeps is what was used
    changed = build(EquivariantConfig, {"preset": name, "cutoff": 4.0, "hidden": "8x0e + 8x1o"})
    assert (changed.cutoff, changed.channels) == (4.0, 8)
    assert changed.l_max == preset.l_max
    ModelSpec(preset, ("H", "O"), Normalization()).shapes()


def test_an_archive_names_only_outputs_that_are_on():
    """Files of models without them are the same as before there were any."""
    assert not set(OUTPUTS) & set(EquivariantConfig().archived())
    config = EquivariantConfig(noise=True, heads=("pbe", "scan"))
    assert set(OUTPUTS) & set(config.archived()) == {"noise", "heads"}
    for c in (config, EquivariantConfig()):
        assert build(EquivariantConfig, c.archived()) == c


def test_equal_specifications_hash_equally():
    one, two = (ModelSpec(EquivariantConfig(l_max=2), ("H",), Normalization(shift=(0.0,))) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != ModelSpec(EquivariantConfig(l_max=3), ("H",), Normalization(shift=(0.0,)))


def test_a_seed_is_a_model(make_spec):
    spec = make_spec(tiny=True)
    one, again, other = spec.init(0), spec.init(0), spec.init(1)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), one, again)
    assert all(jax.tree.leaves(same))
    assert not any(bool((a == b).all()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    assert jax.tree.map(lambda x: x.shape, one) == jax.tree.map(lambda x: x.shape, spec.shapes())
    stacked = spec.init_members([0, 1])
    np.testing.assert_array_equal(jax.tree.leaves(stacked)[0][1], jax.tree.leaves(other)[0])


def test_a_model_needs_one_shift_per_element(make_spec):
    spec = make_spec(tiny=True)
    with pytest.raises((ConfigError, ValueError), match="shift"):
        build_model(spec.config, ("H", "C", "O"), Normalization(shift=(0.0,)), 0)
    build_model(spec.config, ("H", "C", "O"), Normalization(), 0)
    two = spec.config.model_copy(update={"heads": ("a", "b")})
    with pytest.raises(ConfigError, match=r"shift: found 3 values, expected one per head and element \(2 × 3\) or none"):
        build_model(two, ("H", "C", "O"), Normalization(shift=(0.0,) * 3), 0)
    build_model(two, ("H", "C", "O"), Normalization(shift=(0.0,) * 6), 0)
