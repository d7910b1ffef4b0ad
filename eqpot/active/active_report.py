"""The report of an active-learning run: one HTML file that says what was asked, why, what was learned from it and what is still in doubt.

It is made of the ledger, the wall times beside it and the store of labels, and takes no lock: it can be written while the loop is at work.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from eqpot.active import active_sections
from eqpot.active.label_record import Entry, read_line
from eqpot.active.label_store import HEADER
from eqpot.active.label_store import LINES as LABELS
from eqpot.active.ledger import LINES, read_ledger, read_lines
from eqpot.active.loop import still_uncertain
from eqpot.active.stopping import doubtful_share
from eqpot.training.page import cards, contents, facts, header, number, page, paragraph, replace_file, section, words
from eqpot.training.report_run import as_yaml

FILE = "report.html"
CONDITIONS = (
    "The bound comes from the structures of the audit, which were drawn at random from those sampled and not absurd, and never trained on "
    "(split-conformal prediction). It holds for structures drawn as they were. Two things weaken it: every round samples with another potential "
    "than the audits before it, and audits of earlier rounds, for the potential of the end all of them, chose the epoch that its training kept. What "
    "neither the bound nor σ knows is the error of the oracle against nature."
)


def write_active_report(folder: str | Path) -> Path:
    """Write report.html into the folder of a run, finished or not; the file is replaced as a whole.

    Args:
        folder: of the run, with ledger.jsonl; times.jsonl and labels/ may be missing, what they tell is then left out.

    Returns:
        The HTML file.

    Raises:
        DataError: no ledger there, or a line that was changed.
        TrainingError: when the file cannot be written; an older one is kept.
    """
    folder = Path(folder)
    records = read_ledger(folder)
    lines = read_lines(folder / LINES)  # may have grown since
    identity, head = lines[0][0]["identity"], lines[len(records)][1]
    rounds = [r for r in records if r["kind"] == "round"]
    entries, damaged = read_entries(folder / "labels" / LABELS)
    sections = {
        "Why it stopped, what is uncertain": _outcome(records, rounds),
        "Learning": active_sections.learning(rounds, _end(records)),
        "Doubt": active_sections.doubt(rounds),
        "What was asked, and why": active_sections.asked(records),
        "Structures asked": active_sections.structures(rounds, entries),
        "Observables": active_sections.observables(rounds, entries),
        "Cost": active_sections.costs(read_times(folder / "times.jsonl"), entries),
        "Ledger": _ledger(head, records, folder / "labels" / HEADER),
        "Configuration": as_yaml(identity),
    }
    title = f"Active learning: {identity.get('name', folder.name)}"
    damage = f"{damaged} lines of the store of labels do not fit their hashes and were left out; the loop will refuse that store."
    parts = [
        header(title, [_state(records, rounds), *([f"oracle {identity['oracle']}"] if isinstance(identity.get("oracle"), str) else [])]),
        cards(_headline(records, rounds)),
        "" if _end(records) else paragraph(f"This run has no end yet: it is still at work, or was cut short, {_after(rounds)}.", "note"),
        paragraph(damage, "note") if damaged else "",
        contents(name for name, inner in sections.items() if inner),
        *(section(name, inner) for name, inner in sections.items()),
    ]
    replace_file(folder / FILE, page(title, parts))
    return folder / FILE


def read_entries(path: Path) -> tuple[dict[str, Entry], int]:
    """Labels and failures by key, and how many lines do not fit their hashes; a torn last line is left out, a file that is not there is empty.

    Unlike `LabelStore` this takes no lock and changes nothing.
    """
    entries: dict[str, Entry] = {}
    damaged = 0
    data = path.read_bytes() if path.is_file() else b""
    for line in data.split(b"\n")[:-1]:
        try:
            key, entry = read_line(line)
        except (ValueError, KeyError, TypeError):
            damaged += 1
        else:
            entries[key] = entry
    return entries, damaged


def read_times(path: Path) -> dict[int, dict[str, float]]:
    """Wall time [s] by round and kind of work, summed over continued runs; empty when there is no such file."""
    times: dict[int, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            place, what, seconds = int(row["round"]), str(row["what"]), float(row["seconds"])
        except (ValueError, KeyError, TypeError):  # torn while it was written
            continue
        kinds = times.setdefault(place, {})
        kinds[what] = kinds.get(what, 0.0) + seconds
    return times


def _end(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The record of the end; None while there is none, also when a finished run was given more to do."""
    return records[-1] if records and records[-1]["kind"] == "end" else None


