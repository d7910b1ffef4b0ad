"""What a potential says about one structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import EqpotError
from eqpot.graph import Host
from eqpot.potential.calibration import Calibration
from eqpot.potential.domain import doubt
from eqpot.potential.trust import Trust


@dataclass(frozen=True, eq=False)
class Interval:
    """Where the truth lies with a probability of `level`, for structures like those of the calibration; of each number by itself.

    Attributes:
        level: coverage, between 0 and 1.
        energy: lowest and highest energy [eV]; None if energies were not calibrated.
        forces: lowest and highest force components, [2, atoms, 3] in eV/Å; None if forces were not calibrated.
        force_radius: length of the force error of an atom that is not exceeded, [atoms] in eV/Å.
        stress: lowest and highest stress components, [2, 3, 3] in eV/Å³; None if there is no stress, or it was not calibrated.
    """

    level: float
    energy: tuple[float, float] | None
    forces: np.ndarray | None
    force_radius: np.ndarray | None
    stress: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Result:
    """Prediction for one structure.

    A standard deviation `*_std` is the one to believe: the spread of the members (or of the last layer) and the predicted noise of labels together,
    σ² = spread² + noise², and through the calibration if the potential has one. It is zero for a single member with none of these.

    Attributes:
        energy: total energy including reference energies [eV].
        forces: [atoms, 3] in eV/Å.
        stress: [3, 3] in eV/Å³, tension positive; None unless all directions are periodic, and for direct forces.
        energy_std: [eV].
        forces_std: per component, [atoms, 3] in eV/Å.
        stress_std: per component, [3, 3] in eV/Å³; None without a stress, and where only a last layer knows of doubt.
        energy_spread, forces_spread: the part of it that more data would make smaller (epistemic), not calibrated; units and shapes as above.
        member_energies: [members] in eV.
        member_forces: [members, atoms, 3] in eV/Å.
        member_stress: [members, 3, 3] in eV/Å³; None as `stress`.
        atom_energies: mean over members, reference energies included, [atoms] in eV.
        numbers: atomic numbers, [atoms].

    Where the potential knows them, else None:
        energy_noise: standard deviation of the labels themselves (aleatoric), not calibrated; root of the mean variance of the members [eV].
        forces_noise: the same for a force component of each atom, [atoms] in eV/Å.
        charges: partial charges, mean over members, [atoms] in e.
        dipole: Σ q r, mean over members, [3] in e·Å; None also where any direction is periodic. For a net charge it depends on the origin.
        novelty: how far the surroundings of each atom are from what was seen; above one they are outside of the domain, [atoms].
        sigma_limit: σ of each atom at which `doubt` is one, calibrated as `atom_std` is, [atoms] in eV/Å.
        calibration: what was applied to the standard deviations.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    energy_std: float
    forces_std: np.ndarray
    stress_std: np.ndarray | None
    energy_spread: float
    forces_spread: np.ndarray
    member_energies: np.ndarray
    member_forces: np.ndarray
    member_stress: np.ndarray | None
    atom_energies: np.ndarray
    numbers: np.ndarray
    energy_noise: float | None = None
    forces_noise: np.ndarray | None = None
    charges: np.ndarray | None = None
    dipole: np.ndarray | None = None
    novelty: np.ndarray | None = None
    sigma_limit: np.ndarray | None = None
    calibration: Calibration | None = None

    @property
    def atom_std(self) -> np.ndarray:
        """Uncertainty of each atom's force vector, √Σ_xyz σ² [eV/Å], [atoms]."""
        return np.sqrt((self.forces_std**2).sum(-1))

    @property
    def calibrated(self) -> bool:
        """Whether the standard deviations went through a calibration that stood its own test."""
        return self.calibration is not None and self.calibration.calibrated

    @property
    def known(self) -> bool | None:
        """Whether every atom lies inside the domain of the potential; None when the potential has no domain."""
        return None if self.novelty is None else bool((self.novelty <= 1).all())

    @property
    def doubt(self) -> np.ndarray | None:
        """Composite of novelty and σ for each atom, √(½(novelty² + (σ/σ_limit)²)), one at the edge of what was seen; None without a domain."""
        return None if self.novelty is None else doubt(self.novelty, self.atom_std, self.sigma_limit)

    @property
    def structure_doubt(self) -> float | None:
        """Root mean square of `doubt` over the atoms; None without a domain."""
        return None if self.doubt is None else float(np.sqrt((self.doubt**2).mean()))

    @cached_property
    def symbols(self) -> list[str]:
        """Chemical symbols of the atoms."""
        return [symbol(int(z)) for z in self.numbers]

    def interval(self, level: float) -> Interval:
        """Where the truth lies with this probability: split-conformal intervals, which hold for structures drawn like those of the calibration.

        Raises:
            EqpotError: without a calibration, or for a level that its structures cannot vouch for.
        """
        if self.calibration is None:
            raise EqpotError("interval: this potential is not calibrated; see eqpot calibrate, or eqpot.calibrate(potential, frames)")
        quantities = self.calibration.quantities
        energy = forces = radius = stress = None
        if "energy" in quantities:
            half = quantities["energy"].radius(level) * self.energy_std
            energy = (self.energy - half, self.energy + half)
        if "forces" in quantities:
            half = (quantities["forces"].radius(level, self.symbols) * self.atom_std / np.sqrt(3))[:, None]
            forces = np.stack([self.forces - half, self.forces + half])
            radius = quantities["forces"].radius(level, self.symbols, vector=True) * self.atom_std
        if "stress" in quantities and self.stress is not None and self.stress_std is not None:
            half = quantities["stress"].radius(level) * np.sqrt((self.stress_std**2).mean())
            stress = np.stack([self.stress - half, self.stress + half])
        return Interval(level, energy, forces, radius, stress)


