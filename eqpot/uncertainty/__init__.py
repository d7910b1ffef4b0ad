"""Uncertainty: how far a predicted σ can be trusted. It sees arrays only and does not know where the numbers come from."""

from eqpot.uncertainty.scores import calibration_factor, coverage, spearman, summarise

__all__ = ["calibration_factor", "coverage", "spearman", "summarise"]
