"""Uncertainty: how far a predicted σ can be trusted, and what makes it trustworthy.

`calibrate`, `fit_domain` and `fit_last_layer` turn a potential into one that knows more about its own errors; `scores` judges arrays of errors and σ and does
not know where they come from.
"""

from eqpot.uncertainty.calibrate import calibrate
from eqpot.uncertainty.domain import fit_domain
from eqpot.uncertainty.last_layer import fit_last_layer
from eqpot.uncertainty.samples import Sample, collect
from eqpot.uncertainty.scores import (
    auroc,
    ause,
    bootstrap,
    calibration_factor,
    coverage,
    crps,
    ence,
    nll,
    risk_coverage,
    sharpness,
    spearman,
    summarise,
)

__all__ = [
    "Sample",
    "auroc",
    "ause",
    "bootstrap",
    "calibrate",
    "calibration_factor",
    "collect",
    "coverage",
    "crps",
    "ence",
    "fit_domain",
    "fit_last_layer",
    "nll",
    "risk_coverage",
    "sharpness",
    "spearman",
    "summarise",
]  # fmt: skip
