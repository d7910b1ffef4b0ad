"""Ours."""

import os

os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(len(os.sched_getaffinity(0))))

from ase.data import chemical_symbols

from eqpot.graph import Structure
from eqpot.graph.batching import capacity_of, collate
from eqpot.graph.batching import prepare as prepare_host
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec
from eqpot.potential.derivatives import predict

PACKAGE, FRAMEWORK = "eqpot", "jax"
MACE = {"hidden": "64x0e + 64x1o", "l_max": 3, "correlation": 3, "radial_hidden": (64, 64, 64)}
MODELS = {
    "mace": MACE,
    "mace, fast": {**MACE, "radial": "degree"},
    "nequip": {
        "hidden": "64x0e + 64x1o + 64x2e",
        "l_max": 2,
        "n_layers": 3,
        "update": "gate",
        "correlation": 1,
        "radial_hidden": (64, 64),
    },
}


def prepare(structure, model, copies):
    """See serve.py."""
    numbers, cutoff = structure["numbers"], float(structure["cutoff"])
    elements = tuple(sorted({chemical_symbols[z] for z in numbers}))
    host = prepare_host(Structure(numbers, structure["positions"], structure["cell"], structure["pbc"]), elements, cutoff)
    n_edges = len(host.neighbors.receivers)
    spec = ModelSpec(EquivariantConfig(cutoff=cutoff, **MODELS[model]), elements, Normalization(average_neighbors=n_edges / len(numbers)))

    def evaluate(parameters, graph):
        prediction = predict(spec, parameters, graph)
        return prediction.energy, prediction.forces

    hosts = [host] * copies
    return evaluate, spec.init(0), collate(hosts, capacity_of(hosts, exact=True)), n_edges * copies
