"""Reference energies E0 per element, taken off before training and added back after.

They come, in this order, from the user, from isolated-atom frames, and from float64 least squares on
composition, E/N ≈ Σ_Z (n_Z/N)·E0_Z. Where the compositions cannot tell elements apart (H:O always 2:1) the
solution is the one nearest to an equal energy for every atom, and the message says so in plain words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eqpot.core.elements import atomic_number, symbol
from eqpot.core.errors import DataError
from eqpot.data.dataset import Dataset, energy_of, is_isolated_atom
from eqpot.graph.structure import Frame, Structure

SPREAD = 1e-3
"""Isolated-atom energies of one element that differ by more than this [eV] are reported."""


@dataclass(frozen=True)
class ReferenceEnergies:
    """Energy of each element that is the zero of the learned energy.

    Attributes:
        values: E0 [eV] by symbol, in order of atomic number.
        source: 'given', 'isolated atoms', 'least squares', 'mixed' or 'none'.
        rank: how many independent combinations of element energies the data fix.
        n_elements: how many there are; `rank < n_elements` means that the split between elements is a choice.
        message: what a user should know, in one line.
    """

    values: dict[str, float]
    source: str
    rank: int
    n_elements: int
    message: str

    def total(self, structure: Structure) -> float:
        """Sum of E0 over the atoms [eV].

        Raises:
            DataError: an element without a reference energy.
        """
        numbers, counts = np.unique(structure.numbers, return_counts=True)
        missing = [symbol(z) for z in numbers if symbol(z) not in self.values]
        if missing:
            raise DataError(f"found element {missing[0]} without a reference energy, expected one of {', '.join(self.values)}")
        return float(sum(self.values[symbol(z)] * n for z, n in zip(numbers, counts, strict=True)))


def subtract(dataset: Dataset, reference: ReferenceEnergies) -> np.ndarray:
    """Energy minus reference [eV] of those frames that have an energy, in order."""
    return np.array([f.labels.energy - reference.total(f.structure) for f in dataset if f.labels.energy is not None])


def references_by_head(dataset: Dataset) -> dict[str, ReferenceEnergies]:
    """E0 of each level of theory by its name, with zeros where the data say nothing: for descriptions, which shall not fail."""
    parts: dict[str, list[Frame]] = {}
    for frame in dataset:
        parts.setdefault(frame.head, []).append(frame)
    return {head: _or_zeros(Dataset(tuple(frames))) for head, frames in parts.items()} or {"": _or_zeros(dataset)}


def _or_zeros(dataset: Dataset) -> ReferenceEnergies:
    try:
        return reference_energies(dataset)
    except DataError as error:
        return ReferenceEnergies(dict.fromkeys(dataset.elements, 0.0), "none", 0, len(dataset.elements), str(error))


def reference_energies(
    dataset: Dataset, elements: Sequence[str] | None = None, given: Mapping[str, float] | None = None
) -> ReferenceEnergies:
    """E0 for every element; see the module's text for the order of sources.

    Args:
        dataset: frames without energy are ignored.
        elements: symbols wanted; by default those of the dataset.
        given: values [eV] that override the data.

    Raises:
        DataError: an element about which neither data nor user say anything, or a given value that is not finite.
    """
    given = {name: float(value) for name, value in (given or {}).items()}
    wanted = sorted({*(elements or ()), *dataset.elements, *given}, key=atomic_number)
    for name, value in given.items():
        if not np.isfinite(value):
            raise DataError(f"reference energy of {name}: found {value}, expected a finite number [eV]")
    labelled = [f for f in dataset if f.labels.energy is not None]
    if not labelled and len(given) < len(wanted):
        values = {name: given.get(name, 0.0) for name in wanted}
        return ReferenceEnergies(values, "none", len(given), len(wanted), "no energies: reference energies not given are zero")
    isolated, notes = isolated_energies(labelled)
    known = {**{name: e for name, e in isolated.items() if name in wanted}, **given}
    unknown = [name for name in wanted if name not in known]
    fitted, rank, more = fit_unknown([f for f in labelled if not is_isolated_atom(f)], known, unknown)
    parts = {"given": given, "isolated atoms": {n for n in isolated if n not in given}, "least squares": fitted}
    used = [source for source, names in parts.items() if names]
    values = {name: float({**known, **fitted}[name]) for name in wanted}
    origin = "; ".join(f"{source}: {', '.join(sorted(parts[source], key=atomic_number))}" for source in used)
    message = "; ".join([f"reference energies from {origin}", *notes, *more])
    return ReferenceEnergies(values, used[0] if len(used) == 1 else "mixed", len(known) + rank, len(wanted), message)


def isolated_energies(frames: Sequence[Frame]) -> tuple[dict[str, float], list[str]]:
    """Lowest energy of each element's isolated atoms among labelled frames, the ground state of what is there, and notes."""
    found: dict[str, list[float]] = {}
    for frame in filter(is_isolated_atom, frames):
        found.setdefault(symbol(frame.structure.numbers[0]), []).append(energy_of(frame))
    notes = [
        f"isolated {name} occurs {len(e)} times with energies {max(e) - min(e):.4g} eV apart, the lowest is used"
        for name, e in found.items()
        if max(e) - min(e) > SPREAD
    ]
    return {name: min(e) for name, e in found.items()}, notes


def fit_unknown(frames: Sequence[Frame], known: Mapping[str, float], unknown: Sequence[str]) -> tuple[dict[str, float], int, list[str]]:
    """Least squares for the unknown elements of labelled frames after taking off the known ones: values, rank, notes.

    Raises:
        DataError: an unknown element that is in no frame.
    """
    if not unknown:
        return {}, 0, []
    names = [*unknown, *known]
    counts = np.array([[np.sum(f.structure.numbers == atomic_number(n)) for n in names] for f in frames], float).reshape(-1, len(names))
    atoms = counts.sum(1)
    energy = np.array([energy_of(f) for f in frames]) - counts[:, len(unknown) :] @ np.array(list(known.values()))
    counts = counts[:, : len(unknown)]
    _require_information(counts, unknown)
    design, target = counts / atoms[:, None], energy / atoms
    singular = np.linalg.svd(design, compute_uv=False)
    rank = int(np.sum(singular > 1e-6 * singular[0]))
    mean = energy.sum() / counts.sum()
    solution = mean + np.linalg.lstsq(design, target - design.sum(1) * mean, rcond=1e-6)[0]
    return dict(zip(unknown, solution, strict=True)), rank, _notes(counts, unknown, rank)


def _require_information(counts: np.ndarray, unknown: Sequence[str]) -> None:
    missing = [name for name, column in zip(unknown, counts.T, strict=True) if not column.any()]
    if missing:
        raise DataError(
            f"reference energy of {', '.join(missing)}: found no frame with an energy that has this element, expected at least one; "
            "add such frames or an isolated atom, or give the value"
        )


def _notes(counts: np.ndarray, unknown: Sequence[str], rank: int) -> list[str]:
    notes = []
    if rank < len(unknown):
        notes.append(
            f"the compositions fix only {rank} of {len(unknown)} element energies (the proportions of {', '.join(unknown)} do not vary independently), "
            "so the split between them is a choice: energies of these compositions are right, those of other compositions are not; "
            "add isolated atoms or give values to settle it"
        )
    single = [name for name, column in zip(unknown, counts.T, strict=True) if np.count_nonzero(column) == 1]
    if single and len(counts) > 1:
        notes.append(f"{', '.join(single)} occurs in a single frame, whose energy alone decides its value")
    return notes
