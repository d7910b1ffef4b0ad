"""Training: from labelled structures to a potential. It knows nothing of dynamics or oracles."""

from eqpot.training.config import FitConfig
from eqpot.training.hygiene import examine
from eqpot.training.learning_curve import learning_curve
from eqpot.training.loop import fit
from eqpot.training.metrics import Errors, Evaluation, evaluate
from eqpot.training.progress import EpochReport

__all__ = ["EpochReport", "Errors", "Evaluation", "FitConfig", "evaluate", "examine", "fit", "learning_curve"]
