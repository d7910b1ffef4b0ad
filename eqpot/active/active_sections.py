"""Sections of the report of an active-learning run. All text is escaped by the elements of `eqpot.training.page`."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from eqpot.active import active_figures as figures
from eqpot.active.active_figures import DOUBTFUL
from eqpot.active.label_record import Entry
from eqpot.active.query import ABSURD, CANDIDATE, KNOWN
from eqpot.active.stopping import change
from eqpot.training.page import duration, gallery, number, paragraph, subheading, table
from eqpot.training.structures3d import Scene, scenes

Round = Mapping[str, Any]
ROLES = {"train": "to learn from", "audit": "audit", "held": "held out"}
UNITS = {"volume": "Å³/atom", "lattice": "Å", "elastic constants": "GPa"}
"""Of observables, by the part of their names before the comma."""
DRAWN, NEWEST = 6, 3
"""Structures drawn, and the last rounds that they come from."""


def percent(level: str | float) -> str:
    """'0.9' → '90 %'."""
    return f"{100 * float(level):g} %"


def bounds(record: Round) -> dict[str, float | None]:
    """By level, of a round or the end."""
    return record.get("bounds_eV_A") or record.get("errors", {}).get("bounds_eV_A") or {}


def learning(rounds: Sequence[Round], end: Round | None) -> str:
    """Errors on structures that were labelled after the training, against what had been paid for by then; the table of rounds."""
    if not rounds:
        return ""
    paid = [r["calls"] - len(r["asked"]) for r in rounds]
    limits = {}
    for level in bounds(rounds[-1]):
        states = [*zip(paid, rounds, strict=True), *([(end["calls"], end)] if end else [])]
        points = [(x, value) for x, r in states if (value := bounds(r).get(level)) is not None]
        if points:
            x, y = zip(*points, strict=True)
            limits[f"bound, {percent(level)} of atoms"] = (x, [1000 * v for v in y])
    panels = []
    for key, title, unit in (("force_rmse_eV_A", "Force error", "meV/Å"), ("energy_rmse_eV_atom", "Energy error", "meV/atom")):
        values = [None if (v := r["errors"].get(key)) is None else 1000 * v for r in rounds]
        if any(v is not None for v in values) or (limits and unit == "meV/Å"):
            caption = _learned(title, unit, values)
            panels.append(figures.errors(title, unit, paid, values, limits if unit == "meV/Å" else {}, caption))
    note = "No structures were drawn at random for an audit: nothing is known of the errors on what is sampled."
    return (gallery(panels) if panels else paragraph(note, "note")) + _table(rounds)


def _learned(title: str, unit: str, values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    went = f"went from {number(known[0])} to {number(known[-1])} {unit}" if len(known) > 1 else f"was {number(known[0])} {unit}"
    text = f"Each point is a potential on the structures of its own round's audit, labelled after it was trained. The RMSE {went}"
    return text + ("; each round's audit is another one, and as hard as what was sampled." if len(known) > 1 else ".") if known else title


def _table(rounds: Sequence[Round]) -> str:
    """One line per round."""
    rows = []
    for r in rounds:
        found, sampled, learner = r["errors"], r["sampled"], r["learner"]
        within = found.get("coverage")
        rows.append(
            (
                f"{r['round']}, {'from scratch' if learner['start'] == 'fresh' else 'goes on'}{': ' + learner['why'] if learner['why'] else ''}",
                number(r["train"]),
                number(sampled["structures"]),
                number(sampled[CANDIDATE]),
                number(sampled[ABSURD]),
                number(len(r["asked"])),
                number(sum(row["status"] == "failed" for row in r["asked"])),
                _milli(found.get("force_rmse_eV_A")),
                _milli(found.get("energy_rmse_eV_atom")),
                "–" if within is None else percent(round(within, 3)),
            )
        )
    heads = ("round, and its training", "learned from", "sampled", DOUBTFUL, ABSURD, "asked", "failed")
    heads += ("force RMSE [meV/Å]", "energy RMSE [meV/atom]", "inside 90 % intervals")
    return table(heads, rows)


def _milli(value: float | None) -> str:
    return number(None if value is None else 1000 * value)


def doubt(rounds: Sequence[Round]) -> str:
    """σ over rounds, what is known, and the notes of samplers."""
    if not rounds:
        return ""
    last = rounds[-1]["sampled"]["by_group"]
    rows = [(group or "unnamed", *(number(row[kind]) for kind in (KNOWN, CANDIDATE, ABSURD))) for group, row in sorted(last.items())]
    parts = [gallery([figures.doubt(rounds), figures.shares(rounds), figures.elements(rounds)], _beside(rows))]
    foreign = sum(r["sampled"]["foreign"] for r in rounds)
    if foreign:
        parts.append(
            paragraph(
                f"{number(foreign)} structures could not be judged (unknown elements, overlapping atoms; the remarks say more).", "note"
            )
        )
    notes = [(note, str(r["round"])) for r in rounds for note in r["sampled"]["notes"]]
    if notes:
        parts.append(_folded(f"Remarks of the samplers ({len(notes)})", table(("remark", "round"), notes)))
    return "\n".join(parts)


def _beside(rows: Sequence[Sequence[str]]) -> str:
    return table(("sampled in the last round", KNOWN, DOUBTFUL, ABSURD), rows) if rows else ""


def asked(records: Sequence[Round]) -> str:
    """Counts by group, all failures, and every structure that was asked."""
    batches = [(r.get("round", -1), r["asked"]) for r in records if r.get("asked")]
    if not batches:
        return ""
    groups = sorted({row["group"] for _, rows in batches for row in rows})
    counts = {g or "unnamed": [sum(row["group"] == g for row in rows) for _, rows in batches] for g in groups}
    total = sum(len(rows) for _, rows in batches)
    caption = f"{number(total)} structures were given to the oracle, by where they came from."
    figure = figures.stacked("Asked", [place for place, _ in batches], counts, "structures asked", caption)
    every = [row for _, rows in batches for row in rows]
    parts = [gallery([figure], _by_group(groups, every)), _failures(batches)]
    parts.append(
        paragraph("σ is that of the force on the most doubtful atom; σ_F in a reason is the root mean square over the atoms.", "dim")
    )
    for place, rows in reversed(batches):
        title = "The start" if place < 0 else f"Round {place}"
        parts.append(_folded(f"{title}: {len(rows)} structures", _rows(rows), place == batches[-1][0]))
    return "\n".join(parts)


def _by_group(groups: Sequence[str], rows: Sequence[Round]) -> str:
    lines = []
    for group in groups:
        those = [row for row in rows if row["group"] == group]
        sigma = [row["sigma_eV_A"] for row in those if row["sigma_eV_A"] is not None]
        roles = [sum(row["role"] in kinds for row in those) for kinds in (("train",), ("audit", "held"))]
        failed = sum(row["status"] == "failed" for row in those)
        lines.append((group or "unnamed", *map(number, (len(those), *roles, failed)), number(float(np.median(sigma))) if sigma else "–"))
    return table(("group", "asked", "to learn from", "never trained on", "failed", "median σ [eV/Å]"), lines)


def _failures(batches: Sequence[tuple[int, Sequence[Round]]]) -> str:
    rows = [
        (row["reason"], row["origin"] or row["group"], "start" if place < 0 else str(place))
        for place, some in batches
        for row in some
        if row["status"] == "failed"
    ]
    if not rows:
        return paragraph("The oracle failed on none of them.")
    text = "They were paid for too; nothing was learned from them."
    return subheading(f"Failures ({len(rows)})") + paragraph(text) + table(("reason", "structure", "round"), rows, text=range(3))


def _rows(rows: Sequence[Round]) -> str:
    lines = [(row["origin"] or row["group"], _role(row), row["why"], _sigma(row), row["status"]) for row in rows]
    return table(("structure", "what for", "why", "σ [eV/Å]", "came back"), lines, text=(0, 1, 2))


def _role(row: Round) -> str:
    return ROLES.get(row["role"], str(row["role"]))


def _sigma(row: Round) -> str:
    return number(row["sigma_eV_A"])


def _folded(title: str, inner: str, opened: bool = False) -> str:
    """HTML that opens on a click."""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{inner}</details>"


def structures(rounds: Sequence[Round], entries: Mapping[str, Entry]) -> str:
    """The most doubtful of those asked in the last rounds, to be turned."""
    newest = [r for r in rounds if any(row["key"] in entries for row in r["asked"])][-NEWEST:]
    drawn = []
    for r in reversed(newest):
        known = [row for row in r["asked"] if row["key"] in entries and row["sigma_eV_A"] is not None]
        worst = sorted(known, key=lambda row: -row["sigma_eV_A"])[: DRAWN // len(newest)]
        drawn += [_scene(r["round"], row, entries[row["key"]]) for row in worst]
    text = "The most doubtful of the structures asked in each of the last rounds; σ is that of the force on the most doubtful atom."
    return paragraph(text) + scenes(drawn).replace("from the worst atom on", "from atom to atom") if drawn else ""


def _scene(place: int, row: Round, entry: Entry) -> Scene:
    formula = entry.structure.formula
    text = f"round {place} · σ {_sigma(row)} eV/Å · {_role(row)}: {row['why']}"
    text += f" · failed: {row['reason']}" if row["status"] == "failed" else ""
    caption = f"<b>{escape(formula)}</b> · {escape(row['origin'])}<br>{escape(text)}"
    return Scene(entry.structure, caption, f"{formula}, {row['origin']}: {text}")


def observables(rounds: Sequence[Round], entries: Mapping[str, Entry]) -> str:
    """What the runs measured, in the first and the last round."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for r in rounds:
        for name, values in r["sampled"]["observables"].items():
            found.setdefault(name, []).append((r["round"], values))
    periodic = {bool(e.structure.pbc.all()) for e in entries.values()}
    pair = "g(r)" if periodic == {True} else "neighbours per Å" if periodic == {False} else "g(r), or neighbours per Å"
    panels = []
    for name, states in found.items():
        first, last = states[0], states[-1]
        kind = name.split(",")[0]
        label = pair if kind == "g(r)" else f"{kind} [{UNITS[kind]}]" if kind in UNITS else kind
        panels.append(figures.observable(name, first, last, label, _changed(name, first, last)))
    return gallery(panels) if panels else ""


