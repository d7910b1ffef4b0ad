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
from eqpot.training.finetune_references import STEP, compare, settle
from eqpot.training.loss_config import require_outputs

OUTPUTS = ("noise", "charges", "direct_forces")
"""Keys of the model that may be switched when training goes on."""


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
        seen: keys of the structures that the base was trained on, as in `Trust`; None if it does not know.
    """

    spec: ModelSpec
    params: Params
    references: np.ndarray
    own: np.ndarray
    train: Dataset
    notes: tuple[str, ...]
    seen: np.ndarray | None


def start_from(config: FitConfig, train: Dataset, replay: Dataset | None) -> Start:
    """Widen the base for the data.

    Args:
        config: with `finetune`.
        train: new frames, with isolated atoms.
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
    elements = tuple(sorted({*base.elements, *train.elements}, key=atomic_number))
    notes = [f"fine-tunes {choice.base}"]
    if new := [e for e in elements if e not in base.elements]:
        notes.append(f"{', '.join(new)} new to the base: their parameters start as the mean of those of the known elements")
    source, target = _sources(base, heads), heads.index(head) if heads else 0
    own = train if not heads else Dataset(tuple(f for f in train if (f.head or heads[0]) == head))
    settled = settle(config, base, own, elements, source[target])
    wide = _normalization(base, elements, source, target, settled.shifts)
    references = _references(base, elements, source, target, settled.references)
    mixed = Dataset(tuple(f for f in train if not is_isolated_atom(f)))
    notes += settled.notes
    if replay is not None:
        known = (base.heads or ("base",)) if heads else ("",)
        replay = Dataset(tuple(f.replace(head=f.head if f.head in known else known[0]) for f in replay))
        notes.append(_check_replay(choice, base, replay, head))
        mixed += replayed(config, replay)
    spec = ModelSpec(model, elements, wide, config.training.backend, config.training.products)
    seeds = [config.seed * 1009 + k for k in range(config.ensemble.members)]
    return Start(spec, widened(base, spec, source, seeds), references, references[target], mixed, tuple(notes), base.trust.seen)


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
    model = base.spec.config.changed(**changes, heads=heads, preset=None)
    require_outputs(model, config.loss, config.asked)
    return model


def _normalization(base: Potential, elements: tuple[str, ...], source: list[int], target: int, shifts: dict[str, float]) -> Normalization:
    """The base's, with shifts for all heads and elements: those given at the target, elsewhere the mean of the known for a new element."""
    old = base.spec.normalization
    rows = np.reshape(old.shifts(base.spec.config.n_heads, len(base.elements)), (-1, len(base.elements)))
    every = np.array([[row[base.elements.index(e)] if e in base.elements else row.mean() for e in elements] for row in rows[source]])
    every[target] = [shifts[e] for e in elements]
    return dataclasses.replace(old, shift=tuple(map(float, every.ravel())) if every.any() else ())


def _references(base: Potential, elements: tuple[str, ...], source: list[int], target: int, own: dict[str, float]) -> np.ndarray:
    """Those given at the target; elsewhere the base's, and for an element that is new to it, which is never trained there, those of the target."""
    rows = np.reshape(base.reference_energies, (-1, len(base.elements)))
    every = np.array([[row[base.elements.index(e)] if e in base.elements else own[e] for e in elements] for row in rows[source]])
    every[target] = [own[e] for e in elements]
    return every


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


def _check_replay(choice: Any, base: Potential, replay: Dataset, head: str) -> str:
    """Refuse frames that the base was not trained on; what there is to say of the others."""
    if unknown := sorted(set(replay.elements) - set(base.elements)):
        raise DataError(
            f"finetune.replay: found {unknown[0]}, which the base does not know; replayed frames are those that it was trained on"
        )
    heads = sorted({f.head for f in replay})
    if choice.reference_energies == "refit" and head in heads:
        raise ConfigError(
            "finetune.replay: replayed frames keep the base's level of theory while the reference energies are refitted; give the new frames a "
            "head of their own with finetune.head"
        )
    agreement = compare(base, replay)
    if abs(agreement.step) > STEP and not choice.allow_disagreement:
        raise DataError(
            f"finetune.replay: these energies lie {agreement.step:+.3f} eV/atom from the base's predictions; expected its training data"
        )
    names = ", ".join(f"'{name}'" for name in heads)
    return f"{len(replay)} frames are replayed" + (
        f" at the head {names}; the new ones are at '{head}'" if head and heads != [head] else ""
    )


def replayed(config: FitConfig, replay: Dataset) -> Dataset:
    """The frames that are mixed in, with their weight."""
    choice = config.finetune
    assert choice is not None
    if choice.replay_frames is not None:
        replay = replay.shuffle(config.seed)[: choice.replay_frames]
    return Dataset(tuple(f.replace(weight=f.weight * choice.replay_weight) for f in replay if not is_isolated_atom(f)))
