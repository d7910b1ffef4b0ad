"""Fine-tuning starts exactly where the base ended, refuses data that disagree with it, and does not forget what is replayed."""

import jax
import numpy as np
import pytest

import eqpot
from eqpot.core.errors import CheckpointError, ConfigError, DataError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.training import evaluate

REST = {"optimizer": {"name": "adam", "learning_rate": 1e-12, "ema": 0.0}, "training": {"epochs": 1, "batch_size": 8}}
"""A fit that moves nothing, so that the start can be looked at."""


@pytest.fixture(scope="module")
def base(frames, settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    config = {**settings, "ensemble": {"members": 1}, "training": {"epochs": 60, "batch_size": 8}, "optimizer": {"learning_rate": 0.03}}
    eqpot.fit(config, frames).save(path)
    return path


def changed(frames, energy=lambda e, n: e, forces=lambda f: f):
    """Frames with other labels."""
    return Dataset(tuple(f.replace(labels=Labels(energy(f.labels.energy, len(f)), forces(f.labels.forces))) for f in frames))


def tuned(base, frames, folder=None, members=1, **changes):
    more = {**REST, **changes}
    finetune = {"base": str(base), **more.pop("finetune", {})}
    return eqpot.fit({"data": {"valid": 8}, "ensemble": {"members": members}, "finetune": finetune, **more}, frames, folder=folder)


def test_it_starts_where_the_base_ended(base, frames):
    old, new = eqpot.Potential.load(base), tuned(base, frames, members=2)
    assert new.n_members == 2 and new.spec.config == old.spec.config
    a, b = old.predict(frames[0].structure), new.predict(frames[0].structure)
    assert b.energy == pytest.approx(a.energy, abs=1e-5) and b.forces == pytest.approx(a.forces, abs=1e-5)


def test_a_run_goes_on_when_its_base_has_moved_but_not_when_it_has_changed(base, frames, tmp_path):
    moved, other = tmp_path / "moved.safetensors", tmp_path / "other.safetensors"
    moved.write_bytes(base.read_bytes())
    tuned(base, frames, tmp_path / "run").save(other)
    tuned(moved, frames, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"hash of .*base"):
        tuned(other, frames, tmp_path / "run")


def test_what_the_base_was_trained_on_may_not_calibrate_what_comes_of_it(base, frames):
    """Neither after the fine-tuning nor in it, and there it is said before anything is trained."""
    new = tuned(base, frames[:12])
    old = eqpot.Potential.load(base)
    assert set(old.trust.seen) <= set(new.trust.seen)
    with pytest.raises(DataError, match="structures were trained on"):
        eqpot.fit({"data": {"valid": 8, "calibrate": 10}, "ensemble": {"members": 2}, "finetune": {"base": str(base)}, **REST}, frames)


def test_a_new_element_changes_nothing_for_the_known_ones(base, frames, toy):
    chain, label = toy
    rng = np.random.default_rng(3)
    with_sulphur = [Structure(np.where(s.numbers == 8, 16, s.numbers), s.positions) for s in (chain(rng) for _ in range(16))]
    labelled = Dataset(tuple(Frame(s, label(s), origin=f"sulphur:{k}") for k, s in enumerate(with_sulphur)))
    new = tuned(base, frames + labelled, data={"valid": 8, "allow": ["energy-outlier", "force-unit"]})
    assert new.elements == ("H", "O", "S")
    a, b = eqpot.Potential.load(base).predict(frames[0].structure), new.predict(frames[0].structure)
    assert b.energy == pytest.approx(a.energy, abs=1e-5) and b.forces == pytest.approx(a.forces, abs=1e-5)
    assert np.isfinite(new.predict(with_sulphur[0]).energy)


def test_a_new_head_leaves_the_old_one_alone(base, frames):
    new = tuned(base, changed(frames, energy=lambda e, n: e - 2.0 * n), finetune={"head": "better", "reference_energies": "refit"})
    assert new.heads == ("base", "better")
    old = eqpot.Potential.load(base).predict(frames[0].structure)
    assert new.predict(frames[0].structure, head="base").energy == pytest.approx(old.energy, abs=1e-5)
    moved = new.predict(frames[0].structure, head="better")
    assert moved.energy == pytest.approx(old.energy - 2.0 * len(frames[0]), abs=0.05)  # the fitted step has the base's own error in it
    assert moved.forces == pytest.approx(old.forces, abs=1e-5)


def test_another_level_of_theory_is_refused_until_reference_energies_are_refitted(base, frames):
    shifted = changed(frames, energy=lambda e, n: e - 30.0 * n)
    with pytest.raises(
        DataError, match=r"the new energies lie -(29|30)\.\d+ eV/atom from the base's predictions .*reference_energies to 'refit'"
    ):
        tuned(base, shifted)
    new = tuned(base, shifted, finetune={"reference_energies": "refit"})
    assert evaluate(new, shifted).energy_per_atom.mae < 0.05


def test_forces_that_contradict_the_base_are_refused(base, frames):
    turned = changed(frames, forces=lambda f: -f)
    with pytest.raises(DataError, match="further from the new ones than zero would be"):
        tuned(base, turned, data={"valid": 8, "allow": ["energy-forces"]})


def test_architecture_is_the_bases(base, frames):
    with pytest.raises(ConfigError, match=r"model\.hidden: fine-tuning keeps the architecture"):
        tuned(base, frames, model={"hidden": "16x0e"})


def test_frozen_groups_stay_as_they_were(base, frames):
    moving = {"name": "adam", "learning_rate": 0.01, "ema": 0.0, "rates": {"readouts/*": 1.0, "*": 0.0}}
    old, new = eqpot.Potential.load(base), tuned(base, frames, optimizer=moving, training={"epochs": 2, "batch_size": 8})
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(old.params), jax.tree.leaves(new.params), strict=True):
        still = np.array_equal(np.asarray(a), np.asarray(b))
        assert still != jax.tree_util.keystr(path).startswith("['readouts']")