def split(
    hosts: Sequence[Host], arrays: Any, judgement: Any, references: Sequence[np.ndarray], noise: Mapping[str, float], trust: Trust
) -> list[Result]:
    """Cut a padded prediction of all members into results per structure; sums and means in float64.

    Args:
        hosts: the structures of the batch.
        arrays: `Prediction` with a leading member axis, of NumPy arrays.
        judgement: `Judgement` of the batch, of NumPy arrays.
        references: reference energies of the atoms of each structure [eV].
        noise: standard deviation of labels that is the same everywhere: energy [eV/atom], forces [eV/Å].
        trust: of the potential.
    """
    results, first = [], 0
    for g, (host, reference) in enumerate(zip(hosts, references, strict=True)):
        rows = slice(first, first + len(host))
        first += len(host)
        results.append(_result(g, rows, host, arrays, judgement, reference, noise, trust))
    return results


def _result(
    g: int, rows: slice, host: Host, arrays: Any, judgement: Any, reference: np.ndarray, noise: Mapping[str, float], trust: Trust
) -> Result:
    """The result of structure g, whose atoms are the given rows."""
    atom_energies, forces = (x[:, rows].astype(np.float64) for x in (arrays.atom_energy, arrays.forces))
    energies = atom_energies.sum(1)
    stress = arrays.stress[:, g].astype(np.float64) if arrays.stress is not None and host.structure.pbc.all() else None
    energy_spread, forces_spread = std(energies), std(forces)
    stress_spread = None if stress is None else std(stress)
    if judgement.energy is not None:
        energy_spread, stress_spread = float(judgement.energy[g]), None
        forces_spread = judgement.forces[rows].astype(np.float64)
    energy_noise = noise["energy"] * len(host) if "energy" in noise else None
    forces_noise = np.full(len(host), noise["forces"]) if "forces" in noise else None
    if arrays.force_noise is not None:
        energy_noise, forces_noise = float(_noise(arrays.energy_noise, g)), _noise(arrays.force_noise, rows)
    energy_std = float(np.hypot(energy_spread, energy_noise or 0))
    forces_std = np.hypot(forces_spread, 0 if forces_noise is None else forces_noise[:, None])
    numbers = np.asarray(host.structure.numbers)
    energy_std, forces_std, stress_std = calibrated(trust.calibration, energy_std, forces_std, stress_spread, numbers)
    return Result(
        energy=float(energies.mean()) + float(reference.sum()),
        forces=forces.mean(0),
        stress=None if stress is None else stress.mean(0),
        energy_std=energy_std,
        forces_std=forces_std,
        stress_std=stress_std,
        energy_spread=energy_spread,
        forces_spread=forces_spread,
        member_energies=energies + reference.sum(),
        member_forces=forces,
        member_stress=stress,
        atom_energies=atom_energies.mean(0) + reference,
        numbers=numbers,
        energy_noise=energy_noise,
        forces_noise=forces_noise,
        charges=_mean(arrays.charges, rows),
        dipole=_mean(None if host.structure.pbc.any() else arrays.dipole, g),
        novelty=None if judgement.novelty is None else judgement.novelty[rows].astype(np.float64),
        sigma_limit=None if trust.domain is None else _sigma_limit(trust, host, numbers),
        calibration=trust.calibration,
    )


def calibrated(
    calibration: Calibration | None, energy: float, forces: np.ndarray, stress: np.ndarray | None, numbers: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray | None]:
    """Standard deviations through the maps of a calibration; components of a vector or tensor keep their ratios."""
    quantities = {} if calibration is None else calibration.quantities
    if "energy" in quantities:
        energy = float(quantities["energy"].sigma(energy / len(numbers))) * len(numbers)
    if "forces" in quantities:
        length = np.sqrt((forces**2).sum(-1))
        forces = forces * _ratio(quantities["forces"].sigma(length, [symbol(int(z)) for z in numbers]), length)[:, None]
    if "stress" in quantities and stress is not None:
        size = np.sqrt((stress**2).sum())
        stress = stress * _ratio(quantities["stress"].sigma(size), size)
    return energy, forces, stress


def _sigma_limit(trust: Trust, host: Host, numbers: np.ndarray) -> np.ndarray:
    """Limit of the calibrated σ of each atom."""
    assert trust.domain is not None
    limit = np.asarray(trust.domain.sigma_limit, float)[host.species]
    if trust.calibration is None or "forces" not in trust.calibration.quantities:
        return limit
    return trust.calibration.quantities["forces"].sigma(limit, [symbol(int(z)) for z in numbers])


def _ratio(new: Any, old: Any) -> Any:
    return new / np.where(old > 0, old, 1)


def _mean(values: np.ndarray | None, at: int | slice) -> np.ndarray | None:
    """Mean over members of what belongs to a structure, if there is any."""
    return None if values is None else values[:, at].astype(np.float64).mean(0)


def _noise(values: np.ndarray, at: int | slice) -> Any:
    """Root of the mean variance over members."""
    return np.sqrt((values[:, at].astype(np.float64) ** 2).mean(0))


def std(values: np.ndarray) -> Any:
    """Standard deviation over members with n − 1, zero for a single member."""
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
    return float(spread) if spread.ndim == 0 else spread
