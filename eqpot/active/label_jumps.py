"""Energies that cannot belong to the same potential energy surface as the others."""

from collections.abc import Iterable

import numpy as np

from eqpot.active.label_record import Entry

FEWEST = 3
"""Fewer labels than this of one composition cannot tell which of them is wrong."""


def energy_jumps(entries: Iterable[Entry], limit: float) -> dict[int, str]:
    """The reason for each label (by `id`) with |E/n − median(E/n)| above the limit, among labels of equal elements, numbers and charge.

    A calculation that converged to another electronic state, or did not converge and did not say so, passes every check that looks
    at one label alone.

    Args:
        entries: all that is known at one level of theory.
        limit: [eV/atom].
    """
    groups: dict[tuple[bytes, float], list[tuple[Entry, float]]] = {}
    for entry in entries:
        if entry.labels is not None and entry.labels.energy is not None:
            composition = np.sort(entry.structure.numbers).tobytes(), entry.structure.charge
            groups.setdefault(composition, []).append((entry, entry.labels.energy / len(entry.structure)))
    found = {}
    for members in groups.values():
        median = float(np.median([energy for _, energy in members]))
        for entry, energy in members:
            if len(members) >= FEWEST and abs(energy - median) > limit:
                others = f"the median of {len(members)} labels of {entry.structure.formula}"
                found[id(entry)] = f"energy is {energy - median:+.4g} eV/atom from {others}, above the limit of {limit:g}"
    return found
