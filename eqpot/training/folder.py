"""The folder of a run: one run, one writer, nothing that a user made is ever lost."""

import fcntl
import json
from pathlib import Path
from typing import Any, TextIO

from eqpot.core.errors import CheckpointError, ConfigError
from eqpot.core.files import replace_file
from eqpot.potential import Potential

BEST, LAST = "potential.safetensors", "last.safetensors"
"""Averaged parameters of the best epoch, with all that they know of themselves; plain ones of the last step."""
MADE = (
    "checkpoints",
    "run.json",
    "log.jsonl",
    "report.html",
    BEST,
    LAST,
    "stage_one.safetensors",
    "suspicious.extxyz",
)
"""What a run leaves in its folder."""
EXTENDABLE = (
    "name",
    "finetune.base",
    "training.max_minutes",
    "training.checkpoint_every",
    "training.checkpoint_steps",
    "training.patience",
    "training.workers",
)
"""Keys that may change when a run is continued; all others would change what is being trained. (Of the base, the content must be the same.)"""


class RunFolder:
    """A folder that holds one run.

    Args:
        path: made when it is claimed.
        writes: whether this process writes; of several processes only the first does.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes
        self._lock: TextIO | None = None

    def claim(self, identity: dict[str, Any], overwrite: bool) -> None:
        """Make the folder this run's own: a new one, one that holds the same run, or one whose run is set aside into previous/<n>.

        For the process that writes; others `require_same` after it.

        Raises:
            ConfigError: when the folder cannot be made, or another process is writing to it.
            CheckpointError: when it holds another run, naming the differences, or cannot be written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if overwrite:
                self._set_aside()
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be made ({error.strerror})") from None
        self.require_same(identity)
        self._replace("run.json", json.dumps(identity, indent=1))

    def _take_lock(self) -> None:
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(f"{self.path}: another process is training here; wait for it or use another folder") from None

    def _set_aside(self) -> None:
        names = [name for name in MADE if (self.path / name).exists()]
        if not names:
            return
        home = self.path / "previous"
        number = 1 + max((int(p.name) for p in home.glob("*") if p.name.isdigit()), default=0)
        target = home / str(number)
        target.mkdir(parents=True)
        for name in names:
            (self.path / name).rename(target / name)

    def require_same(self, identity: dict[str, Any]) -> None:
        """Refuse a folder with another run; changed settings are named before changed data, which they may explain.

        Raises:
            CheckpointError: naming all differences.
        """
        file, now = self.path / "run.json", json.loads(json.dumps(identity))
        if not file.exists():
            if taken := [name for name in MADE if (self.path / name).exists()]:
                raise CheckpointError(f"{self.path}: holds {taken[0]} but no run.json; use overwrite to set it aside, or another folder")
            return
        try:
            found = json.loads(file.read_text())
        except ValueError:
            raise CheckpointError(f"{file}: is not readable; use overwrite to set the run aside, or another folder") from None
        keys = sorted(now.keys() | found.keys(), key=lambda key: (key.startswith("hash of"), key))
        changed = [key for key in keys if now.get(key) != found.get(key) and key not in EXTENDABLE]
        if changed:
            told = [
                f"the {key} differs" if key.startswith("hash of") else f"{key} was {found.get(key)!r}, now {now.get(key)!r}"
                for key in changed
            ]
            raise CheckpointError(
                f"{self.path}: holds another run: {'; '.join(told)}; restore what it was to continue it, use overwrite to set it aside, "
                "or another folder"
            )

    def _replace(self, name: str, text: str) -> None:
        """Give a file this content, whole or not at all; one that has it already is left alone, also on a full disk."""
        file = self.path / name
        try:
            if not file.exists() or file.read_text() != text:
                replace_file(file, text.encode())
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be written ({error.strerror}); is the disk full? What was there is intact") from None

    def result(self, steps: int) -> Potential | None:
        """The potential of a run of so many steps, when all that belongs to it was written; `LAST` is written at the end."""
        files = [self.path / name for name in (BEST, LAST)]
        if not all(file.exists() for file in files):
            return None
        best, last = map(Potential.load, files)
        return best if best.metadata["run"]["steps"] == last.metadata["run"]["steps"] == steps else None

    def log(self, row: dict[str, Any]) -> None:
        """Add a line to the log."""
        if self.writes:
            with (self.path / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def rewrite_log(self, history: list[dict[str, Any]]) -> None:
        """Make the log agree with a checkpoint: rows of epochs that will be done again are dropped."""
        if self.writes:
            self._replace("log.jsonl", "".join(json.dumps(row) + "\n" for row in history))

    def release(self) -> None:
        """Let others write."""
        if self._lock:
            self._lock.close()


def flatten_config(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping → {'section.key': value}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten_config(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
