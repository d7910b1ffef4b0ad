"""Sections of the report about errors: of sets, elements, groups and force magnitudes, parity, and the worst structures."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eqpot.core.elements import symbol
from eqpot.graph import Frame
from eqpot.potential import Potential, Result
from eqpot.training import figures
from eqpot.training.metrics import FORCE, QUANTITIES, Errors, Evaluation
from eqpot.training.page import Panel, gallery, number, paragraph, subheading, table
from eqpot.training.report_run import references
from eqpot.training.structures3d import Scene, scenes

WORST = 6
"""Structures drawn of the worst."""


def accuracy(sets: Mapping[str, Evaluation], main: str | None, potential: Potential | None) -> str:
    """Tables of all sets, then figures and tables of the set `main`."""
    if main is None:
        return paragraph("No labelled frames were evaluated.")
    shown, parts = sets[main], [_errors("set", sets)]
    if len(sets) > 1:
        parts.append(paragraph(f"Figures and tables from here on show the set “{main}”."))
    parts.append(gallery(_panels(shown, potential)))
    parts.append(_by_element(shown))
    for title, name, split in (("type of configuration", "group", shown.by_group()), ("level of theory", "level", shown.by_head())):
        if len(split) > 1:
            parts += [subheading(f"Errors by {title}"), _errors(name, split, bars=True)]
    if bins := shown.forces_by_magnitude():
        span = [f"{b.low:g} – {b.high:g}" if np.isfinite(b.high) else f"from {b.low:g}" for b in bins]
        share = [number(100 * b.relative) + " %" if np.isfinite(b.relative) else "–" for b in bins]
        rows = [(s, number(b.count), number(1000 * b.error), r) for s, b, r in zip(span, bins, share, strict=True)]
        heads = ("force [eV/Å]", "atoms", "mean error [meV/Å]", "relative to the force")
        figure = [figures.against_magnitude(bins)] if any(b.error > 0 for b in bins) else []
        parts += [subheading("Force error by force magnitude"), gallery(figure, table(heads, rows, bars=(2,)))]
    return "\n".join(part for part in parts if part)


def _by_element(shown: Evaluation) -> str:
    elements, sizes = shown.forces_by_element(), shown.force_size_by_element()
    if not elements:
        return ""
    rows = [
        (
            name,
            number(e.count // 3),
            number(1000 * e.mae),
            number(1000 * e.rmse),
            number(100 * e.rmse / sizes[name]) + " %" if sizes[name] else "–",
        )
        for name, e in elements.items()
    ]
    heads = ("element", "atoms", "MAE [meV/Å]", "RMSE [meV/Å]", "RMSE relative to RMS force")
    return subheading("Force error by element") + table(heads, rows, kind="narrow", bars=(2, 3))


def _errors(name: str, sets: Mapping[str, Evaluation], bars: bool = False) -> str:
    """Errors of several evaluations, with the columns that any of them fills."""
    filled = [q for q in QUANTITIES if any(getattr(e, q.key) for e in sets.values())]
    heads = [f"{q.name} {kind} [{q.unit}]" for q in filled for kind in ("MAE", "RMSE")]

    def cells(e: Errors | None, size: float) -> tuple[str, str]:
        return (number(size * e.mae), number(size * e.rmse)) if e else ("–", "–")

    rows = [(key, number(len(e.frames)), *(c for q in filled for c in cells(getattr(e, q.key), q.size))) for key, e in sets.items()]
    return table((name, "frames", *heads), rows, bars=range(2, 2 + len(heads)) if bars else ())


def _panels(shown: Evaluation, potential: Potential | None) -> list[Panel]:
    """Parity and distribution of errors of each quantity."""
    parity, errors = [], []
    for quantity in QUANTITIES:
        if quantity.key == "energy_per_atom":
            found = _energies(shown, potential)
        else:
            pairs = shown.pairs(quantity.key)
            columns = [quantity.size * np.concatenate([np.ravel(v) for v in c]) for c in list(zip(*pairs, strict=True))[1:]]
            found = (columns[0], columns[1]) if pairs else None
        if found is None:
            continue
        predicted, reference = found
        name = quantity.name.capitalize()
        noun = {"energy": "energies", "charge": "charges"}.get(quantity.name, f"{quantity.name} components")
        title = "Energy, relative to the mean" if quantity.name == "energy" else name if noun == "charges" else f"{name} components"
        parity.append(figures.parity(title, predicted, reference, quantity.unit, noun))
        errors.append(figures.histogram(f"{name} errors", predicted - reference, quantity.unit, noun))
    if len(parity) == 2:
        return parity + errors
    return [panel for both in zip(parity, errors, strict=True) for panel in both]


def _energies(shown: Evaluation, potential: Potential | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Predicted and reference energies [meV/atom] without those of the atoms, from the mean of the reference on."""
    pairs = shown.pairs("energy")
    if not pairs:
        return None
    atoms = references(potential) if potential else {"": {}}
    first = next(iter(atoms.values()))
    zero = [sum(atoms.get(f.head, first).get(symbol(z), 0.0) for z in f.structure.numbers) for f, _, _ in pairs]
    counts = np.array([len(f) for f, _, _ in pairs])
    predicted = 1000 * (np.array([float(p) for _, p, _ in pairs]) - zero) / counts
    reference = 1000 * (np.array([float(y) for _, _, y in pairs]) - zero) / counts
    return predicted - reference.mean(), reference - reference.mean()


