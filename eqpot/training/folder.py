"""The folder of a run: one run, one writer, nothing that a user made is ever lost."""

import fcntl
import json
from pathlib import Path
from typing import Any, TextIO

from eqpot.core.errors import CheckpointError, ConfigError

MADE = (
    "checkpoints",
    "run.json",
    "log.jsonl",
    "report.html",
    "potential.safetensors",
    "last.safetensors",
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
        defaults: of the identity's keys, for runs that were made before a key existed.
    """

    def __init__(self, path: str | Path, writes: bool = True, defaults: dict[str, Any] | None = None) -> None:
        self.path, self.writes, self.defaults = Path(path), writes, defaults or {}
        self._lock: TextIO | None = None

    def claim(self, identity: dict[str, Any], overwrite: bool) -> None:
        """Make the folder this run's own: a new one, one that holds the same run, or one whose run is set aside into previous/<n>.

        Raises:
            ConfigError: when the folder cannot be made, or another process is writing to it.
            CheckpointError: when it holds another run, naming the difference.
        """
        identity = json.loads(json.dumps(identity))
        try:
            if self.writes:
                self.path.mkdir(parents=True, exist_ok=True)
                self._take_lock()
                if overwrite:
                    self._set_aside()
            self._require_same(identity)
            if self.writes:
                (self.path / "run.json").write_text(json.dumps(identity, indent=1))
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be made ({error.strerror})") from None

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

    def _require_same(self, now: dict[str, Any]) -> None:
        """Refuse a folder with another run; a changed setting is named before changed data, which it may explain."""
        file = self.path / "run.json"
        if not file.exists():
            if taken := [name for name in MADE if (self.path / name).exists()]:
                raise CheckpointError(f"{self.path}: holds {taken[0]} but no run.json; use overwrite to set it aside, or another folder")
            return
        try:
            found = json.loads(file.read_text())
        except ValueError:
            raise CheckpointError(f"{file}: is not readable; use overwrite to set the run aside, or another folder") from None
        # A run older than an option did what the option's default does.
        found = {key: value for key, value in self.defaults.items() if key in now} | found
        # One older than the hash of its base's content can only be compared by the base's name.
        if "hash of finetune.base" not in found and found.get("finetune.base") == now.get("finetune.base"):
            now = {key: value for key, value in now.items() if key != "hash of finetune.base"}
        for key in sorted(now.keys() | found.keys(), key=lambda key: (key.startswith("hash of"), key)):
            if now.get(key) != found.get(key) and key not in EXTENDABLE:
                raise CheckpointError(
                    f"{self.path}: holds another run: {key} was {found.get(key)!r}, now {now.get(key)!r}; "
                    "restore the old setting to continue it, use overwrite to set it aside, or another folder"
                )

    def log(self, row: dict[str, Any]) -> None:
        """Add a line to the log."""
        if self.writes:
            with (self.path / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def rewrite_log(self, history: list[dict[str, Any]]) -> None:
        """Make the log agree with a checkpoint: rows of epochs that will be done again are dropped."""
        if self.writes:
            (self.path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))

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
