"""The loop as a whole: it ends for the reason it says, comes to the same ledger however often it is cut short, and pays for nothing twice."""

import json
import shutil

import numpy as np
import pytest
from ase.cluster import Octahedron
from ase.io import write
from small_models import NETWORK

from eqpot.active import active, loop, read_ledger
from eqpot.active.label_record import line_of
from eqpot.active.learner import learn
from eqpot.active.loop_config import ActiveConfig
from eqpot.active.loop_data import first_frames, first_structures, new_ones, split_start
from eqpot.core.config import build
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import Dataset, read, write_extxyz
from eqpot.data.dataset import structure_key
from eqpot.graph import Frame, Structure
from eqpot.potential import Potential


class Cut(Exception):
    """Stands for a driver that dies."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    start = tmp_path_factory.mktemp("start") / "cluster.xyz"
    write(start, Octahedron("Cu", 2, 0))
    return {
        "oracle": "emt",
        "start": {"structures": str(start), "generate": [{"method": "rattle", "n": 9, "temperature_K": 300}]},
        "samplers": [{"kind": "md", "temperature_K": [300, 900], "time_ps": 0.1, "timestep_fs": 2, "interval_fs": 10}],
        "query": {"n": 3, "audit": 10},
        "fit": {
            "model": {**NETWORK, "cutoff": 3.2},
            "ensemble": {"members": 2},
            "training": {"epochs": 6, "batch_size": 4, "validate_every": 3},
        },
        "learner": {"epochs": 3},
        "labelling": {"workers": 1},
        "stop": [{"rounds": 2}],
    }


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return active(settings, folder), folder


def test_what_it_asked_is_what_it_has_learned(whole):
    outcome, folder = whole
    start, first, second, end = read_ledger(folder)
    rows = [row for record in (start, first, second) for row in record["asked"]]
    assert len({row["key"] for row in rows}) == len(rows) == end["calls"] == second["calls"]
    assert [len(r["asked"]) for r in (start, first)] == [10, 13] and 10 <= len(second["asked"]) <= 13, "few are left that it doubts"
    assert [sum(row["role"] == "audit" for row in r["asked"]) for r in (first, second)] == [10, 10]
    assert all(row["why"] and row["sigma_eV_A"] > 0 and len(row["labels"]) == 64 for row in first["asked"])
    assert all((row["score"] is not None) == (row["role"] == "train") for row in first["asked"])
    assert first["selection"]["candidates"] >= 3 and "left_out" in first["selection"]
    assert not first["calibrated"] and first["band_eV_A"]["low"] == 0 and first["errors"]["coverage"] is None
    assert second["calibrated"] and second["band_eV_A"]["low"] > 0 and 0 < second["errors"]["coverage"] <= 1
    train, held = (read(str(folder / name)) for name in ("train.extxyz", "held_out.extxyz"))
    assert len(train) == end["train"] == sum(row["role"] == "train" for row in rows) and len(train) + len(held) == len(rows)
    assert first["learner"]["start"] == "fresh"
    assert "2 rounds" in end["why"] and end["uncertain"] and outcome.why == end["why"]
    errors = Potential.load(folder / "potential.safetensors").predict_frames(train)
    assert np.isfinite([r.energy for r in errors]).all()


def test_rules_of_doubt_and_error_end_it(whole, settings, tmp_path):
    """As they would have after the second round, the first whose σ has a scale; the bound is that of the potential that is handed over."""
    _, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    ledger = tmp_path / "run" / "ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:-1]))
    doubt, bound = {"sigma_eV_A": 1e3, "rounds": 1, "below": 0.5}, {"force_error_eV_A": 1e3}
    end = active({**settings, "stop": [{"candidates": doubt, "bound": bound}]}, tmp_path / "run").records[-1]
    assert "are doubtful" in end["why"] and f"at most {end['bounds_eV_A']['0.9']:.3f} eV/Å" in end["why"]


def test_a_finished_run_gives_its_outcome_at_once(whole, settings):
    outcome, folder = whole
    before, seen = (folder / "ledger.jsonl").read_bytes(), []
    again = active(settings, folder, lambda what, values: seen.append(what))
    assert (folder / "ledger.jsonl").read_bytes() == before and again.records == outcome.records
    assert set(seen) <= {"end"}, "nothing was trained, sampled or asked"


def test_wherever_it_is_cut_short_it_comes_to_the_same_ledger(whole, settings, tmp_path):
    """Cut at the first event of each kind, then at each later one of another kind, until it comes through."""
    _, folder = whole
    done, cuts, asked_again = set(), 0, []

    def cut(what, values):
        point = (what, values.get("round"))
        asked_again.append(what == "sample" and ("label", values["round"]) in done)
        if what != "end" and point not in done:
            done.add(point)
            raise Cut

    while True:
        try:
            active(settings, tmp_path / "run", cut)
            break
        except Cut:
            cuts += 1
    assert cuts == len(done) >= 9
    assert not any(asked_again), "once labels are being paid for, what is asked is settled"
    assert (tmp_path / "run" / "ledger.jsonl").read_bytes() == (folder / "ledger.jsonl").read_bytes()
    names = ("labels/labels.jsonl", "train.extxyz", "held_out.extxyz")
    for name in names[1:]:
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes()
    labels = [json.loads(line)["record"]["key"] for line in (tmp_path / "run" / names[0]).read_text().splitlines()]
    assert len(labels) == len(set(labels)), "no label was paid for twice"


def test_a_question_outlives_numbers_that_do_not_come_out_again(whole, settings, tmp_path, monkeypatch):
    """Made again on another machine, descriptors and σ differ in their last bits: what was asked with them and is being paid for stays, with its potential."""
    _, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    ledger = tmp_path / "run" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().splitlines(keepends=True)[0])  # as if it was cut while labels were on their way

    def made_again(*args):
        raise AssertionError("what was asked is not settled")

    def learned(fit, learner, place, number, *rest):
        return learn(fit, learner, place, number, *rest) if number > 1 else made_again()

    monkeypatch.setattr(loop, "first_frames", made_again)
    monkeypatch.setattr(loop, "learn", learned)
    active(settings, tmp_path / "run")
    assert ledger.read_bytes() == (folder / "ledger.jsonl").read_bytes()


def test_a_run_goes_on_when_its_rules_are_changed(whole, settings, tmp_path):
    _, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    budget = whole[0].records[-1]["calls"] + 2
    seen = active({**settings, "stop": [{"calls": budget}]}, tmp_path / "run").records
    assert [r["kind"] for r in seen] == ["start", "round", "round", "end", "round", "end"]
    assert seen[-1]["calls"] == budget and f"asked {budget} times" in seen[-1]["why"]


def test_another_run_and_an_edited_ledger_are_refused(whole, settings, tmp_path):
    _, folder = whole
    with pytest.raises(DataError, match=r"another run: query\.n was 3, now 4"):
        active({**settings, "query": {"n": 4, "audit": 10}}, folder)
    shutil.copytree(folder, tmp_path / "run")
    ledger = tmp_path / "run" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"calls":23', '"calls":22'))
    with pytest.raises(DataError, match="does not fit its hash"):
        active(settings, tmp_path / "run")


def test_a_pool_is_part_of_what_a_run_is(settings, tmp_path):
    def stop(what, values):
        raise Cut

    pooled = {**settings, "samplers": [{"kind": "pool", "files": str(tmp_path / "pool.extxyz")}]}
    with pytest.raises(DataError, match=r"pool\.extxyz"):
        active(pooled, tmp_path / "run", stop)
    frames = read(settings["start"]["structures"]).frames
    write_extxyz(tmp_path / "pool.extxyz", frames)
    with pytest.raises(Cut):
        active(pooled, tmp_path / "run", stop)
    write_extxyz(tmp_path / "pool.extxyz", [*frames, *frames], overwrite=True)
    with pytest.raises(DataError, match="another run: hash of pools"):
        active(pooled, tmp_path / "run", stop)


def test_labels_that_were_paid_for_must_be_there(whole, settings, tmp_path):
    _, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    labels = tmp_path / "run" / "labels" / "labels.jsonl"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="which the ledger says was paid for"):
        active({**settings, "stop": [{"rounds": 3}]}, tmp_path / "run")


def test_a_label_cannot_be_changed(whole, settings, tmp_path):
    """Not even by somebody who gives the line of the store a hash that fits."""
    _, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    labels = tmp_path / "run" / "labels" / "labels.jsonl"
    first, *others = labels.read_bytes().splitlines(keepends=True)
    record = json.loads(first)["record"]
    record["labels"]["energy"] += 0.1
    labels.write_bytes(line_of(record) + b"".join(others))
    with pytest.raises(DataError, match="does not fit the hash that the ledger keeps"):
        active(settings, tmp_path / "run")


def test_a_budget_that_the_start_exceeds_is_refused_before_it_is_spent(settings, tmp_path):
    with pytest.raises(ConfigError, match="budget of 9 calls, expected at least the 10 that start asks about"):
        active({**settings, "stop": [{"calls": 9}]}, tmp_path / "run")
    assert not (tmp_path / "run" / "labels").exists()


def test_elements_that_only_one_structure_has_are_learned_from():
    copper, gold = (Structure([z, z], [[0, 0, 0], [2.5, 0, 0]]) for z in (29, 79))
    frames = [*(Frame(copper) for _ in range(5)), Frame(gold)]
    for seed in range(10):
        roles = split_start(frames, Dataset(()), 0.5, seed)
        assert roles[5] == "train" and roles.count("held") == 3
    assert "held" in [split_start(frames, Dataset((Frame(gold),)), 0.5, seed)[5] for seed in range(10)], "gold was labelled before"
    assert split_start(frames[4:], Dataset(()), 0.5, 0) == ["train", "train"]


@pytest.mark.slow
def test_another_run_takes_its_labels_along_and_asks_for_none_again(whole, settings, tmp_path):
    """The same seed makes the same first structures; those that are known are neither paid for nor held out."""
    _, folder = whole
    before = read(str(folder / "train.extxyz"))
    start = {**settings["start"], "data": str(folder / "train.extxyz")}
    outcome = active({**settings, "start": start, "stop": [{"rounds": 1}]}, tmp_path / "run")
    train, held = (read(str(tmp_path / "run" / name)) for name in ("train.extxyz", "held_out.extxyz"))
    rows = [row for record in outcome.records for row in record.get("asked", ())]
    assert len(train) + len(held) == len(before) + len(rows) and len(outcome.records[0]["asked"]) == 2
    assert not len(held.overlap(train)) and len(set(train.structure_keys)) == len(train)
    with pytest.raises(DataError, match="labels of other settings"):
        active({**settings, "oracle": "gfn1", "start": start}, tmp_path / "other")


def test_of_many_structures_that_could_begin_those_are_labelled_that_differ_most(settings):
    """Without a potential; the start structures are always among them."""
    start = ActiveConfig.model_validate(settings | {"start": settings["start"] | {"n": 3}}).start
    structures = first_structures(start)
    made = first_frames(start.model_copy(update={"n": None}), structures, Dataset(()), 0)
    few = first_frames(start, structures, Dataset(()), 0)
    assert [f.group for f in few[: len(structures)]] == ["start"] * len(structures)
    few_keys, keys = ([structure_key(f.structure) for f in frames] for frames in (few, made))
    assert len(few) == len(structures) + 3 < len(made) and set(few_keys) < set(keys)

    def least(frames):  # how far each is from its nearest neighbour, in lengths of bonds
        bonds = [np.sort(np.linalg.norm(f.structure.positions[:, None] - f.structure.positions, axis=-1).ravel()) for f in frames]
        return min(np.linalg.norm(a - b) for k, a in enumerate(bonds) for b in bonds[:k])

    assert least(few) > least(made)


def test_structures_are_new_once():
    one, nearly, other = (Frame(Structure([29], [[x, 0, 0]])) for x in (0.0, 1e-9, 1.0))
    assert new_ones([one, nearly, other], frozenset()) == [one, other]
    assert new_ones([one, nearly, other], frozenset({structure_key(other.structure)})) == [one]


def test_an_oracle_that_labels_nothing_is_said(settings, tmp_path):
    write(tmp_path / "uranium.xyz", Octahedron("U", 2, 0, latticeconstant=4.0))
    start = {**settings["start"], "structures": str(tmp_path / "uranium.xyz")}
    with pytest.raises(DataError, match=r"start: 0 structures .* expected at least one of each \(.*U"):
        active({**settings, "start": start}, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": {}}, "one member has no doubt"),
        ({"fit": {"ensemble": {"members": 2}, "data": {"train": "a.xyz"}}}, "brings its own data"),
        ({"query": {"audit": 0}, "stop": [{"bound": {"force_error_eV_A": 0.1}}]}, "never trained on"),
        ({"samplers": [{"kind": "mc"}]}, "samplers"),
        ({"query": {"low_eV_A": 2, "high_eV_A": 1}}, "less than high"),
        ({"stop": []}, "stop"),
        ({"samplers": [{"kind": "generate", "methods": [{"method": "vacancyy", "n": 2}]}]}, "did you mean 'vacancy'"),
        ({"start": {"structures": "a.xyz", "generate": [{"method": "md", "n": 2, "temperature_K": 300}]}}, "nothing is trained yet"),
        ({"learner": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"query": {"method": "uncertanty"}}, r"query\.method"),
        ({"query": {"method": "random", "exploration": 1.0}}, "exploration is for"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(ActiveConfig, settings | changes)
