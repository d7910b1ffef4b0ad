"""The report of an active-learning run shows what the ledger says, finished or not, changes nothing and escapes every text."""

import re

import numpy as np
import pytest

from eqpot.active.active_report import read_entries, read_times, write_active_report
from eqpot.active.label_record import Entry, label_key, line_of
from eqpot.active.label_store import LabelStore
from eqpot.active.ledger import LINES, open_ledger
from eqpot.core.errors import DataError
from eqpot.graph import Labels, Structure

IDENTITY = {"name": "water", "oracle": "gfn2", "samplers": [{"kind": "md"}]}
SETTINGS = {"oracle": "fake"}
EVIL = '<img src=x onerror="alert(1)">'


def water(k):
    return Structure([8, 1, 1], [[0, 0, 0.01 * k], [0.96, 0, 0], [-0.24, 0.93, 0]])


def row(k, role="train", reason="", group="md 300 K", sigma: float | None = 0.3):
    """What the ledger says of structure k."""
    key = label_key(water(k), "level")
    status = "failed" if reason else "labelled"
    return {"key": key, "role": role, "why": f"reason {k}", "sigma_eV_A": sigma, "group": group, "origin": f"{group}, frame {k}"} | {
        "status": status,
        "reason": reason,
    }


def round_of(number, asked, calls, force: float | None = 0.1, bound: float | None = None, group="md 300 K", **sampled):
    """A record like those of the loop, of a round in which 4 structures were sampled."""
    observable = {"values": np.linspace(0, 1, 30).tolist(), "errors": [0.1] * 30}
    found = {"structures": 4, "known": 1, "candidate": 2, "absurd": 1, "by_group": {group: {"known": 1, "candidate": 2, "absurd": 1}}}
    found |= {"sigma_eV_A": [0.05, 0.2, 0.3, 2.0], "by_element_eV_A": {"O": 0.3}, "foreign": 0, "broken": 0, "lost": 0, "notes": []}
    errors = {"audit": 1, "force_rmse_eV_A": force, "energy_rmse_eV_atom": 0.002, "bounds_eV_A": {"0.9": bound}, "coverage": None}
    return {
        "kind": "round",
        "round": number,
        "potential": "hash",
        "calibrated": True,
        "learner": {"start": "fresh", "why": "the first round"},
        "train": 5,
        "held_out": 2,
        "band_eV_A": {"low": 0.1, "high": 1.0},
        "sampled": found | {"observables": {"g(r), md 300 K": observable}} | sampled,
        "asked": asked,
        "errors": errors,
        "calls": calls,
    }


def start(count=4, **rest):
    return {"kind": "start", "asked": [row(k, sigma=None, **rest) for k in range(count)]}


def end(calls, bound: float | None = 0.25, **rest):
    texts = {"why": "enough is known", "uncertain": "md 300 K: 3 of 4; most of all O"}
    return {"kind": "end", **texts, "potential": "hash", "calls": calls, "train": 7, "bounds_eV_A": {"0.9": bound}, **rest}


@pytest.fixture
def forge(tmp_path):
    """Write a ledger, the labels it speaks of and times; gives the page, its pictures left out."""

    def make(*records, identity=IDENTITY, stored=True):
        with open_ledger(tmp_path, identity) as ledger:
            for record in records:
                ledger.append(record)
        if stored:
            (tmp_path / "labels").mkdir(exist_ok=True)
            labels = Labels(energy=0.0, forces=np.zeros((3, 3)))
            keys = {row["key"] for r in records for row in r.get("asked", ())}
            entries = [Entry(structure=water(k), labels=labels, settings="level", seconds=2.0) for k in range(40)]
            lines = [line_of({"key": k, **e.document()}) for e in entries if (k := label_key(e.structure, "level")) in keys]
            (tmp_path / "labels" / "labels.jsonl").write_bytes(b"".join(lines))
        return re.sub(r'src="data:[^"]*"', "", write_active_report(tmp_path).read_text())

    return make


def sections(html):
    return re.findall(r"<h2>([^<]*)</h2>", html)


def cards(html):
    return dict(re.findall(r"<div><h3>([^<]*)</h3><b>([^<]*)</b>", html))


def test_a_finished_run_says_why_it_stopped_what_it_cost_and_how_large_errors_are(forge, tmp_path):
    asked = [row(4, "audit"), row(5), row(6, reason="did not converge")]
    (tmp_path / "times.jsonl").write_text('{"round": -1, "what": "label", "seconds": 9}\n{"round": 0, "what": "train", "seconds": 30.0}\n')
    html = forge(start(), round_of(0, asked, 7, force=0.123, bound=0.31), end(7))
    assert cards(html) == {"force error": "123", "error bound": "250", "labels paid": "7", "doubtful": "75 %", "rounds": "1"}
    for text in ("enough is known", "md 300 K: 3 of 4", "most of all O", "at most 0.250 eV/Å with a probability of 90 %", "39 s in all"):
        assert text in html
    assert "no end yet" not in html
    assert {"Learning", "Doubt", "What was asked, and why", "Structures asked", "Observables", "Cost", "Ledger"} <= set(sections(html))
    assert len(re.findall(r"<canvas data-structure=.\d", html)) == 3  # the failed one, too
    assert (tmp_path / LINES).read_text().rsplit('"sha256":"', 1)[1][:64] in html  # the head of the ledger


