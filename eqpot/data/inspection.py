"""Everything `eqpot inspect` shows about a dataset, as one record."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.data.dataset import Dataset
from eqpot.data.hygiene import Examination, Opinion, examine_labels
from eqpot.data.plausibility import Finding, check
from eqpot.data.reference import ReferenceEnergies, references_by_head
from eqpot.data.statistics import Statistics, statistics

MAX_FORMULAS = 10
"""Formulas listed, most frequent first."""
OF_FRAMES = {"energy-outlier": "energy", "conflicting-labels": "conflicting-labels"}
"""Warnings that are left out when the examination names the frame for the same reason: code of the finding, beginning of the code of the fault."""


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
        references: E0 per element, of each level of theory by its name.
        statistics: sizes, energies, forces, stress, distances.
        findings: what is suspicious about the set, errors first.
        hygiene: which frames are suspicious, and why.
    """

    content_hash: str
    elements: dict[str, int]
    formulas: dict[str, int]
    n_formulas: int
    periodicity: dict[str, int]
    groups: dict[str, int]
    label_counts: dict[str, int]
    n_duplicates: int
    references: dict[str, ReferenceEnergies]
    statistics: Statistics
    findings: tuple[Finding, ...]
    hygiene: Examination

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return {
            **vars(self),
            "references": {head: asdict(reference) for head, reference in self.references.items()},
            "statistics": asdict(self.statistics),
            "findings": [asdict(f) for f in self.findings],
            "hygiene": self.hygiene.as_dict(),
        }


def inspect(dataset: Dataset, opinion: Opinion | None = None) -> Inspection:
    """Describe and check a dataset; nothing here raises for suspicious data, it is reported.

    Args:
        dataset: any frames.
        opinion: what a model says about their labels; by default the best pair potential of the set.
    """
    hygiene = examine_labels(dataset, opinion)
    findings = [f for f in check(dataset) if not _named(f, hygiene)]
    references = references_by_head(dataset)
    if dataset.label_counts()["energy"]:
        findings += [Finding("warning", "reference-energies", None, r.message) for r in references.values() if r.source == "none"]
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
        references=references,
        statistics=statistics(dataset, references),
        findings=tuple(findings),
        hygiene=hygiene,
    )


def _named(finding: Finding, hygiene: Examination) -> bool:
    """Whether a warning about a frame is told by the examination too."""
    code = OF_FRAMES.get(finding.code)
    if finding.severity == "error" or code is None:
        return False
    return any(reason.code.startswith(code) for s in hygiene.suspects if s.frame == finding.frame for reason in s.reasons)
