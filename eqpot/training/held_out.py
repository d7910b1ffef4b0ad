"""Frames that are never trained on: drawn from the training frames, kept apart from them, and looked at before the training as these are."""

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

import numpy as np

from eqpot.core.elements import atomic_number, symbol
from eqpot.core.errors import DataError, StructureError
from eqpot.data import Dataset, Frames, is_isolated_atom, isolated_atoms, key_numbers, require_sane, shared_structures
from eqpot.data.plausibility import mixed_oracles, require_allowed
from eqpot.graph import Frame
from eqpot.potential import ModelSpec
from eqpot.training.config import FitConfig
from eqpot.training.samples import head_number

HELD_OUT = {"validation": "valid", "test": "test", "calibration": "calibrate"}
"""What frames that are never trained on are for, and the key of `DataConfig` that names them."""
OF_A_SET = ("zero-forces", "length-unit", "energy-unit", "force-unit", "energy-forces", "stress-sign")
"""Checks that judge many frames together: few that were drawn from the training frames say nothing that those do not."""


def held_parts(valid: Frames, test: Frames | None, calibrate: Frames | None) -> dict[str, Frames]:
    """Those parts that there are, by the names of `HELD_OUT`."""
    return {name: part for name, part in zip(HELD_OUT, (valid, test, calibrate), strict=True) if part is not None}


def hold_out(frames: Frames, share: float | int, seed: int, key: str) -> tuple[Frames, Frames]:
    """The frames without a share of them (a fraction, or a number), and that share, drawn by the seed.

    Raises:
        DataError: for a share that leaves nothing on one side; `key` is the name of the setting.
    """
    count = round(share * len(frames)) if isinstance(share, float) else share
    if not 0 < count < len(frames):
        raise DataError(f"{key} = {share} holds out {count} of {len(frames)} frames; expected at least one on either side")
    order = np.random.default_rng(seed).permutation(len(frames))
    isolated = isolated_atoms(frames)[order]
    order = np.concatenate([order[isolated], order[~isolated]])  # isolated atoms define the zero of energy: they are trained on
    held = np.zeros(len(order), bool)
    held[-count:] = True
    keys = key_numbers(frames)[order]
    held |= np.isin(keys, keys[held]) & ~isolated_atoms(frames)[order]  # a structure that occurs twice is held out twice
    return frames[order[~held]], frames[order[held]]


def require_apart(parts: dict[str, Frames]) -> None:
    """Refuse a structure that is in two parts; of each pair, the later one is said to hold it.

    Raises:
        DataError: naming its origin and both parts.
    """
    for (first, frames), (second, others) in combinations(parts.items(), 2):
        if len(repeated := shared_structures(others, frames)):
            raise DataError(
                f"{others[int(repeated[0])].origin}: this {second} frame is also a {first} frame ({len(repeated)} such frames); "
                "remove it from one of them"
            )


def require_unseen(replay: Dataset, head: str | None, heads: tuple[str, ...], held: Mapping[str, Frames]) -> None:
    """Refuse held-out frames that the base was trained on, unless that was at another level of theory, where they have other labels.

    Args:
        replay: frames that the base was trained on.
        head: level of the new frames.
        heads: those of the model; replayed frames without one of them are at the first.
        held: frames by what they are for.
    """
    if not heads or head in {f.head if f.head in heads else heads[0] for f in replay}:
        for name, part in held.items():
            require_apart({"replayed": replay, name: part})


def require_usable(
    config: FitConfig, spec: ModelSpec, trained: Collection[str], name: str, part: Frames, known: Dataset, train: Dataset
) -> None:
    """Refuse held-out frames that fail a check, or that the potential could not judge after the training.

    Args:
        config, spec: of the fit.
        trained: elements that are learned; those of isolated atoms alone are not.
        name: what the frames are for.
        part: the frames.
        known: those of them that are looked at.
        train: training frames, which are of the same level of theory.

    Raises:
        DataError, StructureError: naming the first such frame.
    """
    for frame in part if set(part.elements) - set(trained) else ():
        unseen = {symbol(z) for z in frame.structure.numbers} - set(trained)
        if unseen and not (is_isolated_atom(frame) and unseen <= set(spec.elements)):
            what, base = min(unseen, key=atomic_number), " and not in the base" if config.finetune else ""
            raise DataError(f"{frame.origin}: element {what} of this {name} frame is in no training frame{base}")
    drawn = not isinstance(getattr(config.data, HELD_OUT[name]), str | tuple)
    try:
        require_sane(known, allow=(*config.data.allow, *OF_A_SET) if drawn else config.data.allow)
    except DataError as error:
        raise DataError(f"{name} frames: {error}") from None
    require_allowed(mixed_oracles(Dataset((*train, *known))), config.data.allow)
    require_fitting(spec, known)


def require_comparable(config: FitConfig, valid: Dataset, predicted: Collection[str], trained: Mapping[str, int]) -> list[str]:
    """Refuse validation frames by which the epochs of a stage cannot be compared; what is trained and not among them is told.

    Args:
        config: of the fit.
        valid: validation frames.
        predicted: quantities that the model predicts.
        trained: number of training frames with each label.

    Raises:
        DataError: saying which labels are expected.
    """
    counted = [f for f in valid if config.loss.weight_of(f) > 0]
    has = {name: any(getattr(f.labels, name) is not None for f in counted) for name in predicted}
    for key, weights in (
        ("loss", config.loss.weights(1.0)),
        ("stage_two", config.stage_two.weights(config.loss) if config.stage_two else {}),
    ):
        wanted = sorted(name for name in predicted if weights.get(name, 0) > 0 and trained[name])
        if wanted and not any(has[name] for name in wanted):
            raise DataError(
                f"no validation frame that counts has {' or '.join(wanted)}, found {len(valid)} without; expected labels of what {key} makes small, by "
                "which epochs are compared: name other files in data.valid, or their keys in data.keys"
            )
    return [
        f"no validation frame that counts has {name}: epochs are compared without"
        for name in sorted(config.counted & has.keys())
        if trained[name] and not has[name]
    ]


def require_fitting(spec: ModelSpec, frames: Iterable[Frame]) -> None:
    """Refuse a frame with a structure or a level of theory that the model has nothing to say about.

    Raises:
        DataError, StructureError: naming it.
    """
    for frame in frames:
        head_number(frame, spec.config.heads)
        try:
            spec.config.check(frame.structure)
        except StructureError as error:
            raise StructureError(f"{frame.origin}: {error}") from None
