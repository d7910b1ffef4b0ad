"""Learning curves: the error against the number of training frames, for one or several models.

Every point is a training of its own. Subsets are nested: those of one seed are the beginnings of one random order, and another seed has another
order and other initial parameters. Validation and test frames are the same for all. By default every point takes as many steps as the
largest size does in the epochs of the configuration, so that the curve shows the data and not the length of the training.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.config import build, load_yaml
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import Frames, isolated_atoms
from eqpot.models.config import hidden, parse_hidden
from eqpot.potential import Potential
from eqpot.training.batches import layout_of
from eqpot.training.config import FitConfig, as_config
from eqpot.training.finetune import replayed
from eqpot.training.learning_curve_page import write_page
from eqpot.training.learning_curve_points import Key, LearningCurve, Point, append_point, read_points
from eqpot.training.loop import fit
from eqpot.training.metrics import evaluate
from eqpot.training.samples import frame_sizes
from eqpot.training.setup import load_data, read_replay
from eqpot.training.sizes import Sizes

JUDGED = 500
"""Training frames on which the training error is measured, at most."""
OURS = ("data", "seed", "name")
"""Sections and keys that are the same for all models of a study."""


def learning_curve(
    config: FitConfig | Mapping[str, Any] | str | Path,
    sizes: Sequence[int],
    *,
    models: Mapping[str, Mapping[str, Any]] | Iterable[str | Path] | None = None,
    capacities: Sequence[int] | None = None,
    seeds: int = 3,
    folder: str | Path = "runs/learning-curve",
    same_steps: bool = True,
    train: Frames | None = None,
    valid: Frames | None = None,
    on_point: Callable[[Point, int, int], None] | None = None,
) -> LearningCurve:
    """Train on growing subsets and measure how the error falls.

    Started again with the same arguments and folder, it continues: finished points are read from points.jsonl, the point that was cut short goes on
    from its checkpoint. The page learning_curve.html and learning_curve.json are written at the end, and when it is interrupted.

    Args:
        config: as for `eqpot.fit`; `data.max_train` has no effect.
        sizes: numbers of training frames, at least two.
        models: YAML files (named by their stems) or name → mapping of sections that replace those of the configuration.
        capacities: instead of `models`, numbers of channels of `model.hidden`.
        seeds: trainings for each size and model.
        folder: where everything is kept.
        same_steps: give smaller subsets more epochs, so that all take the same number of steps; else all have the same epochs.
        train, valid: as for `eqpot.fit`.
        on_point: called with each point that was trained, the number of finished points and of all.

    Raises:
        ConfigError: sizes, models or seeds that make no curve, or a folder that holds other points.
        DataError: a size larger than the data.
    """
    base, home = as_config(config), Path(folder)
    base = base.model_copy(update={"data": base.data.model_copy(update={"max_train": None, "calibrate": None})})
    variants = _variants(base, models, capacities)
    pool, held_out, test, _ = load_data(base, train, valid)
    single = isolated_atoms(pool)
    sizes = _checked(sizes, seeds, int((~single).sum()), len(held_out), 0 if test is None else len(test))
    hashes = [d.content_hash for d in (pool, held_out, test) if d is not None]
    orders = {seed: np.random.default_rng([base.seed, seed]).permutation(np.flatnonzero(~single)) for seed in range(seeds)}
    chosen = {(size, seed): order[:size] for size in sizes for seed, order in orders.items()}
    jobs = _jobs(variants, chosen, _stretches(variants, chosen, pool) if same_steps else {})
    plans = {key: _plan(settings, hashes) for key, settings in jobs.items()}
    done = _finished(home / "points.jsonl", plans)
    try:
        for key in [key for key in jobs if key not in done]:
            name, size, seed = key
            subset = pool[np.concatenate([np.flatnonzero(single), chosen[size, seed]])]
            run = home / "points" / re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-{size}-{seed}")
            done[key] = _train(key, jobs[key], plans[key], (subset, held_out, test), run)
            append_point(home / "points.jsonl", done[key])
            if on_point:
                on_point(done[key], len(done), len(jobs))
    finally:  # also of a study that was cut short
        curve = LearningCurve(tuple(done[key] for key in sorted(done, key=list(jobs).index)))
        if curve.points:
            write_page(home, base.name, curve, same_steps, base.model_dump(mode="json"))
    return curve


def _variants(base: FitConfig, models: Any, capacities: Sequence[int] | None) -> dict[str, FitConfig]:
    """The configuration of each model by name."""
    if models is not None and capacities is not None:
        raise ConfigError("found both models and capacities, expected one of them")
    plain = base.model_dump(exclude_unset=True)  # what is not set means more than its default
    if capacities is not None:
        if base.model.network.kind != "equivariant":
            raise ConfigError(f"capacities are channels of an equivariant network: found the kind '{base.model.network.kind}', use models")
        degree = parse_hidden(base.model.network.hidden)[1]
        sized = {c: base.model.changed(hidden=hidden(c, degree)) for c in capacities}
        changes = {f"{c} channels": {"model": model.model_dump(exclude_unset=True)} for c, model in sized.items()}
    elif models is None:
        changes = {base.name: {}}
    elif isinstance(models, Mapping):
        changes = {str(name): dict(change) for name, change in models.items()}
    else:
        changes = {Path(path).stem: load_yaml(path) for path in models}
    for name, change in changes.items():
        if taken := [key for key in OURS if key in change]:
            raise ConfigError(f"{name}: found '{taken[0]}', expected keys of the model or its training; all models share {', '.join(OURS)}")
    if not changes:
        raise ConfigError("models: found none, expected at least one")
    return {name: build(FitConfig, {**plain, **change}, name) for name, change in changes.items()}


def _checked(sizes: Sequence[int], seeds: int, available: int, n_valid: int, n_test: int) -> list[int]:
    """Sizes in ascending order, or an error."""
    found = sorted(set(sizes))
    if len(found) < 2:
        raise ConfigError(f"sizes: found {list(sizes)}, expected at least two different numbers of frames")
    if found[0] < 1 or seeds < 1:
        raise ConfigError(f"found a smallest size of {found[0]} and {seeds} seeds, expected both to be at least 1")
    if found[-1] > available:
        held = f"{n_valid} are held out for validation and {n_test} for the test"
        raise DataError(f"sizes: found {found[-1]}, but there are {available} training frames ({held}); use smaller sizes or hold out less")
    return found


Chosen = Mapping[tuple[int, int], np.ndarray]
"""Training frames besides isolated atoms by (size, seed)."""


def _stretches(variants: Mapping[str, FitConfig], chosen: Chosen, pool: Frames) -> dict[Key, float]:
    """By how much the epochs of every point are more than those of the largest size, so that all take as many steps."""
    found: dict[Key, float] = {}
    largest = max(size for size, _ in chosen)
    for name, settings in variants.items():
        t = settings.training
        cutoff = Potential.load(settings.finetune.base).cutoff if settings.finetune else settings.model.cutoff
        every = frame_sizes(pool, cutoff, t.workers)
        replay = read_replay(settings, pool)
        more = [frame_sizes(replayed(settings, replay), cutoff)] if replay is not None else []
        steps = {
            key: len(layout_of(Sizes.join([every.take(rows), *more]), t.batch_size, t.batch_atoms).plan(0, 0))
            for key, rows in chosen.items()
        }
        found |= {(name, size, seed): steps[largest, seed] / steps[size, seed] for size, seed in chosen}
    return found


def _jobs(variants: Mapping[str, FitConfig], chosen: Chosen, stretches: Mapping[Key, float]) -> dict[Key, FitConfig]:
    """The configuration of every point; small sizes come first, so that a curve soon shows."""
    jobs = {}
    for size, seed in chosen:
        for name, settings in variants.items():
            t, stretch = settings.training, stretches.get((name, size, seed), 1.0)
            longer = {
                k: max(1, round(stretch * v)) for k in ("epochs", "validate_every", "checkpoint_every", "patience") if (v := getattr(t, k))
            }
            data = settings.data.model_copy(update={"test": None})
            changes = {"seed": settings.seed + seed, "data": data, "training": t.model_copy(update=longer)}
            jobs[name, size, seed] = settings.model_copy(update=changes)
    return jobs


def _plan(settings: FitConfig, hashes: list[str]) -> str:
    """What a point depends on, as a hash."""
    return hashlib.sha256(json.dumps([settings.model_dump(mode="json"), hashes], sort_keys=True).encode()).hexdigest()


def _finished(path: Path, plans: Mapping[Key, str]) -> dict[Key, Point]:
    """The points that need not be trained again.

    Raises:
        ConfigError: when one was trained with another configuration or other data.
    """
    found = {key: point for key, point in read_points(path).items() if key in plans}
    for (name, size, seed), point in found.items():
        if point.plan != plans[name, size, seed]:
            reason = "was trained with another configuration, other data or another largest size"
            raise ConfigError(f"{path}: the point {name}, {size} frames, seed {seed} {reason}; use another folder")
    return found


def _train(key: Key, settings: FitConfig, plan: str, sets: tuple[Frames, Frames, Frames | None], run: Path) -> Point:
    """One point; a run that was cut short goes on."""
    train, valid, test = sets
    potential = fit(settings, train, valid, folder=run)
    judged = train[np.flatnonzero(~isolated_atoms(train))[:JUDGED]]
    errors = [evaluate(potential, frames).summary() if frames is not None else {} for frames in (judged, valid, test)]
    known = potential.metadata
    return Point(*key, plan, known["epochs"], potential.n_parameters, known["seconds"], *errors)
