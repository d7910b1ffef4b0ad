"""Dynamics must not rely on promotion of dtypes."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_promotion():
    """Our own arithmetic mixes no dtypes; only JAX-MD's may."""
    with jax.numpy_dtype_promotion("strict"):
        yield
