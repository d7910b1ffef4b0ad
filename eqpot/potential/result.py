"""What a potential says about one structure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqpot.graph import Host


@dataclass(frozen=True, eq=False)
class Result:
    """Prediction for one structure; the standard deviations are over members (zero for a single one).

    Attributes:
        energy: total energy including reference energies [eV].
        forces: [atoms, 3] in eV/Å.
        stress: [3, 3] in eV/Å³, tension positive; None unless all directions are periodic, and for direct forces.
        energy_std: [eV].
        forces_std: per component, [atoms, 3] in eV/Å.
        member_energies: [members] in eV.
        member_forces: [members, atoms, 3] in eV/Å.
        atom_energies: mean over members, reference energies included, [atoms] in eV.

    Of a model that was configured for them, else None:
        energy_noise: standard deviation of the labels themselves that the members predict (root of the mean variance); `energy_std` is not in it [eV].
        forces_noise: the same for a force component of each atom, [atoms] in eV/Å.
        charges: partial charges, mean over members, [atoms] in e.
        dipole: Σ q r, mean over members, [3] in e·Å; None also where any direction is periodic. For a net charge it depends on the origin.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    energy_std: float
    forces_std: np.ndarray
    member_energies: np.ndarray
    member_forces: np.ndarray
    atom_energies: np.ndarray
    energy_noise: float | None = None
    forces_noise: np.ndarray | None = None
    charges: np.ndarray | None = None
    dipole: np.ndarray | None = None

    @property
    def atom_std(self) -> np.ndarray:
        """Uncertainty of each atom's force vector, √Σ_xyz σ² [eV/Å], [atoms]."""
        return np.sqrt((self.forces_std**2).sum(-1))


def split(hosts: Sequence[Host], arrays: Any, references: Sequence[np.ndarray]) -> list[Result]:
    """Cut a padded prediction of all members into results per structure; sums and means in float64.

    Args:
        hosts: the structures of the batch.
        arrays: `Prediction` with a leading member axis, of NumPy arrays.
        references: reference energies of the atoms of each structure [eV].
    """
    results, first = [], 0
    for g, (host, reference) in enumerate(zip(hosts, references, strict=True)):
        rows = slice(first, first + len(host))
        first += len(host)
        atom_energies, forces = (x[:, rows].astype(np.float64) for x in (arrays.atom_energy, arrays.forces))
        energies = atom_energies.sum(1)
        stress = arrays.stress if host.structure.pbc.all() else None
        dipole = None if host.structure.pbc.any() else arrays.dipole
        results.append(
            Result(
                energy=float(energies.mean()) + float(reference.sum()),
                forces=forces.mean(0),
                stress=_mean(stress, g),
                energy_std=_std(energies),
                forces_std=_std(forces),
                member_energies=energies + reference.sum(),
                member_forces=forces,
                atom_energies=atom_energies.mean(0) + reference,
                energy_noise=None if arrays.energy_noise is None else float(_noise(arrays.energy_noise, g)),
                forces_noise=None if arrays.force_noise is None else _noise(arrays.force_noise, rows),
                charges=_mean(arrays.charges, rows),
                dipole=_mean(dipole, g),
            )
        )
    return results


def _mean(values: np.ndarray | None, at: int | slice) -> np.ndarray | None:
    """Mean over members of what belongs to a structure, if there is any."""
    return None if values is None else values[:, at].astype(np.float64).mean(0)


def _noise(values: np.ndarray, at: int | slice) -> Any:
    """Root of the mean variance over members."""
    return np.sqrt((values[:, at].astype(np.float64) ** 2).mean(0))


def _std(values: np.ndarray) -> Any:
    """Standard deviation over members with n − 1, zero for a single member."""
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
    return float(spread) if spread.ndim == 0 else spread
