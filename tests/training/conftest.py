"""A tiny learning problem: dimers and trimers of hydrogen and oxygen under an analytic pair potential."""

import numpy as np
import pytest

from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure


def morse(structure: Structure) -> Labels:
    """Energy and forces of ½ Σ (1 − exp(−(r − 1.2)))² − 1 over all pairs [eV, eV/Å]."""
    vectors = structure.positions[None] - structure.positions[:, None]
    distance = np.linalg.norm(vectors, axis=-1) + 10 * np.eye(len(structure))
    well = 1 - np.exp(-(distance - 1.2))
    off = 1 - np.eye(len(structure))
    slope = 2 * well * np.exp(-(distance - 1.2)) * off
    return Labels(energy=float(((well**2 - 1) * off).sum() / 2), forces=(slope[..., None] * vectors / distance[..., None]).sum(1))


def trimer(rng: np.random.Generator, n: int = 3) -> Structure:
    """Atoms in a bent row, about 1.2 Å apart."""
    row = np.array([[0, 0, 0], [1.2, 0, 0], [1.7, 1.1, 0], [2.8, 1.2, 0.4]])[:n]
    return Structure(np.array([8, 1, 1, 8])[:n], row + rng.normal(0, 0.1, (n, 3)))


def toy_frames() -> Dataset:
    """Forty labelled trimers."""
    rng = np.random.default_rng(0)
    structures = [trimer(rng) for _ in range(40)]
    return Dataset(tuple(Frame(s, morse(s), origin=f"toy:frame {k}") for k, s in enumerate(structures)))


SETTINGS = {
    "name": "toy",
    "data": {"valid": 8},
    "model": {
        "cutoff": 3.5,
        "hidden": "8x0e",
        "l_max": 1,
        "correlation": 2,
        "n_layers": 1,
        "n_radial": 4,
        "radial_hidden": [8],
        "readout_hidden": 4,
    },
    "ensemble": {"members": 2},
    "training": {"epochs": 6, "batch_size": 8, "checkpoint_every": 2},
}
"""A configuration that trains in a second or two."""


@pytest.fixture(scope="session")
def frames() -> Dataset:
    """Forty labelled trimers."""
    return toy_frames()


@pytest.fixture(scope="session")
def settings() -> dict:
    """A configuration that trains in a second or two."""
    return SETTINGS


@pytest.fixture(scope="session")
def toy():
    """The generator of the toy problem: (structure of n atoms, its labels)."""
    return trimer, morse
