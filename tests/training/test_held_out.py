"""What is held out is apart from all else, passes the same checks, and can be judged by what is trained."""

from types import SimpleNamespace

import numpy as np
import pytest

import eqpot
from eqpot.core.config import build
from eqpot.core.errors import CheckpointError, DataError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.training import FitConfig
from eqpot.training.setup import load_data, make_problem


@pytest.fixture
def files(frames, tmp_path):
    """Forty frames in files of ten: a to d."""
    for k, name in enumerate("abcd"):
        eqpot.write(tmp_path / f"{name}.extxyz", frames[10 * k : 10 * k + 10])
    return SimpleNamespace(**{name: str(tmp_path / f"{name}.extxyz") for name in "abcd"}, folder=tmp_path)


def problem(settings, data, train=None, valid=None):
    config = build(FitConfig, settings | {"data": data})
    return make_problem(config, *load_data(config, train, valid))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"train": "a", "valid": "b", "test": "b"}, "this test frame is also a validation frame"),
        ({"train": "a", "valid": "b", "calibrate": "b"}, "this calibration frame is also a validation frame"),
        ({"train": "a", "valid": "b", "test": "c", "calibrate": "c"}, "this calibration frame is also a test frame"),
        ({"train": "a", "valid": "b", "test": "a"}, "this test frame is also a training frame"),
    ],
)
def test_no_two_parts_share_a_structure(files, settings, data, text):
    named = {key: getattr(files, name) for key, name in data.items()}
    with pytest.raises(DataError, match=rf"{text} \(10 such frames\)"):
        load_data(build(FitConfig, settings | {"data": named}))


@pytest.mark.parametrize("key", ["valid", "test", "calibrate"])
def test_held_out_frames_pass_the_checks_of_training_frames(frames, files, settings, key):
    name = {"valid": "validation", "test": "test", "calibrate": "calibration"}[key]
    wild = frames[3].replace(labels=Labels(frames[3].labels.energy, 1000 * np.ones((3, 3))), structure=frames[3].structure)
    moved = Structure(wild.structure.numbers, wild.structure.positions * 1.001)
    eqpot.write(files.folder / "wild.extxyz", [*frames[30:], wild.replace(structure=moved)])
    data = {"train": files.a, "valid": files.b, "test": files.c} | {key: str(files.folder / "wild.extxyz")}
    with pytest.raises(DataError, match=rf"{name} frames: .*wild\.extxyz.* force of 1\d+ eV/Å.* allow 'large-force'"):
        problem(settings, data)
    assert problem(settings, data | {"allow": ["large-force", "net-force"]}).with_stress is False


@pytest.mark.parametrize("key", ["valid", "test", "calibrate"])
def test_an_element_that_is_never_trained_is_refused_before_the_training(frames, files, settings, key):
    """Before, a calibration failed after all epochs, and again whenever it was repeated."""
    strange = Frame(Structure([16, 1], [[0, 0, 0], [1.3, 0, 0]]), Labels(energy=-1.0, forces=np.zeros((2, 3))))
    eqpot.write(files.folder / "strange.extxyz", [*frames[30:], strange])
    data = {"train": files.a, "valid": files.b, key: str(files.folder / "strange.extxyz"), "allow": ["energy-outlier"]}
    with pytest.raises(DataError, match=r"strange\.extxyz.*element S of this \w+ frame is in no training frame"):
        problem(settings, data)


def test_few_frames_at_rest_may_be_held_out(frames, settings):
    """Most of those drawn may have no forces by symmetry, as long as those of the training frames are not all zero."""
    rest = frames[0].replace(labels=Labels(frames[0].labels.energy, np.zeros((3, 3))))
    assert problem(settings, {"valid": 8}, frames[1:], Dataset((rest,))).valid


@pytest.mark.slow
def test_replayed_frames_are_known_and_apart(frames, files, settings, tmp_path):
    """The base was trained on them: none may be held out, and others in their place are another run."""
    base = tmp_path / "base.safetensors"
    eqpot.fit(settings | {"data": {"valid": 2}, "training": {"epochs": 1, "batch_size": 8}}, frames[:10]).save(base)
    run = {
        "data": {"train": files.b, "valid": files.c},
        "finetune": {"base": str(base), "replay": files.a, "allow_disagreement": True},
        "training": {"epochs": 1, "batch_size": 8},
    }
    with pytest.raises(DataError, match="this validation frame is also a replayed frame"):
        eqpot.fit(run | {"data": {"train": files.b, "valid": files.a}})
    eqpot.fit(run, folder=tmp_path / "run")
    eqpot.write(files.a, frames[:9], overwrite=True)
    with pytest.raises(CheckpointError, match="the hash of replay data differs"):
        eqpot.fit(run, folder=tmp_path / "run")


def test_labels_to_calibrate_with_are_asked_for_before_the_training(frames, settings, tmp_path):
    bare = [f.replace(labels=Labels(charges=np.zeros(3))) for f in frames[:12]]
    eqpot.write(tmp_path / "bare.extxyz", bare)
    data = {"valid": 4, "calibrate": str(tmp_path / "bare.extxyz")}
    with pytest.raises(DataError, match=r"data\.calibrate: found no energy, forces or stress in at least 10 frames"):
        eqpot.fit(settings | {"data": data}, frames[12:])
