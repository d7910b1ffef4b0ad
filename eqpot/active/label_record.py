"""One result as it is kept on disk, and the hash under which it is found again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqpot.graph.structure import Labels, Structure


def canonical(value: Any) -> bytes:
    """JSON in one form: sorted keys, no spaces, floats that read back to the bit."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of an oracle's settings."""
    return hashlib.sha256(canonical(dict(settings))).hexdigest()


def label_key(structure: Structure, settings: str) -> str:
    """Under what a label is kept: SHA-256 of numbers, positions, cell, pbc and charge to the bit, and of the hash of the settings."""
    digest = hashlib.sha256(settings.encode())
    for name in ("numbers", "positions", "cell", "pbc"):
        digest.update(name.encode() + getattr(structure, name).tobytes())
    digest.update(np.float64(structure.charge).tobytes())
    return digest.hexdigest()


def changes(found: Any, given: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """(key, found, given) for each key in which two settings differ, nested ones by dotted names."""
    if isinstance(found, Mapping) and isinstance(given, Mapping):
        keys = sorted(found.keys() | given.keys())
        return [c for key in keys for c in changes(found.get(key), given.get(key), f"{name}.{key}".lstrip("."))]
    return [] if found == given else [(name, found, given)]


def differences(found: Any, given: Any) -> list[str]:
    """'key: 1 there, 2 here' for each key in which two settings differ."""
    return [f"{name}: {there!r:.60} there, {here!r:.60} here" for name, there, here in changes(found, given)]


def structure_document(structure: Structure) -> dict[str, Any]:
    """The fields of a structure as JSON values; `Structure(**document)` is the same to the bit."""
    arrays = {name: getattr(structure, name).tolist() for name in ("numbers", "positions", "cell", "pbc")}
    return arrays | {"charge": structure.charge}


@dataclass(frozen=True, eq=False, kw_only=True)
class Entry:
    """One result.

    Attributes:
        structure: what was asked.
        labels: what the oracle said, or None.
        reason: why there are no labels, one line.
        log: all that is known about failed attempts, also where a later one succeeded.
        settings: hash of the settings that were used, those of the store or of an alternative.
        tries: attempts in all.
        seconds: wall time of all of them.
    """

    structure: Structure
    labels: Labels | None
    reason: str = ""
    log: str = ""
    settings: str
    tries: int = 1
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """The entry as JSON values."""
        labels = None
        if self.labels is not None:
            labels = {name: np.asarray(getattr(self.labels, name), np.float64).tolist() for name in self.labels.known}
        others = {name: getattr(self, name) for name in ("reason", "log", "settings", "tries", "seconds")}
        return {"structure": structure_document(self.structure), "labels": labels, **others}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "Entry":
        """The entry that `document` made."""
        fields: dict[str, Any] = dict(document) | {"structure": Structure(**document["structure"])}
        if fields["labels"] is not None:
            fields["labels"] = labels_from(fields["labels"])
        return cls(**fields)


def labels_from(document: Mapping[str, Any]) -> Labels:
    """Labels from JSON values."""
    values: dict[str, Any] = {k: float(v) if k == "energy" else np.array(v, np.float64) for k, v in document.items()}
    return Labels(**values)


def line_of(record: dict[str, Any]) -> bytes:
    """A line of the store."""
    return canonical({"record": record, "sha256": hashlib.sha256(canonical(record)).hexdigest()}) + b"\n"


def read_line(line: bytes) -> tuple[str, Entry]:
    """Key and entry; ValueError when the record does not fit its hash."""
    document = json.loads(line)
    record = document["record"]
    if hashlib.sha256(canonical(record)).hexdigest() != document["sha256"]:
        raise ValueError
    return record.pop("key"), Entry.read(record)
