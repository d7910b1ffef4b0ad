"""Errors of a potential on labelled frames."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import DataError
from eqpot.core.units import EV_PER_A3_TO_GPA
from eqpot.graph import Frame
from eqpot.potential import Potential, Result

MAGNITUDES = (0.0, *(digit * 10.0**power for power in range(-2, 3) for digit in (1, 2, 5)), np.inf)
"""Edges of the bins of force magnitude [eV/Å]: 0, 0.01, 0.02, 0.05, 0.1, …, 500, ∞."""


class Quantity(NamedTuple):
    """Something predicted: its name in `Evaluation`, the name and unit that people read, and how many of these units an internal one is."""

    key: str
    name: str
    unit: str
    size: float


ENERGY, FORCE = Quantity("energy_per_atom", "energy", "meV/atom", 1000.0), Quantity("forces", "force", "meV/Å", 1000.0)
STRESS = Quantity("stress", "stress", "GPa", EV_PER_A3_TO_GPA)
QUANTITIES = (ENERGY, FORCE, STRESS, Quantity("charges", "charge", "e", 1.0), Quantity("dipole", "dipole", "e·Å", 1.0))


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


@dataclass(frozen=True)
class MagnitudeBin:
    """Force errors of the atoms whose reference force has a length in [low, high) eV/Å.

    Attributes:
        low, high: edges [eV/Å].
        count: atoms.
        error: mean length of the error ⟨|ΔF|⟩ [eV/Å].
        relative: ⟨|ΔF|⟩/⟨|F|⟩.
    """

    low: float
    high: float
    count: int
    error: float
    relative: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A potential against labels: predictions, frames and errors, in eV, eV/atom, eV/Å, eV/Å³, e and e·Å.

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

    @property
    def charges(self) -> Errors | None:
        """Error of atomic charges [e]."""
        return errors(p - y for _, p, y in self.pairs("charges"))

    @property
    def dipole(self) -> Errors | None:
        """Error of dipole components [e·Å]."""
        return errors(p - y for _, p, y in self.pairs("dipole"))

    def forces_by_element(self) -> dict[str, Errors]:
        """Error of force components for each element."""
        return self._by_element([(f, p - y) for f, p, y in self.pairs("forces")])

    def force_size_by_element(self) -> dict[str, float]:
        """Root mean square of the reference force components [eV/Å] for each element: what an error is to be compared with."""
        return {name: e.rmse for name, e in self._by_element([(f, y) for f, _, y in self.pairs("forces")]).items()}

    @staticmethod
    def _by_element(rows: list[tuple[Frame, np.ndarray]]) -> dict[str, Errors]:
        numbers = sorted({int(z) for f, _ in rows for z in f.structure.numbers})
        by = {symbol(z): errors(values[f.structure.numbers == z] for f, values in rows) for z in numbers}
        return {name: value for name, value in by.items() if value}

    def forces_by_magnitude(self) -> list[MagnitudeBin]:
        """Force errors of atoms in bins of the length of their reference force (edges `MAGNITUDES`); bins without atoms are left out."""
        rows = self.pairs("forces")
        if not rows:
            return []
        size = np.concatenate([np.linalg.norm(y, axis=1) for _, _, y in rows])
        error = np.concatenate([np.linalg.norm(p - y, axis=1) for _, p, y in rows])
        place = np.digitize(size, MAGNITUDES) - 1
        found = [(k, error[place == k].mean(), size[place == k].mean()) for k in np.unique(place)]
        counts = np.bincount(place)
        edges = MAGNITUDES
        return [MagnitudeBin(edges[k], edges[k + 1], int(counts[k]), float(e), float(e / f) if f else float("nan")) for k, e, f in found]

    def by_group(self) -> dict[str, "Evaluation"]:
        """The same evaluation for each group of frames."""
        return self._split([f.group for f in self.frames])

    def by_head(self) -> dict[str, "Evaluation"]:
        """The same evaluation for each level of theory."""
        return self._split([f.head for f in self.frames])

    def _split(self, names: list[str]) -> dict[str, "Evaluation"]:
        rows = {name: [k for k, other in enumerate(names) if other == name] for name in sorted(set(names))}
        return {g: Evaluation(tuple(self.frames[k] for k in ks), tuple(self.results[k] for k in ks)) for g, ks in rows.items()}

    def force_uncertainty(self) -> tuple[np.ndarray, np.ndarray]:
        """Per-atom length of the force error and σ (`Result.atom_std`) [eV/Å], over all frames with forces."""
        rows = [(r, f) for f, r in zip(self.frames, self.results, strict=True) if f.labels.forces is not None]
        if not rows:
            return np.zeros(0), np.zeros(0)
        error = np.concatenate([np.linalg.norm(r.forces - f.labels.forces, axis=1) for r, f in rows])
        return error, np.concatenate([r.atom_std for r, _ in rows])

    def summary(self) -> dict[str, Any]:
        """All errors as a JSON-able mapping."""
        names = ("energy", *(q.key for q in QUANTITIES))
        return {"frames": len(self.frames), **{n: vars(e) for n in names if (e := getattr(self, n)) is not None}}


def evaluate(potential: Potential, frames: Iterable[Frame]) -> Evaluation:
    """Predict labelled frames.

    Args:
        potential: any potential.
        frames: a `Dataset` or any frames.

    Raises:
        DataError: when there are no frames.
        StructureError, EqpotError: naming the origin of a frame that the potential cannot judge, or whose level of theory it does not know.
    """
    frames = tuple(frames)
    if not frames:
        raise DataError("no frames to evaluate")
    return Evaluation(frames, tuple(potential.predict_frames(frames)))
