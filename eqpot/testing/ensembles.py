"""What holds for a whole potential: its file, its members, its spread, its heads, its reference energies, its ASE calculator."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from eqpot.graph import Structure
from eqpot.potential import Potential, Result
from eqpot.testing.samples import alone
from eqpot.testing.subject import largest
from eqpot.testing.tolerances import TOLERANCES


def _hold(potential: Potential, law: str, measured: float, hint: str) -> float:
    bound = TOLERANCES[law].bound(potential.dtype)
    if bound is not None and not measured <= bound:
        raise AssertionError(f"{law}: measured {measured:.3g}, expected at most {bound:.3g} in {potential.dtype}; {hint}")
    return float(measured)


def _size(*values: np.ndarray | float) -> float:
    """What errors are relative to: the largest magnitude, never zero."""
    return largest(*values) or 1.0


def _mismatch(found: Sequence[Result], expected: Sequence[Result]) -> float:
    """Largest difference of energies per atom and forces, relative to the largest of each."""
    energy, force = _size(*(r.energy / len(r.forces) for r in expected)), _size(*(r.forces for r in expected))
    pairs = zip(found, expected, strict=True)
    return largest(*(x for a, b in pairs for x in ((a.energy - b.energy) / len(b.forces) / energy, (a.forces - b.forces) / force)))


def archive(potential: Potential, structures: Sequence[Structure]) -> float:
    """Saved and loaded: number of parameters that differ in any bit, and the difference of predictions."""
    with tempfile.TemporaryDirectory() as folder:
        again = Potential.load(potential.save(Path(folder) / "potential.safetensors"))
    assert (again.spec, again.reference_energies, again.dtype) == (potential.spec, potential.reference_energies, potential.dtype), (
        "archive: specification, reference energies or precision did not survive"
    )
    pairs = zip(jax.tree.leaves(again.params), jax.tree.leaves(potential.params), strict=True)
    changed = sum(int(np.sum(np.asarray(a) != np.asarray(b))) for a, b in pairs)
    predicted = _mismatch(again.predict(list(structures)), potential.predict(list(structures)))
    return _hold(potential, "archive", changed + predicted, "the file must hold the potential bit by bit")


def member(potential: Potential, structures: Sequence[Structure]) -> float:
    """Member i of the ensemble is that member alone."""
    together, worst = potential.predict(list(structures)), 0.0
    for i in range(potential.n_members):
        solo = potential.member(i).predict(list(structures))
        for a, b in zip(solo, together, strict=True):
            worst = largest(worst, (a.forces - b.member_forces[i]) / _size(b.member_forces))
            worst = largest(worst, (a.energy - b.member_energies[i]) / _size(b.member_energies))
    return _hold(potential, "member", worst, "members of an ensemble must not see each other")


def spread(potential: Potential, structures: Sequence[Structure]) -> float:
    """Mean and standard deviation are those of the members, with n − 1."""
    worst = 0.0
    for r in potential.predict(list(structures)):
        ddof = int(potential.n_members > 1)
        force, energy = _size(r.member_forces), _size(r.member_energies)
        worst = largest(worst, (r.forces - r.member_forces.mean(0)) / force, (r.energy - r.member_energies.mean()) / energy)
        worst = largest(worst, (r.forces_spread - r.member_forces.std(0, ddof=ddof)) / force)
        worst = largest(worst, (r.energy_spread - r.member_energies.std(ddof=ddof)) / energy)
    return _hold(potential, "spread", worst, "the uncertainty is not that of the members")


def heads(potential: Potential, structures: Sequence[Structure]) -> float:
    """A level of theory alone is what it is among others."""
    worst = 0.0
    for name in potential.heads:
        worst = largest(worst, _mismatch(potential.only(name).predict(list(structures)), potential.predict(list(structures), name)))
    return _hold(potential, "heads", worst, "a structure must be predicted by the columns of its own head, and by no other")


def reference(potential: Potential) -> float:
    """An atom alone has its reference energy, no force and no uncertainty."""
    worst, atoms = 0.0, [(head, element) for head in potential.heads or (None,) for element in potential.elements]
    for (head, element), expected in zip(atoms, potential.reference_energies, strict=True):
        r = potential.predict(alone(element), head)
        worst = largest(worst, (r.energy - expected) / _size(expected), r.forces, r.energy_spread)
    return _hold(potential, "reference", worst, "reference energies must be added once, in float64")


def calculator(potential: Potential, structures: Sequence[Structure]) -> float:
    """ASE's calculator gives what `predict` gives."""
    worst, door = 0.0, potential.calculator(allow_direct_forces=True)
    for structure in structures:
        atoms, r = structure.to_atoms(), potential.predict(structure)
        atoms.calc = door
        worst = largest(worst, (atoms.get_potential_energy() - r.energy) / _size(r.energy))
        worst = largest(worst, (atoms.get_forces() - r.forces) / _size(r.forces))
        if r.stress is not None:
            worst = largest(worst, (atoms.get_stress(voigt=False) - r.stress) / _size(r.stress))
    return _hold(potential, "calculator", worst, "the calculator must show the same numbers, in ASE's order and sign")
