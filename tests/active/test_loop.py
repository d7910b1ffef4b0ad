"""The loop as a whole: it ends for the reason it says, comes to the same ledger however often it is cut short, and pays for nothing twice."""

import json
import shutil

import numpy as np
import pytest
from ase.cluster import Octahedron
from ase.io import write
from small_models import NETWORK

from eqpot.active import active, read_ledger
from eqpot.active.loop_config import ActiveConfig
from eqpot.active.loop_data import new_ones
from eqpot.core.config import build
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import read, write_extxyz
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
        "query": {"n": 3, "audit": 2},
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
    assert [len(r["asked"]) for r in (start, first, second)] == [10, 5, 5]
    assert [sum(row["role"] == "audit" for row in r["asked"]) for r in (first, second)] == [2, 2]
    assert all(row["why"] and row["sigma_eV_A"] > 0 for row in first["asked"])
    train, held = (read(str(folder / name)) for name in ("train.extxyz", "held_out.extxyz"))
    assert len(train) == end["train"] == sum(row["role"] == "train" for row in rows) and len(train) + len(held) == len(rows)
    assert first["learner"]["start"] == "fresh"
    assert "2 rounds" in end["why"] and end["uncertain"] and outcome.why == end["why"]
    errors = Potential.load(folder / "potential.safetensors").predict_frames(train)
    assert np.isfinite([r.energy for r in errors]).all()


def test_a_finished_run_gives_its_outcome_at_once(whole, settings):
    outcome, folder = whole
    before, seen = (folder / "ledger.jsonl").read_bytes(), []
    again = active(settings, folder, lambda what, values: seen.append(what))
    assert (folder / "ledger.jsonl").read_bytes() == before and again.records == outcome.records
    assert set(seen) <= {"end"}, "nothing was trained, sampled or asked"


def test_wherever_it_is_cut_short_it_comes_to_the_same_ledger(whole, settings, tmp_path):
    """Cut at the first event of each kind, then at each later one of another kind, until it comes through."""
    _, folder = whole
    done, cuts = set(), 0

    def cut(what, values):
        point = (what, values.get("round"))
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
    assert (tmp_path / "run" / "ledger.jsonl").read_bytes() == (folder / "ledger.jsonl").read_bytes()
    names = ("labels/labels.jsonl", "train.extxyz", "held_out.extxyz")
    for name in names[1:]:
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes()
    labels = [json.loads(line)["record"]["key"] for line in (tmp_path / "run" / names[0]).read_text().splitlines()]
    assert len(labels) == len(set(labels)), "no label was paid for twice"


def test_a_run_goes_on_when_its_rules_are_changed(whole, settings, tmp_path):
    _, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    seen = active({**settings, "stop": [{"calls": 22}]}, tmp_path / "run").records
    assert [r["kind"] for r in seen] == ["start", "round", "round", "end", "round", "end"]
    assert seen[-1]["calls"] == 22 and "asked 22 times" in seen[-1]["why"]


def test_another_run_and_an_edited_ledger_are_refused(whole, settings, tmp_path):
    _, folder = whole
    with pytest.raises(DataError, match=r"another run: query\.n was 3, now 4"):
        active({**settings, "query": {"n": 4, "audit": 2}}, folder)
    shutil.copytree(folder, tmp_path / "run")
    ledger = tmp_path / "run" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"calls":15', '"calls":14'))
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
        ({"learner": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"query": {"method": "uncertanty"}}, r"query\.method"),
        ({"query": {"method": "random", "exploration": 1.0}}, "exploration is for"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(ActiveConfig, settings | changes)
