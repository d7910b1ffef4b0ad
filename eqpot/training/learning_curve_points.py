"""What a study of learning curves knows: its points, kept one per line in a file, and the laws through them."""

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.errors import ConfigError
from eqpot.training.metrics import QUANTITIES
from eqpot.training.power_law import PowerLaw, fit_power_law

Key = tuple[str, int, int]
"""Model, size, seed."""


@dataclass(frozen=True)
class Point:
    """One finished training.

    Attributes:
        model: name of the model.
        size: training frames, isolated atoms not counted.
        seed: number of the subset and of the initial parameters, from 0.
        plan: SHA-256 of the configuration and the data that it belongs to.
        epochs, parameters, seconds: of the training; parameters of one member.
        train, valid, test: `Evaluation.summary()` of each set; test is empty without test frames.
    """

    model: str
    size: int
    seed: int
    plan: str
    epochs: int
    parameters: int
    seconds: float
    train: dict[str, Any]
    valid: dict[str, Any]
    test: dict[str, Any]

    def error(self, part: str, quantity: str) -> float:
        """Mean absolute error on 'train', 'valid' or 'test', NaN where there is none; 'held out' is the test set, or without one the validation set."""
        found = (self.test or self.valid) if part == "held out" else getattr(self, part)
        return float((found.get(quantity) or {}).get("mae", math.nan))


@dataclass(frozen=True)
class LearningCurve:
    """All points of a study; what is fitted is the error on the test frames, or without any, on the validation frames."""

    points: tuple[Point, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order in which they were trained."""
        return tuple(dict.fromkeys(p.model for p in self.points))

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names in `Evaluation` of what was measured: 'energy_per_atom', 'forces', …"""
        return tuple(q.key for q in QUANTITIES if any(math.isfinite(p.error("held out", q.key)) for p in self.points))

    def columns(self, model: str, part: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """Sizes and positive finite errors of one model."""
        rows = [(p.size, p.error(part, quantity)) for p in self.points if p.model == model]
        rows = [(n, e) for n, e in rows if math.isfinite(e) and e > 0]
        sizes, errors = np.array(rows, float).reshape(-1, 2).T
        return sizes, errors

    def law(self, model: str, quantity: str) -> PowerLaw | None:
        """The fitted law of the held-out error; None from fewer than two sizes."""
        sizes, errors = self.columns(model, "held out", quantity)
        return fit_power_law(sizes, errors) if len(np.unique(sizes)) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Points and laws, JSON-able; numbers that are not finite are None. Errors in eV/atom, eV/Å, eV/Å³, e and e·Å."""
        pairs = [(m, q, law) for m in self.models for q in self.quantities if (law := self.law(m, q))]
        laws = [{"model": m, "quantity": q, **{k: v if math.isfinite(v) else None for k, v in vars(law).items()}} for m, q, law in pairs]
        return {
            "error": "mean absolute",
            "law": "error = a·N^(-b), least squares in logarithms",
            "laws": laws,
            "points": [asdict(p) for p in self.points],
        }


def read_points(path: Path) -> dict[Key, Point]:
    """Finished points of a file, none without one; a last line that was cut short is no point.

    Raises:
        ConfigError: for any other line that is no point.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    points = {}
    for number, line in enumerate(lines, start=1):
        try:
            point = Point(**json.loads(line))
        except (ValueError, TypeError):
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ConfigError(f"{path}: line {number} is no point of a learning curve; mend or remove it") from None
        points[point.model, point.size, point.seed] = point
    return points


def append_point(path: Path, point: Point) -> None:
    """Add a point to the file and see that it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.read_bytes() if path.exists() else b""
    with path.open("r+b" if kept else "wb") as file:
        file.truncate(kept.rfind(b"\n") + 1)  # a line that was cut short
        file.seek(0, os.SEEK_END)
        file.write(json.dumps(asdict(point)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
