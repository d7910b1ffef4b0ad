"""Starting from a potential that exists: its network, widened for new elements, outputs and levels of theory, and a check that the new data fit it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from eqpot.core.elements import MAX_ATOMIC_NUMBER, atomic_number, symbol
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import Dataset, is_isolated_atom
from eqpot.models import Normalization
from eqpot.potential import ModelSpec, Params, Potential
from eqpot.potential.archive import flat_shapes, flatten, unflatten
from eqpot.training.config import FitConfig

STEP = 0.1
"""Mean deviation of the new energies from the base's predictions [eV/atom] from which on they are taken for another level of theory."""
COMPARED = 200
"""New frames that are compared with the base's predictions."""
OUTPUTS = ("noise", "charges", "direct_forces")
"""Keys of the model that may be switched when training goes on."""


@dataclass(frozen=True)
class Agreement:
    """New labels against the predictions of a base.

    Attributes:
        step: median of (E − E_base)/n [eV/atom].
        elements: change of each element's reference energy that explains it best [eV].
        rest: RMS of what is left of it [eV/atom].
        explained: share of the mean square force that the base predicts; None without forces.
        frames: how many were compared.
    """

    step: float
    elements: dict[str, float]
    rest: float
    explained: float | None
    frames: int


@dataclass(frozen=True, eq=False)
class Start:
    """Where fine-tuning begins.

    Attributes:
        spec: the widened model.
        params: its parameters, with a member axis.
        references: reference energies [eV], [heads, elements].
        own: those of the head of the new frames, [elements].
        train: new frames with their head, and replayed ones.
        notes: what a user should know.
    """

    spec: ModelSpec
    params: Params
    references: np.ndarray
    own: np.ndarray
    train: Dataset
    notes: tuple[str, ...]


def start_from(config: FitConfig, train: Dataset, replay: Dataset | None) -> Start:
    """Widen the base for the data.

    Args:
        config: with `finetune`.
        train: new frames.
        replay: frames that the base was trained on, mixed in against forgetting.

    Raises:
        ConfigError: for a configuration that cannot be met.
        DataError: when the base and the new data disagree.
    """
    choice = config.finetune
    assert choice is not None
    base = Potential.load(choice.base)
    heads, head = _heads(base, choice.head)
    model = _model(config, base, heads)
    elements = tuple(sorted({*base.elements, *train.elements, *(replay.elements if replay else ())}, key=atomic_number))
    notes = [f"fine-tunes {choice.base}"]
    if new := [e for e in elements if e not in base.elements]:
        notes.append(f"{', '.join(new)} new to the base: their parameters start as the mean of those of the known elements")
    source = _sources(base, heads)
    old = np.reshape(base.reference_energies, (-1, len(base.elements)))
    references = np.full((max(1, len(heads)), len(elements)), np.nan)
    for h, row in enumerate(source):
        references[h, [elements.index(e) for e in base.elements]] = old[row]
    target = heads.index(head) if heads else 0
    references[target], more = _references(config, base, train, elements, references[target], source[target])
    references = np.where(np.isnan(references), references[target], references)  # an element new to an old head: never trained there
    if replay is not None:
        more.append(_check_replay(choice, base, replay, target, head))
        train = _replayed(config, train, replay, heads[0] if heads else "")
    spec = ModelSpec(model, elements, _normalization(base, elements, source), config.training.backend, config.training.products)
    seeds = [config.seed * 1009 + k for k in range(config.ensemble.members)]
    return Start(spec, widened(base, spec, source, seeds), references, references[target], train, (*notes, *filter(None, more)))


def _heads(base: Potential, name: str | None) -> tuple[tuple[str, ...], str]:
    """Heads of the new model, and the one of the new frames."""
    if name is None:
        if base.heads:
            raise ConfigError(f"finetune.head: the base has the heads {', '.join(base.heads)}; name one of them, or a new one")
        return (), ""
    known = base.heads or ("base",)
    return (known if name in known else (*known, name)), name


def _sources(base: Potential, heads: tuple[str, ...]) -> list[int]:
    """For each head, the base's head that it starts as; a new one starts as the first."""
    known = base.heads or ("base",)
    return [known.index(h) if h in known else 0 for h in heads] or [0]


