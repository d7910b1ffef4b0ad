"""However the members are dealt out to devices, the numbers are theirs."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from eqpot.graph import collate
from eqpot.potential import predict_members

CODE = """
import jax, numpy as np
from eqpot.graph import Structure
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential

config = EquivariantConfig(cutoff=3.5, hidden="4x0e + 4x1o", l_max=1, correlation=2, n_radial=3, radial_hidden=(4,))
spec = ModelSpec(config, ("H", "O"), Normalization(3.0, 1.0, (0.0, 0.0)))
potential = Potential(spec, jax.device_get(spec.init_members([0, 1, 2, 3])), (0.0, 0.0))
result = potential.predict(Structure([8, 1, 1], [[0, 0, 0], [1, 0, 0], [0, 1, 0.2]]))
print(len(jax.devices()), *np.append(result.member_energies, result.member_forces.ravel()))
"""


def numbers(devices: int) -> list[float]:
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=300, check=True)
    found, *values = done.stdout.split()
    assert int(found) == devices
    return [float(v) for v in values]


def test_results_do_not_depend_on_the_number_of_devices():
    alone, dealt_out = numbers(1), numbers(2)
    assert len(alone) == 4 + 36
    assert max(abs(a - b) for a, b in zip(alone, dealt_out, strict=True)) < 1e-6


def test_members_side_by_side_equal_members_in_turn(potential, structures, monkeypatch):
    """The way of an accelerator (vmap) and the way of a CPU (one after the other, in groups) are the same function."""
    host = potential.prepare(structures[0])
    graph = jax.tree.map(jnp.asarray, collate([host]))
    in_turn = predict_members(potential.spec, potential.params, graph)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    side_by_side = predict_members(potential.spec, potential.params, graph)
    np.testing.assert_allclose(side_by_side.energy, in_turn.energy, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(side_by_side.forces, in_turn.forces, rtol=1e-4, atol=1e-5)
