"""mace-torch: `ScaleShiftMACE`, eager (scripting it changes nothing on CPU)."""

import os

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn of this age reads its constants by pickle; mace sets this too, but later

import numpy as np
import torch
from e3nn import o3
from mace.data import AtomicData
from mace.data.utils import Configuration
from mace.modules import RealAgnosticResidualInteractionBlock, ScaleShiftMACE
from mace.tools import AtomicNumberTable
from mace.tools.torch_geometric.batch import Batch

PACKAGE, FRAMEWORK = "mace-torch", "torch"
MODELS = {"mace": {"hidden_irreps": o3.Irreps("64x0e + 64x1o"), "max_ell": 3, "correlation": 3, "radial_MLP": [64, 64, 64]}}


def prepare(structure, model, copies):
    """See serve.py."""
    torch.set_default_dtype(torch.float32)
    numbers, cutoff = structure["numbers"], float(structure["cutoff"])
    elements = sorted({int(z) for z in numbers})
    configuration = Configuration(numbers, structure["positions"], {}, {}, cell=structure["cell"], pbc=tuple(structure["pbc"]))
    data = AtomicData.from_config(configuration, AtomicNumberTable(elements), cutoff)
    n_edges = data.edge_index.shape[1]
    module = ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        interaction_cls=RealAgnosticResidualInteractionBlock,
        interaction_cls_first=RealAgnosticResidualInteractionBlock,
        num_interactions=2,
        num_elements=len(elements),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=n_edges / len(numbers),
        atomic_numbers=elements,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
        **MODELS[model],
    )
    return evaluate, module, Batch.from_data_list([data] * copies).to_dict(), n_edges * copies


def evaluate(module, graph):
    """Energies and forces."""
    prediction = module(dict(graph), training=module.training)
    return prediction["energy"], prediction["forces"]
