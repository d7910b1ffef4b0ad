"""Which of the sampled structures are worth a label: those between what is known and what is absurd.

A potential is not to be asked about what it knows, and not to be taught what its own nonsense made of atoms. The band between the two is set on the scale
of its calibrated σ of forces, from errors that were measured: the lower edge is the root mean square length of the force error in structures that it
was not trained on, the upper one half of the size of the forces themselves: runs that are followed further into their own errors bring structures that
no trajectory at that temperature would visit, and labels of those are wasted. The size of the forces is told by their median, because the few bonds that
random displacements stretch most would double a mean. As long as σ is not calibrated (too few structures are held out) there is no lower edge: all that is not
absurd may be asked, the most doubtful first; and the upper edge is lowered by as much as the errors on the structures held out exceed σ, for young
ensembles are too sure of themselves. Half of the structures that have labels are always below it: else a bad potential could not go anywhere.

Reference: Y. Zhang et al., Comput. Phys. Commun. 253, 107206 (2020) (known, candidate, failed; there the edges are chosen by hand).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from eqpot.active.selection import Method
from eqpot.core.config import Config
from eqpot.core.elements import symbol
from eqpot.core.errors import ConfigError, EqpotError
from eqpot.graph.structure import Frame
from eqpot.potential import Potential, Trust
from eqpot.training import Evaluation
from eqpot.uncertainty.conformal import conformal_radii

KNOWN, CANDIDATE, ABSURD = "known", "candidate", "absurd"
RMS_OF_MEDIAN = 1.1260
"""√3 over the median of the Maxwell distribution: root mean square length of three Gaussian components, in their median length."""
STILL = 0.01
"""Forces smaller than this, in root mean squares, are none."""
LARGEST = 0.95
"""Quantile of σ by which elements are compared."""


class QueryConfig(Config):
    """What is asked in each round."""

    n: int = Field(default=20, ge=1, description="structures chosen to learn from")
    audit: int = Field(
        default=8, ge=0, description="structures drawn at random from those sampled, never trained on: for calibration and the bound"
    )
    method: Method = Field(default="uncertainty-diversity", description="see eqpot.active.select; 'random' is the baseline")
    exploration: float = Field(default=0.0, ge=0, description="weight of the distance to what is known, beside the doubt")
    min_novelty_distance: float | None = Field(
        default=None, gt=0, description="least distance to what is known or was chosen, in that between two structures at hand (rms)"
    )
    balance: bool = Field(default=True, description="score structures per atom; otherwise large ones are worth more")
    max_atoms: int | None = Field(default=None, ge=1, description="larger structures are not chosen")
    low_eV_A: float | None = Field(default=None, gt=0, description="lower edge of the band; by default the error on held-out structures")
    high_eV_A: float | None = Field(default=None, gt=0, description="upper edge; by default `absurd` times the size of the forces")
    absurd: float = Field(default=0.5, gt=0, description="error of a force, in the size of forces, from which on a run is not followed")

    max_novelty: float | None = Field(
        default=None,
        gt=1,
        description="structures farther than this from what was learned are absurd too; 1 is the edge of it (docs/uncertainty.md)",
    )

    @model_validator(mode="after")
    def _a_band(self) -> "QueryConfig":
        if self.low_eV_A and self.high_eV_A and self.low_eV_A >= self.high_eV_A:
            raise ConfigError(f"low_eV_A: found {self.low_eV_A}, expected less than high_eV_A ({self.high_eV_A})")
        if self.exploration and self.method != "uncertainty-diversity":
            raise ConfigError(f"exploration is for method 'uncertainty-diversity', found method '{self.method}'; leave it out")
        return self


@dataclass(frozen=True)
class Band:
    """Edges of what is worth a label, in σ of the force on an atom [eV/Å], and the largest novelty."""

    low: float
    high: float
    max_novelty: float | None = None

    def kind(self, sigma: float, novelty: float = 0.0) -> str:
        """Where a structure lies whose most doubtful atom has this σ, and whose strangest one this novelty."""
        if sigma >= self.high or (self.max_novelty is not None and novelty > self.max_novelty):
            return ABSURD
        return KNOWN if sigma < self.low else CANDIDATE


def band(potential: Potential, train: Iterable[Frame], held: Sequence[Frame], query: QueryConfig) -> Band:
    """The band of this potential; see the module's text."""
    train = list(train)
    low, high = query.low_eV_A or 0.0, query.high_eV_A or query.absurd * force_size(train)
    if errors := force_errors(potential, held):
        size = _rms(errors.values())
        if potential.trust.calibration is not None:
            low = query.low_eV_A or size
        elif query.high_eV_A is None:
            sigma = _rms(r.atom_std for k, r in enumerate(potential.predict_frames(held)) if k in errors)
            high /= max(1.0, size / max(sigma, 1e-12))
    if query.high_eV_A is None:
        high = max(high, float(np.median(judge(potential, [*train, *held]).sigma)))
    return Band(min(low, 0.5 * high), high, query.max_novelty)


