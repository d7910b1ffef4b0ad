"""What a model says besides energies and forces: charges that sum to the total charge, a dipole that turns, noise that is noise in every frame.

Direct forces need no law of their own: all that is asked of forces but that they be derivatives is asked of them too, rotation first.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eqpot.graph import Structure
from eqpot.testing.samples import moved
from eqpot.testing.subject import Subject, largest
from eqpot.testing.symmetry import random_rotation

CHARGES = (0.0, 1.0, -2.0)
"""Total charges that are tried [e]."""
SHIFT = np.array([0.7, -1.3, 12.0])
"""How far charged molecules are moved [Å]."""


def _turned(structures: Sequence[Structure], matrix: np.ndarray) -> list[Structure]:
    return [moved(s, s.positions @ matrix.T, s.cell @ matrix.T) for s in structures]


def charges(subject: Subject, structures: Sequence[Structure]) -> float:
    """Σ_i q_i = Q, and q_i(Rx) = q_i(x) for a rotation with inversion."""
    matrix, worst, size = -random_rotation(np.random.default_rng(7)), 0.0, 1.0
    for total in CHARGES:
        charged = [replace(s, charge=total) for s in structures]
        before, after = subject(charged), subject(_turned(charged, matrix))
        worst = largest(
            worst, *(o.charges.sum() - total for o in before), *(a.charges - b.charges for a, b in zip(after, before, strict=True))
        )
        size = largest(size, *(o.charges for o in before))
    return subject.hold("charges", worst / size, "charges must sum to the total charge, and not depend on the frame")


def dipole(subject: Subject, structures: Sequence[Structure]) -> float:
    """D(Rx) = R D(x) for a rotation with inversion and D(x + t) = D(x) + Q t, of structures without periodicity."""
    matrix, worst, size = -random_rotation(np.random.default_rng(8)), 0.0, 0.0
    molecules = [s for s in structures if not s.pbc.any()]
    for total in CHARGES:
        charged = [replace(s, charge=total) for s in molecules]
        before, turned, away = (subject(x) for x in (charged, _turned(charged, matrix), [moved(s, s.positions + SHIFT) for s in charged]))
        for a, b, c in zip(before, turned, away, strict=True):
            worst = largest(worst, b.dipole - matrix @ a.dipole, c.dipole - a.dipole - total * SHIFT)
            size = largest(size, a.dipole, c.dipole)
    return subject.hold("dipole", worst / (size or 1.0), "the dipole must be Σ q r with the positions as they were given")


def noise(subject: Subject, structures: Sequence[Structure]) -> float:
    """σ > 0, and σ(Rx) = σ(x) for a rotation with inversion."""
    matrix = -random_rotation(np.random.default_rng(9))
    before, after = subject(structures), subject(_turned(structures, matrix))
    values = [np.append(o.force_noise, o.energy_noise) for o in before]
    others = [np.append(o.force_noise, o.energy_noise) for o in after]
    if not all((v > 0).all() for v in values):
        return subject.hold("noise", float("nan"), "a standard deviation must be above zero")
    worst = largest(*((a - b) / np.abs(b) for a, b in zip(others, values, strict=True)))
    return subject.hold("noise", worst, "the noise of a label must not depend on the frame")
