"""mlip: MACE and NequIP in plain XLA, as its fused kernels are for GPU and TPU."""

import jax
import numpy as np
from mlip.data.chemical_system import ChemicalSystem
from mlip.data.dataset_info import DatasetInfo
from mlip.graph import Graph
from mlip.graph.batching_helpers import batch_graphs, pad_with_graphs
from mlip.models import ForceField, Mace, Nequip

PACKAGE, FRAMEWORK = "mlip", "jax"
MODELS = {
    "mace": (Mace, {"num_channels": 64, "node_symmetry": 1, "l_max": 3, "correlation": 3, "radial_mlp_hidden": [64, 64, 64]}),
    "nequip": (Nequip, {"num_layers": 3, "target_irreps": "64x0e + 64x1o + 64x2e", "l_max": 2, "radial_mlp_hidden": [64, 64]}),
}


def prepare(structure, model, copies):
    """See serve.py."""
    numbers, cutoff = structure["numbers"], float(structure["cutoff"])
    pbc = tuple(bool(x) for x in structure["pbc"])
    system = ChemicalSystem(atomic_numbers=numbers, positions=structure["positions"], cell=structure["cell"], pbc=pbc)
    graph = Graph.from_chemical_system(system, cutoff)
    n_edges = len(graph.senders)
    if copies > 1:  # of a batch, mlip takes the last graph for padding
        graph = pad_with_graphs(batch_graphs([graph] * copies), copies * len(numbers) + 1, copies * n_edges, copies + 1)
    graph = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, graph)
    network, settings = MODELS[model]
    energies = {int(z): 0.0 for z in set(numbers)}
    info = DatasetInfo(atomic_energies_map=energies, graph_cutoff_angstrom=cutoff, avg_num_neighbors=n_edges / len(numbers))
    force_field = ForceField.from_mlip_network(network(network.Config(**settings), info))

    def evaluate(parameters, graph):
        prediction = force_field.predictor.apply(parameters, graph)
        return prediction.globals.energy, prediction.nodes.forces

    return evaluate, force_field.params, graph, n_edges * copies
