"""GFN-xTB through tblite: quantum mechanics that comes with `pip install`, 2–10 ms for a small molecule.

GFN2-xTB for molecules, GFN1-xTB for periodic systems (it has stress too, and is ten times faster there). Periodic
calculations see only the Γ point: use at least about 32 atoms for a crystal.

Set `OMP_NUM_THREADS=1` before Python starts: for small molecules threads cost more than they give, and with them
sums are not reproducible to the last bit. Parallel labelling is by processes, each building its own oracle.
"""

from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from eqpot.core.errors import ConfigError, StructureError, did_you_mean
from eqpot.graph.structure import Labels, Structure
from eqpot.oracles.ase import labels_from_calculator
from eqpot.oracles.base import Oracle, require_molecule_or_crystal, require_positive

METHODS = ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB")


@dataclass(frozen=True, eq=False)
class TBLiteOracle(Oracle):
    """Energy, forces, charges, and stress (periodic) or dipole (molecules) from a GFN-xTB Hamiltonian with the structure's total charge.

    >>> from ase.build import molecule
    >>> (frame,) = TBLiteOracle().label([molecule("H2O")])
    >>> round(frame.labels.energy, 3)
    -137.968

    Attributes:
        method: one of `METHODS`.
        multiplicity: 2S + 1; None means the lowest that the number of electrons allows. Give it for radicals
            and for atoms: a triplet is not found by itself.
        accuracy: of the self-consistency; smaller is tighter.
        electronic_temperature: of the Fermi smearing [K].
    """

    method: str = "GFN2-xTB"
    _: KW_ONLY
    multiplicity: int | None = None
    accuracy: float = 1.0
    electronic_temperature: float = 300.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method: '{self.method}' is not known to tblite ({did_you_mean(self.method, METHODS)})")
        if self.multiplicity is not None and self.multiplicity < 1:
            raise ConfigError(f"multiplicity: found {self.multiplicity}, expected 2S + 1, which is at least 1")
        require_positive(self, "accuracy", "electronic_temperature")
        _tblite()

    @property
    def name(self) -> str:
        return self.method

    @property
    def settings(self) -> dict[str, Any]:
        names = ("method", "multiplicity", "accuracy", "electronic_temperature")
        return {"oracle": "tblite", "version": version("tblite")} | {n: getattr(self, n) for n in names}

    @property
    def aids(self) -> tuple[str, ...]:
        return ("accuracy",)

    def compute(self, structure: Structure) -> Labels:
        require_molecule_or_crystal(structure, "tblite")
        self._require_possible(structure)
        calculator = _tblite().TBLite(
            method=self.method,
            charge=structure.charge,
            multiplicity=self.multiplicity,
            accuracy=self.accuracy,
            electronic_temperature=self.electronic_temperature,
            verbosity=0,
        )
        return labels_from_calculator(structure, calculator)

    def _require_possible(self, structure: Structure) -> None:
        """StructureError for a charge or multiplicity that these valence electrons cannot have: tblite takes another one, or gives finite nonsense."""
        if structure.charge != round(structure.charge):
            raise StructureError(f"charge is {structure.charge}, expected a whole number of electrons")
        electrons = sum(_valence(int(z)) for z in structure.numbers) - round(structure.charge)
        if electrons < 0:
            raise StructureError(
                f"charge {structure.charge:g} is more than the {electrons + round(structure.charge)} valence electrons of {structure.formula}"
            )
        if self.multiplicity is not None and (self.multiplicity > electrons + 1 or (electrons - self.multiplicity + 1) % 2):
            raise StructureError(
                f"multiplicity {self.multiplicity} is impossible with the {electrons} valence electrons of {structure.formula}"
            )


def _valence(number: int) -> int:
    """Electrons outside of the noble gas and of full d and f shells; lanthanides have three (their f electrons are in the core)."""
    if 57 < number < 72:
        return 3
    outside = number - max(core for core in (0, 2, 10, 18, 36, 54) if core < number) - (14 if number > 71 else 0)
    return outside - 10 if outside > 12 else outside


def _tblite() -> Any:
    """tblite's ASE interface, imported when the first oracle is built."""
    try:
        return import_module("tblite.ase")
    except ImportError as error:
        raise ConfigError(f"the oracle needs tblite, which cannot be imported ({error}); install it with: pip install tblite") from error