def test_replay_keeps_what_was_known(base, frames, toy):
    """New data: stretched trimers. Without replay the old ones are forgotten, with it much less."""
    chain, label = toy
    rng = np.random.default_rng(5)
    wide = [Structure(s.numbers, 1.25 * s.positions) for s in (chain(rng) for _ in range(40))]
    new = Dataset(tuple(Frame(s, label(s), origin=f"wide:{k}") for k, s in enumerate(wide)))
    moving = {"optimizer": {"learning_rate": 0.03}, "training": {"epochs": 30, "batch_size": 8}}
    allow = {"finetune": {"allow_disagreement": True}}
    forgets = evaluate(tuned(base, new, **moving, **allow), frames).forces.rmse
    path = base.parent / "old.extxyz"
    eqpot.write(path, frames, overwrite=True)
    remembers = evaluate(tuned(base, new, **moving, finetune={"allow_disagreement": True, "replay": str(path)}), frames).forces.rmse
    assert remembers < 0.6 * forgets


def test_replay_at_another_level_needs_a_head(base, frames, tmp_path):
    path = tmp_path / "old.extxyz"
    eqpot.write(path, frames)
    shifted = changed(frames, energy=lambda e, n: e - 30.0 * n)
    with pytest.raises(ConfigError, match=r"give the new frames a head of their own with finetune\.head"):
        tuned(base, shifted, finetune={"replay": str(path), "reference_energies": "refit"})
    both = tuned(base, shifted, finetune={"replay": str(path), "reference_energies": "refit", "head": "better"})
    assert both.heads == ("base", "better") and both.metadata["data"]["train_frames"] == 32 + 40


def test_levels_of_theory_train_side_by_side(frames, settings, tmp_path):
    """Two files with energies 30 eV/atom apart and one trunk: each head learns its own zero."""
    for name, shift in (("low", 0.0), ("high", -30.0)):
        eqpot.write(tmp_path / f"{name}.extxyz", changed(frames, energy=lambda e, n, s=shift: e + s * n))
    heads = {name: str(tmp_path / f"{name}.extxyz") for name in ("low", "high")}
    data = {"valid": 8, "heads": heads, "allow": ["force-unit"]}
    potential = eqpot.fit({**settings, "data": data, "ensemble": {"members": 1}, "training": {"epochs": 20, "batch_size": 8}})
    low, high = (potential.predict(frames[0].structure, head=h).energy for h in ("low", "high"))
    assert low - high == pytest.approx(30.0 * len(frames[0]), abs=0.5)
