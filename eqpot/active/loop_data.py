"""What a loop starts with and what it has collected: its labels, read back from ledger and store."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.active.label_output import read_oracle_settings
from eqpot.active.label_record import canonical, differences, label_key, settings_hash
from eqpot.active.label_store import LabelStore
from eqpot.active.loop_config import ActiveConfig, StartConfig
from eqpot.active.oracle_config import build_oracle, load_oracle
from eqpot.active.samplers import PoolSampler
from eqpot.active.selection import select
from eqpot.core.errors import DataError
from eqpot.data import Dataset, LabelKeys, read
from eqpot.data.dataset import structure_key
from eqpot.graph.structure import Frame, Labels, Structure
from eqpot.oracles import Failure, Oracle
from eqpot.training.folder import flatten_config

TRAIN, AUDIT, HELD = "train", "audit", "held"
"""What a label is for: to learn from; never trained on, drawn at random from what was sampled; never trained on, of the start."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A structure that the oracle is to label, what for and why; `sigma` is that of its most doubtful atom [eV/Å], `score` what it was chosen by."""

    frame: Frame
    role: str
    why: str
    sigma: float | None = None
    score: float | None = None

    def row(self, key: str, result: Frame | Failure) -> dict[str, Any]:
        """What the ledger says about it; the answer by its hash, so that labels can no more be changed than what was asked."""
        row = {"key": key, "role": self.role, "why": self.why, "group": self.frame.group, "origin": self.frame.origin}
        row |= {name: None if value is None else round(value, 4) for name, value in (("sigma_eV_A", self.sigma), ("score", self.score))}
        if isinstance(result, Failure):
            return row | {"status": "failed", "reason": result.reason}
        return row | {"status": "labelled", "reason": "", "labels": labels_hash(result.labels)}


