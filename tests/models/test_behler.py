"""The Behler–Parrinello network: laws of a model, what its descriptors are, and that it goes wherever a network goes."""

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqpot
from eqpot.core.config import build
from eqpot.core.errors import ConfigError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure, collate, prepare
from eqpot.graph.batching import Capacity
from eqpot.models import BehlerParrinelloConfig, Normalization, SumConfig, ZBLConfig, model_config
from eqpot.models.behler import usual_sizes
from eqpot.potential import ModelSpec, Potential
from eqpot.testing import check_model, check_potential
from eqpot.training import FitConfig

ELEMENTS = ("H", "C", "O")
SMALL = {"cutoff": 3.5, "n_radial": 4, "n_angular": 1, "powers": (1, 4), "hidden": (6, 5)}


def spec_of(config, elements=ELEMENTS):
    shift = tuple(np.linspace(0.3, -0.2, len(elements) * config.n_heads).round(3).tolist())
    return ModelSpec(config, elements, Normalization(6.0, 1.0, shift))


def graph_of(*structures, elements=ELEMENTS, cutoff=3.5):
    return jax.tree.map(jnp.asarray, collate([prepare(s, elements, cutoff) for s in structures], Capacity(3, 16, 64)))


def bent():
    return Structure([8, 1, 6, 1], [[0, 0, 0], [1.0, 0, 0], [-0.4, 1.3, 0], [0.2, 1.9, 0.9]])


def test_laws_of_a_model(draw):
    spec = spec_of(BehlerParrinelloConfig(**SMALL))
    print(check_model(spec, draw(spec, 0)))


def test_laws_in_single_precision(draw):
    spec = spec_of(BehlerParrinelloConfig(**SMALL))
    only = ("rotation", "precision", "cutoff_force", "isolated_atom", "extensivity", "layout", "special_sites")
    print(check_model(spec, draw(spec, 0), dtype="float32", only=only))


@pytest.mark.slow
def test_laws_of_the_default(draw):
    spec = spec_of(BehlerParrinelloConfig())
    print(check_model(spec, draw(spec, 0), skip=("parameter_gradient", "hessian")))
    print(check_model(spec, draw(spec, 0), dtype="float32", only=("rotation", "precision", "extensivity", "layout")))


@pytest.mark.slow
def test_a_sum_with_repulsion(draw):
    network = BehlerParrinelloConfig(**SMALL)
    spec = spec_of(SumConfig(terms={"network": network, "repulsion": ZBLConfig(inner=0.8, outer=3.5)}))
    assert spec.config.network == network
    print(check_model(spec, draw(spec, 0), only=("rotation", "forces", "stress", "cutoff_slope", "isolated_atom", "layout", "hessian")))


@pytest.mark.slow
def test_members_heads_and_archive(draw):
    config = BehlerParrinelloConfig(**SMALL, heads=("low", "high"))
    spec = spec_of(config)
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *[draw(spec, seed) for seed in range(2)])
    potential = Potential(spec, params, tuple((-10.0 * (1 + np.arange(6))).tolist()))
    print(check_potential(potential, only=("archive", "heads", "calculator")))
    assert model_config(config.archived()) == config
    high = potential.only("high")
    found = high.predict(bent())
    assert found.energy == pytest.approx(potential.predict(bent(), head="high").energy, rel=1e-6)


def test_descriptors_of_a_triangle():
    """Three functions by hand: one neighbour of each element at 1 and 1.2 Å, at a right angle."""
    config = BehlerParrinelloConfig(cutoff=4.0, n_radial=1, n_angular=1, powers=(1,), hidden=(2,))
    spec = spec_of(config)
    water = Structure([8, 1, 6], [[0, 0, 0], [1.0, 0, 0], [0, 1.2, 0]])
    graph = graph_of(water, cutoff=4.0)
    found = spec.describe(graph)
    ending = lambda r: 1 - 10 * (r / 4) ** 3 + 15 * (r / 4) ** 4 - 6 * (r / 4) ** 5  # noqa: E731
    radial, angular = usual_sizes(config, 6.0)
    eta = 1 / (2 * 3.2**2)
    expected = [np.exp(-eta * (r - 0.8) ** 2) * ending(r) if r else 0.0 for r in (1.0, 1.2, None)]
    np.testing.assert_allclose(found.radial[0, :, 0] * radial, expected, rtol=1e-5)
    pair = np.exp(-(1.0**2 + 1.2**2) / 8) * ending(1.0) * ending(1.2)  # σ = 2 Å; cos θ = 0 for both signs of λ
    np.testing.assert_allclose(found.angular[0, 1] * angular, [pair, pair], rtol=1e-5)
    np.testing.assert_allclose(np.delete(found.angular[0], 1, 0), 0, atol=1e-7)
    features = spec.evaluate(spec.init(0), graph, found).features
    np.testing.assert_array_equal(features[0], np.concatenate([found.radial[0].ravel(), found.angular[0].ravel()]))
    assert not features[3:].any()


def test_usual_sizes_are_those_of_random_surroundings():
    """A thousand atoms, each with a Poisson number of neighbours, at random distances and directions."""
    config, rng = BehlerParrinelloConfig(cutoff=4.0, n_radial=3, n_angular=1, powers=(1, 2), hidden=(2,)), np.random.default_rng(0)
    spec, rows = ModelSpec(config, ("H",), Normalization(6.0)), []
    describe = jax.jit(spec.describe)
    for count in rng.poisson(6.0, 1000):
        units = rng.normal(size=(count, 3))
        distance = rng.uniform(0.8, 4.0, (count, 1)) / np.linalg.norm(units, axis=1, keepdims=True)
        surroundings = Structure([1] * (count + 1), np.concatenate([np.zeros((1, 3)), units * distance]))
        found = describe(collate([prepare(surroundings, ("H",), 4.0)], Capacity(1, 24, 24)))
        rows.append(np.concatenate([found.radial[0].ravel(), found.angular[0].ravel()]))
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(rows), axis=0)), 1, atol=0.12)


