"""What a potential says about one structure."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Result:
    """Prediction for one structure; the standard deviations are over members (zero for a single one).

    Attributes:
        energy: total energy including reference energies [eV].
        forces: [atoms, 3] in eV/Å.
        stress: [3, 3] in eV/Å³, tension positive; None unless all directions are periodic.
        energy_std: [eV].
        forces_std: per component, [atoms, 3] in eV/Å.
        member_energies: [members] in eV.
        member_forces: [members, atoms, 3] in eV/Å.
        atom_energies: mean over members, reference energies included, [atoms] in eV.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    energy_std: float
    forces_std: np.ndarray
    member_energies: np.ndarray
    member_forces: np.ndarray
    atom_energies: np.ndarray

    @property
    def atom_std(self) -> np.ndarray:
        """Uncertainty of each atom's force vector, √Σ_xyz σ² [eV/Å], [atoms]."""
        return np.sqrt((self.forces_std**2).sum(-1))