def test_the_page_needs_nothing_else_and_its_scripts_find_their_data(forge):
    """Two elements of one name would hide the structures from the viewer."""
    html = forge(start(), round_of(0, [row(4, "audit")], 5), end(5))
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)|url\((?!["']?data:)|@import|https?://(?!www\.w3\.org)""", html)
    names = re.findall(r'\bid="([^"]+)"', html)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(names)


def test_an_unfinished_run_is_reported_while_its_driver_holds_all_locks(tmp_path, forge):
    page = forge(start(), round_of(0, [row(4, "audit"), row(5)], 6), round_of(1, [row(7, "audit")], 7))
    assert "still at work, or was cut short, after round 1" in page and "a probability of 90 %: too few structures were audited" in page
    assert cards(page)["error bound"] == "–"
    (tmp_path / "labels" / "labels.jsonl").unlink()
    with open_ledger(tmp_path, IDENTITY) as ledger, LabelStore(tmp_path / "labels", SETTINGS) as store:
        store.add([Entry(structure=water(1), labels=None, reason="no", settings="level")])
        before = sorted((p, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".html")
        write_active_report(tmp_path)
        assert before == sorted((p, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".html")
        ledger.append(end(7))
    assert "no end yet" not in write_active_report(tmp_path).read_text()


def test_a_run_that_goes_on_after_its_end_has_not_ended(forge):
    page = forge(start(), round_of(0, [row(4)], 5), end(5), round_of(1, [row(5)], 6))
    assert "still at work, or was cut short, after round 1" in page and "Stopped before, and continued" in page


@pytest.mark.parametrize("records", [(), (start(),)], ids=["nothing", "only the start"])
def test_a_run_without_rounds_has_a_report(forge, records):
    page = forge(*records, stored=False)
    assert "before the end of the first round" in page and cards(page)["rounds"] == "0"
    assert cards(page)["labels paid"] == str(4 * len(records)) and "Learning" not in sections(page)


def test_a_round_that_sampled_and_asked_nothing_has_a_report(forge):
    nothing = {"structures": 0, "known": 0, "candidate": 0, "absurd": 0, "by_group": {}, "sigma_eV_A": [], "by_element_eV_A": {}}
    silent = round_of(0, [], 4, force=None, observables={}, **nothing)
    silent["errors"] = {"audit": 0, "bounds_eV_A": {"0.9": None}}
    page = forge(start(), silent, end(4, bound=None))
    assert "nothing is known of the errors" in page and "force error" not in cards(page) and "Observables" not in sections(page)


def test_every_failure_is_listed_with_its_reason(forge):
    first = start(3, reason="overlap at the start")
    failing = [row(k, reason=f"failure number {k}.") for k in range(4, 20)]
    page = forge(first, round_of(0, [*failing[:8], row(30, "audit")], 12), round_of(1, failing[8:], 20), end(20))
    listed = page.split("<h3>Failures (19)</h3>")[1].split("</table>")[0]
    assert all(listed.count(f"failure number {k}.") == 1 for k in range(4, 20)) and listed.count("overlap at the start") == 3
    assert "19 failed" in page


def test_every_text_is_escaped(forge):
    evil = row(4, reason=EVIL, group=EVIL) | {"why": EVIL, "role": EVIL, "status": EVIL}
    failed = row(5, reason=EVIL, group=EVIL)
    observable = {EVIL: {"values": [1.0], "errors": [0.1]}}
    sampled = {"notes": [EVIL], "observables": observable, "by_element_eV_A": {EVIL: 0.1}}
    page = forge(
        start(group=EVIL),
        round_of(0, [evil, failed], 6, bound=0.1, group=EVIL, **sampled) | {"learner": {"start": "fresh", "why": EVIL}},
        end(6, why=EVIL, uncertain=EVIL),
        identity=IDENTITY | {"name": EVIL, "oracle": EVIL},
    )
    assert "<img src=x" not in page and page.count("&lt;img src=x") > 10


def test_times_are_summed_over_continued_runs_and_a_torn_line_is_left_out(tmp_path):
    path = tmp_path / "times.jsonl"
    line = '{"round": 0, "what": "train", "seconds": 2.5}\n'
    path.write_text(line + line + '{"round": 1, "wh')
    assert read_times(path) == {0: {"train": 5.0}} and read_times(tmp_path / "none") == {}


def test_labels_are_read_as_they_were_kept_and_damage_is_counted(tmp_path):
    with LabelStore(tmp_path, SETTINGS) as store:
        store.add([Entry(structure=water(k), labels=None, reason="no", settings="level") for k in range(3)])
        kept = set(store.entries)
    path = tmp_path / "labels.jsonl"
    assert set(read_entries(path)[0]) == kept and read_entries(tmp_path / "none") == ({}, 0)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0].replace(b"no", b"yes"), *lines[1:3], lines[0][:40]]))
    entries, damaged = read_entries(path)
    assert set(entries) < kept and len(entries) == 2 and damaged == 1


def test_a_ledger_that_was_changed_is_refused(forge, tmp_path):
    forge(start(), round_of(0, [row(4)], 5), end(5))
    path = tmp_path / LINES
    path.write_text(path.read_text().replace("enough is known", "enough"))
    with pytest.raises(DataError, match="line 4"):
        write_active_report(tmp_path)
    with pytest.raises(DataError, match="expected the folder of an active-learning run"):
        write_active_report(tmp_path / "nothing")
