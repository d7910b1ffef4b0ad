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
from eqpot.potential import Calibration, Potential, QuantityCalibration, Result, SigmaMap, Trust
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
ALIKE, OTHER_UNIT = 0.9, 4.0
"""Correlation of forces from which on their size can be compared, and the factor that is another unit; the nearest one is kcal/mol, 23."""
OTHER_ZERO = 1.0
"""Typical error of the energy [eV/atom] that no trained potential has."""
HOW = "Declare what the files use: --unit and --key, or eqpot.read(…, units=…, keys=…)"
TIE = 1e-5
"""Values of σ that differ by less, relatively, are one."""


def calibrate(potential: Potential, frames: Iterable[Frame], method: Method = "isotonic", *, check_units: bool = True) -> Potential:
    """The same potential with calibrated standard deviations and intervals; an earlier calibration is replaced.

    Args:
        potential: of several members, or with predicted noise or a last layer: something that gives a σ.
        frames: labelled structures that were not trained on, alike those that it is made for.
        method: 'isotonic' (a function of σ) or 'scale' (a factor), for each element with enough structures.
        check_units: refuse labels that can hardly be in the units, or of the zero, of the potential; needless where they come from where its own did.

    Raises:
        DataError: for fewer than 10 structures, no labels, labels that are in other units than the potential's, or frames that it was trained on.
        StructureError: naming a frame that the potential cannot judge.
    """
    if method not in get_args(Method):
        raise DataError(f"calibrate: found method '{method}', expected one of {get_args(Method)}")
    frames = tuple(frames)
    if len(frames) < FEWEST:
        raise DataError(f"calibrate: found {len(frames)} structures, expected at least {FEWEST} that the potential was not trained on")
    require_fresh(potential.trust.seen, Dataset(frames))
    bare = replace(potential, trust=Trust(last_layer=potential.trust.last_layer))  # all that σ comes from
    results = bare.predict_frames(frames)
    if check_units:
        _require_same_quantities(frames, results)
    samples = collect(frames, results)
    if not samples:
        raise DataError(
            "calibrate: found no σ above zero beside a label; expected labelled frames, and a potential of several members, "
            "with predicted noise or with a last layer (eqpot.fit_last_layer)"
        )
    calibration = fit_calibration(samples, method)
    return replace(potential, trust=replace(potential.trust, calibration=calibration))


def remember(potential: Potential, frames: Frames, before: np.ndarray | None = None) -> Potential:
    """The same potential, which from now on refuses to be calibrated on these frames, and on what its base has `seen` before."""
    keys = key_numbers(frames)[~isolated_atoms(frames)].view(np.int64)
    if before is not None:
        keys = np.concatenate([keys.astype(before.dtype), before])
    return replace(potential, trust=replace(potential.trust, seen=np.unique(keys)))


def require_fresh(seen: np.ndarray | None, frames: Frames) -> None:
    """Raise a DataError for frames that were trained on; chance alone takes one in 2⁶⁴ (in old files 2³²) / structures for another."""
    if seen is None:
        return
    old = np.isin(key_numbers(frames).view(np.int64).astype(seen.dtype), seen) & ~isolated_atoms(frames)
    if old.any():
        first = frames[int(old.argmax())].origin or f"frame {old.argmax()}"
        raise DataError(
            f"calibrate: {old.sum()} of {len(frames)} structures were trained on, the first is {first}; errors there say nothing about others: "
            "expected structures that were held out"
        )


def _require_same_quantities(frames: tuple[Frame, ...], results: list[Result]) -> None:
    """Raise a DataError for labels that no potential of the same quantity can be so far from: they would be calibrated as any others."""
    forces = [(f.labels.forces, r.forces) for f, r in zip(frames, results, strict=True) if f.labels.forces is not None]
    label, predicted = (
        (np.concatenate([np.ravel(side) for side in pair]) for pair in zip(*forces, strict=True)) if forces else np.zeros((2, 0))
    )
    if predicted.any() and label.any() and (np.corrcoef(label, predicted)[0, 1] > ALIKE):
        ratio = float((label @ predicted) / (predicted @ predicted))
        if not 1 / OTHER_UNIT < ratio < OTHER_UNIT:
            raise DataError(
                f"calibrate: forces of the labels are {ratio:.3g} times those predicted, expected about one: in another unit? {HOW}"
            )
    energies = [abs(f.labels.energy - r.energy) / len(f) for f, r in zip(frames, results, strict=True) if f.labels.energy is not None]
    if energies and (typical := float(np.median(energies))) > OTHER_ZERO:
        raise DataError(
            f"calibrate: energies of the labels are typically {typical:.3g} eV/atom off those predicted, expected below {OTHER_ZERO:g}: in another unit, or "
            f"with another zero? {HOW}, or leave the energies out (energy='')"
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
    ends = np.linspace(0, len(order), max(1, min(MOST_BINS, len(order) // ROWS_PER_BIN)) + 1).astype(int)[1:-1]
    grown = sample.sigma[order]
    ends = np.unique(np.searchsorted(grown, grown[ends] * (1 - TIE)))  # equal σ share a bin: a function has one value there
    bins = np.split(order, ends[ends > 0])
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
    inside: dict[int, list[np.ndarray]] = {level: [] for level in PLAIN}
    for k in range(FOLDS):
        radii = conformal_radii(scores[fold != k], groups[fold != k], [level / 100 for level in PLAIN])
        for level, radius in zip(PLAIN, radii, strict=False):  # fewer radii where the others are too few for a level
            inside[level].append(scores[fold == k] <= radius)
    return {
        "structures": structures,
        "rows": len(sample),
        "coverage": {str(level): round(float(np.concatenate(held).mean()), 4) for level, held in inside.items() if len(held) == FOLDS},
        "ence": round(ence(sample.lengths, sample.sigma), 4),
        "factor": round(calibration_factor(sample.lengths, sample.sigma), 4),
    }


def _fault(checks: dict[str, Any]) -> str:
    """Why the forces (or what was labelled instead) are not calibrated, in words; empty if they are."""
    name, found = next((n, checks[n]) for n in ("forces", "energy", "stress") if n in checks)
    covered = found["coverage"].get("90")
    if covered is None:
        return f"{found['structures']} structures are too few to test 90 % intervals of the {name}"
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
