"""A linear model in closed form: the same as least squares of a design made by hand, and as where steps lead to."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqpot
from eqpot.core.config import build
from eqpot.core.errors import ConfigError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.models import LinearConfig, n_invariants, parameters_of
from eqpot.potential import predict
from eqpot.training.batches import Batches
from eqpot.training.config import FitConfig, LossConfig
from eqpot.training.losses import label_counts, loss_terms, total_loss
from eqpot.training.ridge import solve_ridge
from eqpot.training.setup import make_problem

SMALL = {"kind": "linear", "cutoff": 3.5, "n_radial": 2, "l_max": 1, "correlation": 3, "mixtures": 2, "l_mixtures": 1}
LOSS = LossConfig(energy=20.0, forces=3.0, stress=500.0)


@pytest.fixture
def crystals(toy):
    """Molecules, one of them without forces, and strained crystals with a stress."""
    trimer, morse = toy
    rng = np.random.default_rng(1)
    frames = [Frame(s := trimer(rng), morse(s), origin=f"molecule:{k}", weight=1.0 + k % 3) for k in range(9)]
    frames[2] = replace(frames[2], labels=replace(frames[2].labels, forces=None))
    for k in range(4):
        structure = Structure(
            [8, 1], np.array([[0, 0, 0], [1.3, 1.4, 1.5]]) + rng.normal(0, 0.1, (2, 3)), 3.2 * np.eye(3) + rng.normal(0, 0.1, (3, 3)), True
        )
        labels = Labels(energy=rng.normal(), forces=rng.normal(0, 0.5, (2, 3)), stress=(x := rng.normal(0, 0.02, (3, 3))) + x.T)
        frames.append(Frame(structure, labels, origin=f"crystal:{k}"))
    return Dataset(tuple(frames))


@pytest.fixture
def problem(crystals):
    """The frames made ready; two serve for validation."""
    config = build(
        FitConfig,
        {
            "model": SMALL,
            "loss": LOSS.model_dump(),
            "data": {"reference_energies": {"H": -1.0, "O": -3.0}, "allow": ["energy-outlier", "force-unit", "net-force"]},
        },
    )
    return make_problem(config, crystals[np.arange(2, len(crystals))], crystals[np.arange(2)])


def whole(problem):
    """All training frames in one batch."""
    batches = Batches(problem.train, 1, np.ones((1, len(problem.train))), "float64", batch_atoms=60)
    assert batches.steps_per_epoch == 1
    return [jax.tree.map(lambda x: jnp.asarray(x[0]), batch[1:]) for batch in batches.epoch(0, 0)]


def trainers_loss(problem, params):
    """The loss of the trainer over all frames as one batch."""
    parts = whole(problem)
    counts = jax.tree.map(lambda *x: sum(x), *[label_counts(*part) for part in parts])
    weights = {k: jnp.asarray(v, jnp.float64) for k, v in LOSS.weights(1.0).items()}

    @jax.jit
    def share(params, graph, targets):
        return total_loss(
            LOSS, weights, loss_terms(LOSS, predict(problem.spec, params, graph, True), graph, targets, targets.weight[0], counts)
        )

    return sum(share(params, *part) for part in parts)


def by_hand(problem):
    """X and y of the loss from one prediction per weight."""
    spec, config, Z = problem.spec, problem.spec.config, len(problem.spec.elements)
    count = Z * n_invariants(config, Z)
    parts = whole(problem)
    counts = jax.tree.map(lambda *x: float(sum(x)), *[label_counts(*part) for part in parts])
    rows = []
    for graph, labels in parts:
        targets = jax.tree.map(np.asarray, labels)
        size = np.maximum(np.bincount(graph.graph_index[graph.atom_mask], minlength=len(graph.cell)), 1)
        weight = targets.weight[0]
        roots = {
            "energy": np.sqrt(LOSS.energy * weight * targets.has_energy / counts["energy"]) / size,
            "forces": np.sqrt(LOSS.forces * weight[graph.graph_index] * targets.has_forces / (3 * counts["forces"]))[:, None],
            "stress": np.sqrt(LOSS.stress * weight * targets.has_stress / (9 * counts["stress"]))[:, None, None],
        }

        @jax.jit
        def flat(weights, graph=graph, roots=roots):
            roots = jax.tree.map(jnp.asarray, roots)
            found = predict(spec, weights, graph, True)
            return jnp.concatenate([jnp.ravel(getattr(found, name) * root) for name, root in roots.items()])

        def of(weights, flat=flat):
            return np.asarray(flat(parameters_of(config, weights.reshape(1, Z, -1))))

        zero = of(np.zeros(count))
        expected = np.concatenate([np.ravel(getattr(targets, name) * root) for name, root in roots.items()])
        rows.append((np.stack([of(unit) - zero for unit in np.eye(count)], 1), expected - zero))
    return np.concatenate([x for x, _ in rows]), np.concatenate([y for _, y in rows])


@pytest.mark.slow
def test_it_is_least_squares_of_a_design_made_of_predictions(problem):
    """Energies, forces and stress, weights of frames, and missing labels; numpy solves the rows and the penalty together."""
    with jax.enable_x64(True):
        x, y = by_hand(problem)
        strength = 1e-6
        found = solve_ridge(problem.spec, problem.train, problem.valid, LOSS, strength=strength, with_stress=True, batch_size=4)
        penalty = np.sqrt(strength * np.sum(x**2) / x.shape[1]) * np.eye(x.shape[1])
        w = np.linalg.lstsq(np.concatenate([x, penalty]), np.concatenate([y, np.zeros(x.shape[1])]), rcond=None)[0]
        expected = parameters_of(problem.spec.config, w.reshape(1, 2, -1))
        size = np.abs(w).max()
        for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-7 * size)
        assert found.loss == pytest.approx(np.sum((x @ w - y) ** 2), rel=1e-7)
        assert found.loss == pytest.approx(float(trainers_loss(problem, found.params)), rel=1e-7)


@pytest.mark.slow
def test_no_step_lowers_the_loss_of_the_trainer(problem):
    """At the solution the gradient of the trainer's own loss vanishes, but for the penalty; and any other weights are worse."""
    with jax.enable_x64(True):
        found = solve_ridge(problem.spec, problem.train, problem.valid, LOSS, strength=1e-9, with_stress=True)
        slope = jax.grad(lambda p: trainers_loss(problem, p))
        at_zero, at_end = (
            max(np.abs(x).max() for x in jax.tree.leaves(slope(p))) for p in (jax.tree.map(jnp.zeros_like, found.params), found.params)
        )
        assert at_end < 1e-4 * at_zero


