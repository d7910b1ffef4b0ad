"""Errors a user can act on: what was expected, what arrived, where, and what to do.

Everything that a user's input can cause derives from `EqpotError`; the command line prints such
an error as one line and exits with a non-zero code, without a traceback. `assert` is kept for our own logic.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EqpotError(ValueError):
    """Base of all errors caused by input that eqpot cannot use."""


class StructureError(EqpotError):
    """A structure that has no meaning: non-finite, overlapping, singular cell, unknown element."""


class DataError(EqpotError):
    """A data file or a label that cannot be used as it stands."""


class ConfigError(EqpotError):
    """A configuration key or value that is unknown or out of range."""


class ArchiveError(EqpotError):
    """A potential file that is damaged, of another format, or does not fit what is asked of it."""


class CheckpointError(EqpotError):
    """A checkpoint folder that is damaged or belongs to another run."""


class TrainingError(EqpotError):
    """Training that cannot go on, such as a loss that is no longer finite."""


class SimulationError(EqpotError):
    """Dynamics that cannot go on; the last good state has been kept."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the nearest known word, or the list of known words when none is near."""
    known = sorted(known)
    near = get_close_matches(word, known, n=1, cutoff=0.6) or get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known) or 'none'}"
