"""The loss is the weighted mean of what is labelled, and of nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.graph import Frame, Labels
from eqpot.potential import Prediction
from eqpot.training.batches import Batches, bootstrap_weights, make_samples, size_classes
from eqpot.training.config import LossConfig
from eqpot.training.losses import loss_terms, masked_mean, penalty, total_loss


def batch_of(frames, members=1, batch_size=None):
    samples = make_samples(frames, ("H", "O"), 3.5, np.zeros(2))
    return Batches(samples, batch_size or len(frames), np.ones((members, len(frames))))


def constant_prediction(graph):
    """1 eV and 0.3 eV/Å everywhere, so that a label that is missing (and zero under its mask) would show."""
    G, N = graph.capacity.graphs, graph.capacity.atoms
    return Prediction(jnp.ones(G), jnp.full((N, 3), 0.3), jnp.zeros((G, 3, 3)), jnp.zeros(N), jnp.zeros((N, 1)))


def terms_of(frames, config=None):
    _, graph, targets = next(batch_of(frames).epoch(0, 0))
    graph, targets = jax.tree.map(jnp.asarray, (graph, targets))
    return loss_terms(config or LossConfig(), constant_prediction(graph), graph, targets, targets.weight[0])


def test_terms_equal_their_definition(frames):
    chosen = list(frames)[:5]
    terms = terms_of(chosen)
    assert float(terms["energy"]) == pytest.approx(np.mean([((1 - f.labels.energy) / len(f)) ** 2 for f in chosen]), rel=1e-5)
    assert float(terms["forces"]) == pytest.approx(np.mean((0.3 - np.concatenate([f.labels.forces for f in chosen])) ** 2), rel=1e-5)


def test_missing_labels_take_no_part(frames):
    """A set in which some frames lack energy and others forces has the same terms as the labelled frames alone."""
    first, second = list(frames)[:3], list(frames)[3:6]
    energies = [Frame(f.structure, Labels(energy=f.labels.energy)) for f in first]
    forces = [Frame(f.structure, Labels(forces=f.labels.forces)) for f in second]
    mixed = terms_of(energies + forces)
    assert float(mixed["energy"]) == pytest.approx(float(terms_of(first)["energy"]), rel=1e-5)
    assert float(mixed["forces"]) == pytest.approx(float(terms_of(second)["forces"]), rel=1e-5)


def test_no_label_at_all_gives_zero_not_nan():
    assert float(masked_mean(jnp.ones((3, 3)), jnp.zeros(3, bool), jnp.ones(3))) == 0


def test_frame_weight_scales_its_error(frames):
    one = list(frames)[:1]
    assert float(terms_of([one[0].replace(weight=2.0)])["forces"]) == pytest.approx(2 * float(terms_of(one)["forces"]), rel=1e-5)


def test_huber_is_smooth_and_linear_far_out():
    x = jnp.array([0.1, 0.5, 3.0])
    assert penalty(x, 0.5) == pytest.approx([0.01, 0.25, 2 * 0.5 * 3.0 - 0.25])
    slope = jax.grad(lambda e: penalty(e, 0.5))
    assert float(slope(0.5 - 1e-4)) == pytest.approx(float(slope(0.5 + 1e-4)), rel=1e-3)


def test_total_is_the_weighted_sum():
    config = LossConfig(energy=2, forces=3, stress=5)
    assert float(total_loss(config, {k: jnp.asarray(1.0) for k in ("energy", "forces", "stress")})) == 10


def test_epoch_order_is_a_function_of_seed_and_epoch_alone(frames):
    batches = batch_of(list(frames), batch_size=8)
    order = [chosen for chosen, _, _ in batches.epoch(3, 5)]
    assert order == [chosen for chosen, _, _ in batches.epoch(3, 5)]
    assert order != [chosen for chosen, _, _ in batches.epoch(3, 6)]
    assert sorted(k for chosen in order for k in chosen) == list(range(len(frames)))


def test_batches_of_a_class_have_one_shape(frames):
    shapes = {graph.capacity for _, graph, _ in batch_of(list(frames)[:13], batch_size=4).epoch(0, 0)}
    assert len(shapes) == 1


def test_size_classes_separate_small_from_large():
    sizes = [2] * 40 + [100] * 40
    assert size_classes(sizes, 8) == [0, 40, 80]
    assert size_classes([9] * 50, 8) == [0, 50]


def test_bootstrap_weights_have_mean_one_and_differ_between_members():
    weights = bootstrap_weights(4, 200, seed=0, bootstrap=True)
    assert weights.mean(1) == pytest.approx(np.ones(4))
    assert np.abs(np.corrcoef(weights) - np.eye(4)).max() < 0.3
    assert (bootstrap_weights(1, 5, 0, True) == 1).all() and (bootstrap_weights(3, 5, 0, False) == 1).all()
