"""nequip: `NequIPGNNModel`, eager, and compiled as its documentation advises: torch.compile to train, ahead of time to predict."""

import tempfile
from functools import cache

import torch
from ase import Atoms
from nequip.data import AtomicDataDict, compute_neighborlist_, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper
from nequip.model import NequIPGNNModel
from nequip.nn.compile import DictInputOutputWrapper
from nequip.scripts._compile_utils import COMPILE_TARGET_DICT
from nequip.utils.aot import aot_export_model
from nequip.utils.global_state import set_global_state

PACKAGE, FRAMEWORK = "nequip", "torch"
SETTINGS = {"num_layers": 3, "l_max": 2, "parity": False, "num_features": 64, "radial_mlp_depth": 2, "radial_mlp_width": 64}
MODELS = {"nequip": {**SETTINGS, "compile_mode": "eager"}, "nequip, compiled": {**SETTINGS, "compile_mode": "compile"}}


def prepare(structure, model, copies):
    """See serve.py."""
    set_global_state()
    cutoff = float(structure["cutoff"])
    atoms = Atoms(structure["numbers"], structure["positions"], cell=structure["cell"], pbc=structure["pbc"])
    elements = sorted(set(atoms.get_chemical_symbols()))
    data = compute_neighborlist_(ChemicalSpeciesToAtomTypeMapper(elements)(from_ase(atoms)), cutoff)
    data = {key: value.float() if value.is_floating_point() else value for key, value in data.items()}
    n_edges = data[AtomicDataDict.EDGE_INDEX_KEY].shape[1]
    module = NequIPGNNModel(
        seed=0,
        model_dtype="float32",
        type_names=elements,
        type_embed_num_features=len(elements),  # weights per element as elsewhere; the default, 64, takes 1.4 times as long
        r_max=cutoff,
        avg_num_neighbors=n_edges / len(atoms),
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
        **MODELS[model],
    )

    @cache
    def exported():
        return export(module, data)

    def evaluate(module, graph):
        ahead_of_time = MODELS[model]["compile_mode"] == "compile" and not module.training
        prediction = (exported() if ahead_of_time else module)(graph.copy())
        return prediction[AtomicDataDict.TOTAL_ENERGY_KEY], prediction[AtomicDataDict.FORCE_KEY]

    return evaluate, module, AtomicDataDict.batched_from_list([data] * copies) if copies > 1 else data, n_edges * copies


def export(module, data):
    """What `nequip-compile --mode aotinductor --target ase` makes of the model."""
    target = COMPILE_TARGET_DICT["ase"]
    sizes = {name: torch.export.Dim(f"num_{name}s", min=2) for name in ("node", "edge")} | {"graph": torch.export.Dim.STATIC}
    with tempfile.TemporaryDirectory() as folder:
        path = aot_export_model(module, "cpu", target["input"], target["output"], data, sizes, f"{folder}/model.nequip.pt2")
        return DictInputOutputWrapper(torch._inductor.aoti_load_package(path), target["input"], target["output"])
