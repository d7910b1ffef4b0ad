"""eqpot: a step of velocity Verlet, neighbours included."""

import sys
import time

import numpy as np
from ase import Atoms

from eqpot.md import NVE
from eqpot.md.run import open_session
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential

MODELS = {
    "mace": EquivariantConfig(hidden="64x0e + 64x1o", l_max=3, correlation=3, radial_hidden=(64, 64, 64)),
    "nequip": EquivariantConfig(hidden="64x0e + 64x1o + 64x2e", l_max=2, n_layers=3, update="gate", correlation=1, radial_hidden=(64, 64)),
}
kind, structure, steps = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])
atoms = Atoms(structure["numbers"], structure["positions"], cell=structure["cell"], pbc=True)
spec = ModelSpec(MODELS[kind], ("Si",), Normalization(28.0, 0.05))
session = open_session(Potential(spec, spec.init_members([0]), (0.0,)), [atoms], [NVE(timestep_fs=1.0)], 10**6, None, temperature_K=300.0)
at = 0
for _ in sys.stdin:
    began = time.perf_counter()
    with session.precision():
        session.driver.advance([at + steps])
    at += steps
    print("seconds", time.perf_counter() - began, flush=True)
