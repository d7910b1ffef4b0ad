"""The report of a run: one HTML file that needs nothing else, to be read by people.

It holds what was trained, how well it predicts, how far its σ can be trusted and what it did in dynamics; what is missing is left out and
said. All text is escaped, figures are pictures inside the file, and nothing is fetched from anywhere.
"""

import time
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.units import EV_PER_A3_TO_GPA as GPA
from eqpot.potential import Potential
from eqpot.training import figures
from eqpot.training.metrics import Errors, Evaluation
from eqpot.training.page import (  # fmt: skip
    Panel,
    cards,
    duration,
    facts,
    gallery,
    number,
    page,
    paragraph,
    replace_file,
    section,
    subheading,
    table,
    words,
)

WORST = 8
"""Structures in the table of the worst."""


class Quantity(NamedTuple):
    """Something predicted: its name in `Evaluation`, the name and unit shown, and how many of these units an internal one is."""

    key: str
    name: str
    unit: str
    size: float


ENERGY, FORCE = Quantity("energy_per_atom", "energy", "meV/atom", 1000.0), Quantity("forces", "force", "meV/Å", 1000.0)
STRESS = Quantity("stress", "stress", "GPa", GPA)
QUANTITIES = (ENERGY, FORCE, STRESS)


def write_report(
    path: str | Path,
    *,
    title: str,
    potential: Potential | None = None,
    history: Iterable[Any] | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
    scores: Mapping[str, Any] | None = None,
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
        evaluations: name → `Evaluation`; figures and tables show 'test', or else the last one that has errors.
        scores: of the σ of that evaluation, as `eqpot.uncertainty.summarise` gives them.
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
    parts = [
        _head(title, potential),
        cards(_headline(main, shown, scores, dynamics, potential)),
        *(paragraph(note, "note") for note in notes),
        section("What was trained", facts(_identity(potential)) if potential else ""),
        section("Learning", _learning(rows)),
        section("Accuracy", _accuracy(sets, main, shown, potential)),
        section("Uncertainty", _uncertainty(shown, scores)),
        section("Worst structures", _worst(shown) if shown else ""),
        section("Molecular dynamics", "" if dynamics is None else _dynamics(dynamics, target_K)),
    ]
    replace_file(Path(path), page(title, parts))
    return Path(path)


def _head(title: str, potential: Potential | None) -> str:
    from eqpot.core.version import VERSION

    words = [f"eqpot {VERSION}", time.strftime("%-d %B %Y, %H:%M")]
    if potential:
        words[:0] = [f"Potential for {', '.join(potential.elements)}"]
    return f"<header><h1>{escape(title)}</h1>{paragraph(' · '.join(words))}</header>"


def _headline(
    name: str | None, shown: Evaluation | None, scores: Mapping | None, run: Any, potential: Potential | None
) -> list[tuple[str, str, str, str]]:
    """What a reader wants to know first."""
    rows = []
    for key, quantity, unit, size in (FORCE, ENERGY, STRESS):
        if shown and (e := getattr(shown, key)):
            rows.append((f"{quantity} error", number(e.mae * size), unit, f"MAE on {name} · RMSE {number(e.rmse * size)}"))
    if scores and np.isfinite(scores.get("spearman", np.nan)):
        rows.append(("uncertainty", f"{scores['spearman']:.2f}", "Spearman ρ", "how well σ ranks the force errors"))
    if run is not None:
        slope, span, warmth = figures.drift(run), _span(run), number(float(np.mean(run.temperature_K)))
        if slope is None:
            rows.append(("temperature", warmth, "K", f"mean over {span} ps of dynamics"))
        else:
            rows.append(("energy drift", number(slope, 2), "meV/atom/ps", f"over {span} ps at {warmth} K"))
    if potential:
        members = potential.n_members
        rows.append(("ensemble", number(members), "member" + "s" * (members > 1), f"{number(potential.n_parameters)} parameters each"))
    return rows


def _identity(potential: Potential) -> list[tuple[str, str]]:
    """Rows of the table that says what was trained."""
    known, architecture = potential.metadata, potential.spec.config.model_dump()
    data, reference, config = (known.get(key) or {} for key in ("data", "reference_energies", "config"))
    optimizer, training = dict(config.get("optimizer") or {}), config.get("training") or {}
    atoms = ", ".join(f"{e} {number(v, 6)}" for e, v in zip(potential.elements, potential.reference_energies, strict=True))
    sets = (("Training data", "train"), ("Validation data", "valid"))
    rows = [
        ("Architecture", f"{architecture.pop('kind', 'model')}: " + words({k: v for k, v in architecture.items() if k != "cutoff"})),
        ("Cutoff", f"{potential.cutoff:g} Å; {potential.receptive_field:g} Å over all layers"),
        ("Ensemble", f"{potential.n_members} × {number(potential.n_parameters)} parameters, {potential.dtype}"),
        ("Reference energies", f"{atoms} eV ({reference.get('source', 'of unknown source')})"),
        ("", str(reference.get("message", ""))),
        *((name, f"{data.get(f'{k}_frames', '?')} frames, hash {str(data[k])[:16]}") for name, k in sets if k in data),
        ("Loss weights", words(config.get("loss") or {})),
        (
            "Optimizer",
            f"{optimizer.pop('name', 'Adam')}: {words(optimizer)}, batch_size {training.get('batch_size', '?')}" if optimizer else "",
        ),
        ("Epochs", f"{known['epochs']}; the best, {known.get('best_epoch', '?')}, was kept" if "epochs" in known else ""),
        ("Training time", duration(known["seconds"]) if "seconds" in known else ""),
        ("Configuration", f"seed {config.get('seed', '?')}, hash {str(known['config_hash'])[:16]}" if "config_hash" in known else ""),
        ("Versions", words(known.get("versions") or {})),
    ]
    return [row for row in rows if row[1]]


def _learning(rows: list[Mapping[str, Any]]) -> str:
    if not rows:
        return paragraph("No history of the training was given.")
    epochs, best = [int(row["epoch"]) for row in rows], max((int(r["epoch"]) for r in rows if r.get("best")), default=None)
    units = {"energy": "(eV/atom)²", "forces": "(eV/Å)²", "stress": "(eV/Å³)²"}
    terms = {f"{k} [{u}]": np.array([r["terms"].get(k, np.nan) for r in rows]) for k, u in units.items() if k in rows[-1]["terms"]}
    caption = f"The weighted training loss went from {number(rows[0]['loss'])} to {number(rows[-1]['loss'])} in {epochs[-1]} epochs; these are its terms."
    panels = [figures.curves("Training loss", epochs, terms, "mean squared error", best, caption)]
    valid = [q for q in (FORCE, ENERGY, STRESS) if q.key in rows[-1]["valid"]]
    lines = {f"{q.name} [{q.unit}]": q.size * np.array([r["valid"].get(q.key, {}).get("mae", np.nan) for r in rows]) for q in valid}
    if lines:
        first, kept = next(iter(lines.values()))[[0, epochs.index(best) if best else -1]]
        name, place = valid[0].name, f"at epoch {best or epochs[-1]}"
        caption = f"The validation {name} MAE went from {number(first)} {valid[0].unit} at epoch {epochs[0]} to {number(kept)} {valid[0].unit} {place}."
        panels.append(figures.curves("Validation error", epochs, lines, "mean absolute error", best, caption))
    return gallery(panels)


def _accuracy(sets: Mapping[str, Evaluation], main: str | None, shown: Evaluation | None, potential: Potential | None) -> str:
    if shown is None:
        return paragraph("No labelled frames were evaluated.")
    parts = [_error_table("set", sets)]
    if len(sets) > 1:
        parts.append(paragraph(f"Figures and tables from here on show the set “{main}”."))
    parts.append(gallery(_accuracy_panels(shown, potential)))
    if elements := shown.forces_by_element():
        rows = [(name, number(e.count // 3), number(1000 * e.mae), number(1000 * e.rmse)) for name, e in elements.items()]
        parts += [subheading("Force error by element"), table(("element", "atoms", "MAE [meV/Å]", "RMSE [meV/Å]"), rows, kind="narrow")]
    if len(groups := shown.by_group()) > 1:
        parts += [subheading("Errors by group"), _error_table("group", groups)]
    return "\n".join(parts)


def _error_table(name: str, sets: Mapping[str, Evaluation]) -> str:
    """Errors of several evaluations, with the columns that any of them fills."""
    filled = [q for q in QUANTITIES if any(getattr(e, q.key) for e in sets.values())]
    heads = [f"{q.name} {kind} [{q.unit}]" for q in filled for kind in ("MAE", "RMSE")]

    def cells(e: Errors | None, size: float) -> tuple[str, str]:
        return (number(size * e.mae), number(size * e.rmse)) if e else ("–", "–")

    rows = [(key, number(len(e.frames)), *(c for q in filled for c in cells(getattr(e, q.key), q.size))) for key, e in sets.items()]
    return table((name, "frames", *heads), rows)


def _accuracy_panels(shown: Evaluation, potential: Potential | None) -> list[Panel]:
    atoms = dict(zip(potential.elements, potential.reference_energies, strict=True)) if potential else {}
    parity, errors = [], []
    if pairs := shown.pairs("energy"):
        numbers = [(predicted, reference) for _, predicted, reference in pairs]
        counts = np.array([len(f) for f, _, _ in pairs])
        offset = np.array([sum(atoms.get(symbol(z), 0.0) for z in f.structure.numbers) for f, _, _ in pairs])
        y, x = (1000 * (np.array([float(values[k]) for values in numbers]) - offset) / counts for k in (0, 1))
        parity.append(figures.parity("Energy, relative to the mean", y - x.mean(), x - x.mean(), "meV/atom", "energies"))
        errors.append(figures.histogram("Energy errors", y - x, "meV/atom", "energies"))
    for label, name, unit, size in (("forces", "Force", "meV/Å", 1000.0), ("stress", "Stress", "GPa", GPA)):
        if pairs := shown.pairs(label):
            y, x = (size * np.concatenate([np.ravel(values) for values in column]) for column in list(zip(*pairs, strict=True))[1:])
            parity.append(figures.parity(f"{name} components", y, x, unit, f"{name.lower()} components"))
            errors.append(figures.histogram(f"{name} errors", y - x, unit, f"{name.lower()} components"))
    if len(parity) == 2:
        return parity + errors
    return [panel for both in zip(parity, errors, strict=True) for panel in both]


def _uncertainty(shown: Evaluation | None, scores: Mapping | None) -> str:
    error, sigma = shown.force_uncertainty() if shown else (np.zeros(0), np.zeros(0))
    if shown and len(shown.results[0].member_energies) < 2:
        return paragraph("A single member has no spread, so there is no σ: train an ensemble to learn where it errs.")
    if not (sigma > 0).any():
        return paragraph("There are no labelled forces to judge σ by.")
    panels = [figures.error_against_sigma(error, sigma, (scores or {}).get("spearman"))]
    if scores and "coverage" in scores:
        levels, observed = (np.asarray(v, float) for v in scores["coverage"])
        panels.append(figures.reliability(levels, observed, scores.get("factor")))
    return gallery(panels)


def _worst(shown: Evaluation) -> str:
    """The structures with the largest force error of an atom, or without forces, of the energy."""
    rows = []
    for frame, result in zip(shown.frames, shown.results, strict=True):
        labels, ensemble = frame.labels, len(result.member_energies) > 1
        energy = abs(result.energy - labels.energy) / len(frame) if labels.energy is not None else None
        if labels.forces is not None:
            error = np.linalg.norm(result.forces - labels.forces, axis=1)
            atom = int(np.argmax(np.where(np.isfinite(error), error, np.inf)))
            place, size, sigma = f"{symbol(frame.structure.numbers[atom])} {atom}", float(error[atom]), float(result.atom_std[atom])
        elif energy is not None:
            place, size, sigma = "–", None, result.energy_std / len(frame)
        else:
            continue
        key = size if size is not None else float(energy or 0.0)
        rows.append(((size is not None, key if np.isfinite(key) else np.inf), frame, place, size, sigma if ensemble else None, energy))
    rows = sorted(rows, key=lambda row: row[0], reverse=True)[:WORST]
    cells = [
        (Path(frame.origin).name or "unnamed", frame.structure.formula, place, *(number(None if x is None else 1000 * x) for x in values))
        for _, frame, place, *values in rows
    ]
    heads = ("origin", "formula", "atom, index", "force error [meV/Å]", "its σ [meV/Å]", "energy error [meV/atom]")
    return table(heads, cells, text=(0, 1, 2)) if cells else ""


def _dynamics(run: Any, target_K: float | None) -> str:
    speed = getattr(run, "ns_per_day", None)
    text = f"{np.shape(run.atom_std)[1]} atoms, {_span(run)} ps, {number(len(run.time_fs))} frames"
    return paragraph(text + (f", {number(speed)} ns/day." if speed else ".")) + gallery(figures.dynamics(run, target_K))


def _span(run: Any) -> str:
    return number(float(run.time_fs[-1] - run.time_fs[0]) / 1000)