class Case(NamedTuple):
    """A frame and its errors: the atom with the largest force error and that error [eV/Å] (None without forces), energy error [eV/atom]."""

    frame: Frame
    result: Result
    atom: int | None
    force: float | None
    energy: float | None

    @property
    def size(self) -> tuple[bool, float]:
        """By which frames are ordered: force errors first; what is not finite is worst."""
        value = self.force if self.force is not None else self.energy or 0.0
        return self.force is not None, value if np.isfinite(value) else np.inf


def worst(shown: Evaluation) -> str:
    """The structures with the largest force error of an atom, or without forces, of the energy."""
    cases = [c for f, r in zip(shown.frames, shown.results, strict=True) if (c := _case(f, r))]
    cases = sorted(cases, key=lambda c: c.size, reverse=True)[:WORST]
    ensemble = any((c.result.atom_std > 0).any() for c in cases)
    rows = [
        (
            Path(c.frame.origin).name or "unnamed",
            c.frame.structure.formula,
            "–" if c.atom is None else f"{symbol(c.frame.structure.numbers[c.atom])} {c.atom}",
            *(number(None if v is None else 1000 * v) for v in (c.force, _sigma(c) if ensemble else None, c.energy)),
        )
        for c in cases
    ]
    heads = ("origin", "formula", "atom, index", f"force error [{FORCE.unit}]", "its σ [meV/Å]", "energy error [meV/atom]")
    keep = [k for k in range(6) if k < 2 or any(row[k] != "–" for row in rows)]
    text = [place for place, k in enumerate(keep) if k < 3]
    if not rows:
        return ""
    return scenes([_scene(c, row, ensemble) for c, row in zip(cases, rows, strict=True)]) + table(
        [heads[k] for k in keep], [[row[k] for k in keep] for row in rows], text=text
    )


def _case(frame: Frame, result: Result) -> Case | None:
    labels = frame.labels
    energy = None if labels.energy is None else abs(result.energy - labels.energy) / len(frame)
    if labels.forces is None:
        return None if energy is None else Case(frame, result, None, None, energy)
    error = np.linalg.norm(result.forces - labels.forces, axis=1)
    atom = int(np.argmax(np.where(np.isfinite(error), error, np.inf)))
    return Case(frame, result, atom, float(error[atom]), energy)


def _sigma(case: Case) -> float | None:
    return None if case.atom is None else float(case.result.atom_std[case.atom])


def _scene(case: Case, row: tuple[str, ...], ensemble: bool) -> Scene:
    """The frame with its errors, for the eye."""
    origin, formula, place, force, sigma, energy = row
    forces = case.frame.labels.forces
    error = None if forces is None else np.linalg.norm(case.result.forces - forces, axis=1)
    parts = [f"{len(case.frame)} atom{'s' * (len(case.frame) > 1)}"]
    if case.atom is not None:
        parts.append(f"{place}: {force} meV/Å" + (f", σ {sigma}" if ensemble else ""))
    if case.energy is not None:
        parts.append(f"energy off by {energy} meV/atom")
    text = " · ".join(parts)
    caption = f"<b>{escape(formula)}</b> · {escape(origin)}<br>{escape(text)}"
    return Scene(case.frame.structure, caption, f"{formula}, {origin}: {text}", error, case.result.atom_std if ensemble else None)
