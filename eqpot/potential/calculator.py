"""The ASE door: a potential as an `ase.calculators.calculator.Calculator`."""

from typing import Any, ClassVar

from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from eqpot.graph import Structure
from eqpot.graph.batching import Capacity, bucket, needed


class EqpotCalculator(Calculator):
    """Mean of the ensemble, with its spread in `results['energy_std']`, `results['forces_std']` and `results['atom_std']`.

    The neighbour list is rebuilt at every call, so any change of cell, periodicity, elements or number of atoms is safe. Padded sizes only grow,
    so a trajectory compiles once or twice.

    Args:
        potential: an `eqpot.Potential`.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress", "energies"]

    def __init__(self, potential: Any) -> None:
        super().__init__()
        self.potential = potential
        self._capacity: Capacity | None = None

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Fill `self.results`.

        Raises:
            StructureError: for a structure that the potential cannot judge.
            PropertyNotImplementedError: for the stress of a system that is not periodic in all directions.
        """
        super().calculate(atoms, properties, system_changes)
        structure = Structure.from_atoms(self.atoms)
        if "stress" in properties and not structure.pbc.all():
            raise PropertyNotImplementedError(f"stress needs three periodic directions, found pbc={structure.pbc.tolist()}")
        host = self.potential.prepare(structure)
        if self._capacity is None or not self._capacity.fits(needed([host], self._capacity)):
            self._capacity = bucket([host], fine=True)
        result = self.potential.predict_hosts([host], self._capacity)[0]
        self.results = {
            "energy": result.energy,
            "free_energy": result.energy,
            "energies": result.atom_energies,
            "forces": result.forces,
            "energy_std": result.energy_std,
            "forces_std": result.forces_std,
            "atom_std": result.atom_std,
        }
        if result.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(result.stress)
