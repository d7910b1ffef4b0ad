"""Before the first step: what the data say about the model's units and constants."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eqpot.core.elements import atomic_number
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import (
    Dataset,
    Frames,
    ReferenceEnergies,
    Store,
    is_isolated_atom,
    is_store,
    isolated_atoms,
    read,
    reference_energies,
    require_sane,
)
from eqpot.models import Normalization
from eqpot.potential import ModelSpec, Params
from eqpot.training.config import FitConfig
from eqpot.training.finetune import Start, start_from
from eqpot.training.held_out import (
    HELD_OUT,
    held_parts,
    hold_out,
    require_apart,
    require_comparable,
    require_fitting,
    require_unseen,
    require_usable,
)
from eqpot.training.samples import Sample, StoredSamples, make_samples
from eqpot.uncertainty.calibrate import require_fresh

KNOWN_FRAMES = 20_000
"""Of a store, at most so many frames, drawn at random, settle checks, reference energies and normalization."""


class Parts(NamedTuple):
    """Frames by what they are for; None where the configuration names none."""

    train: Frames
    valid: Frames
    test: Frames | None
    calibrate: Frames | None


@dataclass(frozen=True, eq=False)
class Problem:
    """Data and model of a fit, ready to be trained.

    Attributes:
        spec: the model without parameters.
        reference: reference energies of the elements, of the first head or that of the new frames, and what there is to say about them.
        reference_energies: those of all heads, one head after the other [eV].
        train, valid: prepared frames; those of a store are read when asked for.
        with_stress: whether any training frame has a stress label that counts.
        hashes: content hashes of the frames by their keys in `DataConfig`, of the base of fine-tuning, and of the frames that are replayed.
        held: how many frames each of the held-out parts has.
        warnings: what a user should know about the data, one line each.
        frames: those trained on.
        initial: parameters to start from, with a member axis; None for random ones.
        seen: keys of what the base of fine-tuning was trained on; see `Start`.
    """

    spec: ModelSpec
    reference: ReferenceEnergies
    reference_energies: tuple[float, ...]
    train: Sequence[Sample]
    valid: list[Sample]
    with_stress: bool
    hashes: dict[str, str]
    held: dict[str, int]
    warnings: tuple[str, ...]
    frames: Frames
    initial: Params | None = None
    seen: np.ndarray | None = None


def load_data(config: FitConfig, train: Frames | None = None, valid: Frames | None = None) -> Parts:
    """Training, validation, test and calibration frames: those given, or those that the configuration names; held-out parts are drawn by the seed.

    A name may be that of a store (see `eqpot.data.Store`), which then stands in place of a Dataset; keys and units were settled when it was made.

    Raises:
        DataError: when there is nothing to train on, too little to hold out, or a structure is in two of the parts.
    """
    given, source = train is not None, config.data
    if train is None:
        train = _read_training(config)
    test = None
    if isinstance(source.test, str | tuple):
        test = _read(config, source.test)
    elif source.test is not None:
        train, test = hold_out(train, source.test, config.seed + 1, "data.test")
    if valid is None:
        if not isinstance(source.valid, str | tuple):
            train, valid = hold_out(train, source.valid, config.seed, "data.valid")
        elif given:
            raise DataError("data.valid names a file but the training frames were passed in; pass the validation frames too")
        else:
            valid = _read(config, source.valid)
    calibrate = None
    if isinstance(source.calibrate, str | tuple):
        calibrate = _read(config, source.calibrate)
    elif source.calibrate is not None:
        train, calibrate = hold_out(train, source.calibrate, config.seed + 2, "data.calibrate")
    if source.max_train is not None and source.max_train < len(train):
        isolated = isolated_atoms(train)
        rest = np.random.default_rng(config.seed).permutation(np.flatnonzero(~isolated))
        train = train[np.concatenate([np.flatnonzero(isolated), rest[: source.max_train]])]
    require_apart({"training": train, **held_parts(valid, test, calibrate)})
    return Parts(*(None if part is None else at_head(config, part) for part in (train, valid, test, calibrate)))  # type: ignore[arg-type]


def at_head(config: FitConfig, frames: Frames) -> Frames:
    """Frames at the head that fine-tuning trains, unless they say another.

    Raises:
        ConfigError: for the frames of a store, whose heads were settled when it was made.
    """
    name = config.finetune.head if config.finetune else None
    if name is None:
        return frames
    if isinstance(frames, Store):
        raise ConfigError("finetune.head: frames of a store cannot be given a head; name their files")
    return Dataset(tuple(f if f.head else f.replace(head=name) for f in frames))


def _read_training(config: FitConfig) -> Frames:
    source = config.data
    if source.heads:
        if source.train is not None or config.finetune:
            raise ConfigError("data.heads names training files by level of theory: leave data.train and finetune out")
        parts = [
            (name, read(list(files) if isinstance(files, tuple) else files, keys=source.keys.label_keys(), units=source.units.units()))
            for name, files in source.heads.items()
        ]
        return Dataset(tuple(f.replace(head=name) for name, part in parts for f in part))
    if source.train is None:
        raise DataError("no training data: set data.train to a file, or pass a Dataset")
    return _read(config, source.train)


def _read(config: FitConfig, path: str | tuple[str, ...]) -> Frames:
    if isinstance(path, str) and is_store(path):
        return Store.open(path)
    return read(path if isinstance(path, str) else list(path), keys=config.data.keys.label_keys(), units=config.data.units.units())


def make_problem(config: FitConfig, train: Frames, valid: Frames, test: Frames | None = None, calibrate: Frames | None = None) -> Problem:
    """Check the data, fit reference energies, find neighbours, and measure what the model needs to know.

    Test and calibration frames are only checked: what would stop an evaluation after the training stops it before.

    Raises:
        DataError: for data that fail a check (see `eqpot.data.plausibility`), a loss term without any label, or held-out frames that cannot be judged.
    """
    held = held_parts(valid, test, calibrate)
    known, notes = _known(train, config.seed, "checks, reference energies and normalization use")
    warnings = [f.message for f in require_sane(known, allow=config.data.allow) if f.severity == "warning"]
    frames = train[np.flatnonzero(~isolated_atoms(train))]
    _require_labels(config, frames)
    hashes = {"train": train.content_hash} | {HELD_OUT[name]: part.content_hash for name, part in held.items()}
    sizes = {HELD_OUT[name]: len(part) for name, part in held.items()}
    if config.finetune:
        replay = read_replay(config, frames)
        start = _start(config, frames, known, replay)
        spec, frames, e0, initial, seen, measured_of = start.spec, start.train, start.references, start.params, start.seen, start.train
        if calibrate is not None:
            require_fresh(seen, calibrate)
        reference = ReferenceEnergies(
            dict(zip(spec.elements, start.own, strict=True)), "fine-tuning", len(spec.elements), len(spec.elements), ""
        )
        notes += start.notes
        hashes["base"] = hashlib.sha256(Path(config.finetune.base).read_bytes()).hexdigest()
        trained = spec.elements
        if replay is not None:
            hashes["replay"] = replay.content_hash
            require_unseen(replay, config.finetune.head, spec.config.heads, held)
    else:
        elements = tuple(sorted({*train.elements, *valid.elements}, key=atomic_number))
        model = config.model.changed(heads=tuple(config.data.heads)) if config.data.heads else config.model
        spec, initial, seen, measured_of = (
            ModelSpec(model, elements, Normalization()),
            None,
            None,
            [f for f in known if not is_isolated_atom(f)],
        )
        trained = frames.elements
    for name, part in held.items():
        require_usable(config, spec, trained, name, part, _known(part, config.seed, "")[0], known)
    require_fitting(spec, known)
    if not config.finetune:
        reference, e0 = _references(config, known, spec.elements, spec.config.heads)
    make = {"elements": spec.elements, "cutoff": spec.config.cutoff, "reference": e0, "heads": spec.config.heads}
    measured = make_samples(list(measured_of), **make)
    if not config.finetune:
        network = spec.config.network.cutoff
        norm = normalization(measured, len(spec.elements), spec.config.n_heads, network if network < spec.config.cutoff else None)
        spec = ModelSpec(spec.config, spec.elements, norm, config.training.backend, config.training.products)
    samples = StoredSamples(frames, **make, workers=config.training.workers) if isinstance(frames, Store) else measured
    with_stress = "stress" in config.counted and frames.label_counts()["stress"] > 0 and spec.conservative
    held_out, more = _known(valid, config.seed, "validation uses")
    predicted = {"energy", "forces", *(["stress"] if with_stress else []), *(["charges", "dipole"] if spec.config.charges else [])}
    more += require_comparable(config, held_out, predicted, frames.label_counts())
    messages = (*filter(None, [reference.message]), *notes, *more, *warnings)
    flat = tuple(map(float, np.ravel(e0)))
    return Problem(
        spec, reference, flat, samples, make_samples(held_out, **make), with_stress, hashes, sizes, messages, frames, initial, seen
    )


def read_replay(config: FitConfig, frames: Frames) -> Dataset | None:
    """Frames that the base of a fine-tuning was trained on, where there are any to mix in with these."""
    if config.finetune is None or config.finetune.replay is None:
        return None
    replay = _read(config, config.finetune.replay)
    if isinstance(replay, Store) or isinstance(frames, Store):
        raise ConfigError("finetune.replay: replayed frames are mixed with the new ones in memory; name files, not stores")
    return replay


def _start(config: FitConfig, frames: Frames, known: Dataset, replay: Dataset | None) -> Start:
    """Where fine-tuning begins; a store is compared by what is known of it and trained on as it is."""
    start = start_from(config, known, replay)
    return replace(start, train=frames) if isinstance(frames, Store) else start


def _references(
    config: FitConfig, known: Dataset, elements: tuple[str, ...], heads: tuple[str, ...]
) -> tuple[ReferenceEnergies, np.ndarray]:
    """Those of the first head, and the array of all, [heads, elements]; an element that a head never sees takes that of another head."""
    given: Any = config.data.reference_energies or {}
    if not heads:
        reference = reference_energies(known, elements, given)
        return reference, np.array([[reference.values[e] for e in elements]])
    levels = {head: Dataset(tuple(f for f in known if (f.head or heads[0]) == head)) for head in heads}
    each = [reference_energies(level, given=given.get(head)) for head, level in levels.items()]
    anywhere = {e: v for one in reversed(each) for e, v in one.values.items()}
    return each[0], np.array([[one.values.get(e, anywhere[e]) for e in elements] for one in each])


def _known(frames: Frames, seed: int, use: str) -> tuple[Dataset, list[str]]:
    """Frames in memory: all of a data set, of a store at most `KNOWN_FRAMES` and all isolated atoms; and what to say about it."""
    if not isinstance(frames, Store):
        return frames, []
    sampled = frames.sample(KNOWN_FRAMES, seed)
    return sampled, [] if len(sampled) == len(frames) else [
        f"{use} {len(sampled):,} of {len(frames):,} frames of the store, drawn at random"
    ]


def _require_labels(config: FitConfig, frames: Frames) -> None:
    if not len(frames):
        raise DataError("no training frames besides isolated atoms")
    counts = frames.label_counts()
    for name in sorted(config.counted & {"energy", "forces", *config.asked}):
        if not counts[name]:
            raise DataError(f"loss.{name} counts but no training frame has {name}; name its key in data.keys or set the weight to 0")


def normalization(samples: Sequence[Sample], n_species: int, n_heads: int = 1, cutoff: float | None = None) -> Normalization:
    """Average neighbours, energy scale and per-element shift of the training frames.

    The scale is the RMS force component times 1 Å (1 without forces). The shift is the least-squares energy per element that reference energies
    leave over, nearest to an equal energy per atom, for each head. Of neighbours that were found within a larger radius, those within `cutoff` count.
    """
    neighbors = sum(_count_neighbors(s, cutoff) for s in samples) / sum(len(s.host) for s in samples)
    forces = [s.frame.labels.forces for s in samples if s.frame.labels.forces is not None]
    rms = float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else 1.0
    shift = [_shift([s for s in samples if s.host.head == h and s.energy is not None], n_species) for h in range(n_heads)]
    values = tuple(float(f"{s:.9g}") for s in np.concatenate(shift))
    return Normalization(round(max(neighbors, 1.0), 6), round(max(rms, 1e-3), 9), values)


def _count_neighbors(sample: Sample, cutoff: float | None) -> int:
    found = sample.host.neighbors
    if cutoff is None:
        return len(found.receivers)
    vectors = found.positions[found.senders] - found.positions[found.receivers] + found.shifts @ sample.host.structure.cell
    return int((np.linalg.norm(vectors, axis=1) < cutoff).sum())


def _shift(samples: list[Sample], n_species: int) -> np.ndarray:
    if not samples:
        return np.zeros(n_species)
    counts = np.array([np.bincount(s.host.species, minlength=n_species) for s in samples], float)
    sizes = counts.sum(1)
    per_atom = np.array([s.energy for s in samples]) / sizes
    mean = per_atom.mean()
    return mean + np.linalg.lstsq(counts / sizes[:, None], per_atom - mean, rcond=1e-3)[0]
