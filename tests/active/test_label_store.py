"""The store of labels: what is in it can be trusted, belongs to one level of theory, and survives a torn write."""

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqpot.active.label_output import read_oracle_settings, write_labels
from eqpot.active.label_record import Entry, label_key, line_of, read_line, settings_hash
from eqpot.active.label_store import LabelStore
from eqpot.active.labelling import Labelled
from eqpot.active.lock import locked
from eqpot.core.errors import DataError
from eqpot.data import read
from eqpot.graph import Frame, Labels, Structure
from eqpot.oracles import Failure

SETTINGS = {"oracle": "fake", "version": "1", "scf": {"iterations": 50, "mixing": 0.1}}
LEVEL = settings_hash(SETTINGS)
finite = st.floats(-1e6, 1e6)


def entry(x=0.1, labels=None, **changes):
    fields = {"structure": Structure([2], [[x, 0, 0]]), "labels": labels or Labels(energy=x, forces=np.zeros((1, 3))), "settings": LEVEL}
    return Entry(**(fields | changes))


def filled(folder, *entries):
    with LabelStore(folder, SETTINGS) as store:
        store.add(entries)
    return folder / "labels.jsonl"


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=3), finite, st.floats(-3, 3))
def test_an_entry_is_read_back_to_the_bit(positions, energy, charge):
    structure = Structure([1] * len(positions), positions, np.eye(3) * 7.1, [True, False, True], charge)
    labels = Labels(energy, np.array(positions), dipole=np.array(positions[0]))
    key, found = read_line(line_of({"key": "k", **Entry(structure=structure, labels=labels, settings=LEVEL, log="\ud800 Å").document()}))
    assert key == "k" and found.log == "\ud800 Å"
    assert label_key(found.structure, LEVEL) == label_key(structure, LEVEL)
    assert found.labels.known == ("energy", "forces", "dipole")
    assert found.labels.energy.hex() == float(energy).hex()
    assert found.labels.forces.tobytes() == labels.forces.tobytes()


def test_the_key_sees_every_bit_of_the_structure_and_of_the_settings():
    base = {"numbers": [1, 8], "positions": [[0.0, 0, 0], [1, 0, 0]], "cell": np.eye(3) * 9, "pbc": [True] * 3, "charge": 0.0}
    moved = np.array(base["positions"])
    moved[1, 0] = np.nextafter(1.0, 2.0)
    changes = [{"numbers": [1, 9]}, {"positions": moved}, {"cell": np.eye(3) * 9.5}, {"pbc": [True, True, False]}, {"charge": 1.0}]
    keys = {label_key(Structure(**(base | change)), LEVEL) for change in ({}, *changes)}
    other = json.loads(json.dumps(SETTINGS).replace("50", "51"))
    keys.add(label_key(Structure(**base), settings_hash(other)))
    assert len(keys) == len(changes) + 2
    assert label_key(Structure(**base), settings_hash(dict(reversed(SETTINGS.items())))) in keys


def test_a_torn_last_line_is_dropped_and_the_store_goes_on(tmp_path):
    file = filled(tmp_path, entry(0.1), entry(0.2), entry(0.3))
    data = file.read_bytes()
    for cut in (1, 40, len(data.splitlines()[-1])):
        file.write_bytes(data[:-cut])
        with LabelStore(tmp_path, SETTINGS) as store:
            assert len(store.entries) == 2
            store.add([entry(0.4)])
        with LabelStore(tmp_path, SETTINGS) as store:
            assert sorted(e.labels.energy for e in store.entries.values()) == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    "change", [(b'"energy":0.2', b'"energy":0.3'), (b"[0.2,", b"[0.25,"), (b'{"record"', b'{"rocerd"'), (b"}\n", b"\n")]
)
def test_a_line_changed_by_hand_is_refused(tmp_path, change):
    file = filled(tmp_path, entry(0.1), entry(0.2))
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second.replace(*change))
    with pytest.raises(DataError, match=r"labels\.jsonl: line 2 does not fit its hash"), LabelStore(tmp_path, SETTINGS):
        pass


def test_a_line_moved_from_a_store_of_other_settings_is_refused(tmp_path):
    for name, settings in (("a", SETTINGS), ("b", SETTINGS | {"version": "2"})):
        with LabelStore(tmp_path / name, settings) as store:
            store.add([entry(0.1)])
    (tmp_path / "b" / "labels.jsonl").write_bytes((tmp_path / "a" / "labels.jsonl").read_bytes())
    with pytest.raises(DataError, match="line 1"), LabelStore(tmp_path / "b", SETTINGS | {"version": "2"}):
        pass


