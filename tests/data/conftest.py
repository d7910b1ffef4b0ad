"""Frames and files for the tests of the data room."""

from pathlib import Path

import numpy as np
import pytest

from eqpot.graph.structure import Frame, Labels, Structure

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def water():
    """Makes a water molecule with one bond stretched by `shift` [Å]."""

    def make(energy: float | None = -14.2, shift: float = 0.0, **labels: object) -> Frame:
        positions = np.array([[0, 0, 0.119], [0, 0.763 + shift, -0.477], [0, -0.763, -0.477]])
        return Frame(Structure(np.array([8, 1, 1]), positions), Labels(energy=energy, **labels))

    return make


@pytest.fixture
def shared_file():
    """Path of a file of the shared reference data, or skips."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"reference data not here: {path}")
        return path

    return find
