"""Interrupts that wait for the end of a step, so that what is saved is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eqpot.training.parallel import anywhere


class Abandoned(KeyboardInterrupt):
    """A second interrupt: it may have come in the middle of a step, so nothing can be saved any more."""


@contextmanager
def late_interrupts() -> Iterator[Callable[[], bool]]:
    """While this lasts, an interrupt or a scheduler's SIGTERM waits for the end of a step; a second one does not wait.

    Yields:
        whether there was one.

    Raises:
        KeyboardInterrupt: at the end, if there was one, in this or another process of the run.
        Abandoned: at once, at the second one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals reach the main thread only
        return
    seen: list[int] = []

    def remember(number: int, frame: Any) -> None:
        if seen:
            raise Abandoned
        seen.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
        if anywhere(bool(seen)):
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
