"""The number by which epochs are compared: the loss on validation frames."""

import jax.numpy as jnp
import numpy as np

from eqpot.training.config import LossConfig
from eqpot.training.losses import penalty
from eqpot.training.metrics import Evaluation


def validation_loss(config: LossConfig, weights: dict[str, float], evaluation: Evaluation) -> float:
    """Σ weight · mean penalty of the ensemble mean; with `noise`, Σ log RMSE, the negative log-likelihood at the noise that fits best.

    Args:
        config: forms of the errors.
        weights: of the quantities in this stage.
        evaluation: of the validation frames.
    """
    total = 0.0
    for name, weight in weights.items():
        rows = residuals(name, evaluation)
        if not weight or not rows:
            continue
        every = np.concatenate(rows)
        if config.noise == "none":
            total += weight * float(jnp.mean(penalty(jnp.asarray(every), config.form_of(name), config.huber)))
        else:
            total += weight * float(np.log(np.sqrt(np.mean(every**2)) + 1e-12))
    return total


def residuals(name: str, evaluation: Evaluation) -> list[np.ndarray]:
    """Predicted − labelled of each frame, one row per label as in `eqpot.training.losses.errors`."""
    scale = (lambda frame: len(frame)) if name in ("energy", "dipole") else (lambda frame: 1)
    per_atom = name in ("forces", "charges")
    return [np.reshape((p - y) / scale(f), (len(f) if per_atom else 1, -1)) for f, p, y in evaluation.pairs(name)]