def _model(config: FitConfig, base: Potential, heads: tuple[str, ...]) -> Any:
    given = config.model.model_fields_set if "model" in config.model_fields_set else set()
    if foreign := sorted(given - {*OUTPUTS, "kind"}):
        raise ConfigError(f"model.{foreign[0]}: fine-tuning keeps the architecture of {config.finetune.base}; leave it out")  # type: ignore[union-attr]
    changes = {name: getattr(config.model, name) for name in given & {*OUTPUTS}}
    changes.setdefault("direct_forces", False)  # what pretraining read directly, training differentiates
    return base.spec.config.changed(**changes, heads=heads, preset=None)


def _normalization(base: Potential, elements: tuple[str, ...], source: list[int]) -> Normalization:
    old = base.spec.normalization
    if not old.shift:
        return old
    rows = np.reshape(old.shift, (-1, len(base.elements)))
    shift = [rows[h, base.elements.index(e)] if e in base.elements else rows[h].mean() for h in source for e in elements]
    return dataclasses.replace(old, shift=tuple(map(float, shift)))


def widened(base: Potential, spec: ModelSpec, source: list[int], seeds: list[int]) -> Params:
    """The base's parameters in the shapes of `spec`, [members, …].

    Known elements keep theirs, new ones start as the mean over the known; each head starts as the base's head `source[head]`; outputs that are new
    start from `seeds`. Members beyond those of the base repeat them.
    """
    fresh, shapes = jax.device_get(spec.init_members(seeds)), flat_shapes(spec.shapes())
    found, old = flatten(fresh), flatten(base.params)
    by_element = _axes(
        base.spec, dataclasses.replace(base.spec, elements=(*base.elements, _another(base.elements)), normalization=_bare(base.spec))
    )
    several = base.spec.config.changed(heads=tuple(f"{k}" for k in range(base.spec.config.n_heads + 1)))
    by_head = _axes(base.spec, dataclasses.replace(base.spec, config=several, normalization=_bare(base.spec)))
    for name in found.keys() & old.keys():
        value = np.stack([old[name][k % base.n_members] for k in range(len(seeds))])
        if name in by_element:
            value = _by_element(value, base.elements, spec.elements, by_element[name])
        if name in by_head:
            columns = value.reshape(*value.shape[:-1], base.spec.config.n_heads, -1)[..., source, :]
            value = columns.reshape(*value.shape[:-1], -1)
        if value.shape[1:] == shapes[name].shape:  # else the layer feeds an output that the base did not have
            found[name] = value.astype(found[name].dtype)
    return unflatten(found, fresh)


def _bare(spec: ModelSpec) -> Normalization:
    return dataclasses.replace(spec.normalization, shift=())


def _another(elements: tuple[str, ...]) -> str:
    """An element that is not among them."""
    return next(symbol(z) for z in range(1, MAX_ATOMIC_NUMBER) if symbol(z) not in elements)


def _axes(one: ModelSpec, other: ModelSpec) -> dict[str, list[int]]:
    """For each parameter whose shape differs between two models, the axes."""
    a, b = (flat_shapes(spec.shapes()) for spec in (one, other))
    return {n: [k for k, (i, j) in enumerate(zip(a[n].shape, b[n].shape, strict=True)) if i != j] for n in a if a[n].shape != b[n].shape}


def _by_element(value: np.ndarray, known: tuple[str, ...], wanted: tuple[str, ...], axes: list[int]) -> np.ndarray:
    """One entry per wanted element along each of the axes, counted after that of the members."""
    for axis in (k + 1 for k in axes):
        rows = [np.take(value, known.index(e), axis) if e in known else value.mean(axis) for e in wanted]
        value = np.stack(rows, axis)
    return value


