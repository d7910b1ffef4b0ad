"""What a run leaves when it ends, fails or is started again: never an old result, never random parameters, never half a file."""

import json

import jax
import numpy as np
import pytest

import eqpot
from eqpot.core.errors import CheckpointError, ConfigError, TrainingError
from eqpot.data import Dataset
from eqpot.training import folder, loop, parallel
from eqpot.training.batches import structures_per_batch
from eqpot.training.parallel import make_layout, on_first
from eqpot.training.samples import make_samples


def training(**more):
    return {"training": {"epochs": 6, "batch_size": 8, **more}}


def numbers(tree):
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(numbers(a), numbers(b), strict=True))


def test_time_that_is_over_between_validations_loses_nothing(frames, settings):
    """The run is validated where it stops; before, it gave back the random parameters that it began with."""
    rows, limits = [], training(epochs=50, validate_every=10, max_minutes=1e-9)
    potential = eqpot.fit(settings | limits, frames, on_epoch=rows.append)
    assert [r.epoch for r in rows] == [1] and potential.metadata["best_epoch"] == 1
    assert not equal(potential.params, potential.spec.init_members([0, 1]))


def test_without_a_finite_validation_loss_there_is_no_result(frames, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "validation_loss", lambda *_: float("nan"))
    with pytest.raises(TrainingError, match=r"no validation loss was finite in 6 epochs.*last\.safetensors"):
        eqpot.fit(settings, frames, folder=tmp_path)
    assert eqpot.Potential.load(tmp_path / "last.safetensors").metadata["epochs"] == 6
    assert not (tmp_path / "potential.safetensors").exists()


def test_a_longer_run_that_failed_at_its_end_does_not_give_the_old_result(frames, settings, tmp_path, monkeypatch):
    """Nor does it lose what it learned: the parameters are on disk before what may fail."""
    eqpot.fit(settings | training(max_minutes=1e-9), frames, folder=tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(loop, "know_itself", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            eqpot.fit(settings | training(), frames, folder=tmp_path)
    assert eqpot.Potential.load(tmp_path / "potential.safetensors").metadata["epochs"] == 6
    potential = eqpot.fit(settings | training(), frames, folder=tmp_path)
    assert potential.metadata["epochs"] == 6 and potential.trust.domain is not None
    assert eqpot.Potential.load(tmp_path / "last.safetensors").metadata["epochs"] == 6


def test_all_members_stay_where_one_is_not_finite(frames, settings, tmp_path, monkeypatch):
    """Else the last good state would be a good one for some and one step further for others."""
    states, step = [], loop.train_step

    def watched(*args):
        *static, state, graph, targets, knobs = args
        if len(states) == 2:
            spoil = lambda path, x: x.at[:, 1].set(np.inf) if path[-1].name == "weight" else x  # noqa: E731
            targets = jax.tree_util.tree_map_with_path(spoil, targets)
            states.append(numbers(state))
        state, info = step(*static, state, graph, targets, knobs)
        states.append(numbers(state))
        return state, info

    monkeypatch.setattr(loop, "train_step", watched)
    with pytest.raises(TrainingError, match="no longer finite"):
        eqpot.fit(settings, frames, folder=tmp_path)
    assert len(states) == 4 and equal(states[2], states[3]) and not equal(states[0], states[1])


def test_run_json_survives_a_full_disk(frames, settings, tmp_path, monkeypatch):
    eqpot.fit(settings | training(), frames, folder=tmp_path)
    before = (tmp_path / "run.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "replace_file", full)
    eqpot.fit(settings | training(), frames, folder=tmp_path)  # nothing to write
    with pytest.raises(CheckpointError, match=r"run\.json: cannot be written \(No space left on device\)"):
        eqpot.fit(settings | training(patience=40), frames, folder=tmp_path)
    assert (tmp_path / "run.json").read_bytes() == before


def test_all_differences_are_told(frames, settings, tmp_path):
    short = settings | training(epochs=1)
    eqpot.fit(short, frames, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"optimizer\.ema was 0\.99, now 0\.5; seed was 0, now 3; .*the hash of train data differs"):
        eqpot.fit({**short, "seed": 3, "optimizer": {"ema": 0.5}}, frames, folder=tmp_path)


def test_a_run_of_an_unknown_setting_is_another_run(frames, settings, tmp_path):
    short = settings | training(epochs=1)
    eqpot.fit(short, frames, folder=tmp_path)
    known = json.loads((tmp_path / "run.json").read_text())
    del known["ensemble.readouts"]
    (tmp_path / "run.json").write_text(json.dumps(known))
    with pytest.raises(CheckpointError, match=r"ensemble\.readouts was None, now 16"):
        eqpot.fit(short, frames, folder=tmp_path)


def test_frames_with_other_weights_are_other_data(frames, settings, tmp_path):
    short = settings | training(epochs=1)
    eqpot.fit(short, frames, folder=tmp_path)
    heavier = Dataset(tuple(f.replace(weight=3.0) for f in frames))
    with pytest.raises(CheckpointError, match="hash of train data differs"):
        eqpot.fit(short, heavier, folder=tmp_path)


def test_groups_that_changed_places_are_other_weights(frames, settings, tmp_path):
    named = [f.replace(group="a" if k % 3 else "b") for k, f in enumerate(frames)]
    turned = [f.replace(group="b" if k % 3 else "a") for k, f in enumerate(frames)]
    short = settings | training(epochs=1) | {"loss": {"groups": {"a": 2.0}}}
    eqpot.fit(short, Dataset(tuple(named)), folder=tmp_path)
    with pytest.raises(CheckpointError, match="the hash of weights of frames differs"):
        eqpot.fit(short, Dataset(tuple(turned)), folder=tmp_path)


@pytest.mark.parametrize(
    ("optimizer", "text"),
    [
        ({"name": "lbfgs"}, r"'lbfgs' .* found 4 batches per epoch, expected one"),
        ({"accumulate": 25}, r"accumulate: found 25, expected at most the 24 batches of the whole run \(4 per epoch\)"),
    ],
)
def test_an_optimizer_that_the_batches_do_not_suit_is_refused(frames, settings, optimizer, text):
    with pytest.raises(ConfigError, match=text):
        eqpot.fit(settings | {"optimizer": optimizer}, frames)


def test_processes_share_the_structures_of_a_batch_however_it_is_filled(frames, monkeypatch):
    made = make_samples(frames, ("H", "O"), 3.5, np.zeros(2))
    assert structures_per_batch(made, 8, None) == 8 and structures_per_batch(made, 8, 300) == 100
    monkeypatch.setattr(jax, "process_count", lambda: 16)
    with pytest.raises(ConfigError, match="16 processes share the structures of a batch: found 8 in one"):
        make_layout(1, structures_per_batch(made, 8, None))


def test_the_others_do_not_go_on_without_the_first(monkeypatch):
    done = []
    monkeypatch.setattr(parallel, "is_first", lambda: False)
    on_first(lambda: done.append(1))
    monkeypatch.setattr(parallel, "anywhere", lambda flag: True)
    with pytest.raises(TrainingError, match="the first process of this run could not begin"):
        on_first(lambda: done.append(1))
    monkeypatch.setattr(parallel, "is_first", lambda: True)
    with pytest.raises(ZeroDivisionError):
        on_first(lambda: 1 / 0)
    assert not done
