"""The number by which epochs are compared: the loss on validation frames."""

import jax.numpy as jnp
import numpy as np

from eqpot.training.config import LossConfig
from eqpot.training.losses import penalty
from eqpot.training.metrics import Evaluation


def validation_loss(config: LossConfig, weights: dict[str, float], evaluation: Evaluation) -> float:
    """Σ weight · mean penalty of the ensemble mean; with `noise`, Σ log RMSE, the negative log-likelihood at the noise that fits best.

    Frames count as in the training, by their own weight times that of their group; those that count nothing have no say.

    Args:
        config: forms of the errors.
        weights: of the quantities in this stage.
        evaluation: of the validation frames.
    """
    total = 0.0
    for name, weight in weights.items():
        rows, frames = residuals(name, evaluation), [f for f, _, _ in evaluation.pairs(name)]
        share = np.repeat([config.weight_of(f) for f in frames], [len(r) for r in rows])
        if not weight or not share.any():
            continue
        every = np.concatenate(rows)[share > 0]
        share = share[share > 0] / len(share)
        if config.noise == "none":
            total += weight * float(jnp.sum(share * penalty(jnp.asarray(every), config.form_of(name), config.huber)))
        else:
            total += weight * float(np.log(np.sqrt(np.average((every**2).mean(-1), weights=share)) + 1e-12))
    return total


def residuals(name: str, evaluation: Evaluation) -> list[np.ndarray]:
    """Predicted − labelled of each frame, one row per label as in `eqpot.training.losses.errors`."""
    scale = (lambda frame: len(frame)) if name in ("energy", "dipole") else (lambda frame: 1)
    per_atom = name in ("forces", "charges")
    return [np.reshape((p - y) / scale(f), (len(f) if per_atom else 1, -1)) for f, p, y in evaluation.pairs(name)]