def _references(
    config: FitConfig, base: Potential, train: Dataset, elements: tuple[str, ...], known: np.ndarray, head: int
) -> tuple[np.ndarray, list[str]]:
    """Reference energies of the new frames' head, and what to say about them."""
    choice, given = config.finetune, config.data.reference_energies or {}
    assert choice is not None
    agreement = compare(base, train, elements, np.nan_to_num(known), head)
    notes = []
    if agreement.explained is not None and agreement.explained < 0 and not choice.allow_disagreement:
        raise DataError(
            f"finetune: the base's forces are further from the new ones than zero would be (explained share {agreement.explained:.2f} over "
            f"{agreement.frames} frames); are units, signs and geometries right? Else set finetune.allow_disagreement"
        )
    steps = ", ".join(f"{e} {v:+.3f}" for e, v in agreement.elements.items())
    if choice.reference_energies == "keep":
        if abs(agreement.step) > STEP and not choice.allow_disagreement:
            raise DataError(
                f"finetune: the new energies lie {agreement.step:+.3f} eV/atom from the base's predictions (by element: {steps} eV), so they are of "
                "another level of theory, have other reference energies or another unit; set finetune.reference_energies to 'refit' to take new ones "
                "from the data"
            )
        values = np.array([known[k] if not np.isnan(known[k]) else agreement.elements[e] for k, e in enumerate(elements)])
    else:
        values = np.nan_to_num(known) + np.array([agreement.elements.get(e, 0.0) for e in elements])
        notes.append(f"reference energies moved by {steps} eV; {agreement.rest:.3f} eV/atom RMS are left to learn")
    return np.array([given.get(e, v) for e, v in zip(elements, values, strict=True)]), notes


def compare(base: Potential, train: Dataset, elements: tuple[str, ...], references: np.ndarray, head: int = 0) -> Agreement:
    """What the base says about new frames; of frames with elements that it does not know, the whole energy counts as deviation."""
    frames = [f for f in train if not is_isolated_atom(f)]
    frames = [frames[k] for k in np.linspace(0, len(frames) - 1, min(COMPARED, len(frames))).astype(int)]
    known = [f for f in frames if set(Dataset((f,)).elements) <= set(base.elements)]
    name = base.heads[head] if base.heads else None
    results = dict(zip(map(id, known), base.predict([f.structure for f in known], name) if known else [], strict=True))
    z = np.array([atomic_number(e) for e in elements])
    rows, deviations = [], []
    for frame in frames:
        if frame.labels.energy is None:
            continue
        counts = (np.asarray(frame.structure.numbers)[:, None] == z).sum(0)
        result = results.get(id(frame))
        expected = result.energy if result else float(counts @ references)
        rows.append(counts / counts.sum())
        deviations.append((frame.labels.energy - expected) / counts.sum())
    design, deviation = np.array(rows).reshape(-1, len(z)), np.array(deviations)
    mean = deviation.mean() if len(deviation) else 0.0
    moved = mean + np.linalg.lstsq(design, deviation - mean, rcond=1e-3)[0] if len(deviation) else np.zeros(len(z))
    rest = deviation - design @ moved
    both = [(f.labels.forces, results[id(f)].forces) for f in known if f.labels.forces is not None]
    square = sum(float((y**2).sum()) for y, _ in both)
    explained = 1 - sum(float(((y - p) ** 2).sum()) for y, p in both) / square if square else None
    step = float(np.median(deviation)) if len(deviation) else 0.0
    return Agreement(step, dict(zip(elements, map(float, moved), strict=True)), float(np.sqrt(np.mean(rest**2))), explained, len(frames))


def _check_replay(choice: Any, base: Potential, replay: Dataset, target: int, head: str) -> str:
    if unknown := sorted(set(replay.elements) - set(base.elements)):
        raise DataError(
            f"finetune.replay: found {unknown[0]}, which the base does not know; replayed frames are those that it was trained on"
        )
    if choice.reference_energies == "refit" and target == 0:
        raise ConfigError(
            "finetune.replay: replayed frames keep the base's level of theory while the reference energies are refitted; give the new frames a "
            "head of their own with finetune.head"
        )
    agreement = compare(base, replay, base.elements, np.reshape(base.reference_energies, (-1, len(base.elements)))[0])
    if abs(agreement.step) > STEP and not choice.allow_disagreement:
        raise DataError(
            f"finetune.replay: these energies lie {agreement.step:+.3f} eV/atom from the base's predictions; expected its training data"
        )
    return f"{len(replay)} frames are replayed" + (f" at the head 'base'; the new ones are at '{head}'" if target else "")


def _replayed(config: FitConfig, train: Dataset, replay: Dataset, old: str) -> Dataset:
    choice = config.finetune
    assert choice is not None
    if choice.replay_frames is not None:
        replay = replay.shuffle(config.seed)[: choice.replay_frames]
    again = tuple(f.replace(head=old, weight=f.weight * choice.replay_weight) for f in replay if not is_isolated_atom(f))
    return train + Dataset(again)