def _rms(parts: Iterable[np.ndarray]) -> float:
    return float(np.sqrt((np.concatenate(list(parts)) ** 2).mean()))


def force_size(frames: Iterable[Frame]) -> float:
    """Root mean square length of the forces [eV/Å], estimated from the median as if they were Gaussian; atoms that symmetry holds still do not count."""
    lengths = np.concatenate([np.linalg.norm(f.labels.forces, axis=1) for f in frames if f.labels.forces is not None])
    moved = lengths[lengths > STILL * np.sqrt((lengths**2).mean())]
    return float(RMS_OF_MEDIAN * np.median(moved)) if len(moved) else 0.0


def force_errors(potential: Potential, frames: Sequence[Frame]) -> dict[int, np.ndarray]:
    """Length of the force error of each atom [eV/Å], by the index of the frame; frames without forces are left out."""
    results = replace(potential, trust=Trust()).predict_frames(frames)  # as training does, so that one compiled program serves both
    pairs = enumerate(zip(frames, results, strict=True))
    return {k: np.linalg.norm(r.forces - f.labels.forces, axis=1) for k, (f, r) in pairs if f.labels.forces is not None}


def bounds(potential: Potential, held: Sequence[Frame], levels: Sequence[float]) -> dict[str, float | None]:
    """For each level the length that the force error of an atom does not exceed with that probability [eV/Å]; None where there are too few structures.

    Split-conformal, for structures drawn like those held out; see `eqpot.uncertainty.conformal`.
    """
    found = force_errors(potential, held)
    if not found:
        return dict.fromkeys((f"{level:g}" for level in levels), None)
    groups = np.concatenate([np.full(len(e), k) for k, e in found.items()])
    radii = conformal_radii(np.concatenate(list(found.values())), groups, sorted(levels))
    return {f"{level:g}": float(radii[k]) if k < len(radii) else None for k, level in enumerate(sorted(levels))}


def coverage(audit: Evaluation, level: float = 0.9) -> float | None:
    """Share of atoms whose force error is within the interval that the potential states, each structure counting the same; None when it states none."""
    rows = []
    for frame, result in zip(audit.frames, audit.results, strict=True):
        radius = None if result.calibration is None else result.interval(level).force_radius
        if radius is not None and frame.labels.forces is not None:
            rows.append((np.linalg.norm(result.forces - frame.labels.forces, axis=1) <= radius).mean())
    return float(np.mean(rows)) if rows else None


def audited(potential: Potential, fresh: Sequence[Frame]) -> dict[str, Any]:
    """What structures say that a potential has not seen, for the ledger."""
    if not fresh:
        return {"audit": 0}
    audit = Evaluation(tuple(fresh), tuple(potential.predict_frames(fresh)))
    errors = {"force_rmse_eV_A": audit.forces, "energy_rmse_eV_atom": audit.energy_per_atom}
    return {"audit": len(fresh), **{name: e.rmse if e else None for name, e in errors.items()}, "coverage": coverage(audit)}


