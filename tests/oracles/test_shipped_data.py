"""The data set that comes with the project is what its datasheet says."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eqpot.data import read
from eqpot.oracles import TBLiteOracle

FILE = Path(__file__).parents[2] / "train" / "data" / "ethanol_gfn2.extxyz.xz"


@pytest.fixture(scope="module")
def dataset():
    return read(FILE)


def test_counts_labels_and_size(dataset):
    assert Counter(f.group for f in dataset) == {"IsolatedAtom": 3, "T300": 100, "T500": 100, "T750": 100, "T1000": 100}
    assert all({"energy", "forces", "charges", "dipole"} <= set(f.labels.known) for f in dataset)
    assert FILE.stat().st_size < 1_000_000


def test_ethanol_stays_ethanol(dataset):
    bonds = {(0, 1): 1.52, (1, 2): 1.41, (2, 3): 0.97} | {(0, h): 1.09 for h in (6, 7, 8)} | {(1, h): 1.09 for h in (4, 5)}
    for frame in dataset:
        if len(frame) == 1:
            continue
        for (i, j), length in bonds.items():
            distance = np.linalg.norm(frame.structure.positions[i] - frame.structure.positions[j])
            assert 0.8 * length < distance < 1.3 * length


@pytest.mark.parametrize("index", [3, 200, 402])
def test_the_labels_belong_to_the_positions_in_the_file(dataset, index):
    pytest.importorskip("tblite")
    frame = dataset[index]
    (again,) = TBLiteOracle(accuracy=0.1).label([frame.structure])
    assert again.labels.energy == pytest.approx(frame.labels.energy, abs=2e-5)
    np.testing.assert_allclose(again.labels.forces, frame.labels.forces, atol=2e-4)
