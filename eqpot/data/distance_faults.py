"""Structures with a distance unlike those of the rest of the set.

A distance is suspicious when it is short (or an atom lonely) both by nature's measure, the sum of covalent radii (Cordero et al., Dalton Trans.
2832 (2008), through ASE's table), and by the set's own: the logarithm of the shortest distance of each pair of elements in each frame,
and of the largest distance of an atom to its nearest neighbour, against its median and robust spread.
"""

from collections import defaultdict
from typing import Final

import numpy as np

from eqpot.core.elements import symbol
from eqpot.data.dataset import Dataset, is_isolated_atom
from eqpot.data.distances import pairs
from eqpot.data.fault import Fault
from eqpot.data.leverage import robust_scale

SHORT: Final = 0.65
"""A distance is short below this share of the sum of covalent radii ..."""
LONELY: Final = 2.0
"""... and an atom lonely when its nearest neighbour is farther than this many times the sum ..."""
CUT: Final = 8.0
"""... and the frame this many robust standard deviations of the logarithm from the others."""
LEAST_SPREAD: Final = 0.02
"""Least robust standard deviation of the logarithm that is believed."""
LEAST_FRAMES: Final = 20
"""Frames with the pair of elements that are needed to know what is usual."""
REACH: Final = 4.0
"""Neighbours are looked for within this distance [Å]."""


def distance_faults(dataset: Dataset) -> list[Fault]:
    """Frames with a pair of atoms too close, or an atom too far from all others, for this set."""
    from ase.data import covalent_radii

    shortest: dict[int, list[tuple[int, float]]] = defaultdict(list)
    lonely: list[tuple[int, float]] = []
    for k, frame in enumerate(dataset):
        if is_isolated_atom(frame):
            continue
        numbers = frame.structure.numbers
        i, j, _, distance = pairs(frame.structure, REACH)
        relative = distance / (covalent_radii[numbers[i]] + covalent_radii[numbers[j]])
        nearest = np.full(len(frame), REACH / (2 * covalent_radii[numbers].min()))
        np.minimum.at(nearest, i, relative)
        lonely.append((k, float(nearest.max())))
        code = np.minimum(numbers[i], numbers[j]) * 1000 + np.maximum(numbers[i], numbers[j])
        for c in np.unique(code):
            shortest[int(c)].append((k, float(relative[code == c].min())))
    faults = [fault for code, found in shortest.items() for fault in _short(found, *divmod(code, 1000))]
    return faults + [
        Fault(k, "detached", f"an atom has no neighbour within {value:.2f} times the sum of covalent radii", score, {"relative": value})
        for k, value, score in _unusual(lonely, 1.0)
        if value > LONELY
    ]


def _short(found: list[tuple[int, float]], a: int, b: int) -> list[Fault]:
    from ase.data import covalent_radii

    total, pair = float(covalent_radii[a] + covalent_radii[b]), f"{symbol(a)}-{symbol(b)}"
    usual = total * float(np.median([value for _, value in found]))
    return [
        Fault(
            k,
            "distance",
            f"shortest {pair} distance is {value * total:.3g} Å, usual in this set is {usual:.3g} Å",
            score,
            {"distance": value * total, "usual": usual},
        )
        for k, value, score in _unusual(found, -1.0)
        if value < SHORT
    ]


def _unusual(found: list[tuple[int, float]], sign: float) -> list[tuple[int, float, float]]:
    """Frame, value and score of those far above (sign 1) or below (−1) the others."""
    if len(found) < LEAST_FRAMES:
        return []
    logarithm = np.log([max(value, 1e-6) for _, value in found])
    centred = sign * (logarithm - np.median(logarithm))
    score = centred / max(robust_scale(centred), LEAST_SPREAD)
    return [(*found[n], float(score[n])) for n in np.flatnonzero(score > CUT)]