def test_a_pair_of_elements_has_one_weight_in_either_order():
    """Weights of (a, b) and (b, a) exchanged: the same energies; another value for one of them: others."""
    spec = spec_of(BehlerParrinelloConfig(**SMALL))
    params, graph = spec.init(0), graph_of(bent())
    energy = jax.jit(lambda p: spec.evaluate(p, graph, spec.describe(graph)).energy)
    exchanged = {**params, "angular": jnp.swapaxes(params["angular"], 1, 2)}
    np.testing.assert_allclose(energy(exchanged), energy(params), rtol=1e-6)
    lopsided = {**params, "angular": params["angular"].at[2, 0, 1].add(3.0)}
    assert abs(energy(lopsided)[0] - energy(params)[0]) > 1e-3


def labelled(n=24):
    """Bent molecules of three atoms under springs between all pairs."""
    rng = np.random.default_rng(0)
    frames = []
    for k in range(n):
        positions = np.array([[0, 0, 0], [1.2, 0, 0], [-0.4, 1.1, 0]]) + rng.normal(0, 0.1, (3, 3))
        apart = positions[:, None] - positions[None]
        distance = np.linalg.norm(apart, axis=-1) + np.eye(3)
        energy = ((distance - 1.3) ** 2 * (1 - np.eye(3))).sum() / 2
        forces = -(2 * (distance - 1.3) / distance)[..., None] * apart
        frames.append(Frame(Structure([8, 1, 1], positions), Labels(energy=float(energy), forces=forces.sum(1)), origin=f"toy:frame {k}"))
    return Dataset(tuple(frames))


def settings(members):
    return {
        "data": {"valid": 6},
        "model": {"kind": "behler-parrinello", **SMALL},
        "ensemble": {"members": members},
        "training": {"epochs": 2, "batch_size": 6},
    }


@pytest.mark.slow
def test_an_ensemble_learns_and_moves():
    rows, frames = [], labelled()
    potential = eqpot.fit(settings(2), frames, on_epoch=rows.append)
    assert rows[-1].valid_loss < rows[0].valid_loss
    atoms = ase.Atoms(frames[0].structure.numbers, frames[0].structure.positions)
    with jax.numpy_dtype_promotion("standard"):  # of jax-md
        run = eqpot.simulate(potential, atoms, eqpot.NVE(timestep_fs=0.5), 10, temperature_K=100.0)
    assert np.isfinite(run.positions).all() and np.ptp(run.total_energy) < 0.01


@pytest.mark.slow
def test_a_new_element_changes_nothing_for_the_known_ones(tmp_path):
    frames = labelled()
    potential = eqpot.fit({**settings(1), "training": {"epochs": 40, "batch_size": 6}}, frames)
    potential.save(tmp_path / "base.safetensors")
    carbon = Dataset(tuple(f.replace(structure=Structure([6, 1, 1], f.structure.positions)) for f in frames[:8]))
    rest = {"optimizer": {"name": "adam", "learning_rate": 1e-12, "ema": 0.0}, "training": {"epochs": 1, "batch_size": 8}}
    data = {"valid": 8, "allow": ["energy-outlier", "force-unit"]}
    new = eqpot.fit({"data": data, "finetune": {"base": str(tmp_path / "base.safetensors")}, **rest}, frames + carbon)
    assert (potential.elements, new.elements) == (("H", "O"), ("H", "C", "O"))
    known = frames[0].structure
    assert new.predict(known).energy == pytest.approx(potential.predict(known).energy, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff": 0.5}, "model.cutoff: found 0.5"),
        ({"n_radial": 0}, "model.n_radial: found 0"),
        ({"n_angular": 0}, "model.n_angular: found 0"),
        ({"powers": []}, r"powers: found \[\], expected whole numbers from 1 to 16 that differ"),
        ({"powers": [1, 1]}, r"powers: found \[1, 1\]"),
        ({"powers": [0, 32]}, r"powers: found \[0, 32\]"),
        ({"hidden": []}, "hidden: found no width"),
        ({"hidden": [4, 0]}, "found 0"),
        ({"heads": ["a", "a"]}, "heads: found"),
        ({"cutof": 4.0}, r"unknown key 'model\.cutof': did you mean 'cutoff'"),
        ({"noise": True}, r"unknown key 'model\.noise'"),
    ],
)
def test_configurations_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        build(FitConfig, {"model": {"kind": "behler-parrinello", **changes}})
    assert "\n" not in str(error.value)


def test_what_the_network_cannot_do_is_refused_when_it_is_changed():
    config = BehlerParrinelloConfig(**SMALL)
    assert config.changed(heads=("a", "b"), preset=None, direct_forces=False).heads == ("a", "b")
    with pytest.raises(ConfigError, match="noise: a network of the kind behler-parrinello does not have it"):
        config.changed(noise=True)
    with pytest.raises(ConfigError, match=r"shift: found 1 values, expected one per element \(3\)"):
        ModelSpec(config, ELEMENTS, Normalization(6.0, 1.0, (0.1,))).init(0)
