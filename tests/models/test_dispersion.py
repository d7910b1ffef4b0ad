"""A network with dispersion: the laws of all models, what it adds, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from small_models import NETWORK

from eqpot.core.config import build
from eqpot.core.errors import ConfigError, StructureError
from eqpot.graph import Structure, collate, prepare
from eqpot.models import D3Config, Normalization, SumConfig, build_model, model_config
from eqpot.physics import Damping, damping_of
from eqpot.potential import ModelSpec, Potential, predict
from eqpot.testing import check_model

ELEMENTS = ("H", "C", "O")


def spec_of(elements=ELEMENTS, **d3):
    terms = {"network": NETWORK, "dispersion": {"kind": "d3", **(d3 or {"functional": "pbe"})}}
    return ModelSpec(build(SumConfig, {"kind": "sum", "terms": terms}), elements, Normalization(6.0, 1.0, (0.1,) * len(elements)))


run = jax.jit(lambda spec, params, graph: predict(spec, params, graph, with_stress=True), static_argnums=0)


def added(spec, params, structures):
    """What the sum says less what its network says alone: energies, forces, stresses."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    network = ModelSpec(spec.config.network, spec.elements, spec.normalization)
    with jax.enable_x64(True):
        graph = jax.tree.map(jnp.asarray, collate([prepare(s, spec.elements, spec.config.cutoff) for s in structures], dtype="float64"))
        both = jax.device_get((run(spec, params, graph), run(network, params["terms"]["network"], graph)))
    return [getattr(both[0], name) - getattr(both[1], name) for name in ("energy", "forces", "stress")]


def test_it_obeys_the_laws_of_all_models(draw):
    """But those of a range, which reaches farther than the cutoff: 'fragments' and 'reach' are not asked of it."""
    spec = spec_of(functional="b3lyp", reach=8.0, cn_reach=6.0)
    report = check_model(spec, draw(spec, 0), skip=("hessian", "work", "cutoff_slope"))
    print(report)
    assert "reach" not in report and spec.config.receptive_field == np.inf and spec.config.cutoff == 3.5


@pytest.mark.slow
def test_its_curvature_its_tail_and_its_float32(draw, monkeypatch):
    spec, quadrature = spec_of(functional="b3lyp", reach=8.0, cn_reach=6.0), np.polynomial.legendre.leggauss
    monkeypatch.setattr(
        np.polynomial.legendre, "leggauss", lambda n: quadrature(2 * n)
    )  # neighbours are counted within a tenth of an ångström
    print(check_model(spec, draw(spec, 0), only=("hessian", "work", "cutoff_slope")))
    tailed = spec_of(functional="b3lyp", reach=8.0, cn_reach=6.0, tail=True)  # which an atom alone in a cell has as well
    print(check_model(tailed, draw(tailed, 0), only=("forces", "stress", "extensivity", "rotation", "padding", "batch")))
    # Counting neighbours makes 16 times of a rounded distance: a turned or shifted structure differs by 1e-5 to 2e-5 in float32, where 1e-5 are allowed.
    kept = ("permutation", "net_force", "stress_symmetry", "precision", "padding", "batch", "edge_order", "layout", "dtype")
    print(check_model(spec, draw(spec, 0), dtype="float32", only=kept))


def test_it_adds_dispersion_and_no_more(draw):
    """Far molecules attract as r⁻⁶, a crystal is compressed: its stress is positive in ASE's sign, and of the size of E/V."""
    spec = spec_of(functional="pbe", reach=40.0)
    atoms = [[0, 0, 0], [1.1, 0, 0]]
    pairs = [Structure([6, 8, 6, 8], [*atoms, [0, d, 0], [1.1, d, 0]]) for d in (10.0, 20.0)]
    crystal = Structure([6, 8], atoms, 4.0 * np.eye(3), True)
    alone = Structure([6, 8], atoms)
    energies, forces, stress = added(spec, draw(spec, 0), [*pairs, crystal, alone])
    attraction = energies[:2] - 2 * energies[3]
    assert (attraction < 0).all() and attraction[0] / attraction[1] == pytest.approx(64, rel=0.2)
    pull = forces[:8].reshape(2, 2, 2, 3).sum(2)[:, 1, 1]
    assert (pull < 0).all() and pull[0] / pull[1] == pytest.approx(128, rel=0.2)
    assert energies[2] < energies[3] and 0 < np.trace(stress[2]) / 3 < -2 * energies[2] / 64
    np.testing.assert_allclose(stress[3], 0, atol=1e-12)


@pytest.mark.slow
def test_a_potential_with_it_does_dynamics_in_float32_as_in_float64(draw):
    """A crystal through the calculator of an archive: the term's precision is that of the floats."""
    spec = spec_of(("Na", "Cl"), functional="hse06", tail=True)
    potential = Potential(spec, spec.init_members([0]), (0.0, 0.0))
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    single, double = potential.predict(atoms), potential.astype("float64").predict(atoms)
    assert single.energy == pytest.approx(double.energy, rel=1e-5)
    np.testing.assert_allclose(single.forces, double.forces, atol=1e-5)


def test_damping_is_given_once():
    assert build(D3Config, {"functional": "HSE06"}).damping == damping_of("hse06")
    assert build(D3Config, {"s8": 0.5, "a1": 0.4, "a2": 4}).damping == Damping(1.0, 0.5, 0.4, 4.0)
    assert build(D3Config, {"s6": 0.0, "s8": 0.5, "a1": 0.4, "a2": 4}).damping.s6 == 0
    for values, message in (
        ({}, "found no s8, a1, a2; say which functional the labels are of"),
        ({"s8": 1.0, "a2": 4.0}, "found no a1; say which functional"),
        ({"functional": "pbe", "a1": 0.4}, "found a functional and a1, expected either"),
        ({"functional": "b3lypp"}, "no D3.BJ. parameters are known for 'b3lypp', did you mean 'b3lyp'"),
        ({"functional": "pbe", "reach": 1.0}, "reach"),
        ({"functional": "pbe", "switch": 0.0}, "switch"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(D3Config, values)
    with pytest.raises(ConfigError, match="'d3' is a term beside a network and no model alone"):
        model_config({"kind": "d3", "functional": "pbe"})


def test_elements_without_parameters_are_refused():
    config = build(D3Config, {"functional": "pbe"})
    config.check(Structure([1, 94], [[0, 0, 0], [0, 0, 3]]))
    with pytest.raises(StructureError, match="d3: found Am, Cm, expected elements up to Pu"):
        config.check(Structure([1, 96, 95], [[0, 0, 0], [0, 0, 3], [0, 3, 0]]))
    with pytest.raises(ConfigError, match="d3: no parameters are known for Am"):
        build_model(config, ("H", "Am"), Normalization(), 0)
