"""Any ASE calculator as an oracle."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from eqpot.core.errors import ConfigError
from eqpot.graph.structure import Labels, Structure
from eqpot.oracles.base import Oracle, json_settings


@dataclass(frozen=True, eq=False)
class ASEOracle(Oracle):
    """Labels from an ASE calculator, built anew for every structure so that no label depends on the one before.

    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> (frame,) = ASEOracle(EMT, method="EMT").label([bulk("Cu")])
    >>> round(frame.labels.energy, 3)
    -0.006

    Attributes:
        factory: called without arguments; returns a calculator. A function at module level can be sent to other processes.
        method: short name of the method.
        parameters: what the factory puts into the calculator, as JSON values. ASE cannot tell, so it is for you to say;
            labels with other parameters belong into another data set. `checksums` puts the content of files in place of their paths.
        convergence: names among the parameters (nested ones dotted) that only help to converge, in which alternatives may differ.
    """

    factory: Callable[[], Any]
    _: KW_ONLY
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    convergence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not callable(self.factory):
            found = type(self.factory).__name__
            raise ConfigError(f"factory: found {found}, expected a function that builds a calculator, such as the class EMT")
        object.__setattr__(self, "parameters", json_settings(self.parameters))

    @property
    def name(self) -> str:
        return self.method

    @property
    def settings(self) -> dict[str, Any]:
        return {"oracle": "ase", "version": version("ase"), "method": self.method, "parameters": self.parameters}

    @property
    def aids(self) -> tuple[str, ...]:
        return tuple(f"parameters.{name}" for name in self.convergence)

    def compute(self, structure: Structure) -> Labels:
        return labels_from_calculator(structure, self.factory())


def checksums(value: Any) -> Any:
    """The value with {"file": name, "sha256": ...} for each text that is the absolute path of a file: what is in it counts, not where it is."""
    if isinstance(value, str) and os.path.isabs(value) and os.path.isfile(value):
        with open(value, "rb") as file:
            return {"file": os.path.basename(value), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    if isinstance(value, Mapping):
        return {key: checksums(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [checksums(item) for item in value]
    return value


def labels_from_calculator(structure: Structure, calculator: Any, moments: Mapping[str, float] | None = None) -> Labels:
    """Run a calculator and take what it gives; `moments` by element are the magnetic moments that it starts from.

    The energy is the one that the forces derive from: for metals with smeared occupations that is the free
    energy, not ASE's default, the extrapolation to zero temperature. Stress is taken in fully periodic cells,
    the dipole outside of them; with only some directions periodic neither has one meaning.
    """
    from ase.stress import voigt_6_to_full_3x3_stress

    atoms = structure.to_atoms()
    if moments:
        atoms.set_initial_magnetic_moments([moments.get(element, 0.0) for element in atoms.get_chemical_symbols()])
    atoms.calc = calculator
    forces = np.array(atoms.get_forces(), np.float64)
    energy = calculator.results.get("free_energy")
    energy = float(atoms.get_potential_energy() if energy is None else energy)
    offered = set(calculator.implemented_properties)
    periodic = structure.pbc
    return Labels(
        energy=energy,
        forces=forces,
        stress=voigt_6_to_full_3x3_stress(atoms.get_stress()) if periodic.all() and "stress" in offered else None,
        charges=np.array(atoms.get_charges(), np.float64) if "charges" in offered else None,
        dipole=np.array(atoms.get_dipole_moment(), np.float64) if not periodic.any() and "dipole" in offered else None,
    )


def gamma_centred_grid(structure: Structure, density: float) -> tuple[int, int, int]:
    """Points along each reciprocal vector: ⌈density·2π/h⌉ with the height h of the cell [Å]; 1 where it is not periodic.

    Args:
        structure: with a cell.
        density: points per reciprocal length [Å], as in ASE's `kpts={"density": ...}`.
    """
    from ase.calculators.calculator import kptdensity2monkhorstpack

    first, second, third = kptdensity2monkhorstpack(structure.to_atoms(), density, even=False)
    return int(first), int(second), int(third)
