"""Labels that have been paid for, on disk: a folder that belongs to one level of theory and only ever grows.

`store.json` says which settings the labels were computed with; `labels.jsonl` holds one JSON line per result, a label or a failure, each
with the SHA-256 of its content. A line is on the disk before its result counts; a driver may be killed at any moment: the last line, when
torn, is dropped, and any other line that does not fit its hash is refused. One driver writes at a time.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from eqpot.active.label_record import Entry, canonical, differences, label_key, line_of, read_line, settings_hash
from eqpot.active.lock import LOCK, locked
from eqpot.core.errors import DataError
from eqpot.core.files import replace_file
from eqpot.graph.structure import Structure

FORMAT: Final = "eqpot labels"
VERSION: Final = 1
HEADER, LINES = "store.json", "labels.jsonl"
KEPT: Final = "free space there or make it writable, and call again to go on; what was finished is kept"


class LabelStore:
    """An open store, as a context.

    Args:
        path: folder; made when it is not there.
        settings: of the oracle; those of an existing store must be equal.
        alternatives: settings that count as the same level of theory; they are added to those declared before.

    Raises:
        DataError: a folder of something else, other settings, a damaged line, another driver at work, a disk that cannot be written.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any], alternatives: Sequence[Mapping[str, Any]] = ()) -> None:
        self.path = Path(path).absolute()
        self.settings = json.loads(canonical(dict(settings)))
        self.alternatives = [json.loads(canonical(dict(a))) for a in alternatives]
        self.level = settings_hash(self.settings)
        self.entries: dict[str, Entry] = {}

    def __enter__(self) -> "LabelStore":
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.path))
                self._claim()
                self._lines = stack.enter_context((self.path / LINES).open("ab", buffering=0))
                self._load()
            except OSError as error:
                raise DataError(f"{error.filename or self.path}: cannot be made or written ({error.strerror or error}); {KEPT}") from None
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def key(self, structure: Structure) -> str:
        """Under what the label of a structure is kept here."""
        return label_key(structure, self.level)

    def add(self, entries: Iterable[Entry]) -> None:
        """Keep results; on return they are on the disk.

        Raises:
            DataError: the disk does not take them. The store can be opened again, with what was kept before.
        """
        entries = list(entries)
        text = b"".join(line_of({"key": self.key(e.structure), **e.document()}) for e in entries)
        try:
            while text:
                text = text[self._lines.write(text) :]
            os.fsync(self._lines.fileno())
        except OSError as error:
            raise DataError(f"{self.path / LINES}: cannot be written ({error.strerror or error}); {KEPT}") from None
        self.entries |= {self.key(e.structure): e for e in entries}

    def _claim(self) -> None:
        header = self.path / HEADER
        if not header.exists():
            if others := sorted(p.name for p in self.path.iterdir() if p.name != LOCK and not p.name.startswith(".")):
                raise DataError(f"{self.path}: found '{others[0]}' but no {HEADER}, expected a new folder or a store of labels")
            known: list[Any] = []
        else:
            known = self._same_level(header)
        wanted = known + [a for a in self.alternatives if a not in known]
        self.alternatives = wanted
        if not header.exists() or wanted != known:
            document = {"format": FORMAT, "version": VERSION, "settings": self.settings, "alternatives": wanted}
            replace_file(header, json.dumps(document, indent=1).encode())

    def _same_level(self, header: Path) -> list[Any]:
        """The alternatives declared before, when the settings are those of the store."""
        try:
            found = json.loads(header.read_bytes())
            if (found["format"], found["version"]) != (FORMAT, VERSION):
                raise ValueError
            settings, alternatives = found["settings"], list(found["alternatives"])
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{header}: is no header of a store of labels (version {VERSION}); use another folder") from None
        if differing := differences(settings, self.settings):
            raise DataError(f"{self.path}: holds labels of other settings ({'; '.join(differing)}); restore them or use another store")
        return alternatives

    def _load(self) -> None:
        """Read and check all lines; a torn last one is cut off."""
        file = self.path / LINES
        data = file.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            try:
                key, entry = read_line(line)
                fits = key == self.key(entry.structure)
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                raise DataError(
                    f"{file}: line {number} does not fit its hash: it was changed or damaged; remove the line or restore the file"
                )
            self.entries[key] = entry
        if whole < len(data):
            os.truncate(file, whole)
