"""Reference energies of a potential that is trained further: what new labels say against the predictions of its base.

Frames of elements that the base knows are compared with its predictions: that tells whether they are of its level of theory, and, with
`reference_energies: refit`, by how much the energy of each element moves. With the known elements settled, those that are new to the base follow,
from the user, isolated atoms, or least squares over the frames that hold them, in this order (see `eqpot.data.reference`).

An atom that is bound has the energy E0 + shift, its shift being part of the model (`Normalization`). Where E0 is given and frames tell the sum, the
shift makes up the difference, so that training starts at the energies of the frames.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqpot.core.elements import atomic_number
from eqpot.core.errors import DataError
from eqpot.data import Dataset, fit_unknown, is_isolated_atom, isolated_energies
from eqpot.graph import Frame
from eqpot.potential import Potential
from eqpot.training.config import FitConfig

STEP = 0.1
"""Median deviation of the new energies from the base's predictions [eV/atom] from which on they are taken for another level of theory."""
COMPARED = 200
"""New frames that are compared with the base's predictions."""


@dataclass(frozen=True)
class Agreement:
    """New labels against the predictions of a base, over frames of elements that it knows.

    Attributes:
        frames: how many were compared.
        step: median of (E − E_base)/n [eV/atom].
        elements: change of each element's energy that explains it best [eV]; empty without energies.
        rest: RMS of what is left of it [eV/atom].
        explained: share of the mean square force that the base predicts; None without forces.
    """

    frames: int
    step: float
    elements: dict[str, float]
    rest: float
    explained: float | None

    @property
    def steps(self) -> str:
        """The changes in words."""
        return ", ".join(f"{e} {v:+.3f}" for e, v in self.elements.items())


@dataclass(frozen=True)
class Settled:
    """Energies of the elements [eV], by symbol, and what a user should know."""

    references: dict[str, float]
    shifts: dict[str, float]
    notes: tuple[str, ...]


def compare(base: Potential, frames: Iterable[Frame]) -> Agreement:
    """What the base says about new frames, each at its own level of theory, or the base's first where it does not know that."""
    known = [f.replace(head=f.head if f.head in base.heads else "") for f in frames if not _new_in(f, base) and not is_isolated_atom(f)]
    known = [known[k] for k in np.linspace(0, len(known) - 1, min(COMPARED, len(known))).astype(int)]
    pairs = list(zip(known, base.predict_frames(known) if known else [], strict=True))
    z = np.array([atomic_number(e) for e in base.elements])
    energies = [(f, f.labels.energy - r.energy) for f, r in pairs if f.labels.energy is not None]
    both = [(f.labels.forces, r.forces) for f, r in pairs if f.labels.forces is not None]
    square = sum(float((y**2).sum()) for y, _ in both)
    explained = 1 - sum(float(((y - p) ** 2).sum()) for y, p in both) / square if square else None
    if not energies:
        return Agreement(len(known), 0.0, {}, 0.0, explained)
    design = np.array([np.mean(f.structure.numbers[:, None] == z, 0) for f, _ in energies])
    deviation = np.array([d / len(f) for f, d in energies])
    mean = deviation.mean()
    moved = mean + np.linalg.lstsq(design, deviation - mean, rcond=1e-3)[0]
    rest = float(np.sqrt(np.mean((deviation - design @ moved) ** 2)))
    return Agreement(len(known), float(np.median(deviation)), dict(zip(base.elements, moved.tolist(), strict=True)), rest, explained)


def _new_in(frame: Frame, base: Potential) -> set[str]:
    return set(Dataset((frame,)).elements) - set(base.elements)


def settle(config: FitConfig, base: Potential, train: Dataset, elements: tuple[str, ...], row: int) -> Settled:
    """Energies of all elements at the level of theory of the new frames.

    Args:
        config: with `finetune`.
        base: the potential to start from.
        train: new frames of this level, with isolated atoms.
        elements: symbols that are wanted.
        row: head of the base that this level starts as.

    Raises:
        DataError: when the new frames contradict the base, or say nothing about a new element.
    """
    choice = config.finetune
    assert choice is not None
    given: Any = config.data.reference_energies or {}
    refit, agreement = choice.reference_energies == "refit", compare(base, train)
    _require_agreement(choice, agreement)
    known, shift = _of_head(base, row)
    moved = agreement.elements if refit else {}
    labelled = [f for f in train if f.labels.energy is not None]
    isolated, notes = isolated_energies([f for f in labelled if refit or _new_in(f, base)])
    fixed = {**isolated, **given}
    usual = {e: known[e] + moved[e] + s if moved else fixed.get(e, known[e]) + s for e, s in shift.items()}  # of a bound atom
    new, mean = [e for e in elements if e not in known], float(np.mean(list(shift.values())))
    holding = [f for f in labelled if _new_in(f, base) and not is_isolated_atom(f)]
    held = Dataset(tuple(holding)).elements
    fitted, _, more = fit_unknown(holding, usual, [e for e in new if e in held or (labelled and e not in fixed)])
    usual |= fitted
    references, shifts = {}, {}
    for e in elements:
        s = shift.get(e, mean)
        if e in fixed:
            references[e], shifts[e] = fixed[e], usual.get(e, fixed[e] + s) - fixed[e]
        else:
            references[e], shifts[e] = (known[e] + moved.get(e, 0.0) if e in known else usual.get(e, s) - s), s
    if moved:
        notes.append(f"reference energies moved by {agreement.steps} eV; {agreement.rest:.3f} eV/atom RMS are left to learn")
    elif not agreement.frames:
        notes.append("no new frame has known elements alone: whether they are of the base's level of theory was not checked")
    notes += [f"reference energy of {e}, new to the base: {references[e]:.4f} eV ({_source(e, given, isolated)})" for e in new]
    return Settled(references, shifts, (*notes, *more))


def _of_head(base: Potential, row: int) -> tuple[dict[str, float], dict[str, float]]:
    """Reference energies and shifts of one of the base's heads."""
    n = len(base.elements)
    shift = base.spec.normalization.shifts(base.spec.config.n_heads, n)
    parts = (values[row * n : (row + 1) * n] for values in (base.reference_energies, shift))
    references, shifts = (dict(zip(base.elements, map(float, part), strict=True)) for part in parts)
    return references, shifts


def _source(element: str, given: dict[str, float], isolated: dict[str, float]) -> str:
    return "given" if element in given else "isolated atom" if element in isolated else "least squares"


def _require_agreement(choice: Any, agreement: Agreement) -> None:
    if choice.allow_disagreement:
        return
    if agreement.explained is not None and agreement.explained < 0:
        raise DataError(
            f"finetune: the base's forces are further from the new ones than zero would be (explained share {agreement.explained:.2f} over "
            f"{agreement.frames} frames); are units, signs and geometries right? Else set finetune.allow_disagreement"
        )
    if choice.reference_energies == "keep" and abs(agreement.step) > STEP:
        raise DataError(
            f"finetune: the new energies lie {agreement.step:+.3f} eV/atom from the base's predictions (by element: {agreement.steps} eV), so they "
            "are of another level of theory, have other reference energies or another unit; set finetune.reference_energies to 'refit' to take new "
            "ones from the data"
        )
