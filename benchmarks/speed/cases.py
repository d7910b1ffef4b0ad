"""Models with random weights, and what a user asks of them: a function, and its arguments on their devices."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ase import Atoms

from eqpot.graph import Graph, Host, Structure, collate, prepare
from eqpot.graph.batching import capacity_of
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Params, map_members, place_members, predict_members, predictor

MACE = {"hidden": "64x0e + 64x1o", "l_max": 3, "correlation": 3, "radial_hidden": (64, 64, 64)}
NEQUIP = {"hidden": "64x0e + 64x1o + 64x2e", "l_max": 2, "n_layers": 3, "update": "gate", "correlation": 1, "radial_hidden": (64, 64)}
MODELS = {
    "exact": EquivariantConfig(**MACE),
    "fast": EquivariantConfig(**MACE, radial="degree"),
    "nequip": EquivariantConfig(**NEQUIP),
}
COPIES = 4
"""Structures in a training batch."""


def host_of(atoms: Atoms) -> Host:
    """A structure with its neighbours."""
    elements = sorted(set(atoms.get_chemical_symbols()))
    return prepare(Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc), elements, MODELS["exact"].cutoff)


def spec_of(model: str, atoms: Atoms, host: Host, backend: str = "auto") -> ModelSpec:
    """A model for the elements and the density of a structure."""
    elements = tuple(sorted(set(atoms.get_chemical_symbols())))
    return ModelSpec(MODELS[model], elements, Normalization(len(host.neighbors.receivers) / len(host)), backend)


def placed(spec: ModelSpec, host: Host, copies: int = 1, exact: bool = False) -> tuple[Params, Graph]:
    """One member's parameters and a graph where `map_members` wants them; `exact` without atoms to pad."""
    hosts = [host] * copies
    return place_members(spec.init_members([0]), collate(hosts, capacity_of(hosts, exact=True) if exact else None))


def gradient(spec: ModelSpec, params: Params, graph: Graph) -> Params:
    """∂/∂parameters of mean(energy²) + mean(forces²): what a training step computes, without its optimiser."""

    def make(graph: Graph) -> Callable[[Params], Params]:
        predict_member = predictor(spec, graph)

        def loss(params: Params) -> Any:
            prediction = predict_member(params)
            return jnp.mean(prediction.energy**2) + jnp.mean(prediction.forces**2)

        return jax.grad(loss)

    return map_members(make, params, graph)


CALLS: dict[str, Callable[..., Any]] = {
    "energy+forces": predict_members,
    "energy+forces+stress": partial(predict_members, with_stress=True),
    "training gradient": gradient,
}


def call_of(kind: str, spec: ModelSpec, host: Host) -> Callable[[], Any]:
    """The compiled call of a kind, waiting for its result."""
    function, arguments = jax.jit(partial(CALLS[kind], spec)), placed(spec, host, copies_of(kind))
    return lambda: jax.block_until_ready(function(*arguments))


def copies_of(kind: str) -> int:
    """Structures that a call of a kind computes at once."""
    return COPIES if kind == "training gradient" else 1
