"""What a loop starts with and what it has collected: its labels, read back from ledger and store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqpot.active.label_output import read_oracle_settings
from eqpot.active.label_record import differences, settings_hash
from eqpot.active.label_store import LabelStore
from eqpot.active.oracle_config import build_oracle, load_oracle
from eqpot.core.errors import DataError
from eqpot.data import Dataset, LabelKeys, read
from eqpot.data.dataset import structure_key
from eqpot.graph.structure import Frame, Structure
from eqpot.oracles import Failure, Oracle

TRAIN, AUDIT, HELD = "train", "audit", "held"
"""What a label is for: to learn from; never trained on, drawn at random from what was sampled; never trained on, of the start."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A structure that the oracle is to label, what for and why; `sigma` is that of its most doubtful atom [eV/Å]."""

    frame: Frame
    role: str
    why: str
    sigma: float | None = None

    def row(self, key: str, result: Frame | Failure) -> dict[str, Any]:
        """What the ledger says about it."""
        sigma = None if self.sigma is None else round(self.sigma, 4)
        row = {"key": key, "role": self.role, "why": self.why, "sigma_eV_A": sigma, "group": self.frame.group, "origin": self.frame.origin}
        failed = isinstance(result, Failure)
        return row | {"status": "failed" if failed else "labelled", "reason": result.reason if isinstance(result, Failure) else ""}


@dataclass(frozen=True, eq=False)
class Collected:
    """All that a loop has asked so far.

    Attributes:
        train: frames to learn from.
        held: frames never trained on, audits among them, oldest first.
        audits: those drawn at random from what was sampled.
        asked: digests of the geometries of all structures that were asked or labelled before, failures among them; see `structure_key`.
        calls: structures that were given to the oracle.
        alternatives: settings of the alternative that gave a label, by the identity of the frame.
    """

    train: Dataset
    held: tuple[Frame, ...]
    audits: tuple[Frame, ...]
    asked: frozenset[bytes]
    calls: int
    alternatives: Mapping[int, Mapping[str, Any]]


def collected(
    store: Path, oracle: Oracle, alternatives: Sequence[Oracle], records: Sequence[Mapping[str, Any]], before: Dataset
) -> Collected:
    """Read back what the records of a ledger say was asked.

    Raises:
        DataError: a label that the ledger speaks of is not in the store.
    """
    rows = [row for record in records for row in record.get("asked", ())]
    parts: dict[str, list[Frame]] = {TRAIN: list(before), HELD: [], AUDIT: []}
    both: list[Frame] = []
    asked, used = {structure_key(f.structure) for f in before}, {}
    levels = {settings_hash(a.settings): a.settings for a in alternatives}
    with LabelStore(store, oracle.settings, [a.settings for a in alternatives]) as kept:
        for row in rows:
            entry = kept.entries.get(row["key"])
            if entry is not None:
                asked.add(structure_key(entry.structure))
            if row["status"] != "labelled":
                continue
            if entry is None or entry.labels is None:
                raise DataError(f"{store}: found no label of '{row['origin']}', which the ledger says was paid for; restore the store")
            frame = Frame(entry.structure, entry.labels, origin=row["origin"], group=row["group"])
            parts[row["role"]].append(frame)
            if entry.settings in levels:
                used[id(frame)] = levels[entry.settings]
            if row["role"] != TRAIN:
                both.append(frame)
    return Collected(Dataset(tuple(parts[TRAIN])), tuple(both), tuple(parts[AUDIT]), frozenset(asked), len(rows), used)


def new_ones(frames: Sequence[Frame], known: frozenset[bytes]) -> list[Frame]:
    """Frames whose structures are not among the known ones, each once: nothing is paid for twice, or learned from and held out at a time."""
    found = {structure_key(f.structure): f for f in reversed(frames)}
    return [f for f in frames if found.get(key := structure_key(f.structure)) is f and key not in known]


def first_structures(start: Any) -> tuple[Structure, ...]:
    """The structures that a loop begins with, each once.

    Raises:
        DataError: for files that cannot be read, or are empty.
    """
    files = start.structures if isinstance(start.structures, str) else list(start.structures)
    frames = read(files, keys=LabelKeys.none()).frames
    return tuple(f.structure.check() for f in frames)


def labelled_before(start: Any, oracle: Oracle) -> Dataset:
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


def load_teacher(oracle: str | Mapping[str, Any]) -> tuple[Oracle, tuple[Oracle, ...]]:
    """The oracle of a configuration and its alternatives."""
    return load_oracle(oracle) if isinstance(oracle, str) else build_oracle(oracle)