@dataclass(frozen=True, eq=False)
class Judged:
    """Sampled structures and the doubt about them.

    Attributes:
        frames: those that the potential can judge.
        sigma: σ of the force on the most doubtful atom of each [eV/Å].
        novelty: of its strangest atom; zero for a potential without a domain.
        elements: for each element the 95 % quantile of σ over its atoms [eV/Å].
        foreign: structures that the potential cannot judge: unknown elements, overlapping atoms.
        fault: why the first of those could not be; empty if there is none.
    """

    frames: tuple[Frame, ...]
    sigma: np.ndarray
    novelty: np.ndarray
    elements: Mapping[str, float]
    foreign: int
    fault: str = ""

    def kinds(self, band: Band) -> list[str]:
        """Known, candidate or absurd, for each."""
        return [band.kind(s, n) for s, n in zip(self.sigma, self.novelty, strict=True)]

    def summary(self, band: Band) -> dict[str, Any]:
        """Counts by kind and by group, for the ledger."""
        kinds = self.kinds(band)
        groups: dict[str, dict[str, int]] = {}
        for frame, kind in zip(self.frames, kinds, strict=True):
            row = groups.setdefault(frame.group, dict.fromkeys((KNOWN, CANDIDATE, ABSURD), 0))
            row[kind] += 1
        return {
            "structures": len(self.frames),
            **{kind: kinds.count(kind) for kind in (KNOWN, CANDIDATE, ABSURD)},
            "novel": int((self.novelty > 1).sum()),
            "by_group": groups,
            "sigma_eV_A": np.round(self.sigma, 4).tolist(),
            "by_element_eV_A": {e: round(v, 4) for e, v in self.elements.items()},
            "foreign": self.foreign,
        }


def judge(potential: Potential, frames: Sequence[Frame], chunk: int = 256) -> Judged:
    """Predict structures for the doubt about them; those that cannot be predicted are counted."""
    known: list[Frame] = []
    sigma, novelty, fault = [], [], ""
    by_element: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(frames), chunk):
        hosts = []
        for frame in frames[start : start + chunk]:
            try:
                hosts += potential.prepare_frames([frame])
                known.append(frame)
            except EqpotError as error:
                fault = fault or str(error)
        for result in potential.predict_hosts(hosts):
            each = result.atom_std
            sigma.append(float(each.max()))
            novelty.append(0.0 if result.novelty is None else float(result.novelty.max()))
            for z in np.unique(result.numbers):
                by_element.setdefault(symbol(int(z)), []).append(each[result.numbers == z])
    quantiles = {e: float(np.quantile(np.concatenate(v), LARGEST)) for e, v in by_element.items()}
    return Judged(tuple(known), np.array(sigma), np.array(novelty), quantiles, len(frames) - len(known), fault)


def still_uncertain(record: Mapping[str, Any]) -> str:
    """What the last round's samples say about where the potential is in doubt, in words."""
    sampled, low = record["sampled"], record["band_eV_A"]["low"]
    parts = []
    for group, row in sorted(sampled["by_group"].items()):
        total = sum(row.values())
        if doubtful := row[CANDIDATE] + row[ABSURD]:
            scale = (
                f"σ of a force of {low:.2f} eV/Å or more"
                if low
                else "a σ that has no scale yet (too few structures are held out to calibrate it)"
            )
            parts.append(f"{group}: {doubtful} of {total} structures with {scale}")
    if sampled["foreign"]:
        parts.append(f"{sampled['foreign']} structures could not be judged at all (the remarks in the report say why)")
    if sampled["broken"]:
        parts.append(f"{sampled['broken']} runs broke off")
    if elements := sampled["by_element_eV_A"]:
        worst = max(elements, key=elements.__getitem__)
        parts.append(f"most of all {worst} (σ up to {elements[worst]:.2f} eV/Å for 95 % of its atoms)")
    return "; ".join(parts) or "nothing that was sampled"
