"""nequix: its NequIP in plain XLA, as the OpenEquivariance kernels are for GPU."""

import equinox as eqx
import jax
import jraph
from ase import Atoms
from nequix.data import atomic_numbers_to_indices, dict_to_graphstuple, preprocess_graph
from nequix.model import Nequix

PACKAGE, FRAMEWORK = "nequix", "jax"
MODELS = {"nequip": {"hidden_irreps": "64x0e + 64x1o + 64x2e", "lmax": 2, "n_layers": 3, "radial_mlp_layers": 2, "radial_mlp_size": 64}}


def prepare(structure, model, copies):
    """See serve.py."""
    cutoff = float(structure["cutoff"])
    atoms = Atoms(structure["numbers"], structure["positions"], cell=structure["cell"], pbc=structure["pbc"])
    elements = sorted({int(z) for z in atoms.numbers})
    single = dict_to_graphstuple(preprocess_graph(atoms, atomic_numbers_to_indices(elements), cutoff, targets=False))
    n_edges = int(single.n_edge[0])
    # The last graph is padding to the model.
    graph = jraph.pad_with_graphs(jraph.batch_np([single] * copies), copies * len(atoms) + 1, copies * n_edges, copies + 1)
    network = Nequix(jax.random.key(0), len(elements), cutoff=cutoff, avg_n_neighbors=n_edges / len(atoms), **MODELS[model])
    parameters, static = eqx.partition(network, eqx.is_inexact_array)

    def evaluate(parameters, graph):
        energy, forces, _stress = eqx.combine(parameters, static)(graph)
        return energy, forces

    return evaluate, parameters, graph, n_edges * copies
