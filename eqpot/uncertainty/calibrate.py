"""Calibration of a potential on structures that none of its members was trained on.

Two methods map σ to σ': 'scale', one factor per element that maximises the likelihood of Gaussian errors, and 'isotonic', a growing function of σ
that follows the mean squared error (isotonic regression over bins of σ). A spread over few members is itself uncertain: the smallest are too small
by chance and the largest too large, which no factor mends and a growing function does.

Everything that is stated of the result is cross-validated over structures: radii of intervals come from scores of structures whose maps they did
not help to fit, and the potential calls itself calibrated only when intervals and σ' hold on structures left out.

References: M. H. Rasmussen et al., J. Cheminform. 15, 121 (2023) (scaling, and what to test); J. Busk et al., Mach. Learn.: Sci. Technol. 3, 015012 (2022)
(isotonic regression of squared errors); D. Levi et al., Sensors 22, 5540 (2022) (ENCE).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from eqpot.core.errors import DataError
from eqpot.data import Dataset, Frames, isolated_atoms, key_numbers
from eqpot.graph import Frame
from eqpot.potential import Calibration, Potential, QuantityCalibration, SigmaMap, Trust
from eqpot.potential.calibration import ANY, LEVELS
from eqpot.uncertainty.conformal import conformal_radii
from eqpot.uncertainty.samples import Sample, collect
from eqpot.uncertainty.scores import calibration_factor, ence

Method = Literal["scale", "isotonic"]
FOLDS = 5
FEWEST = 10
"""Structures without which nothing is said about a potential, or about an element of its own."""
ROWS_PER_BIN = 40
MOST_BINS = 24
OFF_COVERAGE = 0.05
"""How far the coverage of cross-validated 90 % intervals of the forces may be off."""
OFF_SIGMA = 0.25
"""The largest ENCE of cross-validated σ' of the forces, and how far their root mean square in units of it may be off one."""
PLAIN = (50, 68, 90, 95)


def calibrate(potential: Potential, frames: Iterable[Frame], method: Method = "isotonic") -> Potential:
    """The same potential with calibrated standard deviations and intervals; an earlier calibration is replaced.

    Args:
        potential: of several members, or with predicted noise or a last layer: something that gives a σ.
        frames: labelled structures that were not trained on, alike those that it is made for.
        method: 'isotonic' (a function of σ) or 'scale' (a factor), for each element with enough structures.

    Raises:
        DataError: for fewer than 10 structures, no labels, or frames that the potential was trained on.
        StructureError: naming a frame that the potential cannot judge.
    """
    if method not in get_args(Method):
        raise DataError(f"calibrate: found method '{method}', expected one of {get_args(Method)}")
    frames = tuple(frames)
    if len(frames) < FEWEST:
        raise DataError(f"calibrate: found {len(frames)} structures, expected at least {FEWEST} that the potential was not trained on")
    _require_fresh(potential, frames)
    bare = replace(potential, trust=Trust(last_layer=potential.trust.last_layer))  # all that σ comes from
    samples = collect(frames, bare.predict_frames(frames))
    if not samples:
        raise DataError(
            "calibrate: found no σ above zero beside a label; expected labelled frames, and a potential of several members, "
            "with predicted noise or with a last layer (eqpot.fit_last_layer)"
        )
    calibration = fit_calibration(samples, method)
    return replace(potential, trust=replace(potential.trust, calibration=calibration))


def remember(potential: Potential, frames: Frames) -> Potential:
    """The same potential, which from now on refuses to be calibrated on these frames."""
    keys = key_numbers(frames)[~isolated_atoms(frames)]
    seen = np.unique(keys.astype(np.uint32)).view(np.int32)
    return replace(potential, trust=replace(potential.trust, seen=seen))


def _require_fresh(potential: Potential, frames: tuple[Frame, ...]) -> None:
    """Raise a DataError for frames that were trained on; chance alone takes one in 2³² / structures for another."""
    if potential.trust.seen is None:
        return
    data = Dataset(frames)
    old = np.isin(key_numbers(data).astype(np.uint32), potential.trust.seen.view(np.uint32)) & ~isolated_atoms(data)
    if old.any():
        first = frames[int(old.argmax())].origin or f"frame {old.argmax()}"
        raise DataError(
            f"calibrate: {old.sum()} of {len(frames)} structures were trained on, the first is {first}; errors there say nothing about others: "
            "expected structures that were held out"
        )


def fit_calibration(samples: dict[str, Sample], method: Method) -> Calibration:
    """Calibration of the quantities in `samples` (see `collect`), with the verdict of its cross-validation."""
    quantities, checks = {}, {}
    for name, sample in samples.items():
        sample = sample.take(sample.sigma > 0)  # of an isolated atom all is known
        if len(np.unique(sample.groups)) >= FEWEST:
            quantities[name], checks[name] = _fit(sample, method)
    if not quantities:
        raise DataError(f"calibrate: found no quantity that is labelled in at least {FEWEST} structures")
    return Calibration(method, quantities, _fault(checks), checks)


def _fit(sample: Sample, method: Method) -> tuple[QuantityCalibration, dict[str, Any]]:
    """One quantity: maps of all data, radii and checks of data left out."""
    fold = _folds(sample.groups)
    sigma = np.zeros(len(sample))
    for k in range(FOLDS):
        left_out = fold == k
        sigma[left_out] = _apply(fit_maps(sample.take(~left_out), method), sample.take(left_out))
    fair = replace(sample, sigma=sigma)  # each σ' by maps that have not seen its structure
    structures = len(np.unique(sample.groups))
    vectors = _radii(fair, vector=True) if sample.symbols else {}
    quantity = QuantityCalibration(fit_maps(sample, method), _radii(fair), vectors, structures)
    return quantity, _checks(fair, fold, structures)


