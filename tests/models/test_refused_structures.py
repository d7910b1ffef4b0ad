"""A structure that a model has no energy for is refused at every door, in one line."""

import jax
import numpy as np
import pytest

import eqpot
from eqpot.core.errors import StructureError
from eqpot.graph import Frame, Labels, Structure
from eqpot.models import Normalization, model_config
from eqpot.potential import ModelSpec, Potential

CONFIG = {
    "kind": "sum",
    "terms": {
        "network": {
            "cutoff": 3.5,
            "hidden": "4x0e",
            "l_max": 1,
            "n_layers": 1,
            "correlation": 2,
            "n_radial": 3,
            "radial_hidden": [4],
            "charges": True,
        },
        "far": {"kind": "coulomb"},
    },
}
WIRE = Structure([8, 1], [[0, 0, 0], [1.0, 0, 0]], 8 * np.eye(3), (True, False, False))


@pytest.fixture(scope="module")
def charged():
    spec = ModelSpec(model_config(CONFIG), ("H", "O"), Normalization(6.0, 1.0, (0.0, 0.0)))
    return Potential(spec, jax.device_get(spec.init_members([0])), (-1.0, -2.0))


def test_prediction_and_dynamics(charged):
    with pytest.raises(StructureError, match="coulomb: found one periodic direction"):
        charged.predict(WIRE)
    with pytest.raises(StructureError, match="coulomb: found one periodic direction"):
        eqpot.simulate(charged, WIRE, eqpot.NVT(temperature_K=300), 1)
    with pytest.raises(StructureError, match="coulomb: found one periodic direction"):
        eqpot.relax(charged, WIRE)


def test_training():
    rng = np.random.default_rng(0)
    frames = [
        Frame(
            Structure([8, 1], WIRE.positions + rng.normal(0, 0.05, (2, 3)), WIRE.cell, WIRE.pbc),
            Labels(energy=-3.0 + 0.1 * rng.normal(), forces=rng.normal(size=(2, 3))),
            origin=f"wire {k}",
        )
        for k in range(12)
    ]
    with pytest.raises(StructureError, match=r"wire .*: coulomb: found one periodic direction"):
        eqpot.fit({"model": CONFIG, "data": {"valid": 2}, "training": {"epochs": 1}}, eqpot.Dataset(tuple(frames)))
