"""Errors of a potential beside the σ that it gave them, ready to be scored or calibrated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from eqpot.core.elements import symbol
from eqpot.graph import Frame
from eqpot.potential import Result


@dataclass(frozen=True, eq=False)
class Sample:
    """Errors of one quantity.

    Attributes:
        errors: components of predicted − labelled, [rows, components]: of an atom's force, or of a structure's energy per atom or stress.
        sigma: σ of the row, √Σσ² over the components, in the unit of the errors [rows].
        groups: index of the structure of each row.
        symbols: element of each row; empty for what belongs to structures.
    """

    errors: Float[np.ndarray, "n c"]
    sigma: Float[np.ndarray, " n"]
    groups: Int[np.ndarray, " n"]
    symbols: tuple[str, ...] = ()

    @property
    def lengths(self) -> Float[np.ndarray, " n"]:
        """√Σ over the components of the squared errors."""
        return np.sqrt((self.errors**2).sum(1))

    @property
    def dimensions(self) -> int:
        """Components of an error."""
        return self.errors.shape[1]

    def __len__(self) -> int:
        return len(self.sigma)

    def take(self, rows: np.ndarray) -> "Sample":
        """Some of the rows, as a mask."""
        symbols = tuple(np.array(self.symbols)[rows].tolist()) if self.symbols else ()
        return Sample(self.errors[rows], self.sigma[rows], self.groups[rows], symbols)


def collect(frames: Sequence[Frame], results: Iterable[Result]) -> dict[str, Sample]:
    """Samples of 'energy' [eV/atom], 'forces' [eV/Å] and 'stress' [eV/Å³], where there are labels, a prediction, and somewhere a σ above zero."""
    rows: dict[str, list[tuple[np.ndarray, np.ndarray, int, list[str]]]] = {"energy": [], "forces": [], "stress": []}
    for k, (frame, result) in enumerate(zip(frames, results, strict=True)):
        labels, n = frame.labels, len(frame.structure)
        if labels.energy is not None:
            rows["energy"].append((np.array([[(result.energy - labels.energy) / n]]), np.array([result.energy_std / n]), k, []))
        if labels.forces is not None:
            names = [symbol(int(z)) for z in frame.structure.numbers]
            rows["forces"].append((result.forces - labels.forces, result.atom_std, k, names))
        if labels.stress is not None and result.stress is not None and result.stress_std is not None:
            error, sigma = (result.stress - labels.stress).reshape(1, 9), np.sqrt((result.stress_std**2).sum())[None]
            rows["stress"].append((error, sigma, k, []))
    return {name: _joined(found) for name, found in rows.items() if any((sigma > 0).any() for _, sigma, _, _ in found)}


def _joined(rows: list[tuple[np.ndarray, np.ndarray, int, list[str]]]) -> Sample:
    groups = np.concatenate([np.full(len(sigma), k) for _, sigma, k, _ in rows])
    names = tuple(name for *_, own in rows for name in own)
    return Sample(np.concatenate([e for e, *_ in rows]), np.concatenate([s for _, s, *_ in rows]), groups, names)
