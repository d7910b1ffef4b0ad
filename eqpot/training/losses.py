"""The loss: weighted means of errors of energy per atom, forces, stress, charges and dipoles, each over the labels that exist.

A term is a sum over the structures of this device divided by the number of labels on all devices, so that terms of devices add up to the term
of the whole batch.

With `noise` the squared errors become negative log-likelihoods of a normal distribution, per component and without constants,

    L = ½ (Δ/σ)² + log σ,

with one trained σ per quantity (Kendall, Gal and Cipolla, CVPR 2018) or, for energies and forces, one per atom that the network predicts (Nix and
Weigend, ICNN 1994), the latter weighted by σ^{2β} held fixed, so that hard atoms are not given up (β-NLL; Seitzer et al., ICLR 2022).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.graph import Graph
from eqpot.potential import Prediction
from eqpot.training.batches import Targets
from eqpot.training.loss_config import QUANTITIES, Form, LossConfig

Terms = dict[str, Float[Array, ""]]
OF_ATOMS = ("energy", "forces")
"""Quantities whose σ follows from those that the network predicts for the atoms."""


def trained_sigmas(config: LossConfig, with_stress: bool, with_charges: bool) -> list[str]:
    """Quantities with one trained σ: those that count and are predicted, but for noise 'atoms' without `OF_ATOMS`."""
    predicted = {"energy", "forces", *(["stress"] if with_stress else []), *(["charges", "dipole"] if with_charges else [])}
    without = {"none": QUANTITIES, "learned": (), "atoms": OF_ATOMS}[config.noise]
    return [name for name in QUANTITIES if name in (predicted & config.counted) - {*without}]


def label_counts(graph: Graph, targets: Targets) -> Terms:
    """How many structures or atoms have each label, and how many structures there are."""
    masks = {name: getattr(targets, f"has_{name}") for name in QUANTITIES} | {"structures": graph.graph_mask}
    return {name: jnp.sum(mask, dtype=graph.positions.dtype) for name, mask in masks.items()}


def penalty(error: Float[Array, "n *d"], form: Form, huber: float | None) -> Float[Array, " n"]:
    """Penalty of each row, a mean over its components: Δ²; beyond `huber` its continuation 2·huber·|Δ| − huber²; or the length ‖Δ‖."""
    rows = error.reshape(len(error), -1)
    square = rows * rows
    if form == "norm":
        total = jnp.sum(square, -1)
        return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1)), 0)
    if form == "huber":
        assert huber is not None
        square = jnp.where(jnp.abs(rows) <= huber, square, 2 * huber * jnp.abs(rows) - huber**2)
    return jnp.mean(square, -1)


def errors(prediction: Prediction, graph: Graph, targets: Targets) -> dict[str, Array]:
    """Predicted − labelled, [n, components]; energies and dipoles per atom. A quantity that is not predicted is left out."""
    size = jnp.maximum(graph.sum_atoms(jnp.ones_like(prediction.atom_energy)), 1)
    found = {"energy": (prediction.energy - targets.energy) / size, "forces": prediction.forces - targets.forces}
    if prediction.stress is not None:
        found["stress"] = prediction.stress - targets.stress
    if prediction.charges is not None:
        assert prediction.dipole is not None
        found["charges"] = prediction.charges - targets.charges
        found["dipole"] = (prediction.dipole - targets.dipole) / size[:, None]
    return found


def loss_terms(
    config: LossConfig,
    prediction: Prediction,
    graph: Graph,
    targets: Targets,
    weight: Float[Array, " G"],
    counts: Terms,
    noise: dict[str, Float[Array, ""]] | None = None,
) -> Terms:
    """The unweighted terms of one member's loss on this device.

    Args:
        config: forms of the errors, and kind of noise.
        prediction, graph, targets: of the structures on this device.
        weight: of each structure.
        counts: `label_counts` summed over devices.
        noise: log σ of each of `trained_sigmas`.

    Returns:
        energy [(eV/atom)²], forces [(eV/Å)²], stress [(eV/Å³)²], … for squared errors; lengths for 'norm', numbers for likelihoods.
    """
    per_atom = weight[graph.graph_index]
    sigma = _sigma(config, prediction, graph, noise)
    terms = {}
    for name, error in errors(prediction, graph, targets).items():
        mask = getattr(targets, f"has_{name}")
        value = penalty(error, config.form_of(name), config.huber)
        if name in sigma:
            s = jnp.broadcast_to(sigma[name], value.shape)
            value = 0.5 * value / s**2 + jnp.log(s)
            if config.noise == "atoms" and name in OF_ATOMS:
                value = value * jax.lax.stop_gradient(s) ** (2 * config.beta)
        rows = per_atom if name in ("forces", "charges") else weight
        terms[name] = jnp.sum(jnp.where(mask, value * rows, 0)) / jnp.maximum(counts[name], 1)
    return terms | _balance(config, prediction, graph, weight, counts)


def _sigma(config: LossConfig, prediction: Prediction, graph: Graph, noise: dict[str, Array] | None) -> dict[str, Array]:
    """σ of each quantity whose term is a likelihood, in the units of its error."""
    trained = {name: jnp.exp(value) for name, value in (noise or {}).items()}
    if config.noise != "atoms":
        return trained
    assert prediction.force_noise is not None and prediction.energy_noise is not None
    size = jnp.maximum(graph.sum_atoms(jnp.ones_like(prediction.atom_energy)), 1)
    return {**trained, "energy": prediction.energy_noise / size, "forces": prediction.force_noise}


def _balance(config: LossConfig, prediction: Prediction, graph: Graph, weight: Float[Array, " G"], counts: Terms) -> Terms:
    """Net force and net torque per atom, ⟨(ΣF/n)²⟩ and ⟨(Σ (r−r̄)×F/n)²⟩ [(eV/Å)², eV²]; torque for molecules only, where rotation is a symmetry."""
    terms: Terms = {}
    if not (config.net_force or config.net_torque):
        return terms
    size = jnp.maximum(graph.sum_atoms(jnp.ones_like(prediction.atom_energy)), 1)[:, None]
    share = jnp.where(graph.graph_mask, weight, 0) / jnp.maximum(counts["structures"], 1)
    if config.net_force:
        terms["net_force"] = jnp.sum(share * jnp.mean((graph.sum_atoms(prediction.forces) / size) ** 2, -1))
    if config.net_torque:
        centre = graph.sum_atoms(graph.positions) / size
        torque = graph.sum_atoms(jnp.cross(graph.positions - centre[graph.graph_index], prediction.forces)) / size
        molecule = jnp.all(graph.cell == 0, (1, 2))
        terms["net_torque"] = jnp.sum(jnp.where(molecule, share * jnp.mean(torque**2, -1), 0))
    return terms


def total_loss(config: LossConfig, weights: dict[str, Float[Array, ""]], terms: Terms) -> Float[Array, ""]:
    """Σ weight · term; `weights` are those of the quantities in this stage."""
    fixed = {"net_force": config.net_force, "net_torque": config.net_torque}
    return sum(
        ((weights[name] if name in weights else fixed[name]) * value for name, value in terms.items()), jnp.zeros_like(terms["energy"])
    )
