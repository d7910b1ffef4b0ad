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


def load_data(config: FitConfig, train: Dataset | None = None, valid: Dataset | None = None) -> tuple[Dataset, Dataset, Dataset | None]:
    """Training, validation and test frames: those given, or those that the configuration names; held-out parts are drawn by the seed.

    Raises:
        DataError: when there is nothing to train on, too little to hold out, or held-out frames are also in the training set.
    """
    given, source = train is not None, config.data
    if train is None:
        if source.train is None:
            raise DataError("no training data: set data.train to a file, or pass a Dataset")
        train = _read(config, source.train)
    test = None
    if isinstance(source.test, str | tuple):
        test = _read(config, source.test)
    elif source.test is not None:
        train, test = _hold_out(train, source.test, config.seed + 1, "data.test")
    if valid is None:
        if not isinstance(source.valid, str | tuple):
            train, valid = _hold_out(train, source.valid, config.seed, "data.valid")
        elif given:
            raise DataError("data.valid names a file but the training frames were passed in; pass the validation frames too")
        else:
            valid = _read(config, source.valid)
    if source.max_train is not None and source.max_train < len(train):
        isolated = np.array([is_isolated_atom(frame) for frame in train])
        train = train[np.flatnonzero(isolated)] + train[np.flatnonzero(~isolated)].shuffle(config.seed)[: source.max_train]
    for name, held_out in (("validation", valid), ("test", test)):
        if held_out is not None and len(repeated := held_out.overlap(train)):
            origin = held_out[int(repeated[0])].origin
            raise DataError(
                f"{origin}: this {name} frame is also a training frame ({len(repeated)} such frames); remove it from one of them"
            )
    return train, valid, test


def _read(config: FitConfig, path: str | tuple[str, ...]) -> Dataset:
    return read(path if isinstance(path, str) else list(path), keys=config.data.keys.label_keys(), units=config.data.units.units())


def _hold_out(frames: Dataset, share: float | int, seed: int, key: str) -> tuple[Dataset, Dataset]:
    count = round(share * len(frames)) if isinstance(share, float) else share
    if not 0 < count < len(frames):
        raise DataError(f"{key} = {share} holds out {count} of {len(frames)} frames; expected at least one on either side")
    rest, held_out = frames.split(len(frames) - count, count, seed=seed)
    return rest, held_out


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
    spec = ModelSpec(config.model, elements, normalization(samples, len(elements)), config.training.backend, config.training.products)
    with_stress = config.loss.stress > 0 and any(f.labels.stress is not None for f in frames)
    held_out = make_samples(list(valid), elements, config.model.cutoff, e0)
    hashes = {"train": train.content_hash, "valid": valid.content_hash}
    return Problem(spec, reference, samples, held_out, with_stress, hashes, (*filter(None, [reference.message]), *warnings))


def _require_labels(config: FitConfig, frames: list[Any]) -> None:
    if not frames:
        raise DataError("no training frames besides isolated atoms")
    for name in ("energy", "forces"):
        if getattr(config.loss, name) > 0 and all(getattr(f.labels, name) is None for f in frames):
            raise DataError(
                f"loss.{name} is {getattr(config.loss, name):g} but no training frame has {name}; name its key in data.keys or set the weight to 0"
            )
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
