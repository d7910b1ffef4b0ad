"""The section of the report about σ: whether it is calibrated, and how far it can be trusted, as facts, a table and six figures."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from eqpot.potential import Calibration, Potential, Result
from eqpot.training import figures_uncertainty as figures
from eqpot.training.errors_and_sigmas import ErrorsAndSigmas, errors_and_sigmas
from eqpot.training.metrics import QUANTITIES, Evaluation
from eqpot.training.page import facts, gallery, number, paragraph, table
from eqpot.uncertainty.scores import PLAIN_LEVELS


def uncertainty(shown: Evaluation | None, potential: Potential | None = None) -> tuple[str, dict[str, Any]]:
    """The section, and the scores of the forces (empty without).

    Args:
        shown: the evaluation to judge σ by.
        potential: what predicted it; says whether it is calibrated, and where its domain ends.
    """
    pairs = errors_and_sigmas(shown) if shown else {}
    scores = {key: part.scores() for key, part in pairs.items()}
    forces = scores.get("forces", {})
    known = _trust(potential, shown) if potential else ""
    if pairs:
        before = before_calibration(shown) if shown else None
        drawn = gallery(_panels(pairs["forces"], forces, before)) if forces else paragraph(NO_FORCES)
        return known + _scores(scores) + drawn, forces
    if shown and not any(r.energy_std or r.atom_std.any() for r in shown.results):
        return known + paragraph(NO_SIGMA), forces
    return known + paragraph(NO_FORCES), forces


DISTANCES = {
    "mahalanobis": "Mahalanobis distances",
    "mixture": "distances from a mixture of Gaussians",
    "landmarks": "distances from landmarks",
}
"""What the kinds of a domain measure."""
NO_FORCES = "There are no labelled forces to judge σ by."
NO_SIGMA = "A single member has no spread, so there is no σ: train an ensemble, or give it a last layer, to learn where it errs."


def before_calibration(shown: Evaluation) -> dict[str, Any] | None:
    """Scores of the σ of forces as it was before its calibration, without predicting again; None where it was not calibrated."""
    if not any(r.calibration is not None and "forces" in r.calibration.quantities for r in shown.results):
        return None
    raw = errors_and_sigmas(Evaluation(shown.frames, tuple(map(_uncalibrated, shown.results))))
    return raw["forces"].scores() if "forces" in raw else None


def _uncalibrated(result: Result) -> Result:
    """σ² = spread² + noise² of energy and forces, as in `Result`; that of the stress is left out, its parts are not kept."""
    noise = 0.0 if result.forces_noise is None else result.forces_noise[:, None]
    energy, forces = float(np.hypot(result.energy_spread, result.energy_noise or 0.0)), np.hypot(result.forces_spread, noise)
    return replace(result, energy_std=energy, forces_std=forces, stress_std=None, calibration=None)


def _trust(potential: Potential, shown: Evaluation | None) -> str:
    """Whether σ is calibrated, by what test, and where the domain ends."""
    domain = potential.trust.domain
    rows = [("Calibrated", calibration_verdict(potential)), *_tested(potential)]
    if domain is not None:
        edge = ", ".join(f"{e} {number(float(d))}" for e, d in zip(potential.elements, domain.limit, strict=True))
        rows.append(("Domain", f"edge at {domain.rule}: {DISTANCES.get(domain.kind, domain.kind)} of {edge}"))
        outside = [r.known is False for r in shown.results] if shown else []
        if outside:
            rows.append(("Outside of the domain", f"{sum(outside)} of the {len(outside)} structures shown have an atom outside"))
    else:
        rows.append(("Domain", "not known; see eqpot calibrate --domain"))
    return facts(rows)


def calibration_verdict(potential: Potential) -> str:
    """In words: 'yes: …' with the method and the number of structures, or 'no: …' with the reason."""
    calibration = potential.trust.calibration
    if calibration is None:
        return "no: it was given no structures for that (data.calibrate, or eqpot calibrate)" if potential.has_sigma else "no: it has no σ"
    how = f"{calibration.method}, on {calibrated_on(calibration)} structures"
    return f"yes: {how}" if calibration.calibrated else f"no: {calibration.fault} ({how})"


def calibrated_on(calibration: Calibration) -> int:
    """How many structures it was fitted to; where quantities differ, those of the one labelled most often."""
    return max(quantity.structures for quantity in calibration.quantities.values())


def _tested(potential: Potential) -> list[tuple[str, str]]:
    """What the calibration held on structures left out of it, one row per quantity."""
    checks = potential.trust.calibration.checks if potential.trust.calibration else {}
    rows = []
    for name, found in checks.items():
        held = f"{100 * found['coverage']['90']:.0f} % inside 90 %, " if "90" in found["coverage"] else ""
        text = f"{held}RMS error {number(found['factor'])} σ, ENCE {number(found['ence'], 2)}"
        rows.append((f"Tested, σ of {name}", f"{text}, on structures left out of the calibration"))
    return rows


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
    return table(heads, rows, kind="wide")
