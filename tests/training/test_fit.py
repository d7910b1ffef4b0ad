"""Training learns, resumes to the same numbers, keeps what was made, and says why it stops."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import eqpot
from eqpot.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from eqpot.data import Dataset, LabelKeys, Units
from eqpot.graph import Frame, Labels, Structure
from eqpot.training.batches import Batches
from eqpot.training.data_config import KeysConfig, UnitsConfig
from eqpot.training.step import train_step


def leaves(potential):
    return [np.asarray(x) for x in jax.tree.leaves(potential.params)]


def same(a, b):
    return all((x == y).all() for x, y in zip(leaves(a), leaves(b), strict=True))


def test_the_loss_falls_and_the_members_differ(frames, settings):
    rows = []
    potential = eqpot.fit({**settings, "training": {"epochs": 30, "batch_size": 8}}, frames, on_epoch=rows.append)
    assert rows[-1].valid["forces"]["mae"] < 0.5 * rows[0].valid["forces"]["mae"]
    assert min(r.valid_loss for r in rows) == pytest.approx(rows[potential.metadata["best_epoch"] - 1].valid_loss)
    result = potential.predict(frames[0].structure)
    assert result.energy_std > 0 and (result.atom_std > 0).all()


def test_a_member_of_an_ensemble_is_the_member_trained_alone(frames, settings):
    """Without bootstrap weights the first member of two takes the very steps of a single one."""
    plain = {**settings, "ensemble": {"members": 2, "bootstrap": False}}
    both = eqpot.fit(plain, frames, on_epoch=None)
    alone = eqpot.fit({**settings, "ensemble": {"members": 1}}, frames)
    assert both.metadata["best_epoch"] == alone.metadata["best_epoch"]
    for a, b in zip(leaves(both.member(0)), leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_resumed_equals_uninterrupted_bit_for_bit(frames, settings, tmp_path):
    whole = eqpot.fit(settings, frames, folder=tmp_path / "whole")

    def stop(report):
        if report.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eqpot.fit(settings, frames, folder=tmp_path / "cut", on_epoch=stop)
    seen = []
    resumed = eqpot.fit(settings, frames, folder=tmp_path / "cut", on_epoch=seen.append)
    assert [r.epoch for r in seen] == [4, 5, 6]
    assert same(whole, resumed)
    logs = [[json.loads(line)["valid_loss"] for line in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_an_epoch_cut_short_goes_on_where_it_stopped(frames, settings, tmp_path, monkeypatch):
    """An interrupt between two steps keeps the steps that were done, and the resumed run ends where the uninterrupted one does."""
    whole = eqpot.fit(settings, frames)
    epoch, seen = Batches.epoch, []

    def cut(self, seed, number, start, local):
        for k, batch in enumerate(epoch(self, seed, number, start, local)):
            if number == 2 and k == 2:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(Batches, "epoch", cut)
    with pytest.raises(KeyboardInterrupt):
        eqpot.fit(settings, frames, folder=tmp_path)
    monkeypatch.undo()
    steps = []
    monkeypatch.setattr(Batches, "epoch", lambda *a: (steps.append(a[1:4]), epoch(*a))[1])
    resumed = eqpot.fit(settings, frames, folder=tmp_path, on_epoch=seen.append)
    assert steps[0] == (0, 2, 2) and seen[0].epoch == 3 and same(whole, resumed)


def test_bad_data_leave_an_earlier_run_alone(frames, settings, tmp_path):
    eqpot.fit({**settings, "training": {"epochs": 1, "batch_size": 8}}, frames, folder=tmp_path)
    with pytest.raises(DataError):
        eqpot.fit({**settings, "data": {"valid": 400}}, frames, folder=tmp_path, overwrite=True)
    assert (tmp_path / "potential.safetensors").exists() and not (tmp_path / "previous").exists()


def test_a_lost_checkpoint_costs_epochs_not_exactness(frames, settings, tmp_path):
    """Falling back to an older checkpoint repeats epochs and ends in the same place."""
    whole = eqpot.fit(settings, frames, folder=tmp_path)
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda p: int(p.name) if p.name.isdigit() else -1)
    newest.rename(tmp_path / "lost")
    (tmp_path / "potential.safetensors").unlink()
    assert same(whole, eqpot.fit(settings, frames, folder=tmp_path))


def test_same_seed_same_potential_other_seed_other(frames, settings):
    short = {**settings, "training": {"epochs": 2, "batch_size": 8}}
    first = eqpot.fit(short, frames)
    assert same(first, eqpot.fit(short, frames))
    assert not same(first, eqpot.fit({**short, "seed": 1}, frames))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"optimizer": {"learning_rate": 0.02}}, r"optimizer\.learning_rate was 0\.01, now 0\.02"),
        ({"seed": 7}, r"seed was 0, now 7"),
    ],
)
def test_resume_with_another_configuration_is_refused_by_name(frames, settings, tmp_path, change, text):
    eqpot.fit({**settings, "training": {"epochs": 2, "batch_size": 8}}, frames, folder=tmp_path)
    with pytest.raises(CheckpointError, match=text):
        eqpot.fit({**settings, "training": {"epochs": 2, "batch_size": 8}, **change}, frames, folder=tmp_path)


def test_resume_with_other_data_is_refused(frames, settings, tmp_path):
    eqpot.fit(settings, frames, folder=tmp_path)
    with pytest.raises(CheckpointError, match="hash of train data"):
        eqpot.fit(settings, frames[:-1], folder=tmp_path)


def test_a_folder_with_a_run_is_not_written_over(frames, settings, tmp_path):
    short = {**settings, "training": {"epochs": 1, "batch_size": 8}}
    eqpot.fit(short, frames, folder=tmp_path)
    old = (tmp_path / "potential.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="holds another run: seed was 0, now 5"):
        eqpot.fit({**short, "seed": 5}, frames, folder=tmp_path)
    assert (tmp_path / "potential.safetensors").read_bytes() == old
    eqpot.fit({**short, "seed": 5}, frames, folder=tmp_path, overwrite=True)
    assert (tmp_path / "previous" / "1" / "potential.safetensors").read_bytes() == old


def test_a_finished_run_gives_its_result_at_once(frames, settings, tmp_path):
    first = eqpot.fit(settings, frames, folder=tmp_path)
    file, seen = (tmp_path / "potential.safetensors").read_bytes(), []
    again = eqpot.fit(settings, frames, folder=tmp_path, on_epoch=seen.append)
    assert same(first, again) and not seen and (tmp_path / "potential.safetensors").read_bytes() == file


def test_two_processes_do_not_share_a_folder(frames, settings, tmp_path):
    """The second one (here: a nested call) is refused, and the first one goes on."""
    short, seen = {**settings, "training": {"epochs": 2, "batch_size": 8}}, []

    def intrude(report):
        with pytest.raises(ConfigError, match="another process is training here"):
            eqpot.fit(short, frames, folder=tmp_path)
        seen.append(report)

    eqpot.fit(short, frames, folder=tmp_path, on_epoch=intrude)
    assert len(seen) == 2


def test_a_damaged_checkpoint_is_named(frames, settings, tmp_path):
    eqpot.fit(settings, frames, folder=tmp_path)
    for file in (tmp_path / "checkpoints" / "24").rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="step 24 cannot be read"):
        eqpot.fit(settings, frames, folder=tmp_path)


def test_training_stops_when_the_loss_is_not_finite(frames, settings, tmp_path):
    wild = {**settings, "optimizer": {"learning_rate": 1.0, "clip_norm": 1e30, "warmup": 0.0}, "loss": {"energy": 1e30, "forces": 1e30}}
    with pytest.raises(TrainingError, match=r"epoch \d+: the \w+ term is no longer finite in the batch of toy:frame \d+.*learning_rate"):
        eqpot.fit(wild, frames, folder=tmp_path)
    assert not (tmp_path / "potential.safetensors").exists()


def test_patience_and_time_end_a_run(frames, settings):
    rows = []
    slow = {"learning_rate": 1e-12}
    eqpot.fit(
        {**settings, "optimizer": {**slow, "ema": 0.0}, "training": {"epochs": 50, "batch_size": 8, "patience": 3}},
        frames,
        on_epoch=rows.append,
    )
    assert len(rows) < 50
    rows.clear()
    eqpot.fit({**settings, "training": {"epochs": 50, "batch_size": 8, "max_minutes": 1e-9}}, frames, on_epoch=rows.append)
    assert len(rows) == 1


def test_patience_counts_validations(frames, settings):
    """Before, a patience below `validate_every` ended every run before a second validation."""
    rows = []
    limits = {"epochs": 12, "batch_size": 8, "patience": 2, "validate_every": 4}
    eqpot.fit({**settings, "training": limits}, frames, on_epoch=rows.append)
    assert [r.epoch for r in rows] == [4, 8, 12] and rows[-1].best


def test_a_first_stage_without_progress_gives_way_to_the_second(frames, settings, tmp_path):
    """Before, patience ended the run, and the second stage that was asked for never came."""
    rows = []
    config = {
        **settings,
        "ensemble": {"members": 1},
        "optimizer": {"learning_rate": 1e-12, "ema": 0.0},
        "stage_two": {"start": 0.5, "learning_rate": 0.001},
        "training": {"epochs": 40, "batch_size": 8, "patience": 3},
    }
    potential = eqpot.fit(config, frames, folder=tmp_path / "run", on_epoch=rows.append)
    first = [r.epoch for r in rows if r.rate != 0.001]
    assert first == list(range(1, len(first) + 1)) and len(first) < 20, "in place of twenty epochs of the first stage"
    assert len(rows) > len(first) + 3 and potential.metadata["best_epoch"] > len(first)
    assert (tmp_path / "run" / "stage_one.safetensors").exists()


def test_a_run_that_was_cut_in_an_early_second_stage_goes_on_alike(frames, settings, tmp_path):
    config = {
        **settings,
        "optimizer": {"learning_rate": 1e-12, "ema": 0.0},
        "stage_two": {"start": 0.9, "learning_rate": 0.001},
        "training": {"epochs": 10, "batch_size": 8, "patience": 2},
    }

    def stop(report):
        if report.rate == 0.001 and not cut:
            cut.append(report.epoch)
            raise KeyboardInterrupt

    cut: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        eqpot.fit(config, frames, folder=tmp_path, on_epoch=stop)
    assert same(eqpot.fit(config, frames), eqpot.fit(config, frames, folder=tmp_path)) and cut


def test_one_compile_per_size_class(settings, toy):
    """Two classes of sizes, three epochs: two programs."""
    (chain, label), rng = toy, np.random.default_rng(0)
    frames = [Frame(s := chain(rng, n), label(s), f"toy:frame {k}") for k, n in enumerate([2] * 20 + [4] * 20)]
    shapes = []
    before = train_step._cache_size()
    config = {**settings, "data": {"valid": 4, "allow": ["energy-outlier", "force-unit"]}, "training": {"epochs": 3, "batch_size": 4}}
    potential = eqpot.fit(config, Dataset(tuple(frames)), on_start=lambda problem, batches: shapes.extend(batches.classes))
    assert len(shapes) == 2 and train_step._cache_size() - before == 2
    told, seconds = potential.metadata["run"], potential.metadata["seconds"]
    assert told["compiles"] == 2 and 0.2 * seconds < told["compile_seconds"] < seconds


@pytest.mark.slow
def test_float64_is_float64_all_the_way(frames, settings):
    potential = eqpot.fit({**settings, "training": {"epochs": 1, "batch_size": 8, "dtype": "float64"}}, frames)
    assert potential.dtype == "float64" and all(x.dtype == np.float64 for x in leaves(potential))


def test_stress_is_learned_where_it_is_labelled(settings):
    """Two-atom crystals under E = k(V − V0)²: training with stress lowers the stress error."""
    rng, rows = np.random.default_rng(0), []
    frames = []
    for k in range(24):
        a = 1.8 + 0.3 * rng.random()
        structure = Structure([6, 6], [[0, 0, 0], [a / 2, a / 2, a / 2]], a * np.eye(3), True)
        volume = a**3
        labels = Labels(energy=0.05 * (volume - 7) ** 2, forces=np.zeros((2, 3)), stress=0.1 * (volume - 7) * np.eye(3))
        frames.append(Frame(structure, labels, f"toy:frame {k}"))
    config = {**settings, "data": {"valid": 4, "allow": ["zero-forces"]}, "loss": {"energy": 1, "forces": 0, "stress": 100}}
    config["optimizer"] = {"learning_rate": 0.05}  # matrices of 8 × 8 bear, and need, more than those of real networks
    eqpot.fit({**config, "training": {"epochs": 40, "batch_size": 4}}, Dataset(tuple(frames)), on_epoch=rows.append)
    assert rows[-1].valid["stress"]["mae"] < 0.5 * rows[0].valid["stress"]["mae"]


def test_isolated_atoms_fix_the_zero_of_energy(frames, settings):
    atoms = [Frame(Structure([z], [[0, 0, 0]]), Labels(energy=e), group="IsolatedAtom") for z, e in ((1, -13.0), (8, -400.0))]
    shifted = [f.replace(labels=Labels(energy=f.labels.energy - 400 - 26, forces=f.labels.forces)) for f in frames]
    potential = eqpot.fit({**settings, "training": {"epochs": 2, "batch_size": 8}}, Dataset((*shifted, *atoms)))
    assert potential.predict(Structure([8], [[0, 0, 0]])).energy == -400.0
    assert potential.predict(Structure([1], [[5.0, 0, 0]])).energy == -13.0


@pytest.mark.parametrize(
    ("config", "change", "text"),
    [
        (
            {},
            lambda fs: [Frame(f.structure, Labels(energy=f.labels.energy)) for f in fs],
            r"loss\.forces counts but no training frame has forces",
        ),
        ({"loss": {"stress": 1}}, lambda fs: fs, r"loss\.stress counts but no training frame has stress"),
        ({"data": {"valid": 400}}, lambda fs: fs, r"data\.valid = 400 holds out 400 of 40 frames"),
    ],
)
def test_data_that_cannot_be_learned_from(frames, settings, config, change, text):
    with pytest.raises(DataError, match=text):
        eqpot.fit({**settings, **config}, Dataset(tuple(change(list(frames)))))


def test_validation_frames_in_the_training_set_are_refused(frames, settings):
    with pytest.raises(DataError, match=r"toy:frame 3: this validation frame is also a training frame"):
        eqpot.fit(settings, frames, frames[3:5])


def test_a_structure_that_occurs_twice_is_held_out_whole(frames, settings):
    """Drawing frames one by one would put one copy into training and the other into validation."""
    held = []
    eqpot.fit(
        {**settings, "data": {"valid": 8, "allow": ["force-unit"]}, "training": {"epochs": 1, "batch_size": 8}},
        frames + frames,
        on_start=lambda problem, batches: held.extend(problem.valid),
    )
    assert len(held) >= 8 and len(held) % 2 == 0


def test_an_element_only_in_validation_is_refused(frames, settings):
    strange = Dataset((Frame(Structure([6, 1], [[0, 0, 0], [1.1, 0, 0]]), Labels(energy=0.0, forces=np.zeros((2, 3))), "other:frame 0"),))
    with pytest.raises(DataError, match="C"):
        eqpot.fit(settings, frames, strange)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"trainign": {}}, r"unknown key 'trainign': did you mean 'training'"),
        ({"training": {"n_epohcs": 3}}, r"unknown key 'training\.n_epohcs'"),
        ({"training": {"batch_size": 0}}, r"training\.batch_size: found 0"),
        ({"ensemble": {"members": 0}}, r"ensemble\.members: found 0"),
        ({"model": {"cutoff": -4}}, r"model\.cutoff: found -4"),
        ({"model": {"cutoff": float("nan")}}, r"model\.cutoff"),
        ({"model": {"hidden": "64x0e + 32x1o"}}, r"hidden: found '64x0e \+ 32x1o', expected equal multiplicities"),
        ({"loss": {"energy": 0, "forces": 0, "stress": 0}}, r"all weights are zero"),
        ({"name": "../../x"}, r"name: found '\.\./\.\./x'"),
        ({"data": {"valid": -1}}, r"data\.valid"),
    ],
)
def test_configurations_are_checked_by_name(config, text):
    with pytest.raises(ConfigError, match=text):
        eqpot.fit(config)


def test_wrong_labels_are_set_before_the_user_after_a_fit(frames, settings, tmp_path):
    """One frame whose energy is 5 eV off: it is written to a file and named in the metadata; the fit itself is not stopped."""
    rows = list(frames)
    rows[7] = rows[7].replace(labels=Labels(energy=rows[7].labels.energy + 5, forces=rows[7].labels.forces))
    config = {**settings, "data": {"valid": 8, "hygiene": True}, "training": {"epochs": 20, "batch_size": 8}, "loss": {"huber": 0.2}}
    held = []
    potential = eqpot.fit({**config, "seed": 2}, Dataset(tuple(rows)), folder=tmp_path, on_start=lambda p, b: held.extend(p.valid))
    assert all(s.frame.origin != "toy:frame 7" for s in held)  # else it is not among those that are looked at
    assert any("toy:frame 7" in line for line in potential.metadata["warnings"])
    assert "toy:frame 7" in (tmp_path / "suspicious.extxyz").read_text()


def test_every_name_of_a_label_can_be_chosen():
    """A file may call its labels as it likes: what the readers can be told, a fit can be told too."""
    assert {*KeysConfig.model_fields} == {field.name for field in dataclasses.fields(LabelKeys)}
    assert KeysConfig(charges="mbis_charges").label_keys() == LabelKeys(charges="mbis_charges") and KeysConfig().label_keys() == LabelKeys()


def test_units_mean_the_same_to_a_fit_and_to_the_readers():
    """A stress without a unit is in energy/length³, whatever these are."""
    assert {*UnitsConfig.model_fields} == {field.name for field in dataclasses.fields(Units)} and UnitsConfig().units() == Units()
    atomic = UnitsConfig(energy="Hartree", length="Bohr").units()
    assert atomic == Units(energy="Hartree", length="Bohr") and atomic.stress_factor == pytest.approx(183.6, abs=0.1)
