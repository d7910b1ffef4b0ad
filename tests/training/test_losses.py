"""The loss is the weighted mean of what is labelled, and of nothing else."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.graph import Frame, Labels
from eqpot.potential import Prediction
from eqpot.training.batches import Batches, bootstrap_weights
from eqpot.training.config import LossConfig
from eqpot.training.losses import label_counts, loss_terms, penalty, total_loss, trained_sigmas
from eqpot.training.samples import make_samples
from eqpot.training.sizes import size_classes


def batch_of(frames, members=1, batch_size=None):
    samples = make_samples(frames, ("H", "O"), 3.5, np.zeros(2))
    return Batches(samples, batch_size or len(frames), np.ones((members, len(frames))))


def constant_prediction(graph, **more):
    """1 eV and 0.3 eV/Å everywhere, so that a label that is missing (and zero under its mask) would show."""
    G, N = graph.capacity.graphs, graph.capacity.atoms
    return Prediction(jnp.ones(G), jnp.full((N, 3), 0.3), jnp.zeros((G, 3, 3)), jnp.zeros(N), jnp.zeros((N, 1)), **more)


def only_shard(frames):
    """The one batch of one shard."""
    _, graph, targets = next(batch_of(frames).epoch(0, 0))
    return jax.tree.map(lambda x: jnp.asarray(x[0]), (graph, targets))


def terms_of(frames, config=None, noise=None, **more):
    graph, targets = only_shard(frames)
    counts = label_counts(graph, targets)
    more = {name: make(graph) for name, make in more.items()}
    return loss_terms(config or LossConfig(), constant_prediction(graph, **more), graph, targets, targets.weight[0], counts, noise)


def test_terms_equal_their_definition(frames):
    chosen = list(frames)[:5]
    terms = terms_of(chosen)
    assert float(terms["energy"]) == pytest.approx(np.mean([((1 - f.labels.energy) / len(f)) ** 2 for f in chosen]), rel=1e-5)
    assert float(terms["forces"]) == pytest.approx(np.mean((0.3 - np.concatenate([f.labels.forces for f in chosen])) ** 2), rel=1e-5)


def test_norm_is_the_mean_length_of_the_error(frames):
    chosen = list(frames)[:5]
    terms = terms_of(chosen, LossConfig(forms={"forces": "norm", "energy": "norm"}))
    lengths = np.linalg.norm(0.3 - np.concatenate([f.labels.forces for f in chosen]), axis=1)
    assert float(terms["forces"]) == pytest.approx(lengths.mean(), rel=1e-5)
    assert float(terms["energy"]) == pytest.approx(np.mean([abs(1 - f.labels.energy) / len(f) for f in chosen]), rel=1e-5)


def test_the_length_of_no_error_has_no_slope():
    """A norm at zero would give NaN."""
    slope = jax.grad(lambda e: jnp.sum(penalty(e, "norm", None)))(jnp.zeros((2, 3)))
    assert (slope == 0).all()


def test_missing_labels_take_no_part(frames):
    """A set in which some frames lack energy, others forces, and others stress has the same terms as the labelled frames alone."""
    first, second, third = list(frames)[:3], list(frames)[3:6], list(frames)[6:8]
    energies = [Frame(f.structure, Labels(energy=f.labels.energy)) for f in first]
    forces = [Frame(f.structure, Labels(forces=f.labels.forces)) for f in second]
    stresses = [Frame(boxed(f.structure), Labels(stress=(k + 1) * np.eye(3))) for k, f in enumerate(third)]
    mixed = terms_of(energies + forces + stresses)
    assert float(mixed["energy"]) == pytest.approx(float(terms_of(first)["energy"]), rel=1e-5)
    assert float(mixed["forces"]) == pytest.approx(float(terms_of(second)["forces"]), rel=1e-5)
    assert float(mixed["stress"]) == pytest.approx((1 + 4) / 3 / 2, rel=1e-5)


def boxed(structure, pbc=(True, True, True)):
    """The same atoms in a box, which gives a stress a volume to refer to."""
    return replace(structure, cell=10 * np.eye(3), pbc=np.array(pbc))


def test_a_stress_without_a_volume_takes_no_part(frames):
    """A slab has none that is predicted: its label would be compared with zero."""
    crystal, slab = (boxed(f.structure, pbc) for f, pbc in zip(list(frames)[:2], ((True,) * 3, (True, True, False)), strict=True))
    terms = terms_of([Frame(s, Labels(stress=k * np.eye(3))) for k, s in ((1.0, crystal), (5.0, slab))])
    assert float(terms["stress"]) == pytest.approx(1 / 3, rel=1e-5)


def test_no_label_at_all_gives_zero_not_nan(frames):
    bare = [Frame(f.structure, Labels(forces=f.labels.forces)) for f in list(frames)[:2]]
    assert float(terms_of(bare)["energy"]) == 0


def test_charges_and_dipoles_count_where_they_are_labelled(frames):
    one, two = list(frames)[:2]
    labelled = [Frame(one.structure, Labels(charges=np.array([0.5, -0.2, -0.3]), dipole=np.array([1.0, 0, 0]))), two]
    terms = terms_of(labelled, charges=lambda g: jnp.zeros(g.capacity.atoms), dipole=lambda g: jnp.zeros((g.capacity.graphs, 3)))
    assert float(terms["charges"]) == pytest.approx((0.25 + 0.04 + 0.09) / 3, rel=1e-5)
    assert float(terms["dipole"]) == pytest.approx((1 / 3) ** 2 / 3, rel=1e-5)


def test_frame_weight_scales_its_error(frames):
    one = list(frames)[:1]
    assert float(terms_of([one[0].replace(weight=2.0)])["forces"]) == pytest.approx(2 * float(terms_of(one)["forces"]), rel=1e-5)


def test_huber_is_smooth_and_linear_far_out():
    x = jnp.array([[0.1], [0.5], [3.0]])
    assert penalty(x, "huber", 0.5) == pytest.approx([0.01, 0.25, 2 * 0.5 * 3.0 - 0.25])
    slope = jax.grad(lambda e: penalty(e[None, None], "huber", 0.5)[0])
    assert float(slope(0.5 - 1e-4)) == pytest.approx(float(slope(0.5 + 1e-4)), rel=1e-3)


def test_total_is_the_weighted_sum():
    config = LossConfig(energy=2, forces=3, stress=5, net_force=7)
    terms = {k: jnp.asarray(1.0) for k in ("energy", "forces", "stress", "net_force")}
    assert float(total_loss(config, {k: jnp.asarray(w) for k, w in config.weights(0.0).items()}, terms)) == 17


def test_the_learned_noise_of_least_loss_is_the_error(frames):
    """½ r²/σ² + log σ is least at σ² = ⟨r²⟩, where it is ½ + log σ."""
    chosen, config = list(frames)[:6], LossConfig(noise="learned")
    square = terms_of(chosen, LossConfig())["forces"]
    at = lambda s: float(terms_of(chosen, config, {"forces": jnp.asarray(s), "energy": jnp.asarray(0.0)})["forces"])  # noqa: E731
    best = float(0.5 * jnp.log(square))
    assert at(best) == pytest.approx(0.5 + best, rel=1e-5)
    assert at(best + 0.1) > at(best) < at(best - 0.1)


def test_noise_per_atom_is_the_likelihood_of_a_normal_distribution(frames):
    from statistics import NormalDist

    chosen, sigma = list(frames)[:2], 0.37
    more = {"force_noise": lambda g: jnp.full(g.capacity.atoms, sigma), "energy_noise": lambda g: jnp.full(g.capacity.graphs, 3 * sigma)}
    terms = terms_of(chosen, LossConfig(noise="atoms", beta=0), **more)
    errors = 0.3 - np.concatenate([f.labels.forces for f in chosen]).ravel()
    constant = 0.5 * np.log(2 * np.pi)
    expected = -np.mean([np.log(NormalDist(0, sigma).pdf(e)) for e in errors]) - constant
    assert float(terms["forces"]) == pytest.approx(expected, rel=1e-5)
    errors = [(1 - f.labels.energy) / 3 for f in chosen]
    assert float(terms["energy"]) == pytest.approx(-np.mean([np.log(NormalDist(0, sigma).pdf(e)) for e in errors]) - constant, rel=1e-5)
    weighted = terms_of(chosen, LossConfig(noise="atoms", beta=1), **more)
    assert float(weighted["forces"]) == pytest.approx(sigma**2 * float(terms["forces"]), rel=1e-5)


def test_with_noise_per_atom_other_quantities_have_a_trained_one(frames):
    """The stress beside likelihoods of energies and forces is a likelihood too, with a σ of its own, and beta does not act on it."""
    labelled = [Frame(boxed(f.structure), Labels(f.labels.energy, f.labels.forces, 0.2 * np.eye(3))) for f in list(frames)[:2]]
    config = LossConfig(noise="atoms", beta=0.5)
    assert trained_sigmas(config, with_stress=True, with_charges=True) == ["stress", "charges", "dipole"]
    assert trained_sigmas(config, with_stress=False, with_charges=False) == []
    assert trained_sigmas(LossConfig(noise="learned", energy=0), with_stress=True, with_charges=False) == ["forces", "stress"]
    more = {"force_noise": lambda g: jnp.full(g.capacity.atoms, 0.3), "energy_noise": lambda g: jnp.full(g.capacity.graphs, 0.3)}
    terms = terms_of(labelled, config, {"stress": jnp.log(jnp.asarray(0.1))}, **more)
    assert float(terms["stress"]) == pytest.approx(0.5 * (0.2**2 / 3) / 0.1**2 + np.log(0.1), rel=1e-5)


def test_net_force_and_torque_vanish_for_forces_of_a_potential_only(frames):
    """Forces between pairs have neither; the constant field has a net force, and about the centre of the atoms no torque."""
    chosen, config = list(frames)[:4], LossConfig(net_force=1, net_torque=1)
    graph, targets = only_shard(chosen)
    counts = label_counts(graph, targets)

    def balance(forces, weight=1.0):
        prediction = replace(constant_prediction(graph), forces=forces)
        return loss_terms(config, prediction, graph, targets, weight * targets.weight[0], counts)

    pairs = balance(targets.forces)
    assert float(pairs["net_force"]) < 1e-10 and float(pairs["net_torque"]) < 1e-10
    field = balance(jnp.full_like(targets.forces, 0.3) * graph.atom_mask.astype(float)[:, None])
    assert float(field["net_force"]) == pytest.approx(0.09, rel=1e-5) and float(field["net_torque"]) < 1e-10
    twist = balance(jnp.cross(jnp.array([0.0, 0, 1.0]), graph.positions) * graph.atom_mask.astype(float)[:, None])
    assert float(twist["net_torque"]) > 0.1
    heavy = balance(jnp.full_like(targets.forces, 0.3) * graph.atom_mask.astype(float)[:, None], weight=2.0)
    assert float(heavy["net_force"]) == pytest.approx(2 * 0.09, rel=1e-5)  # as any term


def test_size_classes_separate_small_from_large():
    sizes = [2] * 40 + [100] * 40
    assert size_classes(sizes, 8) == [0, 40, 80]
    assert size_classes([9] * 50, 8) == [0, 50]


def test_bootstrap_weights_have_mean_one_and_differ_between_members():
    weights = bootstrap_weights(4, 200, seed=0, bootstrap=True)
    assert weights.mean(1) == pytest.approx(np.ones(4))
    assert np.abs(np.corrcoef(weights) - np.eye(4)).max() < 0.3
    assert (bootstrap_weights(1, 5, 0, True) == 1).all() and (bootstrap_weights(3, 5, 0, False) == 1).all()
