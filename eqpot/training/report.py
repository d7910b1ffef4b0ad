"""The report of a run: one HTML file that needs nothing else, to be read by people.

It holds what was trained, how well it predicts, how far its σ can be trusted and what it did in dynamics; what is missing is left out and
said. All text is escaped, figures are pictures inside the file, and nothing is fetched from anywhere.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.potential import Potential
from eqpot.training import figures, figures_dynamics, report_run
from eqpot.training.metrics import ENERGY, FORCE, QUANTITIES, STRESS, Evaluation
from eqpot.training.page import cards, contents, gallery, header, number, page, paragraph, replace_file, section
from eqpot.training.report_accuracy import accuracy, worst
from eqpot.training.report_uncertainty import uncertainty


def write_report(
    path: str | Path,
    *,
    title: str,
    potential: Potential | None = None,
    history: Iterable[Any] | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
    dynamics: Any = None,
    target_K: float | None = None,
    notes: Iterable[str] = (),
) -> Path:
    """Write the report of a run.

    Args:
        path: the HTML file; replaced as a whole or not at all.
        title: its heading.
        potential: what was trained; its metadata fill the table.
        history: rows of log.jsonl or `EpochReport`s.
        evaluations: name → `Evaluation`; figures and tables show 'test', or else the last one that has errors. Where its σ is calibrated, the
            reliability before that is drawn beside it.
        dynamics: an `eqpot.md.Run`, or anything with its arrays.
        target_K: temperature of the thermostat [K].
        notes: sentences to show near the top.

    Raises:
        TrainingError: when the file cannot be written; an older one is kept.
    """
    rows = [row if isinstance(row, Mapping) else vars(row) for row in history or ()]
    sets = {name: e for name, e in (evaluations or {}).items() if e.frames}
    known = [name for name, e in sets.items() if any(getattr(e, q.key) for q in QUANTITIES)]
    main = "test" if "test" in known else known[-1] if known else None
    shown = sets.get(main or "")
    trust, scores = uncertainty(shown, potential)
    sections = {
        "Learning": _learning(rows, (potential.metadata if potential else {}).get("config") or {}),
        "Accuracy": accuracy(sets, main, potential),
        "Uncertainty": trust,
        "Worst structures": worst(shown) if shown else "",
        "Molecular dynamics": "" if dynamics is None else _dynamics(dynamics, target_K),
        "Data": report_run.data(potential) if potential else "",
        "What was trained": report_run.model(potential) if potential else "",
        "Run": report_run.run(potential, rows),
        "Configuration": report_run.configuration(potential),
    }
    parts = [
        header(title, [f"Potential for {', '.join(potential.elements)}"] if potential else []),
        cards(_headline(main, shown, scores, dynamics, potential)),
        *(paragraph(note, "note") for note in (*notes, *_about_data(potential))),
        contents(name for name, inner in sections.items() if inner),
        *(section(name, inner) for name, inner in sections.items()),
    ]
    replace_file(Path(path), page(title, parts))
    return Path(path)


def _headline(
    name: str | None, shown: Evaluation | None, scores: Mapping, run: Any, potential: Potential | None
) -> list[tuple[str, str, str, str]]:
    """What a reader wants to know first."""
    rows = []
    for key, quantity, unit, size in (FORCE, ENERGY, STRESS):
        if shown and (e := getattr(shown, key)):
            rows.append((f"{quantity} error", number(e.mae * size), unit, f"MAE on {name} · RMSE {number(e.rmse * size)}"))
    if np.isfinite(scores.get("spearman", np.nan)):
        rows.append(("uncertainty", f"{scores['spearman']:.2f}", "Spearman ρ", "how well σ ranks the force errors"))
    if run is not None:
        slope, span, warmth = figures_dynamics.drift(run), _span(run), number(float(np.mean(run.temperature_K)))
        if slope is None:
            rows.append(("temperature", warmth, "K", f"mean over {span} ps of dynamics"))
        else:
            rows.append(("energy drift", number(slope, 2), "meV/atom/ps", f"over {span} ps at {warmth} K"))
    if potential:
        members = potential.n_members
        rows.append(("ensemble", number(members), "member" + "s" * (members > 1), f"{number(potential.n_parameters)} parameters each"))
    return rows


def _about_data(potential: Potential | None) -> list[str]:
    """A pointer to what the checks of the data found."""
    count = len(report_run.remarks(potential))
    return [f"{count} remark{'s' * (count > 1)} about the training data: see the section Data."] if count else []


def _learning(rows: list[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """Loss, validation errors, and learned noise over epochs."""
    if not rows:
        return paragraph("No history of the training was given.")
    epochs, best = [int(row["epoch"]) for row in rows], max((int(r["epoch"]) for r in rows if r.get("best")), default=None)
    panels = []
    if terms := _columns(rows, "terms"):
        first, last = (number(rows[k].get("loss", np.nan)) for k in (0, -1))
        caption = f"The weighted training loss went from {first} to {last} in {epochs[-1]} epochs; these are its terms, unweighted."
        panels.append(figures.curves("Training loss", epochs, terms, _unit_of_terms(config), best, caption))
    errors = _columns([{q.key: (row.get("valid") or {}).get(q.key, {}).get("mae") for q in QUANTITIES} for row in rows])
    valid = [q for q in QUANTITIES if q.key in errors]
    if valid:
        lines = {f"{q.name} [{q.unit}]": q.size * errors[q.key] for q in valid}
        first = valid[1] if valid[0] is ENERGY and len(valid) > 1 else valid[0]
        values, place = first.size * errors[first.key], epochs.index(best) if best else -1
        caption = f"The validation {first.name} MAE went from {number(values[0])} to {number(values[place])} {first.unit} at epoch {epochs[place]}."
        panels.append(figures.curves("Validation error", epochs, lines, "mean absolute error", best, caption))
    if noise := _columns(rows, "noise"):
        caption = "The noise σ of each quantity, trained with the network; a term of the loss weighs 1/σ²."
        panels.append(figures.curves("Learned noise", epochs, noise, "σ [eV/atom, eV/Å, …]", best, caption))
    return gallery(panels)


def _columns(rows: list[Mapping[str, Any]], key: str | None = None) -> dict[str, np.ndarray]:
    """The numbers below `key` of all rows as arrays by name, NaN where a row has none; names without any number are left out."""
    tables = [row.get(key) or {} for row in rows] if key else rows
    names = dict.fromkeys(name for table in tables for name in table)
    columns = {n: np.array([np.nan if t.get(n) is None else t[n] for t in tables], float) for n in names}
    return {name: values for name, values in columns.items() if np.isfinite(values).any()}


def _unit_of_terms(config: Mapping[str, Any]) -> str:
    """What the terms of the loss are, as far as the configuration tells."""
    loss = config.get("loss") or {}
    if loss.get("noise", "none") != "none":
        return "negative log-likelihood"
    plain = loss.get("huber") is None and loss.get("form") in (None, "squared") and not loss.get("forms")
    return "mean squared error, in eV and Å" if plain else "mean penalty"


def _dynamics(run: Any, target_K: float | None) -> str:
    speed = getattr(run, "ns_per_day", None)
    text = f"{np.shape(run.atom_std)[1]} atoms, {_span(run)} ps, {number(len(run.time_fs))} frames"
    return paragraph(text + (f", {number(speed)} ns/day." if speed else ".")) + gallery(figures_dynamics.dynamics(run, target_K))


def _span(run: Any) -> str:
    return number(float(run.time_fs[-1] - run.time_fs[0]) / 1000)