def labels_hash(labels: Labels) -> str:
    """SHA-256 of all that is known, to the bit."""
    digest = hashlib.sha256()
    for name in sorted(labels.known):
        digest.update(name.encode() + np.asarray(getattr(labels, name), np.float64).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Collected:
    """All that a loop has asked so far.

    Attributes:
        train: frames to learn from.
        held: frames never trained on, audits among them, oldest first.
        audits: those drawn at random from what was sampled.
        asked: digests of the geometries of all structures that were asked or labelled before, failures among them; see `structure_key`.
        keys: of the ledger's rows, under which the store keeps answers; failures that cost nothing are not in the store.
        calls: structures that were given to the oracle.
        alternatives: settings of the alternative that gave a label, by the identity of the frame.
    """

    train: Dataset
    held: tuple[Frame, ...]
    audits: tuple[Frame, ...]
    asked: frozenset[bytes]
    keys: frozenset[str]
    calls: int
    alternatives: Mapping[int, Mapping[str, Any]]


def collected(
    store: Path, oracle: Oracle, alternatives: Sequence[Oracle], records: Sequence[Mapping[str, Any]], before: Dataset
) -> Collected:
    """Read back what the records of a ledger say was asked.

    Raises:
        DataError: a label that the ledger speaks of is not in the store, or is another one there.
    """
    rows = [row for record in records for row in record.get("asked", ())]
    parts: dict[str, list[Frame]] = {TRAIN: list(before), HELD: [], AUDIT: []}
    both: list[Frame] = []
    asked, used = {structure_key(f.structure) for f in before}, {}
    with LabelStore(store, oracle.settings, [a.settings for a in alternatives]) as kept:
        levels = {settings_hash(a): a for a in kept.alternatives}  # also those that are no longer configured
        for row in rows:
            entry = kept.entries.get(row["key"])
            if entry is not None:
                asked.add(structure_key(entry.structure))
            if row["status"] != "labelled":
                continue
            if entry is None or entry.labels is None:
                raise DataError(f"{store}: found no label of '{row['origin']}', which the ledger says was paid for; restore the store")
            if row.get("labels") not in (None, labels_hash(entry.labels)):
                raise DataError(
                    f"{store}: the label of '{row['origin']}' does not fit the hash that the ledger keeps of it; it was changed, restore the store"
                )
            frame = Frame(entry.structure, entry.labels, origin=row["origin"], group=row["group"])
            parts[row["role"]].append(frame)
            if entry.settings in levels:
                used[id(frame)] = levels[entry.settings]
            if row["role"] != TRAIN:
                both.append(frame)
    keys = frozenset(row["key"] for row in rows)
    return Collected(Dataset(tuple(parts[TRAIN])), tuple(both), tuple(parts[AUDIT]), frozenset(asked), keys, len(rows), used)


def split_start(frames: Sequence[Frame], before: Dataset, share: float, seed: int) -> list[str]:
    """Roles of the first labelled frames: some are held out, at random, but none without which an element would have nothing to be learned from."""
    wanted = max(2, round(share * len(frames))) if len(frames) > 2 or len(before) else 0
    left = Counter(e for f in (*frames, *before) for e in Dataset((f,)).elements)
    roles = [TRAIN] * len(frames)
    for k in np.random.default_rng(seed).permutation(len(frames)):
        elements = Dataset((frames[k],)).elements
        if wanted and all(left[e] > 1 for e in elements):
            left.subtract(elements)
            roles[k], wanted = HELD, wanted - 1
    return roles


def new_ones(frames: Sequence[Frame], known: frozenset[bytes]) -> list[Frame]:
    """Frames whose structures are not among the known ones, each once: nothing is paid for twice, or learned from and held out at a time."""
    found = {structure_key(f.structure): f for f in reversed(frames)}
    return [f for f in frames if found.get(key := structure_key(f.structure)) is f and key not in known]


def first_structures(start: StartConfig) -> tuple[Structure, ...]:
    """The structures that a loop begins with, each once.

    Raises:
        DataError: for files that cannot be read, or are empty.
    """
    files = start.structures if isinstance(start.structures, str) else list(start.structures)
    frames = read(files, keys=LabelKeys.none()).frames
    return tuple(f.structure.check() for f in frames)


def first_frames(start: StartConfig, structures: Sequence[Structure], before: Dataset, seed: int) -> list[Frame]:
    """What is labelled before the first training: the start structures, and of those made of them all, or the farthest from one another."""
    from eqpot.active.generate_structures import generate

    frames = [Frame(s, origin=f"start {k}", group="start") for k, s in enumerate(structures)]
    if start.generate:
        made = [m.frame() for m in generate({"seed": seed, "methods": list(start.generate)}, list(structures))]
        if start.n:
            made = [made[k] for k in sorted(select(None, made, start.n, known=[*frames, *before], method="farthest").chosen)]
        frames += made
    return new_ones(frames, frozenset(structure_key(f.structure) for f in before))


def labelled_before(start: StartConfig, oracle: Oracle) -> Dataset:
    """Frames that were labelled before; empty when there are none.

    Raises:
        DataError: labelled with other settings, or without any that are known.
    """
    if start.data is None:
        return Dataset(())
    files = [start.data] if isinstance(start.data, str) else list(start.data)
    for file in files:
        if differing := differences(read_oracle_settings(file), oracle.settings):
            raise DataError(f"{file}: holds labels of other settings ({'; '.join(differing)}); label its structures with this oracle")
    return read(files)


def identity(config: ActiveConfig, level: str, structures: Sequence[Structure], before: Dataset) -> dict[str, Any]:
    """What must be the same for a run to be continued: the configuration and, by their hashes, all that it reads."""
    hashes = {
        "oracle settings": level,
        "start structures": hashlib.sha256(canonical([label_key(s, "") for s in structures])).hexdigest(),
        "start data": before.content_hash if len(before) else "",
        "pools": [sampler.read().content_hash for sampler in config.samplers if isinstance(sampler, PoolSampler)],
    }
    return flatten_config(config.model_dump(mode="json")) | {f"hash of {name}": value for name, value in hashes.items()}


def load_teacher(oracle: str | Mapping[str, Any]) -> tuple[Oracle, tuple[Oracle, ...]]:
    """The oracle of a configuration and its alternatives."""
    return load_oracle(oracle) if isinstance(oracle, str) else build_oracle(oracle)
