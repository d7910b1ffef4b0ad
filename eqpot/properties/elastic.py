"""The crystal at rest and how stiff it is: lattice parameters and elastic constants, with what the ensemble doubts of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from eqpot.core.errors import EqpotError
from eqpot.core.units import EV_PER_A3_TO_GPA
from eqpot.graph import Structure
from eqpot.md import relax, relax_many
from eqpot.potential import Potential

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Components of a symmetric tensor in the order of Voigt: xx, yy, zz, yz, xz, xy."""


@dataclass(frozen=True, eq=False)
class ElasticConstants:
    """A crystal at the minimum of its energy, and its stiffness.

    Attributes:
        structure: atoms and cell at rest (or under the pressure that was asked for).
        lattice: lengths a, b, c [Å] and angles α, β, γ [°].
        lattice_std: standard deviation over members of where each would rest, to first order in its own stress.
        stiffness_GPa: C_ij = ∂σ_i/∂ε_j in Voigt's order xx, yy, zz, yz, xz, xy with engineering shears (γ = 2ε) [GPa], mean over members, made symmetric.
        stiffness_std_GPa: its standard deviation over members [GPa]; zero for a single one.
        asymmetry_GPa: largest |C_ij − C_ji| before that: rounding, and what the atoms had not relaxed.
        strained: the strained structures, each relaxed in its cell: positive and negative for each of the six strains.
    """

    structure: Structure
    lattice: Float[np.ndarray, " 6"]
    lattice_std: Float[np.ndarray, " 6"]
    stiffness_GPa: Float[np.ndarray, "6 6"]
    stiffness_std_GPa: Float[np.ndarray, "6 6"]
    asymmetry_GPa: float
    strained: tuple[Structure, ...]

    @property
    def bulk_modulus_GPa(self) -> float:
        """K after Voigt: the mean of the upper left block of C [GPa]; exact for cubic crystals."""
        return float(self.stiffness_GPa[:3, :3].mean())

    @property
    def shear_modulus_GPa(self) -> float:
        """G after Voigt, (C₁₁ + C₂₂ + C₃₃ − C₁₂ − C₂₃ − C₁₃ + 3 (C₄₄ + C₅₅ + C₆₆)) / 15 [GPa]."""
        c = self.stiffness_GPa
        return float((np.trace(c[:3, :3]) - c[0, 1] - c[1, 2] - c[0, 2] + 3 * np.trace(c[3:, 3:])) / 15)

    @property
    def stable(self) -> bool:
        """Whether every small strain costs energy: all eigenvalues of C are positive (M. Born; at zero pressure)."""
        return bool(np.linalg.eigvalsh(self.stiffness_GPa).min() > 0)


