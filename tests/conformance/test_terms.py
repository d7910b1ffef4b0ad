"""Terms that are known, and sums of them with a network, pass the suite of all models."""

import numpy as np
import pytest
from small_models import NETWORK

from eqpot.models import EquivariantConfig, InversePowerConfig, Normalization, SumConfig, ZBLConfig
from eqpot.potential import ModelSpec, Potential
from eqpot.testing import check_model, check_potential

ELEMENTS = ("H", "C", "O")
ZBL = ZBLConfig(inner=0.8, outer=3.5)
"""Radii as wide as the structures of the suite ask for; the kink of the third derivative lies outside the path along which work is integrated."""


def spec_of(config, elements=ELEMENTS):
    shift = tuple(np.linspace(0.3, -0.2, len(elements) * config.n_heads).round(3).tolist())
    return ModelSpec(config, elements, Normalization(6.0, 1.0, shift))


def sum_of(**terms):
    """A sum with a tiny network, of which keywords change the keys; other terms by name."""
    network = {**NETWORK, **terms.pop("network", {})}
    return SumConfig(terms={"network": EquivariantConfig(**network), **terms})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_zbl(dtype):
    print(check_model(spec_of(ZBL), {}, dtype=dtype, skip=("parameter_gradient",)))


def test_inverse_power(draw):
    """In float64: the power of 13 of a force multiplies the rounding of a float32 position by as much, more than the bounds of networks allow."""
    spec = spec_of(InversePowerConfig(outer=3.0, trainable=True))
    print(check_model(spec, draw(spec, 0)))


def test_a_fixed_wall():
    check_model(spec_of(InversePowerConfig(outer=3.0)), {}, only=("forces", "stress", "padding", "isolated_atom", "layout"))


def test_a_sum_of_two(draw):
    spec = spec_of(sum_of(repulsion=ZBL))
    print(check_model(spec, draw(spec, 0)))
    print(check_model(spec, draw(spec, 0), dtype="float32", only=("rotation", "precision", "isolated_atom", "extensivity", "layout")))


@pytest.mark.slow
def test_a_sum_of_three_whose_widest_term_is_not_the_network(draw):
    spec = spec_of(
        sum_of(network={"cutoff": 2.5}, repulsion=ZBLConfig(inner=0.8, outer=3.0), wall=InversePowerConfig(outer=3.2, trainable=True))
    )
    assert (spec.config.cutoff, spec.config.receptive_field) == (3.2, 3.2)
    print(
        check_model(spec, draw(spec, 0), skip=("work", "hessian"))
    )  # work is integrated over kinks of third derivatives, at 2.5 Å and 3 Å


@pytest.mark.slow
def test_everything_that_a_network_says_it_says_in_a_sum(draw):
    network = {"charges": True, "heads": ("low", "high")}
    spec = spec_of(sum_of(network=network, repulsion=ZBLConfig(), wall=InversePowerConfig(trainable=True)))
    references = tuple((-10.0 * (1 + np.arange(6))).tolist())
    print(
        check_potential(
            Potential(spec, spec.init_members([0, 1]), references), only=("archive", "heads", "reference", "calculator", "charges")
        )
    )


def test_noise_in_a_sum(draw):
    spec = spec_of(sum_of(network={"noise": True}, repulsion=ZBLConfig()))
    check_model(spec, draw(spec, 0), only=("noise", "recompilation"))
