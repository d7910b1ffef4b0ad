"""Split-conformal prediction when numbers come in structures.

Atoms of one structure resemble each other; structures are exchangeable. With K calibration structures of n_k scores each, the radius of level p is

    the least q with  1/(K+1) Σ_k 1/n_k #{i : s_ki ≤ q} ≥ p ,

and an atom of a new structure has a score of at most q with a probability of at least p, whatever the distribution of scores within
structures is. Above p = K/(K+1) nothing can be promised.

References: Y. Lee, R. F. Barber, R. Willett, arXiv:2306.06342 (2023), eq. 5; R. Dunn, L. Wasserman, A. Ramdas, J. Am. Stat. Assoc. 118, 2491 (2023).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from eqpot.core.errors import DataError


def conformal_radii(scores: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"], levels: Sequence[float]) -> Float[np.ndarray, " k"]:
    """Radii of the levels that so many groups can vouch for, which are the first of `levels`.

    Args:
        scores: sizes of errors divided by predicted σ.
        groups: the structure of each score.
        levels: coverages, growing, in (0, 1).

    Raises:
        DataError: for scores that are not finite: σ = 0 says that no error is possible.
    """
    if not np.isfinite(scores).all():
        raise DataError("conformal: found a score that is not finite, expected errors and σ > 0 that are")
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores)
    mass = np.cumsum(1 / counts[place[order]]) / (len(counts) + 1)
    at = np.searchsorted(mass, np.asarray(levels) - 1e-9)
    return scores[order][at[at < len(order)]]
