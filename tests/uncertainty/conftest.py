"""Errors whose σ is known."""

import numpy as np
import pytest


@pytest.fixture
def calibrated():
    """Lengths of Gaussian force errors whose σ is known exactly."""
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.01, 0.3, 40_000)
    return np.linalg.norm(rng.normal(size=(40_000, 3)) * sigma[:, None] / np.sqrt(3), axis=1), sigma
