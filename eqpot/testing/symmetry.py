"""What must not change, or change with the frame, when the same atoms are looked at otherwise."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eqpot.graph import Structure
from eqpot.testing.samples import moved
from eqpot.testing.subject import Output, Subject, largest


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation matrix, uniform on SO(3)."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def _under(subject: Subject, structures: Sequence[Structure], matrix: np.ndarray, law: str) -> float:
    """E(Rx) = E(x), F(Rx) = R F(x), σ(Rx) = R σ(x) Rᵀ."""
    before = subject(structures)
    after = subject([moved(s, s.positions @ matrix.T, s.cell @ matrix.T) for s in structures])
    expected = [Output(o.atom_energy, o.forces @ matrix.T, None if o.stress is None else matrix @ o.stress @ matrix.T) for o in before]
    return subject.hold(law, subject.mismatch(after, expected), "energy, forces and stress must turn with the structure")


def rotation(subject: Subject, structures: Sequence[Structure], n: int = 3) -> float:
    """Random rotations."""
    rng = np.random.default_rng(1)
    return largest(*(_under(subject, structures, random_rotation(rng), "rotation") for _ in range(n)))


def inversion(subject: Subject, structures: Sequence[Structure]) -> float:
    """The inversion, and a mirror in a random plane."""
    mirror = -random_rotation(np.random.default_rng(2))
    return largest(*(_under(subject, structures, matrix, "inversion") for matrix in (-np.eye(3), mirror)))


def translation(subject: Subject, structures: Sequence[Structure], distance: float = 1000.0) -> float:
    """A small shift that carries atoms through cell faces, and one by `distance` [Å]."""
    before, worst = subject(structures), 0.0
    for shift in (np.array([0.71, -1.3, 0.4]), np.array([distance, -distance / 3, distance / 7])):
        after = subject([moved(s, s.positions + shift) for s in structures])
        worst = largest(worst, subject.mismatch(after, before))
    return subject.hold("translation", worst, "only differences of positions may matter")


def permutation(subject: Subject, structures: Sequence[Structure]) -> float:
    """Atoms in another order."""
    rng = np.random.default_rng(3)
    orders = [rng.permutation(len(s)) for s in structures]
    after = subject([replace(s, numbers=s.numbers[o], positions=s.positions[o]) for s, o in zip(structures, orders, strict=True)])
    expected = [Output(b.atom_energy[o], b.forces[o], b.stress) for b, o in zip(subject(structures), orders, strict=True)]
    return subject.hold("permutation", subject.mismatch(after, expected), "the order of atoms may not matter")


def net_force(subject: Subject, structures: Sequence[Structure]) -> float:
    """Σ_i F_i = 0."""
    outputs = subject(structures)
    worst = largest(*(o.forces.sum(0) for o in outputs)) / subject.scale(outputs).force
    return subject.hold("net_force", worst, "the energy must depend on differences of positions only")


def stress_symmetry(subject: Subject, structures: Sequence[Structure]) -> float:
    """σ = σᵀ, the other face of rotational invariance."""
    outputs = subject(structures)
    worst = largest(*(o.stress - o.stress.T for o in outputs if o.stress is not None))
    return subject.hold("stress_symmetry", worst / subject.scale(outputs).stress, "the stress must be symmetric")
