"""One driver at a time: the lock of a folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eqpot.core.errors import DataError

LOCK = "lock"
_OPEN: set[Path] = set()
"""Folders that this process has locked; the lock of the system does not hold between threads."""


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """While this lasts no other driver works in the folder, which must exist. The lock ends with the process, however that ends.

    Raises:
        DataError: another driver is at work, and who.
    """
    folder = Path(folder).absolute()
    if folder in _OPEN:
        raise DataError(f"{folder}: found it open in this process already, expected one driver at a time; use another folder")
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no child inherits it
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DataError(f"{folder}: found another driver writing here ({holder}); wait for it or use another folder") from None
        _OPEN.add(folder)
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield
        finally:
            _OPEN.discard(folder)
