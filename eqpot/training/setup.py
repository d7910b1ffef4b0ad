"""Before the first step: what the data say about the model's units and constants."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import DataError
from eqpot.data import Dataset, ReferenceEnergies, is_isolated_atom, read, reference_energies, require_sane
from eqpot.models import Normalization
from eqpot.potential import ModelSpec
from eqpot.training.batches import Sample, make_samples
from eqpot.training.config import FitConfig


@dataclass(frozen=True, eq=False)
class Problem:
    """Data and model of a fit, ready to be trained.

    Attributes:
        spec: the model without parameters.
        reference: reference energies of the elements.
        train, valid: prepared frames.
        with_stress: whether any training frame has a stress label that counts.
        hashes: content hashes of the two data sets.
        warnings: what a user should know about the data, one line each.
    """

    spec: ModelSpec
    reference: ReferenceEnergies
    train: list[Sample]
    valid: list[Sample]
    with_stress: bool
    hashes: dict[str, str]
    warnings: tuple[str, ...]


def load_data(config: FitConfig, train: Dataset | None = None, valid: Dataset | None = None) -> tuple[Dataset, Dataset]:
    """Training and validation frames: those given, or those that the configuration names; the split is made by the seed.

    Raises:
        DataError: when nothing is given, or frames of the validation set are also in the training set.
    """
    options = {"keys": config.data.keys.label_keys(), "units": config.data.units.units()}
    if train is None:
        if config.data.train is None:
            raise DataError("no training data: set data.train to a file, or pass a Dataset")
        train = read(_paths(config.data.train), **options)
    if valid is None and isinstance(config.data.valid, str | tuple):
        valid = read(_paths(config.data.valid), **options)
    if valid is None:
        count = _held_out(config, train)
        train, valid = train.split(len(train) - count, count, seed=config.seed)
    if config.data.max_train is not None and config.data.max_train < len(train):
        isolated = np.array([is_isolated_atom(frame) for frame in train])
        train = train[np.flatnonzero(isolated)] + train[np.flatnonzero(~isolated)].shuffle(config.seed)[: config.data.max_train]
    repeated = valid.overlap(train)
    if len(repeated):
        raise DataError(f"{valid[int(repeated[0])].origin}: this validation frame is also in the training set ({len(repeated)} such frames)")
    return train, valid


def _paths(value: str | tuple[str, ...]) -> Any:
    return value if isinstance(value, str) else list(value)


def _held_out(config: FitConfig, train: Dataset) -> int:
    share = config.data.valid
    count = round(share * len(train)) if isinstance(share, float) else int(share)  # type: ignore[arg-type,operator]
    if not 0 < count < len(train):
        raise DataError(f"data.valid = {share} holds out {count} of {len(train)} frames; expected at least one on either side")
    return count


def make_problem(config: FitConfig, train: Dataset, valid: Dataset) -> Problem:
    """Check the data, fit reference energies, find neighbours, and measure what the model needs to know.

    Raises:
        DataError: for data that fail a check (see `eqpot.data.plausibility`), or a loss term without any label.
    """
    warnings = [f.message for f in require_sane(train, allow=config.data.allow) if f.severity == "warning"]
    elements = (train + valid).elements
    reference = reference_energies(train, elements, config.data.reference_energies)
    e0 = np.array([reference.values[e] for e in elements])
    frames = [f for f in train if not is_isolated_atom(f)]
    _require_labels(config, frames)
    _require_elements(frames, valid)
    samples = make_samples(frames, elements, config.model.cutoff, e0)
    spec = ModelSpec(config.model, elements, normalization(samples, len(elements)))
    with_stress = config.loss.stress > 0 and any(f.labels.stress is not None for f in frames)
    held_out = make_samples(list(valid), elements, config.model.cutoff, e0)
    hashes = {"train": train.content_hash, "valid": valid.content_hash}
    return Problem(spec, reference, samples, held_out, with_stress, hashes, (*filter(None, [reference.message]), *warnings))


def _require_labels(config: FitConfig, frames: list[Any]) -> None:
    if not frames:
        raise DataError("no training frames besides isolated atoms")
    for name in ("energy", "forces"):
        if getattr(config.loss, name) > 0 and all(getattr(f.labels, name) is None for f in frames):
            raise DataError(f"loss.{name} is {getattr(config.loss, name):g} but no training frame has {name}; name its key in data.keys or set the weight to 0")
    if "stress" in config.loss.model_fields_set and config.loss.stress > 0 and all(f.labels.stress is None for f in frames):
        raise DataError("loss.stress is set but no training frame has a stress; name its key in data.keys or leave the weight out")


def _require_elements(frames: list[Any], valid: Dataset) -> None:
    seen = {z for f in frames for z in f.structure.numbers}
    for frame in valid:
        unseen = set(frame.structure.numbers) - seen
        if unseen and not is_isolated_atom(frame):
            raise DataError(f"{frame.origin}: element {symbol(min(unseen))} of this validation frame is in no training frame")


def normalization(samples: list[Sample], n_species: int) -> Normalization:
    """Average neighbours, energy scale and per-element shift of the training frames.

    The scale is the RMS force component times 1 Å (1 without forces). The shift is the least-squares energy per element that reference energies
    leave over, nearest to an equal energy per atom.
    """
    neighbors = sum(len(s.host.neighbors.receivers) for s in samples) / sum(len(s.host) for s in samples)
    forces = [s.frame.labels.forces for s in samples if s.frame.labels.forces is not None]
    rms = float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else 1.0
    with_energy = [s for s in samples if s.energy is not None]
    shift = np.zeros(n_species)
    if with_energy:
        counts = np.array([np.bincount(s.host.species, minlength=n_species) for s in with_energy], float)
        sizes = counts.sum(1)
        per_atom = np.array([s.energy for s in with_energy]) / sizes
        mean = per_atom.mean()
        shift = mean + np.linalg.lstsq(counts / sizes[:, None], per_atom - mean, rcond=1e-3)[0]
    return Normalization(round(max(neighbors, 1.0), 6), round(max(rms, 1e-3), 9), tuple(float(f"{s:.9g}") for s in shift))
