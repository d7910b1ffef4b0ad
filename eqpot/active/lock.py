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
        DataError: another driver is at work, and who; or the lock cannot be written.
    """
    folder = Path(folder).absolute()
    if folder in _OPEN:
        raise DataError(f"{folder}: found it open in this process already, expected one driver at a time; use another folder")
    try:
        file = (folder / LOCK).open("ab+", buffering=0)
    except OSError as error:
        raise _unusable(folder, error) from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no child inherits it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().decode(errors="replace").strip() or "unknown"
            raise DataError(f"{folder}: found another driver writing here ({holder}); wait for it or use another folder") from None
        except OSError as error:
            raise _unusable(folder, error) from None
        _OPEN.add(folder)
        try:
            yield
        finally:
            _OPEN.discard(folder)


def _unusable(folder: Path, error: OSError) -> DataError:
    found = f"{folder / LOCK}: found no file that can be written and locked ({error.strerror or error})"
    return DataError(f"{found}; free space there, make the folder writable or use another one; what was finished is kept")
