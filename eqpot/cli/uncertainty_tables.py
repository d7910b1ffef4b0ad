"""Scores of σ as tables: each quantity with the range of every score, and the forces by element."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqpot.cli.console import columns
from eqpot.core.errors import DataError, EqpotError

SCORES = {
    "rmse": "RMS error", "sharpness": "RMS σ", "dispersion": "std/mean of σ", "factor": "RMS error / σ", "coverage_50": "inside 50 %",
    "coverage_68": "inside 68 %", "coverage_90": "inside 90 %", "coverage_95": "inside 95 %", "miscalibration_area": "miscalibration",
    "ence": "ENCE", "spearman": "Spearman ρ", "ause": "AUSE", "nll": "NLL", "crps": "CRPS",
}  # fmt: skip
"""Names in the order of the table, short enough for three quantities in a terminal; docs/uncertainty.md says what they mean."""
SHORT = {"rmse": "error", "sharpness": "σ", "factor": "error/σ", "coverage_68": "in 68 %", "coverage_95": "in 95 %", "spearman": "ρ"}
"""Shorter still, for the table of elements."""
LENGTHS = ("crps", "sharpness", "rmse")
"""Scores in the unit of the quantity."""
NO_SIGMA = (
    "predicts no σ: one member without noise; train an ensemble (ensemble.members: 4) or the noise as well (model.noise, loss.noise: atoms)"
)


def scores_of(evaluation: Any, name: str, full: bool) -> dict[str, Any]:
    """Scores by quantity; in short those of the forces, `full` also energies, stress, ranges and elements.

    Raises:
        EqpotError: for `full` when the potential `name` predicts no σ.
        DataError: for `full` when nothing that has a σ is labelled.
    """
    from eqpot.training.errors_and_sigmas import all_scores, errors_and_sigmas

    pairs = errors_and_sigmas(evaluation)
    if not full:
        return {key: pairs[key].scores() for key in ("forces",) if key in pairs}
    if not pairs and not any(r.energy_std or r.atom_std.any() or len(r.member_energies) > 1 for r in evaluation.results):
        raise EqpotError(f"{name}: {NO_SIGMA}")
    if not pairs:
        raise DataError("--uncertainty: found no labelled energies, forces or stress with a σ, expected at least one to judge σ by")
    return all_scores(pairs, ranges=True)


def uncertainty_tables(scores: Mapping[str, Any]) -> list[Any]:
    """The table of all quantities and, where there are forces, that of the elements."""
    from eqpot.training.metrics import QUANTITIES

    shown = [q for q in QUANTITIES if q.key in scores]
    rows = [(title, *(_cell(scores[q.key], key, q.size) for q in shown)) for key, title in SCORES.items()]
    rows.append(("values", *(f"{scores[q.key]['count']}" for q in shown)))
    if any(scores[q.key]["zero_sigma"] for q in shown):
        rows.append(("of them σ = 0", *(f"{scores[q.key]['zero_sigma']}" for q in shown)))
    heads = ["", *(f"{q.name}, {q.unit}" for q in shown)]
    tables = [columns("\nUncertainty: scores, and their 90 % ranges over structures", heads, rows)]
    if elements := scores.get("forces", {}).get("elements"):
        tables.append(_by_element(elements, next(q for q in shown if q.key == "forces").size))
    return tables


def _by_element(elements: Mapping[str, Any], size: float) -> Any:
    """Forces by element: a column for what differs most between them."""
    names = ("rmse", "sharpness", "factor", "coverage_68", "coverage_95", "ence", "spearman", "ause", "crps")
    rows = [(name, found["count"], *(_number(found, key, size) for key in names)) for name, found in elements.items()]
    return columns("\nForce uncertainty by element, meV/Å", ["", "atoms", *(SHORT.get(n, SCORES[n]) for n in names)], rows)


def _cell(found: Mapping[str, Any], key: str, size: float) -> str:
    """A score, and behind it the range if there is one."""
    text, (low, high) = _number(found, key, size), found.get("ranges", {}).get(key, (np.nan, np.nan))
    if not np.isfinite([low, high]).all():
        return text
    return f"{text} ({_number({key: low}, key, size)}…{_number({key: high}, key, size)})"


def _number(found: Mapping[str, Any], key: str, size: float) -> str:
    """In the unit of the table; an NLL is shifted by the logarithm of the unit."""
    value = found[key]
    if not np.isfinite(value):
        return "–"
    if key.startswith("coverage_"):
        return f"{100 * value:.0f}%"
    if key == "nll":
        return f"{value + np.log(size):.2f}"
    return f"{value * size:.3g}" if key in LENGTHS else f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"
