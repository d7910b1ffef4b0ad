"""jax-md's NequIP, on an exact list of edges: its own neighbour lists carry spare slots and no batches."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from jax_md.nn import nequip

PACKAGE, FRAMEWORK = "jax-md", "jax"
MODELS = {"nequip": {"hidden_irreps": "64x0e + 64x1o + 64x2e", "sh_irreps": "1x0e + 1x1o + 1x2e", "graph_net_steps": 3}}


def prepare(structure, model, copies):
    """See serve.py."""
    cutoff = float(structure["cutoff"])
    atoms = Atoms(structure["numbers"], structure["positions"], cell=structure["cell"], pbc=structure["pbc"])
    receivers, senders, shifts = neighbor_list("ijS", atoms, cutoff)
    elements, species = np.unique(atoms.numbers, return_inverse=True)
    config = nequip.default_config()
    config.update(n_elements=len(elements), r_max=cutoff, n_neighbors=len(senders) / len(atoms), shift=0.0, scale=1.0, **MODELS[model])
    network = nequip.model_from_config(config)
    first = np.repeat(np.arange(copies) * len(atoms), len(senders))
    graph = jraph.GraphsTuple(
        nodes=np.tile(np.eye(len(elements), dtype=np.float32)[species], (copies, 1)),
        edges=np.tile(shifts @ atoms.cell.array, (copies, 1)).astype(np.float32),
        senders=np.tile(senders, copies) + first,
        receivers=np.tile(receivers, copies) + first,
        globals=np.tile(atoms.positions, (copies, 1)).astype(np.float32),
        n_node=np.full(copies, len(atoms)),
        n_edge=np.full(copies, len(senders)),
    )

    def energies(parameters, positions, graph):
        vectors = positions[graph.senders] - positions[graph.receivers] + graph.edges
        return network.apply(parameters, graph._replace(edges=vectors, globals=None))[:, 0]

    def evaluate(parameters, graph):
        energy, pull_back = jax.vjp(lambda positions: energies(parameters, positions, graph), graph.globals)
        return energy, -pull_back(jnp.ones_like(energy))[0]

    parameters = jax.jit(network.init)(jax.random.key(0), graph._replace(globals=None))
    return evaluate, parameters, graph, len(senders) * copies
