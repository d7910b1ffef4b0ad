"""Energies that are sums of terms: a network, and what is known without it."""

from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from eqpot.graph import Graph
from eqpot.models.base import AtomOutputs, EnergyModel, Geometry


class SumModel(EnergyModel):
    """E_i = Σ_t E_i^t; every other output is that of the one term that gives it.

    Terms are evaluated in order. One that `reads` outputs of others is given them: energies of charges, say, that a network before it predicts.
    Each term describes the graph for itself and sees only neighbours within its own cutoff.

    Args:
        terms: models by name, those whose outputs others read first.
    """

    def __init__(self, terms: dict[str, EnergyModel]) -> None:
        self.terms = nnx.Dict(terms)
        self.names = tuple(terms)
        self.cutoff = max(term.cutoff for term in terms.values())
        self.receptive_field = max(term.receptive_field for term in terms.values())

    def describe(self, graph: Graph) -> dict[str, Geometry]:
        """The geometry of each term."""
        return {name: self.terms[name].describe(self._within(graph, self.terms[name].cutoff)) for name in self.names}

    def _within(self, graph: Graph, cutoff: float) -> Graph:
        """The graph without neighbours beyond a cutoff; all that a term makes of the others is zero, so the edge of the mask has no slope."""
        if cutoff >= self.cutoff:
            return graph
        vectors = jax.lax.stop_gradient(graph.edge_vectors())
        return graph.replace(edge_mask=graph.edge_mask & (jnp.sum(vectors * vectors, -1) < cutoff**2))

    def __call__(self, graph: Graph, geometry: dict[str, Geometry]) -> AtomOutputs:
        energy, others = jnp.zeros(graph.atom_mask.shape, graph.positions.dtype), {}
        for name in self.names:
            term = self.terms[name]
            outputs = term(graph, geometry[name], **{output: others[output] for output in term.reads})
            energy = energy + outputs.energy
            others |= _given(outputs)
        return AtomOutputs(energy, **others)


def _given(outputs: AtomOutputs) -> dict[str, Any]:
    """What a term says besides its energy; features without a channel say nothing."""
    found = {field.name: getattr(outputs, field.name) for field in fields(outputs) if field.name != "energy"}  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if value is not None and value.shape[-1:] != (0,)}
