"""How the loop learns: the ensemble of the last round goes on with all data, old and new, and begins anew when that does harm."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import Field

from eqpot.active.query import force_errors
from eqpot.core.config import Config, build
from eqpot.data import Dataset
from eqpot.graph.structure import Frame
from eqpot.potential import Potential
from eqpot.potential.archive import flatten
from eqpot.training import FitConfig, fit
from eqpot.uncertainty import calibrate
from eqpot.uncertainty.calibrate import FEWEST

FILE = "potential.safetensors"
FRESH, WARM = "fresh", "warm"


class LearnerConfig(Config):
    """How the potential of a round is made from that of the round before."""

    warm: bool = Field(default=True, description="go on from the potential of the round before; else begin anew in each round")
    epochs: int = Field(default=30, ge=1, description="of a training that goes on; one that begins anew has fit.training.epochs")
    rate: float = Field(default=0.5, gt=0, le=1, description="learning rate of a training that goes on, in that of a new one")
    drift: float = Field(
        default=1.2, gt=1, description="begin anew when going on makes the force errors on structures held out before so many times larger"
    )
    restart_every: int | None = Field(default=None, ge=1, description="begin anew every so many rounds")


@dataclass(frozen=True, eq=False)
class Learned:
    """A round's potential, calibrated where that was possible, and how it came about."""

    potential: Potential
    start: str
    why: str


def learn(
    fit_config: FitConfig,
    learner: LearnerConfig,
    folder: Path,
    number: int,
    train: Dataset,
    held: Sequence[Frame],
    audits: Sequence[Frame],
    previous: Path | None,
    on_epoch: Callable[[Any], None] | None = None,
) -> Learned:
    """Train the potential of a round in its folder, or read it when that was done.

    Args:
        number: of the round.
        train: all frames to learn from.
        held: frames that no round trains on, those of the newest round last.
        audits: those of them that were drawn like what will be predicted.
        previous: potential of the round before.

    Raises:
        as `eqpot.fit`.
    """
    why = _why_fresh(learner, number, train, previous)
    if why is None:
        assert previous is not None
        potential = fit(_going_on(fit_config, learner, previous), train, Dataset(tuple(held)), folder=folder / WARM, on_epoch=on_epoch)
        before, after = _error(Potential.load(previous), held), _error(potential, held)
        if after > learner.drift * before:
            why = f"going on made the force error {after / before:.2f} times larger"
    start = WARM if why is None else FRESH
    if why is not None:
        potential = fit(fit_config, train, Dataset(tuple(held)), folder=folder / FRESH, on_epoch=on_epoch)
    calibrating = audits if len(audits) >= FEWEST else held
    if (potential.n_members > 1 or potential.trust.last_layer is not None) and len(calibrating) >= FEWEST:
        potential = calibrate(potential, calibrating, check_units=False)
    potential.save(folder / FILE)
    return Learned(Potential.load(folder / FILE), start, why or "")  # from the file, as a continued run has it


def _why_fresh(learner: LearnerConfig, number: int, train: Dataset, previous: Path | None) -> str | None:
    if previous is None:
        return "the first round"
    if not learner.warm:
        return "every round begins anew"
    if learner.restart_every and number % learner.restart_every == 0:
        return f"every {learner.restart_every} rounds"
    if new := sorted(set(train.elements) - set(Potential.load(previous).elements)):
        return f"{', '.join(new)} new"
    return None


def _going_on(config: FitConfig, learner: LearnerConfig, previous: Path) -> FitConfig:
    values = config.model_dump(exclude_unset=True, exclude={"model"})
    values["finetune"] = {"base": str(previous), "allow_disagreement": True}
    values["training"] = values.get("training", {}) | {"epochs": learner.epochs}
    values["optimizer"] = values.get("optimizer", {}) | {"learning_rate": config.optimizer.learning_rate * learner.rate}
    return build(FitConfig, values, "fit")


def _error(potential: Potential, frames: Sequence[Frame]) -> float:
    lengths = np.concatenate(list(force_errors(potential, frames).values()))
    return float(np.sqrt((lengths**2).mean()))


def digest(potential: Potential) -> str:
    """Hash of what a potential says: its parameters and its calibration, not of when and where it was made."""
    sha = hashlib.sha256()
    for name, value in flatten(jax.device_get(potential.params)).items():
        sha.update(name.encode() + np.ascontiguousarray(value).tobytes())
    calibration = potential.trust.calibration
    sha.update(json.dumps(calibration.to_json() if calibration else None, sort_keys=True).encode())
    return sha.hexdigest()
