"""What all scores begin with: pairs of an error and its σ that carry information, and ranks."""

import numpy as np

from eqpot.core.errors import DataError


def pairs(a: np.ndarray, b: np.ndarray, positive: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of finite numbers; with `positive`, those with b > 0.

    Raises:
        DataError: when the two are not lists of the same length.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"scores: found arrays of shapes {a.shape} and {b.shape}, expected two lists of the same length")
    good = np.isfinite(a) & np.isfinite(b) & ((b > 0) | (not positive))
    return a[good], b[good]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 0, 1, …; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[place]