@pytest.mark.slow
def test_the_strength_is_that_of_the_smallest_validation_loss(problem):
    with jax.enable_x64(True):
        found = solve_ridge(problem.spec, problem.train, problem.valid, LOSS)
        assert found.losses[found.strength] == min(found.losses.values())
        given = solve_ridge(problem.spec, problem.train, problem.valid, LOSS, strength=found.strength)
        assert given.loss == pytest.approx(found.loss)


def settings(**more):
    return {"data": {"valid": 8}, "model": SMALL, "training": {"epochs": 50, "batch_size": 8, "validate_every": 5}, **more}


def test_a_fit_in_closed_form(frames, tmp_path):
    """One epoch, the same files; members differ by the weights of their frames."""
    rows = []
    config = settings(optimizer={"name": "ridge"}, ensemble={"members": 3})
    potential = eqpot.fit(config, frames, folder=tmp_path / "run", on_epoch=rows.append)
    assert [row.epoch for row in rows] == [1] and rows[0].epochs == 1
    assert rows[0].valid["forces"]["mae"] < 0.1 * np.mean([np.abs(f.labels.forces).mean() for f in frames])
    again = eqpot.Potential.load(tmp_path / "run" / "potential.safetensors")
    result = again.predict(frames[0].structure)
    assert result.energy == pytest.approx(potential.predict(frames[0].structure).energy)
    assert result.energy_std > 0
    assert eqpot.fit(config, frames, folder=tmp_path / "run").predict(frames[0].structure).energy == pytest.approx(result.energy)


@pytest.mark.slow
def test_steps_lead_to_the_closed_form(frames):
    """L-BFGS on all frames comes from above, and near, where there are few weights."""
    loss = {"energy": 10.0, "forces": 10.0}
    common = {"loss": loss, "training": {"epochs": 300, "batch_size": 32, "validate_every": 300, "dtype": "float64"}}
    reports: dict[str, list] = {"ridge": [], "lbfgs": []}
    for name, rows in reports.items():
        more = {"ridge": 1e-12} if name == "ridge" else {}
        few = {"model": {**SMALL, "n_radial": 1, "correlation": 2}, "optimizer": {"name": name, **more}}
        eqpot.fit(settings(**common) | few, frames, on_epoch=rows.append)
    closed, stepped = (rows[-1].loss for rows in reports.values())
    assert closed < stepped < 1.2 * closed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"kind": "behler-parrinello"}}, "'ridge' solves for a linear model, found the kind behler-parrinello"),
        ({"loss": {"huber": 0.1}}, "'ridge' has a closed form for squared errors only"),
        ({"loss": {"noise": "learned"}}, "'ridge' has a closed form for squared errors only"),
        ({"stage_two": {}}, "leave finetune and stage_two out"),
        ({"optimizer": {"name": "ridge", "weight_decay": 0.1}}, "accumulate, rates and weight_decay do not apply"),
        ({"optimizer": {"name": "adam", "ridge": 1e-6}}, "found name: adam"),
    ],
)
def test_what_has_no_closed_form_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(FitConfig, {"model": SMALL, "optimizer": {"name": "ridge"}, **changes})


@pytest.mark.slow
def test_a_sum_with_a_known_term_takes_it_off(problem, crystals):
    """The linear part learns what repulsion leaves over: together they are as good as where there is none."""
    model = {"kind": "sum", "terms": {"network": SMALL, "repulsion": {"kind": "zbl", "inner": 0.5, "outer": 1.0}}}
    config = build(
        FitConfig,
        {
            "model": model,
            "optimizer": {"name": "ridge"},
            "data": {"reference_energies": {"H": -1.0, "O": -3.0}, "allow": ["energy-outlier", "force-unit", "net-force"]},
        },
    )
    both = make_problem(config, crystals[np.arange(2, len(crystals))], crystals[np.arange(2)])
    with jax.enable_x64(True):
        found = solve_ridge(both.spec, both.train, both.valid, LOSS, strength=1e-8, with_stress=True)
        alone = solve_ridge(problem.spec, problem.train, problem.valid, LOSS, strength=1e-8, with_stress=True)
        assert jax.tree.structure(found.params) == jax.tree.structure(both.spec.shapes())
        assert float(trainers_loss(both, found.params)) == pytest.approx(found.loss, rel=1e-6)
        assert found.loss < 3 * alone.loss
        assert isinstance(both.spec.config.network, LinearConfig)
