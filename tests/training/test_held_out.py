"""What is held out is apart from all else, passes the same checks, and can be judged by what is trained."""

from types import SimpleNamespace

import numpy as np
import pytest

import eqpot
from eqpot.core.config import build
from eqpot.core.errors import CheckpointError, ConfigError, DataError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.training import FitConfig
from eqpot.training.metrics import Evaluation
from eqpot.training.setup import load_data, make_problem
from eqpot.training.validation import validation_loss


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


def unlabelled(frames):
    return Dataset(tuple(f.replace(labels=Labels()) for f in frames))


@pytest.mark.parametrize("stage_two", [{}, {"stage_two": {"energy": 0, "forces": 10}}])
def test_validation_frames_must_have_labels_that_count(frames, settings, stage_two):
    """Before, the loss of nothing was 0, so that the first epoch was the best, or the strongest ridge."""
    train, held = frames[:30], frames[30:]
    energies = Dataset(tuple(f.replace(labels=Labels(energy=f.labels.energy)) for f in held))
    weightless = Dataset(tuple(f.replace(weight=0.0) for f in held))
    only = {"loss": {"energy": 0}} if not stage_two else {"loss": {"energy": 1}}
    key = "stage_two" if stage_two else "loss"
    for valid in (unlabelled(held), energies, weightless):
        where = "loss" if stage_two and valid is not energies else key
        with pytest.raises(
            DataError, match=f"no validation frame that counts has .*forces, found 10 without; expected labels of what {where}"
        ):
            problem(settings | only | stage_two, {}, train, valid)
    messages = problem(settings, {}, train, energies).warnings
    assert "no validation frame that counts has forces: epochs are compared without" in messages


class Known(Evaluation):
    """Errors that are known: of the energy [eV], and of each force component the same number [eV/Å]."""

    def __init__(self, frames, errors):
        super().__init__((), ())
        object.__setattr__(self, "known", list(zip(frames, errors, strict=True)))

    def pairs(self, label):
        labelled = ((f, np.asarray(getattr(f.labels, label)), e) for f, e in self.known if getattr(f.labels, label) is not None)
        return [(f, y + e, y) for f, y, e in labelled]


def test_validation_weighs_frames_as_the_training_does(frames):
    """Before, frames that were switched off decided which epoch was the best."""
    held = [f.replace(group="bad" if k % 2 else "good", weight=1.0 + k) for k, f in enumerate(frames[:6])]
    error = np.random.default_rng(0).normal(size=6)
    own, weights = np.array([f.weight for f in held]), {"energy": 2.0, "forces": 3.0, "stress": 5.0}

    def loss(errors, **keys):
        return validation_loss(build(FitConfig, {"loss": keys}).loss, weights, Known(held, errors))

    expected = np.mean(own * np.where(np.arange(6) % 2, 0.5, 1) * (2 * (error / 3) ** 2 + 3 * error**2))
    assert loss(error, groups={"bad": 0.5}) == pytest.approx(expected)
    worse = error + 9 * (np.arange(6) % 2)
    assert loss(worse, groups={"bad": 0}) == loss(error, groups={"bad": 0}) and loss(worse) > 2 * loss(error)
    nll = 2 * 0.5 * np.log(np.average((error / 3) ** 2, weights=own)) + 3 * 0.5 * np.log(np.average(error**2, weights=own))
    assert loss(error, noise="learned") == pytest.approx(nll)


def test_labels_of_two_oracles_are_not_one_set(frames, settings):
    """What `eqpot label` wrote beside its labels; before, only `eqpot active` looked at it."""
    one, other = (Dataset(tuple(f.replace(oracle=name) for f in part)) for name, part in (("a1", frames[:20]), ("b2", frames[20:])))
    both = Dataset((*one, *other))
    with pytest.raises(DataError, match=r"toy:frame 20: oracle_hash is b2, that of toy:frame 0 a1.*15 more.*allow 'mixed-oracles'"):
        problem(settings, {}, both[:36], frames[36:])
    with pytest.raises(DataError, match=r"toy:frame 20: oracle_hash is b2.*allow 'mixed-oracles'"):
        problem(settings, {}, one, other)
    allowed = {"allow": ["mixed-oracles"]}
    assert problem(settings, allowed, one, other).train and problem(settings, {}, one, frames[20:]).train


def test_given_reference_energies_are_those_of_each_level(files, settings):
    """Before, they were read and not used where there are heads."""
    heads = {"a": files.a, "b": files.b}
    given = {"a": {"H": -13.0}, "b": {"H": -12.0, "O": -400.0}}
    found = np.reshape(problem(settings, {"heads": heads, "valid": 4, "reference_energies": given}).reference_energies, (2, 2))
    assert found[:, 0].tolist() == [-13.0, -12.0] and found[1, 1] == -400.0
    for wrong, text in (
        ({"H": -13.0}, "found one energy of H for 2 levels of theory.*such as {a: {H: -13}}"),
        ({"c": {"H": -13.0}}, "for 'c', expected that of a head"),
    ):
        with pytest.raises(ConfigError, match=text):
            build(FitConfig, settings | {"data": {"heads": heads, "reference_energies": wrong}})
    with pytest.raises(ConfigError, match="for 'a', expected that of a head"):
        build(FitConfig, settings | {"data": {"train": files.a, "reference_energies": given}})
