"""What changes along the way: rate, averaging and weights, as pure functions of the progress. Nothing here has to be remembered but what `Progress` holds."""

from math import cos, floor, inf, pi

import numpy as np
from jaxtyping import Float

from eqpot.core.tree import record
from eqpot.graph.graph import Either
from eqpot.training.config import FitConfig


@record
class Knobs:
    """The settings of one step.

    Attributes:
        rate: learning rate.
        keep: share of the averaged parameters that stays.
        weights: weight of each quantity in the loss.
    """

    rate: Float[Either, ""]
    keep: Float[Either, ""]
    weights: dict[str, Float[Either, ""]]


def knobs(
    config: FitConfig, progress: float, epoch: int, step: int, stage_step: int | None, scale: float, early: int | None = None
) -> Knobs:
    """The settings of the next step, after `epoch` whole epochs (`progress` with fractions) and `step` steps; see `rate` and `keep`."""

    def number(value: float) -> np.ndarray:
        return np.asarray(value, config.training.dtype)

    counted = {name: number(weight) for name, weight in weights(config, epoch, progress, early).items()}
    return Knobs(number(rate(config, progress, scale, early)), number(keep(config, step, stage_step)), counted)


def stage_two_epoch(config: FitConfig) -> int | None:
    """Epochs before the second stage; None without one."""
    return None if config.stage_two is None else max(1, floor(config.stage_two.start * config.training.epochs))


def in_stage_two(config: FitConfig, epoch: int, early: int | None = None) -> bool:
    """Whether the epoch after `epoch` finished ones is in the second stage, which may have begun `early`, after so many epochs."""
    first = stage_two_epoch(config)
    return first is not None and epoch >= min(first, first if early is None else early)


def weights(config: FitConfig, epoch: int, progress: float = inf, early: int | None = None) -> dict[str, float]:
    """Weights of the quantities in the epoch after `epoch` finished ones, at `progress`.

    By default those that the stage ends with, by which all its epochs are validated.
    """
    if config.stage_two and in_stage_two(config, epoch, early):
        return config.stage_two.weights(config.loss)
    return config.loss.weights(min(1.0, progress / (stage_two_epoch(config) or config.training.epochs)))


def rate(config: FitConfig, progress: float, scale: float = 1.0, early: int | None = None) -> float:
    """Learning rate after `progress` epochs: a linear rise, then as `optimizer.schedule` says; constant in the second stage.

    Args:
        config: of the run.
        progress: epochs, with fractions.
        scale: what plateaus have left of the rate.
        early: epochs after which the second stage began, if before its time.
    """
    if config.stage_two and in_stage_two(config, floor(progress), early):
        return config.stage_two.learning_rate
    choice, total = config.optimizer, float(stage_two_epoch(config) or config.training.epochs)
    risen = choice.warmup * config.training.epochs
    if progress < risen:
        return choice.learning_rate * progress / risen
    if choice.name == "schedule-free" or choice.schedule == "constant":
        return choice.learning_rate
    if choice.schedule == "plateau":
        return choice.learning_rate * max(scale, choice.final_rate)
    share = min(1.0, (progress - risen) / max(total - risen, 1e-9))
    return choice.learning_rate * (choice.final_rate + (1 - choice.final_rate) * 0.5 * (1 + cos(pi * share)))


def keep(config: FitConfig, step: int, stage_step: int | None) -> float:
    """Share of the averaged parameters that stays at the step after `step` finished ones.

    A young exponential average forgets faster; an equal one, over the steps since `stage_step`, keeps n/(n+1).
    """
    count = config.optimizer.accumulate
    if config.optimizer.name == "lbfgs":
        return 0.0  # a line search goes down hill: the last parameters are the best
    if (step + 1) % count:
        return 1.0  # parameters rest while gradients are gathered
    if stage_step is not None and config.stage_two and config.stage_two.average == "swa":
        taken = (step - stage_step) // count
        return taken / (taken + 1)
    return min(config.optimizer.ema, (1 + step // count) / (10 + step // count))
