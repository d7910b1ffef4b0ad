"""The ASE door: a potential as an `ase.calculators.calculator.Calculator`."""

from typing import Any

from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from eqpot.graph import Structure
from eqpot.graph.batching import Capacity, bucket, needed
from eqpot.graph.structure import charge_of


class EqpotCalculator(Calculator):
    """Mean of the ensemble; its uncertainty is in `results` as `energy_std`, `forces_std`, `atom_std`, `stress_std` and `novelty`, see `Result`.

    The neighbour list is rebuilt at every call, so any change of cell, periodicity, elements or number of atoms is safe. Padded sizes only grow,
    so a trajectory compiles once or twice.

    Args:
        potential: an `eqpot.Potential`; charges, dipole and noise are among the results where it predicts them.
        head: level of theory; by default the first.
    """

    def __init__(self, potential: Any, head: str | None = None) -> None:
        stress = ["stress"] if potential.conservative else []
        charges = ["charges", "dipole"] if potential.spec.config.charges else []
        self.implemented_properties = ["energy", "free_energy", "forces", "energies", *stress, *charges]
        super().__init__()
        self.potential, self.head = potential, head
        self._capacity: Capacity | None = None

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Fill `self.results`.

        Raises:
            StructureError: for a structure that the potential cannot judge.
            PropertyNotImplementedError: for the stress of a system that is not periodic in all directions, and the dipole of one that is in any.
        """
        super().calculate(atoms, properties, system_changes)
        structure = Structure.from_atoms(self.atoms)
        if "stress" in properties and not structure.pbc.all():
            raise PropertyNotImplementedError(f"stress needs three periodic directions, found pbc={structure.pbc.tolist()}")
        host = self.potential.prepare(structure, self.head)
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
        for name in ("energy_noise", "forces_noise", "charges", "dipole", "stress_std", "novelty"):
            if getattr(result, name) is not None:
                self.results[name] = getattr(result, name)

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """What has changed since the last call; ASE does not look for the total charge."""
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and charge_of(atoms) != charge_of(self.atoms):
            changes = [*changes, "initial_charges"]
        return changes
