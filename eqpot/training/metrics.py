"""Errors of a potential on labelled frames."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import DataError, StructureError
from eqpot.graph import Frame
from eqpot.potential import Potential, Result


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root mean square error over `count` numbers."""

    mae: float
    rmse: float
    count: int


def errors(residuals: Iterable[np.ndarray]) -> Errors | None:
    """Errors of all residuals together; None without any."""
    flat = [np.ravel(r) for r in residuals]
    values = np.concatenate(flat) if flat else np.zeros(0)
    if not len(values):
        return None
    return Errors(float(np.abs(values).mean()), float(np.sqrt((values**2).mean())), len(values))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A potential against labels: predictions, frames and errors, in eV, eV/atom, eV/Å and eV/Å³.

    Attributes:
        frames: the labelled frames.
        results: predictions for them, in order.
    """

    frames: tuple[Frame, ...]
    results: tuple[Result, ...]

    def pairs(self, label: str) -> list[tuple[Frame, np.ndarray, np.ndarray]]:
        """(frame, predicted, reference) of each frame that has the label and a prediction of it."""
        both = ((f, getattr(r, label), getattr(f.labels, label)) for f, r in zip(self.frames, self.results, strict=True))
        return [(f, np.asarray(p), np.asarray(y)) for f, p, y in both if p is not None and y is not None]

    @property
    def energy(self) -> Errors | None:
        """Error of the total energy [eV]."""
        return errors(p - y for _, p, y in self.pairs("energy"))

    @property
    def energy_per_atom(self) -> Errors | None:
        """Error of the energy per atom [eV]."""
        return errors((p - y) / len(f) for f, p, y in self.pairs("energy"))

    @property
    def forces(self) -> Errors | None:
        """Error of force components [eV/Å]."""
        return errors(p - y for _, p, y in self.pairs("forces"))

    @property
    def stress(self) -> Errors | None:
        """Error of stress components [eV/Å³]."""
        return errors(p - y for _, p, y in self.pairs("stress"))

    def forces_by_element(self) -> dict[str, Errors]:
        """Error of force components for each element."""
        numbers = sorted({int(z) for f, _, _ in self.pairs("forces") for z in f.structure.numbers})
        by = {symbol(z): errors((p - y)[f.structure.numbers == z] for f, p, y in self.pairs("forces")) for z in numbers}
        return {name: value for name, value in by.items() if value}

    def by_group(self) -> dict[str, "Evaluation"]:
        """The same evaluation for each group of frames."""
        groups = sorted({f.group for f in self.frames})
        rows = {g: [k for k, f in enumerate(self.frames) if f.group == g] for g in groups}
        return {g: Evaluation(tuple(self.frames[k] for k in ks), tuple(self.results[k] for k in ks)) for g, ks in rows.items()}

    def force_uncertainty(self) -> tuple[np.ndarray, np.ndarray]:
        """Per-atom length of the force error and predicted σ [eV/Å], over all frames with forces."""
        rows = [(r, f) for f, r in zip(self.frames, self.results, strict=True) if f.labels.forces is not None]
        if not rows:
            return np.zeros(0), np.zeros(0)
        error = np.concatenate([np.linalg.norm(r.forces - f.labels.forces, axis=1) for r, f in rows])
        return error, np.concatenate([r.atom_std for r, _ in rows])

    def summary(self) -> dict[str, Any]:
        """All errors as a JSON-able mapping."""
        names = ("energy", "energy_per_atom", "forces", "stress")
        return {"frames": len(self.frames), **{n: vars(e) for n in names if (e := getattr(self, n)) is not None}}


def evaluate(potential: Potential, frames: Iterable[Frame]) -> Evaluation:
    """Predict labelled frames.

    Args:
        potential: any potential.
        frames: a `Dataset` or any frames.

    Raises:
        DataError: when there are no frames.
        StructureError: naming the origin of a frame that the potential cannot judge.
    """
    frames = tuple(frames)
    if not frames:
        raise DataError("no frames to evaluate")
    hosts = []
    for frame in frames:
        try:
            hosts.append(potential.prepare(frame.structure))
        except StructureError as error:
            raise StructureError(f"{frame.origin}: {error}") from None
    return Evaluation(frames, tuple(potential.predict_hosts(hosts)))