def _after(rounds: Sequence[Any]) -> str:
    return f"after round {rounds[-1]['round']}" if rounds else "before the end of the first round"


def _state(records: Sequence[Mapping[str, Any]], rounds: Sequence[Any]) -> str:
    return f"{'finished' if _end(records) else 'not finished,'} {_after(rounds)}"


def _headline(records: Sequence[Mapping[str, Any]], rounds: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """What a reader wants to know first."""
    asked = [row for record in records for row in record.get("asked", ())]
    failed = sum(row["status"] == "failed" for row in asked)
    learned = sum(row["status"] != "failed" and row["role"] == "train" for row in asked)
    end = _end(records)
    found = []
    audited = [r for r in rounds if r["errors"].get("force_rmse_eV_A") is not None]
    if audited:
        last = audited[-1]
        size = f"RMSE on the audit of round {last['round']}: {number(last['errors']['audit'])} fresh structures"
        found.append(("force error", number(1000 * last["errors"]["force_rmse_eV_A"]), "meV/Å", size))
    for level, value in list(active_sections.bounds(end or (rounds[-1] if rounds else {})).items())[-1:]:  # the highest level
        text = f"of the force on an atom, with a probability of {active_sections.percent(level)}"
        found.append(
            ("error bound", number(None if value is None else 1000 * value), "meV/Å" if value is not None else "", text + _few(value))
        )
    paid = f"{number(learned)} of them to learn from" + (f", {number(failed)} failed" if failed else "")
    found.append(("labels paid", number(len(asked)), "calls of the oracle", paid))
    if rounds:
        last = rounds[-1]
        low = last["band_eV_A"]["low"]
        sampled = f"of {number(last['sampled']['structures'])} sampled in round {last['round']} have σ of {low:.2f} eV/Å or more, or were not reached"
        seen = last["sampled"]["structures"] + last["sampled"]["lost"]
        found.append(("doubtful", f"{number(100 * doubtful_share(last, low), 2)} %" if seen else number(None), "", sampled))
    state = f"stopped: {shorten(end['why'], 80, placeholder=' …')}" if end else "not finished"
    return [*found, ("rounds", number(len(rounds)), "", state)]


def _few(value: float | None) -> str:
    return "" if value is not None else "; too few structures were audited to state one"


def _outcome(records: Sequence[Mapping[str, Any]], rounds: Sequence[Mapping[str, Any]]) -> str:
    """Why it stopped, and what is still uncertain."""
    end = _end(records)
    doubts = end["uncertain"] if end else still_uncertain(rounds[-1]) if rounds else "nothing was sampled yet"
    rows = [("Why it stopped", end["why"] if end else f"it has not yet, {_after(rounds)}")]
    rows += [("Stopped before, and continued", r["why"]) for r in records if r["kind"] == "end" and r is not end]
    rows += [("Still uncertain" if k == 0 else "", part) for k, part in enumerate(doubts.split("; "))]
    for k, (level, value) in enumerate(active_sections.bounds(end or (rounds[-1] if rounds else {})).items()):
        chance = f"with a probability of {active_sections.percent(level)}"
        text = f"at most {number(value)} eV/Å {chance}" if value is not None else f"no bound {chance}: too few structures were audited"
        rows.append(("" if k else "Error of the force on an atom", text))
    return facts(rows) + paragraph(CONDITIONS, "dim")


def _ledger(head: str, records: Sequence[Any], store: Path) -> str:
    """What the report was made of, and how to tell that it has not changed."""
    try:
        settings = words(json.loads(store.read_bytes())["settings"])
    except (OSError, ValueError, KeyError):
        settings = ""
    rows = [
        ("Head of the ledger", f"{head} (SHA-256 over all {number(len(records) + 1)} records, which were verified)"),
        ("Level of theory", settings),
        ("Potential", str(records[-1].get("potential", "")) if records else ""),
    ]
    return facts(row for row in rows if row[1])
