"""Everything `eqpot inspect` shows about a dataset, as one record."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import DataError
from eqpot.data.dataset import Dataset
from eqpot.data.plausibility import Finding, check
from eqpot.data.reference import ReferenceEnergies, reference_energies
from eqpot.data.statistics import Statistics, statistics

MAX_FORMULAS = 10
"""Formulas listed, most frequent first."""


@dataclass(frozen=True)
class Inspection:
    """What is in a dataset, and what is suspicious about it; `as_dict()` is ready for JSON.

    Attributes:
        content_hash: SHA-256 of structures and labels.
        elements: atoms per element.
        formulas: frames per formula, the most frequent ones.
        n_formulas: how many formulas there are.
        periodicity: frames per periodicity, such as 'TTT'.
        groups: frames per group.
        label_counts: frames with each kind of label.
        n_duplicates: frames whose structure occurred before.
        reference: E0 per element.
        statistics: sizes, energies, forces, stress, distances.
        findings: suspicious entries, errors first.
    """

    content_hash: str
    elements: dict[str, int]
    formulas: dict[str, int]
    n_formulas: int
    periodicity: dict[str, int]
    groups: dict[str, int]
    label_counts: dict[str, int]
    n_duplicates: int
    reference: ReferenceEnergies
    statistics: Statistics
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return {**asdict(self), "findings": [asdict(f) for f in self.findings]}


def inspect(dataset: Dataset) -> Inspection:
    """Describe and check a dataset; nothing here raises for suspicious data, it is reported."""
    findings = list(check(dataset))
    try:
        reference = reference_energies(dataset)
    except DataError as error:
        reference = ReferenceEnergies(dict.fromkeys(dataset.elements, 0.0), "none", 0, len(dataset.elements), str(error))
        findings.append(Finding("warning", "reference-energies", None, str(error)))
    formulas = Counter(f.structure.formula for f in dataset)
    numbers, counts = np.unique(np.concatenate([f.structure.numbers for f in dataset]), return_counts=True) if len(dataset) else ((), ())
    return Inspection(
        content_hash=dataset.content_hash,
        elements={symbol(z): int(n) for z, n in zip(numbers, counts, strict=True)},
        formulas=dict(formulas.most_common(MAX_FORMULAS)),
        n_formulas=len(formulas),
        periodicity=dict(Counter("".join("T" if p else "F" for p in f.structure.pbc) for f in dataset)),
        groups=dataset.groups,
        label_counts=dataset.label_counts(),
        n_duplicates=len(dataset) - len(set(dataset.structure_keys)),
        reference=reference,
        statistics=statistics(dataset, reference),
        findings=tuple(findings),
    )
