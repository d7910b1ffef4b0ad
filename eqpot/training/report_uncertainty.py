"""The section of the report about σ: how far it can be trusted, as a table and six figures."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqpot.training import figures_uncertainty as figures
from eqpot.training.errors_and_sigmas import ErrorsAndSigmas, errors_and_sigmas
from eqpot.training.metrics import QUANTITIES, Evaluation
from eqpot.training.page import gallery, number, paragraph, table
from eqpot.uncertainty.scores import PLAIN_LEVELS


def uncertainty(shown: Evaluation | None, before: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """The section, and the scores of the forces (empty without).

    Args:
        shown: the evaluation to judge σ by.
        before: scores of its forces before σ was calibrated, as `eqpot.uncertainty.summarise` gives them.
    """
    pairs = errors_and_sigmas(shown) if shown else {}
    scores = {key: part.scores() for key, part in pairs.items()}
    forces = scores.get("forces", {})
    if pairs:
        return _scores(scores) + (gallery(_panels(pairs["forces"], forces, before)) if forces else paragraph(NO_FORCES)), forces
    if shown and not any(r.energy_std or r.atom_std.any() for r in shown.results):
        return paragraph("A single member has no spread, so there is no σ: train an ensemble to learn where it errs."), forces
    return paragraph(NO_FORCES), forces


NO_FORCES = "There are no labelled forces to judge σ by."


def _panels(pairs: ErrorsAndSigmas, scores: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[Any]:
    error, sigma = pairs.errors, pairs.sigmas
    levels, observed = (np.asarray(v, float) for v in scores["coverage"])
    raw = None if before is None else np.asarray(before["coverage"][1], float)  # `summarise` has the same levels always
    return [
        figures.error_against_sigma(error, sigma, scores["spearman"]),
        figures.reliability(levels, observed, scores["factor"], raw),
        figures.error_in_bins(error, sigma),
        figures.errors_in_sigmas(error, sigma),
        figures.kept_by_sigma(error, sigma),
        figures.sigma_histogram(error, sigma, pairs.elements),
    ]


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The numbers of each quantity that has a σ; docs/uncertainty.md says what they mean."""
    heads = [
        "σ of",
        "values",
        "RMSE",
        "√⟨σ²⟩",
        "RMS error / σ",
        *(f"in {p} %" for p in PLAIN_LEVELS),
        "Spearman ρ",
        "AUSE",
        "area",
        "ENCE",
        "NLL",
        "CRPS",
    ]
    rows = []
    for quantity in (q for q in QUANTITIES if q.key in scores):
        found, size = scores[quantity.key], quantity.size
        inside = [f"{100 * found[f'coverage_{p}']:.0f} %" for p in PLAIN_LEVELS]
        lengths = [number(size * found[name]) for name in ("rmse", "sharpness")]
        plain = [number(found[name], 2) for name in ("spearman", "ause", "miscalibration_area", "ence")]
        proper = [number(found["nll"] + np.log(size)), number(size * found["crps"])]
        rows.append(
            (f"{quantity.name} [{quantity.unit}]", number(found["count"]), *lengths, number(found["factor"]), *inside, *plain, *proper)
        )
    return table(heads, rows)
