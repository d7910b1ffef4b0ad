"""However the members are dealt out to devices, the numbers are theirs."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.graph import collate
from eqpot.potential import predict_members

CODE = """
import jax, numpy as np
from eqpot.graph import Structure
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential

config = EquivariantConfig(cutoff=3.5, hidden="4x0e + 4x1o", l_max=1, correlation=2, n_radial=3, radial_hidden=(4,))
spec = ModelSpec(config, ("H", "O"), Normalization(3.0, 1.0, (0.0, 0.0)))
rng = np.random.default_rng(0)
positions = 2.0 * np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) + rng.normal(0, 0.1, (64, 3))
structure = Structure(rng.choice([1, 8], 64), positions, 8.0 * np.eye(3), True)
print(len(jax.devices()))
for members in (4, 1):
    potential = Potential(spec, jax.device_get(spec.init_members(list(range(members)))), (0.0, 0.0))
    result = potential.predict(structure)
    print(*np.concatenate([result.member_energies, result.member_forces.ravel(), result.stress.ravel()]))
"""


def numbers(devices: int) -> list[float]:
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=600, check=True)
    found, *values = done.stdout.split()
    assert int(found) == devices
    return [float(v) for v in values]


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_devices():
    """Two devices: members in two groups; one member whose atoms the devices share. Three: neither divides evenly."""
    alone = numbers(1)
    assert len(alone) == 4 + 1 + (4 + 1) * 64 * 3 + 2 * 9
    for devices in (2, 3):
        assert max(abs(a - b) for a, b in zip(alone, numbers(devices), strict=True)) < 2e-5


def test_members_side_by_side_equal_members_in_turn(potential, structures, monkeypatch):
    """The way of an accelerator (vmap) and the way of a CPU (one after the other, in groups) are the same function."""
    host = potential.prepare(structures[0])
    graph = jax.tree.map(jnp.asarray, collate([host]))
    in_turn = predict_members(potential.spec, potential.params, graph)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    side_by_side = predict_members(potential.spec, potential.params, graph)
    np.testing.assert_allclose(side_by_side.energy, in_turn.energy, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(side_by_side.forces, in_turn.forces, rtol=1e-4, atol=1e-5)