def _changed(name: str, first: tuple[int, Any], last: tuple[int, Any]) -> str:
    if first[0] == last[0]:
        return f"Measured in round {last[0]}; the band is one standard error."
    size = change({name: first[1]}, {name: last[1]})
    return f"From round {first[0]} to round {last[0]} it changed by {number(size, 2)} standard errors (root mean square); bands are one standard error."


def costs(times: Mapping[int, Mapping[str, float]], entries: Mapping[str, Entry]) -> str:
    """Where the time went."""
    if not times:
        return ""
    total = sum(sum(row.values()) for row in times.values())
    by = {what: sum(row.get(what, 0.0) for row in times.values()) for what in ("train", "sample", "label")}
    caption = f"{duration(total)} in all: {duration(by['train'])} training, {duration(by['sample'])} sampling, {duration(by['label'])} waiting for labels."
    oracle = sum(e.seconds for e in entries.values())
    if entries:
        caption += f" The oracle worked {duration(oracle)} for {number(len(entries))} structures, failed attempts and all workers counted."
    rows = []
    for place in sorted(times):
        kinds = times[place]
        parts = [duration(kinds[what]) if what in kinds else "–" for what in by]
        rows.append(("start" if place < 0 else f"round {place}", *parts, duration(sum(kinds.values()))))
    return gallery([figures.costs(times, caption)], table(("", "training", "sampling", "labels", "in all"), rows))
