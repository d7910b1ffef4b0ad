"""Training: from labelled structures to a potential. It knows nothing of dynamics or oracles."""

from eqpot.training.config import FitConfig
from eqpot.training.loop import EpochReport, fit
from eqpot.training.metrics import Errors, Evaluation, evaluate

__all__ = ["EpochReport", "Errors", "Evaluation", "FitConfig", "evaluate", "fit"]
