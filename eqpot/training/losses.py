"""The loss: weighted mean squared errors of energy per atom, forces and stress, each over the labels that exist."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from eqpot.graph import Graph
from eqpot.potential import Prediction
from eqpot.training.batches import Targets
from eqpot.training.config import LossConfig


def penalty(error: Float[Array, "*n"], huber: float | None) -> Float[Array, "*n"]:
    """error², or beyond `huber` its linear continuation 2·huber·|error| − huber²."""
    square = error * error
    if huber is None:
        return square
    return jnp.where(jnp.abs(error) <= huber, square, 2 * huber * jnp.abs(error) - huber**2)


def masked_mean(values: Float[Array, "n *d"], mask: Bool[Array, " n"], weight: Float[Array, " n"]) -> Float[Array, ""]:
    """Weighted sum over the masked rows, divided by their number of components; zero when there is none."""
    shape = (-1, *(1,) * (values.ndim - 1))
    total = jnp.sum(jnp.where(mask.reshape(shape), values * weight.reshape(shape), 0))
    count = jnp.sum(mask).astype(values.dtype) * (values.size // values.shape[0])
    return total / jnp.maximum(count, 1)


def loss_terms(
    config: LossConfig, prediction: Prediction, graph: Graph, targets: Targets, weight: Float[Array, " G"]
) -> dict[str, Float[Array, ""]]:
    """The unweighted terms of one member's loss: energy [(eV/atom)²], forces [(eV/Å)²], stress [(eV/Å³)²]."""
    atoms = graph.sum_atoms(jnp.ones_like(prediction.atom_energy))
    per_atom = (prediction.energy - targets.energy) / jnp.maximum(atoms, 1)
    terms = {
        "energy": masked_mean(penalty(per_atom, config.huber), targets.has_energy, weight),
        "forces": masked_mean(penalty(prediction.forces - targets.forces, config.huber), targets.has_forces, weight[graph.graph_index]),
    }
    if prediction.stress is not None:
        terms["stress"] = masked_mean(penalty(prediction.stress - targets.stress, config.huber), targets.has_stress, weight)
    return terms


def total_loss(config: LossConfig, terms: dict[str, Float[Array, ""]]) -> Float[Array, ""]:
    """Σ weight · term."""
    return sum((getattr(config, name) * value for name, value in terms.items()), jnp.zeros_like(terms["energy"]))
