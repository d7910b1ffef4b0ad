"""Features and their rotations."""

import e3nn_jax as e3nn
import jax
import numpy as np
import pytest


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def features():
    """Random features up to a degree: tuple of [atoms, 2l+1, channels]."""

    def make(l_max, atoms=5, channels=3, seed=0):
        rng = np.random.default_rng(seed)
        return tuple(jax.numpy.asarray(rng.normal(size=(atoms, 2 * l + 1, channels))) for l in range(l_max + 1))

    return make


@pytest.fixture(scope="session")
def wigner():
    """D(R) of a degree with natural parity, also for improper R."""

    def matrix(l, rotation):
        with jax.enable_x64(True):
            proper = rotation * np.linalg.det(rotation)
            sign = np.linalg.det(rotation) ** l
            return np.asarray(e3nn.Irrep(l, 1).D_from_matrix(jax.numpy.asarray(proper))) * sign

    return matrix