def _folds(groups: np.ndarray) -> np.ndarray:
    """Fold of each row; structures are dealt out at random, always in the same way."""
    names, place = np.unique(groups, return_inverse=True)
    return np.random.default_rng(0).permutation(np.arange(len(names)) % FOLDS)[place]


def fit_maps(sample: Sample, method: Method) -> dict[str, SigmaMap]:
    """Maps of σ for each element in enough structures, and for all others together."""
    fit = _factor if method == "scale" else _isotonic
    return {ANY: fit(sample), **{name: fit(part) for name, part in _by_element(sample).items()}}


def _by_element(sample: Sample) -> dict[str, Sample]:
    """The rows of each element in enough structures."""
    names = np.array(sample.symbols)
    parts = {name: sample.take(names == name) for name in sorted(set(sample.symbols))}
    return {name: part for name, part in parts.items() if len(np.unique(part.groups)) >= FEWEST}


def _factor(sample: Sample) -> SigmaMap:
    return SigmaMap.factor(_round(calibration_factor(sample.lengths, sample.sigma)))


def _isotonic(sample: Sample) -> SigmaMap:
    """Growing function through the root mean square errors of bins of σ; a knot in the middle of each level that the regression finds.

    Beyond the largest σ that was seen it returns to the factor of the largest likelihood, if that is more: the largest σ are brought down because some are
    large by chance, which is no reason where all are large.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(sample.sigma)
    bins = np.array_split(order, max(1, min(MOST_BINS, len(order) // ROWS_PER_BIN)))
    square = np.array([(sample.lengths[b] ** 2).mean() for b in bins])
    count = np.array([len(b) for b in bins], float)
    at = np.array([np.log(sample.sigma[b]).mean() for b in bins])
    found = isotonic_regression(square, weights=count)
    knots = [slice(a, b) for a, b in zip(found.blocks[:-1], found.blocks[1:], strict=True)]
    x = [np.average(at[k], weights=count[k]) for k in knots]
    y = [max(found.x[k][0], 1e-24) ** 0.5 for k in knots]
    beyond = 2 * sample.sigma[order[-1]]
    x, y = [*np.exp(x), beyond], [*y, max(y[-1], calibration_factor(sample.lengths, sample.sigma) * beyond)]
    return SigmaMap(tuple(map(_round, x)), tuple(map(_round, y)))


def _apply(maps: dict[str, SigmaMap], sample: Sample) -> np.ndarray:
    return QuantityCalibration(maps, {}).sigma(sample.sigma, list(sample.symbols) or None)


def _radii(sample: Sample, vector: bool = False) -> dict[str, tuple[float, ...]]:
    """Conformal radii of numbers (in units of σ'/√components) or of vectors (σ'), for all rows and for elements in enough structures."""

    def of(part: Sample) -> tuple[float, ...]:
        return tuple(_round(v) for v in conformal_radii(*_scores(part, vector), LEVELS))

    return {ANY: of(sample), **{name: of(part) for name, part in _by_element(sample).items()}}


def _scores(sample: Sample, vector: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of errors in units of σ', and the structure of each."""
    if vector:
        return sample.lengths / sample.sigma, sample.groups
    size = np.abs(sample.errors) * np.sqrt(sample.dimensions) / sample.sigma[:, None]
    return size.ravel(), np.repeat(sample.groups, sample.dimensions)


def _checks(sample: Sample, fold: np.ndarray, structures: int) -> dict[str, Any]:
    """What holds on structures left out: coverage of intervals, and whether errors are as large as σ' says."""
    scores, groups = _scores(sample, vector=False)
    fold = np.repeat(fold, sample.dimensions)
    inside = {level: np.zeros(len(scores), bool) for level in PLAIN}
    for k in range(FOLDS):
        radii = conformal_radii(scores[fold != k], groups[fold != k], [level / 100 for level in PLAIN])
        for level, radius in zip(PLAIN, radii, strict=False):
            inside[level][fold == k] = scores[fold == k] <= radius
    return {
        "structures": structures,
        "rows": len(sample),
        "coverage": {str(level): round(float(held.mean()), 4) for level, held in inside.items() if held.any()},
        "ence": round(ence(sample.lengths, sample.sigma), 4),
        "factor": round(calibration_factor(sample.lengths, sample.sigma), 4),
    }


def _fault(checks: dict[str, Any]) -> str:
    """Why the forces (or what was labelled instead) are not calibrated, in words; empty if they are."""
    name, found = next((n, checks[n]) for n in ("forces", "energy", "stress") if n in checks)
    covered = found["coverage"].get("90", 0.0)
    slack = OFF_COVERAGE + 1 / found["structures"]  # what finite numbers of structures add to be safe
    if abs(covered - 0.9) > slack:
        return f"90 % intervals of the {name} hold {100 * covered:.0f} % of structures left out"
    if not found["factor"] < 1 + OFF_SIGMA or not found["factor"] > 1 - OFF_SIGMA:
        return f"errors of the {name} on structures left out are {found['factor']:.2f} σ"
    if name == "forces" and found["ence"] > OFF_SIGMA:
        return f"σ of the {name} is off by {100 * found['ence']:.0f} % in bins of σ (ENCE {found['ence']:.2f})"
    return ""


def _round(value: float) -> float:
    return float(f"{value:.6g}")
