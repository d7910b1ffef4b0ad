"""What all tests share: JAX on a CPU under strict promotion of types, small potentials, structures."""

import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# Most of the tests' time goes to the compiler; with the older emitters of fused loops and few passes of LLVM it needs less than half of it, and the programs
# run as fast. `XLA_FLAGS= make test` compiles as users do.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1")

from pathlib import Path

import jax
import numpy as np
import pytest
from small_models import NETWORK

from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential
from eqpot.testing import samples

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RELAXED = {"md", "integration", "notebooks", "cli"}
"""Folders whose dependencies (jax-md) need JAX's standard promotion of types."""
BRIEF = {"active", "cli", "conformance", "integration", "models", "nn", "notebooks", "physics", "potential", "training", "uncertainty"}
"""Folders whose programs run so briefly that optimising them takes longer."""

SMALL = {"cutoff": 3.5, "hidden": "8x0e + 8x1o", "l_max": 2, "n_radial": 4, "radial_hidden": (8,), "readout_hidden": 8}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    room = item.path.relative_to(Path(__file__).parent).parts[0]
    jax.config.update("jax_numpy_dtype_promotion", "standard" if room in RELAXED else "strict")
    if os.environ["XLA_FLAGS"]:
        jax.config.update("jax_disable_most_optimizations", room in BRIEF)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(room in BRIEF)  # for the processes that a test starts


def pytest_runtest_teardown(item, nextitem):
    """Every compiled program maps memory, of which a process may have 65,530 pieces, beyond which the compiler crashes; 20,000 of them are about 3 GB."""
    maps = Path("/proc/self/maps")
    if hash(item.nodeid) % 8 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        gc.unfreeze()
        jax.clear_caches()
        gc.collect()
    if nextitem is None or nextitem.path != item.path:
        # What JAX keeps are millions of objects, which the collector of garbage would go through time and again.
        gc.collect()
        gc.freeze()


def drawn(spec: ModelSpec, seed: int):
    """Parameters at their usual scale (every weight is normal with the width of its fan-in), drawn by NumPy, which compiles nothing."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: (rng.normal(size=s.shape) * max(s.shape[-2], 1) ** -0.5).astype(np.float32), spec.shapes())


@pytest.fixture(scope="session")
def make_spec():
    """A specification; keywords change the small configuration (`tiny=True`: the tiny one)."""

    def make(elements=("H", "C", "O"), tiny=False, **changes):
        config = EquivariantConfig(**{**(NETWORK if tiny else SMALL), **changes})
        shift = tuple(np.round(np.linspace(0.3, -0.2, len(elements) * config.n_heads), 3).tolist())
        return ModelSpec(config, tuple(elements), Normalization(6.0, 1.0, shift))

    return make


@pytest.fixture(scope="session")
def draw():
    """Parameters of one member of a specification, from a seed."""
    return drawn


@pytest.fixture(scope="session")
def make_potential(make_spec):
    """A potential of some members; keywords as for `make_spec`."""

    def make(members=2, dtype="float32", **changes):
        spec = make_spec(**changes)
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *[drawn(spec, seed) for seed in range(members)])
        references = tuple((-10.0 * (1 + np.arange(len(spec.elements) * spec.config.n_heads))).tolist())
        return Potential(spec, params, references, {"note": "test"}).astype(dtype)

    return make


@pytest.fixture(scope="session")
def potential(make_potential):
    """Two tiny members of the contraction kind for H, C and O."""
    return make_potential(tiny=True)


@pytest.fixture(scope="session")
def gate_potential(make_potential):
    """Two tiny members of the gate kind for H, C and O."""
    return make_potential(tiny=True, update="gate", correlation=1, hidden="4x0e + 4x1o", n_layers=2)


@pytest.fixture(scope="session")
def structures(potential):
    """A molecule, a sheared crystal, a left-handed crystal, a slab."""
    return samples.general(potential.elements, potential.cutoff)


@pytest.fixture(scope="session")
def data_dir():
    """The shared reference data, or skip."""
    if not DATA.is_dir():
        pytest.skip(f"reference data not here: {DATA}")
    return DATA
