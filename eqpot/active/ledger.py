"""The ledger of a loop: what was asked in each round and why, what came of it, and what it cost. It only ever grows.

Each line holds a record and the SHA-256 of that record and of the line before it, so that no line can be changed, removed or put in between without
being seen. The first record says what the ledger belongs to. A line is on the disk before the next round begins; a torn last line, of a driver
that was killed while it wrote, is cut off. What depends on the clock is not in here, so that two runs of the same configuration have equal ledgers.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from eqpot.active.label_record import canonical
from eqpot.active.lock import locked
from eqpot.core.errors import DataError

FORMAT: Final = "eqpot ledger"
VERSION: Final = 2
LINES: Final = "ledger.jsonl"


class Ledger:
    """An open ledger; see `open_ledger`.

    Attributes:
        records: all records after the first, in order; do not change them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        self._last = ""

    @property
    def head(self) -> str:
        """Hash of the last line, which stands for the whole ledger."""
        return self._last

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; on return it is on the disk."""
        plain: dict[str, Any] = json.loads(canonical(dict(record)))
        self._write(plain)
        self.records.append(plain)

    def _write(self, record: dict[str, Any]) -> None:
        digest = _digest(record, self._last)
        try:
            with self.path.open("ab") as file:
                file.write(canonical({"record": record, "previous": self._last, "sha256": digest}) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # half a line may be there; it is cut off when the run goes on
            raise DataError(f"{self.path}: cannot be written ({error.strerror or error}); what was finished is kept, run again") from None
        self._last = digest


@contextmanager
def open_ledger(folder: str | Path, identity: Mapping[str, Any], extendable: tuple[str, ...] = ()) -> Iterator[Ledger]:
    """The ledger of a folder, new or to be continued; nobody else can write to it meanwhile.

    Args:
        folder: made when it is not there.
        identity: what the run is, flat; JSON values.
        extendable: beginnings of keys that may differ from those that the ledger was begun with.

    Raises:
        DataError: a ledger of another run, a line that was changed, another driver at work, a folder that cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror or error})") from None
    with locked(folder):
        ledger = Ledger(folder / LINES)
        identity = json.loads(canonical(dict(identity)))
        records = read_lines(ledger.path, cut=True) if ledger.path.exists() else []
        if records:
            _require_same(folder, records[0][0], identity, extendable)
            ledger.records, ledger._last = [record for record, _ in records[1:]], records[-1][1]
        else:
            ledger._write({"format": FORMAT, "version": VERSION, "identity": identity})
        yield ledger


def read_ledger(folder: str | Path) -> list[dict[str, Any]]:
    """All records of a ledger after the first, verified; for reports, also while a driver is at work.

    Raises:
        DataError: no ledger there, or a line that was changed.
    """
    path = Path(folder) / LINES
    if not path.is_file():
        raise DataError(f"{folder}: found no {LINES}, expected the folder of an active-learning run")
    return [record for record, _ in read_lines(path)][1:]


def read_lines(path: Path, cut: bool = False) -> list[tuple[dict[str, Any], str]]:
    """Records with the hashes of their lines; a torn last line is left out, and with `cut` also removed.

    Raises:
        DataError: naming the first line that does not fit.
    """
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    found: list[tuple[dict[str, Any], str]] = []
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        last = found[-1][1] if found else ""
        try:
            document = json.loads(line)
            record, digest = document["record"], document["sha256"]
            fits = document["previous"] == last and digest == _digest(record, last)
            fits = fits and (number > 1 or (record["format"], record["version"]) == (FORMAT, VERSION))
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            raise DataError(
                f"{path}: line {number} does not fit its hash and that of the line before: it was changed or damaged, or is of another version, expected one "
                "that only eqpot wrote; restore the file, or begin in another folder (labels can be taken along)"
            )
        found.append((record, digest))
    if cut and whole < len(data):
        os.truncate(path, whole)
    return found


def _digest(record: Mapping[str, Any], previous: str) -> str:
    return hashlib.sha256(previous.encode() + canonical(dict(record))).hexdigest()


def _require_same(folder: Path, first: Mapping[str, Any], now: Mapping[str, Any], extendable: tuple[str, ...]) -> None:
    found = first["identity"]
    for key in sorted(found.keys() | now.keys()):
        if found.get(key) != now.get(key) and not key.startswith(extendable):
            raise DataError(
                f"{folder}: holds another run: {key} was {found.get(key)!r:.80}, now {now.get(key)!r:.80}; restore it to go on, or use another folder"
            )