def test_other_settings_are_refused_by_the_names_of_the_keys(tmp_path):
    filled(tmp_path, entry())
    other = SETTINGS | {"version": "2", "scf": {"iterations": 50, "mixing": 0.2}}
    with (
        pytest.raises(DataError, match=r"\(scf\.mixing: 0\.1 there, 0\.2 here; version: '1' there, '2' here\)"),
        LabelStore(tmp_path, other),
    ):
        pass
    with LabelStore(tmp_path, SETTINGS, [other]):
        pass
    with LabelStore(tmp_path, SETTINGS) as store:
        assert store.alternatives == [other]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"found 'thesis\.tex' but no store\.json"), LabelStore(tmp_path, SETTINGS):
        pass


def test_one_driver_at_a_time_and_a_dead_one_does_not_count(tmp_path):
    script = "import sys, time; from eqpot.active import LabelStore\n"
    script += f"with LabelStore(sys.argv[1], {SETTINGS!r}): print('open', flush=True); time.sleep(100)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    driver = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment, stdout=subprocess.PIPE)
    try:
        assert driver.stdout.readline() == b"open\n"
        with pytest.raises(DataError, match=f"another driver writing here \\(process {driver.pid} on "), LabelStore(tmp_path, SETTINGS):
            pass
    finally:
        driver.kill()
        driver.communicate()
    with LabelStore(tmp_path, SETTINGS):
        with pytest.raises(DataError, match="open in this process already"), LabelStore(tmp_path, SETTINGS):
            pass
        assert f"process {os.getpid()}" in (tmp_path / "lock").read_text()


@contextmanager
def no_more_than(size):
    """Files of this process may not grow further, which cuts a write in two as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_keeps_what_was_there(tmp_path):
    file = filled(tmp_path, entry(0.1))
    told = r"labels\.jsonl: cannot be written \(File too large\); .*what was finished is kept"
    with LabelStore(tmp_path, SETTINGS) as store, pytest.raises(DataError, match=told), no_more_than(file.stat().st_size + 100):
        store.add([entry(0.2)])
    assert not file.read_bytes().endswith(b"\n")
    with LabelStore(tmp_path, SETTINGS) as store:
        assert [e.labels.energy for e in store.entries.values()] == [0.1]
        store.add([entry(0.2)])
    assert len(file.read_bytes().splitlines()) == 2


def test_a_lock_that_cannot_be_opened_is_told(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(DataError, match=r"/lock: .*Is a directory.*what was finished is kept"), locked(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/store: cannot be made or written"), LabelStore(tmp_path / "file" / "store", SETTINGS):
        pass


def labelled(settings=SETTINGS, alternative=None):
    results = (Frame(entry(0.1).structure, entry(0.1).labels, group="rattle"), Failure(entry(0.2).structure, "why"))
    return Labelled(results, settings, (alternative, None), {}, 0.0)


def test_a_file_says_which_oracle_it_is_from(tmp_path):
    file, other = tmp_path / "out.extxyz", SETTINGS | {"scf": {"iterations": 500, "mixing": 0.1}}
    write_labels(file, labelled(), labelled(alternative=other))
    (frame, _) = read(file)
    assert frame.group == "rattle" and frame.labels.energy == 0.1
    assert read_oracle_settings(file) == SETTINGS
    text = file.read_text()
    assert text.count("oracle_alternative=") == 1
    file.write_text(text.replace(r"\"version\": \"1\"", r"\"version\": \"2\""))
    with pytest.raises(DataError, match="do not fit 'oracle_hash'"):
        read_oracle_settings(file)


def test_two_levels_of_theory_do_not_mix(tmp_path):
    a, b = tmp_path / "a.extxyz", tmp_path / "b.extxyz"
    with pytest.raises(DataError, match="different settings \\(version: '1' there, '2' here\\)"):
        write_labels(a, labelled(), labelled(SETTINGS | {"version": "2"}))
    assert not a.exists()
    write_labels(a, labelled())
    write_labels(b, labelled(SETTINGS | {"version": "2"}))
    a.write_text(a.read_text() + b.read_text())
    with pytest.raises(DataError, match=r"frame 1: labelled with other settings than the frames before \(version"):
        read_oracle_settings(a)
