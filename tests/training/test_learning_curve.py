"""Learning curves: nested subsets, one held-out set, points that are never trained twice."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import eqpot
from eqpot.core.errors import ConfigError, DataError
from eqpot.graph import Frame, Labels, Structure
from eqpot.training import FitConfig, learning_curve
from eqpot.training.learning_curve_points import LearningCurve, Point, append_point, read_points


@pytest.fixture
def trainings(monkeypatch, potential):
    """All calls of a `fit` that trains nothing: (config, train, valid, folder); its errors are 1/(frames evaluated) and the name of the frames."""
    calls = []

    def fit(config, train, valid, *, folder):
        calls.append((config, train, valid, folder))
        return replace(potential, metadata={"epochs": config.training.epochs, "seconds": 1.0})

    def evaluate(potential, frames):
        row = {"frames": len(frames), "hash": frames.content_hash, "forces": {"mae": 1 / len(frames), "rmse": 1.0, "count": 9}}
        return SimpleNamespace(summary=lambda: row)

    module = sys.modules[learning_curve.__module__]
    monkeypatch.setattr(module, "fit", fit)
    monkeypatch.setattr(module, "evaluate", evaluate)
    return calls


@pytest.fixture
def plain():
    """A configuration without files: 10 frames held out of those that are passed."""
    return {"data": {"valid": 6, "test": 4}, "training": {"epochs": 5, "batch_size": 4}}


def points(curve, **changes):
    """The points that match, as (size, seed)."""
    return [(p.size, p.seed) for p in curve.points if all(getattr(p, k) == v for k, v in changes.items())]


def test_subsets_are_nested_and_all_points_share_what_is_held_out(trainings, plain, frames, tmp_path):
    alone = Frame(Structure([1], [[0, 0, 0]]), Labels(energy=-1.0))
    curve = learning_curve(plain, [5, 10, 20], seeds=2, folder=tmp_path, train=type(frames)((*frames, alone)))
    assert sorted(points(curve)) == [(n, s) for n in (5, 10, 20) for s in (0, 1)]
    keys = {(len(t) - 1, c.seed): set(t.structure_keys) for c, t, _, _ in trainings}
    assert set(keys) == {(n, s) for n in (5, 10, 20) for s in (0, 1)}  # the isolated atom comes in addition
    for seed in (0, 1):
        assert keys[5, seed] < keys[10, seed] < keys[20, seed]
    assert keys[20, 0] != keys[20, 1]
    held = {v.content_hash for _, _, v, _ in trainings}
    assert len(held) == 1 and not any(set(v.structure_keys) & set(t.structure_keys) for _, t, v, _ in trainings)
    assert len({json.dumps(p.test) for p in curve.points}) == 1 and {p.test["frames"] for p in curve.points} == {4}
    assert {p.train["frames"] for p in curve.points} == {5, 10, 20}


def test_every_size_takes_the_steps_of_the_largest_or_the_same_epochs(trainings, plain, frames, tmp_path):
    learning_curve(plain, [4, 16], seeds=1, folder=tmp_path / "a", train=frames)
    steps = [c.training.epochs * -(-len(t) // c.training.batch_size) for c, t, _, _ in trainings]
    assert steps == [20, 20]
    trainings.clear()
    learning_curve(plain, [4, 16], seeds=1, folder=tmp_path / "b", train=frames, same_steps=False)
    assert [c.training.epochs for c, _, _, _ in trainings] == [5, 5]


def test_steps_are_equal_also_where_batches_are_filled_by_atoms(trainings, plain, frames, tmp_path):
    """Trimers, four to a batch of 12 atoms: 1 batch of the small set and 4 of the large one, whatever batch_size says."""
    packed = plain | {"training": {"epochs": 5, "batch_size": 1, "batch_atoms": 12}}
    learning_curve(packed, [4, 16], seeds=1, folder=tmp_path, train=frames)
    assert [c.training.epochs for c, _, _, _ in trainings] == [20, 5]


def test_steps_are_equal_also_where_frames_are_replayed(trainings, plain, frames, potential, tmp_path):
    """Eight old frames join those of every size: 3 batches of four for the small set, 6 for the large one."""
    base, old = potential.save(tmp_path / "base.safetensors"), tmp_path / "old.extxyz"
    eqpot.write(old, frames)
    finetune = {"base": str(base), "replay": str(old), "replay_frames": 8}
    learning_curve(plain | {"finetune": finetune}, [4, 16], seeds=1, folder=tmp_path / "curve", train=frames)
    assert [c.training.epochs for c, _, _, _ in trainings] == [10, 5]


def test_finished_points_are_not_trained_again(trainings, plain, frames, tmp_path):
    study = {"seeds": 1, "folder": tmp_path, "train": frames, "capacities": [4, 8]}
    first = learning_curve(plain, [5, 20], **study)
    assert len(trainings) == 4 and {p.model for p in first.points} == {"4 channels", "8 channels"}
    assert {c.model.hidden for c, _, _, _ in trainings} == {"4x0e + 4x1o", "8x0e + 8x1o"}
    file = tmp_path / "points.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:30])  # as if it had been killed while the third was written
    trainings.clear()
    again = learning_curve(plain, [5, 20], **study)
    assert len(trainings) == 2 and again == first
    assert len(file.read_bytes().splitlines()) == 4
    trainings.clear()
    more = learning_curve(plain, [5, 10, 20], **study)
    assert [len(t) for _, t, _, _ in trainings] == [10, 10] and len(more.points) == 6


def test_points_of_another_study_are_refused(trainings, plain, frames, tmp_path):
    learning_curve(plain, [5, 20], seeds=1, folder=tmp_path, train=frames)
    for other in ({"optimizer": {"learning_rate": 0.001}}, {"training": {**plain["training"], "epochs": 6}}):
        with pytest.raises(ConfigError, match=r"points\.jsonl: the point .* use another folder"):
            learning_curve({**plain, **other}, [5, 20], seeds=1, folder=tmp_path, train=frames)
    with pytest.raises(ConfigError, match="other data"):
        learning_curve(plain, [5, 20], seeds=1, folder=tmp_path, train=frames[:38])


def test_an_interrupted_study_still_has_its_page(trainings, plain, frames, tmp_path):
    def stop(point, done, total):
        assert (done, total) == (len(trainings), 2)
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learning_curve(plain, [5, 20], seeds=1, folder=tmp_path, train=frames, on_point=stop)
    assert len(read_points(tmp_path / "points.jsonl")) == 1
    assert "</html>" in (tmp_path / "learning_curve.html").read_text()


@pytest.mark.parametrize(
    "sizes, rest, error, match",
    [
        ([5], {}, ConfigError, "at least two"),
        ([5, 5], {}, ConfigError, "at least two"),
        ([0, 5], {}, ConfigError, "at least 1"),
        ([5, 10], {"seeds": 0}, ConfigError, "at least 1"),
        ([5, 31], {}, DataError, "found 31, but there are 30 training frames"),
        ([5, 10], {"capacities": [4], "models": {"a": {}}}, ConfigError, "expected one of them"),
        ([5, 10], {"models": {}}, ConfigError, "expected at least one"),
        ([5, 10], {"models": {"a": {"modle": {}}}}, ConfigError, "a: unknown key 'modle': did you mean 'model'"),
        ([5, 10], {"models": {"a": {"data": {"valid": 3}}}}, ConfigError, "a: found 'data'"),
        ([5, 10], {"capacities": [0]}, ConfigError, "hidden"),
    ],
)
def test_what_makes_no_curve_is_refused_before_anything_is_trained(trainings, plain, frames, tmp_path, sizes, rest, error, match):
    with pytest.raises(error, match=match):
        learning_curve(plain, sizes, folder=tmp_path / "none", train=frames, **rest)
    assert not trainings and not (tmp_path / "none").exists()


def test_capacities_are_of_equivariant_networks(trainings, frames, tmp_path):
    descriptors = {"model": {"kind": "behler-parrinello"}, "data": {"valid": 8}}
    with pytest.raises(ConfigError, match="found the kind 'behler-parrinello', use models"):
        learning_curve(descriptors, [5, 10], folder=tmp_path / "none", train=frames, capacities=[4])
    assert not trainings


def made(model, size, seed, scale, exponent):
    """A point on an exact law."""
    errors = {"frames": 9, "forces": {"mae": scale * size**-exponent, "rmse": 1.0, "count": 9}}
    small = {"frames": 9, "forces": {"mae": 0.5 * scale * size**-exponent, "rmse": 1.0, "count": 9}}
    return Point(model, size, seed, "", 10, 100, 1.0, small, errors, {})


def test_page_and_json_tell_the_law(tmp_path):
    from eqpot.training.learning_curve_page import write_page

    names = (("small <b>", 1.0, 0.25), ("large & good", 2.0, 0.5))
    rows = [made(name, n, s, scale * (1 + 0.01 * s), b) for name, scale, b in names for n in (10, 100, 1000) for s in (0, 1)]
    curve = LearningCurve(tuple(rows))
    assert curve.law("large & good", "forces").b == pytest.approx(0.5) and curve.quantities == ("forces",)
    write_page(tmp_path, "toy", curve, True, FitConfig().model_dump(mode="json"))
    html = (tmp_path / "learning_curve.html").read_text()
    assert "small &lt;b&gt;" in html and "<b>" not in html.split("<nav")[1].split("</main>")[0]
    assert "× 4.00" in html and "× 16.0" in html and "0.50 ±" in html  # 2^(1/b) times the frames for half the error
    document = json.loads((tmp_path / "learning_curve.json").read_text())
    assert {law["model"]: law["b"] for law in document["laws"]} == pytest.approx({"small <b>": 0.25, "large & good": 0.5})
    assert len(document["points"]) == 12


def test_a_name_is_no_formula_and_is_shown(tmp_path):
    """matplotlib leaves names with an underscore in front out of its legends, and stops at half a formula."""
    from eqpot.training.learning_curve_page import write_page

    names = ("_small", r"$\frac b$")
    curve = LearningCurve(tuple(made(name, n, 0, 1.0, 0.5) for name in names for n in (10, 100, 1000)))
    write_page(tmp_path, "toy", curve, True, {})
    drawing = (tmp_path / "learning_curve.html").read_text()
    assert drawing.count("_small") > 2 and "frac b" in drawing


def test_points_come_back_as_they_were_written(tmp_path):
    file = tmp_path / "deep" / "points.jsonl"
    rows = [made("a", n, 0, 1.0, 0.3) for n in (1, 2)]
    for row in rows:
        append_point(file, row)
    assert list(read_points(file).values()) == rows and read_points(tmp_path / "none") == {}
    file.write_text("no point\n" + file.read_text())
    with pytest.raises(ConfigError, match="line 1 is no point"):
        read_points(file)


def test_a_non_finite_error_is_left_out_of_the_law():
    rows = [made("a", n, s, 1.0, 0.3) for n in (10, 100) for s in (0, 1)]
    rows[0].valid["forces"]["mae"] = np.nan
    law = LearningCurve(tuple(rows)).law("a", "forces")
    assert law.points == 3 and law.b == pytest.approx(0.3)
