"""Errors of an evaluation beside the σ that was predicted for them, as the flat arrays that scores and figures take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqpot.training.metrics import ENERGY, FORCE, STRESS, Evaluation, Quantity
from eqpot.uncertainty import collect, summarise

UPPER = np.triu_indices(3)
"""The six different components of a stress; the σ of each is the root mean square over all nine."""


@dataclass(frozen=True, eq=False)
class ErrorsAndSigmas:
    """Errors of one quantity, and their σ, over all frames that have its label and a prediction of its σ.

    Attributes:
        quantity: what it is; arrays are in eV/atom, eV/Å or eV/Å³.
        errors, sigmas: lengths of the force vectors of atoms, sizes of the energy per atom or of one stress component, [n].
        structures: index of the frame of each, [n].
        dimensions: components of an error: 3 for forces, 1 for the others.
        elements: symbol of each atom, [n]; empty unless they are forces.
    """

    quantity: Quantity
    errors: np.ndarray
    sigmas: np.ndarray
    structures: np.ndarray
    dimensions: int
    elements: np.ndarray

    def scores(self, ranges: bool = False) -> dict[str, Any]:
        """`summarise` of these pairs; with `ranges`, also how far the scores would scatter over other structures."""
        return summarise(self.errors, self.sigmas, self.dimensions, self.structures if ranges else None)

    def by_element(self) -> dict[str, "ErrorsAndSigmas"]:
        """Those of each element that has forces."""
        return {str(name): self._of(self.elements == name) for name in np.unique(self.elements)}

    def _of(self, rows: np.ndarray) -> "ErrorsAndSigmas":
        errors, sigmas, structures = (v[rows] for v in (self.errors, self.sigmas, self.structures))
        return ErrorsAndSigmas(self.quantity, errors, sigmas, structures, self.dimensions, self.elements[rows])


def errors_and_sigmas(evaluation: Evaluation) -> dict[str, ErrorsAndSigmas]:
    """Forces, energies per atom and stress beside their σ, by the key of the quantity; only those with a σ > 0 somewhere."""
    samples, found = collect(evaluation.frames, evaluation.results), {}
    if "forces" in samples:
        s = samples["forces"]
        found[FORCE.key] = ErrorsAndSigmas(FORCE, s.lengths, s.sigma, s.groups, 3, np.array(s.symbols, str))
    if "energy" in samples:
        s = samples["energy"]
        found[ENERGY.key] = ErrorsAndSigmas(ENERGY, s.lengths, s.sigma, s.groups, 1, np.array([], str))
    if "stress" in samples:
        s = samples["stress"]
        errors = np.abs(s.errors.reshape(-1, 3, 3)[:, *UPPER])
        sigmas, groups = (np.repeat(x, errors.shape[1]) for x in (s.sigma / 3, s.groups))
        found[STRESS.key] = ErrorsAndSigmas(STRESS, errors.ravel(), sigmas, groups, 1, np.array([], str))
    return found


def all_scores(pairs: Mapping[str, ErrorsAndSigmas], ranges: bool = False) -> dict[str, Any]:
    """Scores of each quantity, JSON-able; those of the forces also hold `elements`, scores by element, without ranges."""
    found = {key: part.scores(ranges) for key, part in pairs.items()}
    if FORCE.key in found:
        found[FORCE.key]["elements"] = {name: part.scores() for name, part in pairs[FORCE.key].by_element().items()}
    return found
