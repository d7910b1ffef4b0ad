"""Smoothness at the cutoff, and what distance must do: nothing from afar, sums of parts, multiples of cells."""

from collections.abc import Sequence

import numpy as np

from eqpot.core.elements import atomic_number
from eqpot.graph import Structure
from eqpot.testing.samples import alone, moved, primitive, repeat
from eqpot.testing.subject import Output, Scale, Subject, largest


def _crossing(subject: Subject, distances: Sequence[float] | np.ndarray) -> list[list[Output]]:
    """An atom at some distances from another, alone and with a third atom in reach of both."""
    a, b = (atomic_number(subject.spec.elements[k]) for k in (0, -1))
    middle = subject.cutoff * np.array([0.5, 0.3, 0.1])
    pairs = [Structure([a, b], [[0, 0, 0], [d, 0, 0]]) for d in distances]
    triples = [Structure([a, b, a], [[0, 0, 0], [d, 0, 0], middle]) for d in distances]
    return [subject(pairs), subject(triples)]


def _near(subject: Subject) -> Scale:
    """Energies and forces of the same atoms well inside the cutoff, which errors at the cutoff are relative to."""
    return subject.scale([o for outputs in _crossing(subject, [0.6 * subject.cutoff]) for o in outputs])


def cutoff_energy(subject: Subject, step: float = 1e-6) -> float:
    """E(r_c − h) − 2 E(r_c) + E(r_c + h) = 0: no jump of the energy."""
    worst = 0.0
    for outputs in _crossing(subject, subject.cutoff + step * np.array([-1.0, 0.0, 1.0])):
        inside, on, outside = (o.energy for o in outputs)
        worst = largest(worst, (inside - 2 * on + outside) / _near(subject).energy)
    return subject.hold("cutoff_energy", worst, "the energy must be continuous where a pair crosses the cutoff")


def cutoff_force(subject: Subject, step: float = 1e-6) -> float:
    """The same for the forces."""
    worst = 0.0
    for outputs in _crossing(subject, subject.cutoff + step * np.array([-1.0, 0.0, 1.0])):
        inside, on, outside = (o.forces for o in outputs)
        worst = largest(worst, (inside - 2 * on + outside) / _near(subject).force)
    return subject.hold("cutoff_force", worst, "the forces must be continuous where a pair crosses the cutoff")


def cutoff_slope(subject: Subject, step: float = 1e-5) -> float:
    """The slope of the force just inside and just outside the cutoff, relative to F/r_c of the same atoms well inside."""
    worst = 0.0
    coarse, fine = (_slope_jumps(subject, h) for h in (step, step / 2))
    for at_step, at_half in zip(coarse, fine, strict=True):
        worst = largest(worst, 2 * at_half - at_step)  # the part proportional to the step is curvature, not a jump
    worst *= subject.cutoff / _near(subject).force
    return subject.hold("cutoff_slope", worst, "the force derivatives must be continuous at the cutoff: a higher envelope order is needed")


def _slope_jumps(subject: Subject, step: float) -> list[np.ndarray]:
    """One-sided difference quotients of the forces outside minus inside, for the pair and the triple."""
    jumps = []
    for outputs in _crossing(subject, subject.cutoff + step * np.array([-2.0, -1.0, 1.0, 2.0])):
        far_in, near_in, near_out, far_out = (o.forces for o in outputs)
        jumps.append((far_out - near_out - near_in + far_in) / step)
    return jumps


def work(subject: Subject) -> float:
    """∫ F·dr along a path from half the cutoff to beyond it equals the loss of energy: no jump hides anywhere between."""
    rc, total = subject.cutoff, np.zeros(2)
    for start, stop, n in ((0.45 * rc, rc, 32), (rc, 1.1 * rc, 8)):
        nodes, weights = np.polynomial.legendre.leggauss(n)
        grid = (start + stop) / 2 + (stop - start) / 2 * nodes
        along = np.array([[o.forces[1, 0] for o in outputs] for outputs in _crossing(subject, grid)])
        total += along @ weights * (stop - start) / 2
    ends = np.array([[o.energy for o in outputs] for outputs in _crossing(subject, [0.45 * rc, 1.1 * rc])])
    worst = largest(total - (ends[:, 0] - ends[:, 1])) / _near(subject).energy
    return subject.hold("work", worst, "the energy jumps, or the forces are not its gradient, somewhere between r_c/2 and r_c")


def fragments(subject: Subject, structures: Sequence[Structure]) -> float:
    """Two molecules beyond each other's reach have the sum of their energies and their own forces."""
    molecules = [s for s in structures if not s.pbc.any()]
    worst = 0.0
    for s in molecules:
        shift = np.ptp(s.positions, axis=0) + subject.reach + 0.01
        both = Structure(np.tile(s.numbers, 2), np.concatenate([s.positions, s.positions[::-1] * [1, 1, -1] + shift * [1, 0, 0]]))
        first, second = (Structure(s.numbers, both.positions[rows]) for rows in (slice(len(s)), slice(len(s), None)))
        one, two, joint = subject([first, second, both])
        expected = Output(np.concatenate([one.atom_energy, two.atom_energy]), np.concatenate([one.forces, two.forces]), None)
        worst = largest(worst, subject.mismatch([joint], [expected]))
    return subject.hold("fragments", worst, "energies of separate fragments must add")


def reach(subject: Subject) -> float:
    """The energy of an atom at the end of a chain does not know what happens beyond the receptive field."""
    step = 0.45 * subject.cutoff
    n = int(subject.reach / step) + 4
    numbers = [atomic_number(subject.spec.elements[k % len(subject.spec.elements)]) for k in range(n)]
    chain = Structure(numbers, np.arange(n)[:, None] * [step, 0.1 * step, 0.0])
    far = np.linalg.norm(chain.positions - chain.positions[0], axis=1) > subject.reach + 0.2 * step
    elsewhere = moved(chain, chain.positions + far[:, None] * [0.0, 0.15, 0.1] * subject.cutoff)
    before, after = subject([chain, elsewhere])
    worst = largest(after.atom_energy[0] - before.atom_energy[0]) / subject.scale([before]).energy
    return subject.hold("reach", worst, "an atom outside the receptive field changed an energy")


def isolated_atom(subject: Subject) -> float:
    """An atom alone, also in a large periodic cell, has exactly no energy beyond its reference, no force and no stress."""
    elements = subject.spec.elements
    lonely = [alone(e) for e in elements] + [alone(e, 3 * subject.cutoff) for e in elements]
    outputs = subject(lonely)
    worst = largest(*(x for o in outputs for x in (o.atom_energy, o.forces, o.stress) if x is not None))
    return subject.hold("isolated_atom", worst, "a term does not vanish without neighbours (a bias, or a self-connection)")


def extensivity(subject: Subject, structures: Sequence[Structure]) -> float:
    """n copies of a cell have n times its energy, its forces and its stress; also for cells of one atom."""
    worst = 0.0
    cells = primitive(subject.spec.elements, subject.cutoff) + [s for s in structures if s.pbc.all()]
    for k, cell in enumerate(cells):
        counts = ((2, 2, 2), (3, 1, 2), (1, 2, 1))[min(k, 2)]
        n = int(np.prod(counts))
        one, many = subject([cell])[0], subject([repeat(cell, counts)])[0]
        expected = Output(np.tile(one.atom_energy, n), np.tile(one.forces, (n, 1)), one.stress)
        worst = largest(worst, subject.mismatch([many], [expected]))
    return subject.hold("extensivity", worst, "images of atoms in small cells are not all counted, or counted twice")