def elastic_constants(
    potential: Potential,
    atoms: Any,
    *,
    strain: float = 0.005,
    pressure_GPa: float = 0.0,
    force_tolerance: float = 1e-3,
    max_steps: int = 1000,
) -> ElasticConstants:
    """Relax a crystal, strain it in six ways, let the atoms follow, and read its elastic constants from the stress.

    C_ij = (σ_i(+ε_j) − σ_i(−ε_j)) / 2ε_j, whose error is of second order in ε. Members differ in their stresses, at positions that the mean relaxed.

    Args:
        potential: an `eqpot.Potential`, at its first level of theory (`potential.only(head)` chooses another).
        atoms: an `ase.Atoms` or a `Structure` that is periodic in all directions.
        strain: ε; for a shear, γ.
        pressure_GPa: at which the crystal rests [GPa]; other than zero, C_ij are stress–strain coefficients.
        force_tolerance: of all relaxations [eV/Å].
        max_steps: of each of them.

    Raises:
        EqpotError: for a structure that is not periodic in all directions, a strain that is not between 0 and 0.1, or a crystal that does not come to rest.
        SimulationError, StructureError: as `eqpot.md.relax`.

    References: R. Golesorkhtabar et al., Comput. Phys. Commun. 184, 1861 (2013), section 2; D. C. Wallace, Thermodynamics of Crystals (1972).
    """
    if not 0 < strain < 0.1:
        raise EqpotError(f"strain: found {strain!r}, expected a number between 0 and 0.1")
    start = atoms if isinstance(atoms, Structure) else Structure.from_atoms(atoms)
    if not start.pbc.all():
        raise EqpotError(f"elastic constants are those of crystals: found periodicity {start.pbc.tolist()}, expected all true")
    precision = "float64" if potential.dtype == "float64" else "mixed"
    options: dict[str, Any] = {"force_tolerance": force_tolerance, "max_steps": max_steps, "precision": precision}
    found = relax(potential, start, cell="flexible", pressure_GPa=pressure_GPa, stress_tolerance_GPa=0.01, **options)
    if not found.converged:
        raise EqpotError(
            f"{start.formula}: did not come to rest in {max_steps} steps (force {found.max_force:.3g} eV/Å, stress {found.max_stress_GPa:.3g} GPa)"
        )
    rest = _with_cell(start, found.atoms.positions, found.atoms.cell.array)
    bent = [_deformed(rest, sign * strain, k) for k in range(6) for sign in (1, -1)]
    relaxed = relax_many(potential, bent, **options)
    if unsettled := [r.max_force for r in relaxed if not r.converged]:
        raise EqpotError(
            f"{start.formula}: {len(unsettled)} of {len(bent)} strained structures did not come to rest in {max_steps} steps (force {max(unsettled):.3g} eV/Å)"
        )
    strained = tuple(_with_cell(s, r.atoms.positions, s.cell) for s, r in zip(bent, relaxed, strict=True))
    at_rest, *answers = potential.predict([rest, *strained])
    stress = EV_PER_A3_TO_GPA * np.array([_voigt(answer.member_stress) for answer in answers])  # [6 · 2, members, 6]
    stiffness = ((stress[::2] - stress[1::2]) / (2 * strain)).transpose(1, 2, 0)  # [members, i, j]
    mean = stiffness.mean(0)
    lattice, lattice_std = _lattice(rest.cell), np.zeros(6)
    if potential.n_members > 1:
        excess = EV_PER_A3_TO_GPA * _voigt(at_rest.member_stress - at_rest.stress)
        own = -np.linalg.solve(mean, excess.T).T  # the strain that brings each member to rest
        lattice_std = np.std([_lattice(rest.cell @ (np.eye(3) + _tensor(e))) for e in own], axis=0, ddof=1)
    std = stiffness.std(0, ddof=1) if potential.n_members > 1 else np.zeros((6, 6))
    asymmetry = float(np.abs(mean - mean.T).max())
    return ElasticConstants(rest, lattice, lattice_std, (mean + mean.T) / 2, (std + std.T) / 2, asymmetry, strained)


def _with_cell(structure: Structure, positions: Any, cell: Any) -> Structure:
    return Structure(structure.numbers, np.array(positions), np.array(cell), structure.pbc, structure.charge)


def _deformed(structure: Structure, strain: float, component: int) -> Structure:
    """Cell and positions under x → x (1 + ε)."""
    deformation = np.eye(3) + _tensor(strain * np.eye(6)[component])
    return _with_cell(structure, structure.positions @ deformation, structure.cell @ deformation)


def _tensor(strain: Float[np.ndarray, " 6"]) -> Float[np.ndarray, "3 3"]:
    """ε of six components, of which the last three are engineering shears."""
    xx, yy, zz, yz, xz, xy = strain
    return np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])


def _voigt(tensor: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 6"]:
    return np.stack([tensor[..., i, j] for i, j in VOIGT], -1)


def _lattice(cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 6"]:
    lengths = np.linalg.norm(cell, axis=1)
    cosines = [cell[i] @ cell[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    return np.array([*lengths, *np.degrees(np.arccos(cosines))])
