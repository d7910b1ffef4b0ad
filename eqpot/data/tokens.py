"""Numbers from text and from foreign records, read strictly: what is not a number is named, never kept as text."""

import re
from typing import Any

import numpy as np

from eqpot.core.errors import DataError

_SPLIT = re.compile(r"[\s,\[\]{}]+")


def reason(token: str) -> str:
    """Why a token is no number, in words that name the cure; empty when nothing better can be said."""
    if "*" in token:
        return " (asterisks are a Fortran field that overflowed: repeat the calculation's output with more digits)"
    if re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", token):
        return " (decimal comma: write a point)"
    if re.fullmatch(r"[+-]?\d*\.?\d*[dD][+-]?\d+", token):
        return " (Fortran exponent: write E for D)"
    return ""


def printable(message: str) -> str:
    """A message on one line, without the control characters that a damaged or hostile file may have put into it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message)


def is_number(token: str) -> bool:
    """Whether `number` would accept the token."""
    try:
        float(token)
    except ValueError:
        return False
    return "_" not in token


def number(token: str) -> float:
    """A float from one token; 'nan' and 'inf' pass here and are refused where labels are checked.

    Raises:
        DataError: naming the token.
    """
    if not is_number(token):
        raise DataError(f"found '{token:.40}', expected a number{reason(token)}")
    return float(token)


def vector(value: Any) -> np.ndarray:
    """A float64 array from text ("1 2 3", "[1, 2, 3]") or from anything NumPy can make numbers of.

    Raises:
        DataError: naming what is not a number.
    """
    if isinstance(value, str):
        decimal_comma = reason(value.strip())
        parts = [value.strip()] if decimal_comma else [t for t in _SPLIT.split(value) if t]
        return np.array([number(t) for t in parts])
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise DataError(f"found {value!r:.40}, expected numbers")
    return array.astype(np.float64)


def scalar(value: Any) -> float:
    """One float from text or from a number.

    Raises:
        DataError: naming what was found when it is not exactly one number.
    """
    numbers = vector(value)
    if numbers.size != 1:
        raise DataError(f"found {numbers.size} numbers ({value!r:.40}), expected one number")
    return float(numbers.reshape(()))
