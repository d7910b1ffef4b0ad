"""Under which names a file keeps its labels, and in which units.

`LabelKeys` names them, or leaves them to be found in the table `KNOWN`; what a file calls something
else is refused with the name to type, never passed over. `Units` declares the units of a file.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

from eqpot.core.errors import DataError, did_you_mean
from eqpot.core.units import ENERGY_UNITS, LENGTH_UNITS, PRESSURE_UNITS
from eqpot.graph.structure import CHARGE_KEYS

KNOWN: Final = {
    "energy": ("energy", "REF_energy", "ref_energy", "dft_energy", "DFT_energy", "free_energy"),
    "forces": ("forces", "REF_forces", "ref_forces", "dft_forces", "DFT_forces", "dft_force", "force"),
    "stress": ("stress", "REF_stress", "ref_stress", "dft_stress", "DFT_stress"),
    "virial": ("virial", "REF_virial", "ref_virial", "dft_virial", "DFT_virial", "virials"),
    "charges": ("charges", "REF_charges", "ref_charges", "charge"),
    "dipole": ("dipole", "REF_dipole", "ref_dipole"),
    "total_charge": CHARGE_KEYS,
    "group": ("config_type", "group"),
    "weight": ("config_weight",),
    "head": ("head",),
}
"""Names tried for each label when none is given, first match wins; all names of one label that occur together must agree."""
AMBIGUOUS: Final = "charge"
"""A name of the total charge where it stands per frame, and of the partial charges where it stands per atom, as ASE writes them."""
INPUTS: Final = ("total_charge", "group")
"""What belongs to a structure, or only names it, and is read also when labels are not wanted."""

_STEMS: Final = {"energy": "energy", "forces": "force", "stress": "stress", "virial": "virial"}
_NOT_LABELS: Final = ("std", "var", "uncert", "sigma", "weight", "mask", "error")


@dataclass(frozen=True, kw_only=True)
class LabelKeys:
    """Names under which labels are stored; `None` looks in `KNOWN`, the empty string ignores the label.

    Attributes:
        energy: total energy per frame.
        forces: per atom, 3 columns.
        stress: 9 numbers or 6 in ASE's order xx, yy, zz, yz, xz, xy; tension positive.
        virial: −volume·stress, 9 or 6 numbers in the same order; converted to stress.
        charges: partial charge per atom [e].
        dipole: 3 numbers per frame [e·length].
        total_charge: total charge of the structure [e].
        group: name of the kind of frame.
        weight: relative weight of the frame in the loss.
        head: name of the level of theory of the labels.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    charges: str | None = None
    dipole: str | None = None
    total_charge: str | None = None
    group: str | None = None
    weight: str | None = None
    head: str | None = None

    @classmethod
    def none(cls) -> "LabelKeys":
        """Read structures only."""
        return cls(**{f.name: "" for f in fields(cls) if f.name not in INPUTS})

    def resolve(self, present: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """For each label the names to read, the authoritative one first, chosen from the names present in a whole file.

        Raises:
            DataError: a name given by the user is nowhere in the file, or a label is there under an unknown name.
        """
        present = set(present)
        return {f.name: self._names(f.name, present) for f in fields(self)}

    def _names(self, label: str, present: set[str]) -> tuple[str, ...]:
        wanted = getattr(self, label)
        if wanted == "":
            return ()
        if wanted is not None:
            if wanted not in present:
                raise DataError(
                    f"found no key '{wanted}' for {label} in any frame, expected it by LabelKeys ({did_you_mean(wanted, present)})"
                )
            return (wanted,)
        found = tuple(name for name in KNOWN[label] if name in present)
        if not found:
            self._refuse_lookalikes(label, present)
        return found

    def _refuse_lookalikes(self, label: str, present: set[str]) -> None:
        stem = _STEMS.get(label)
        unknown = sorted(n for n in present if stem and stem in n.lower() and not any(word in n.lower() for word in _NOT_LABELS))
        taken = {getattr(self, f.name) for f in fields(self)}
        unknown = [n for n in unknown if n not in taken]
        if unknown:
            raise DataError(
                f"found no {label} under a known name ({', '.join(KNOWN[label])}), but the file has '{unknown[0]}' "
                f"(keys present: {', '.join(sorted(present))}); did you mean '{KNOWN[label][0]}'? Rename it, or read it with "
                f"keys=LabelKeys({label}='{unknown[0]}'), or ignore it with keys=LabelKeys({label}='')"
            )


@dataclass(frozen=True, kw_only=True)
class Units:
    """Units of a file; forces are in energy/length, virials in energy, dipoles in e·length, charges in e.

    Attributes:
        energy: a name of `core.units.ENERGY_UNITS`.
        length: a name of `core.units.LENGTH_UNITS`; positions and cell alike.
        stress: a name of `core.units.PRESSURE_UNITS`; `None` is energy/length³.
    """

    energy: str = "eV"
    length: str = "Angstrom"
    stress: str | None = None

    def __post_init__(self) -> None:
        for kind, table in (("energy", ENERGY_UNITS), ("length", LENGTH_UNITS), ("stress", PRESSURE_UNITS)):
            name = getattr(self, kind)
            if name not in table and not (kind == "stress" and name is None):
                raise DataError(f"{kind} unit: found '{name}', expected one of {', '.join(table)} ({did_you_mean(str(name), table)})")

    @property
    def energy_factor(self) -> float:
        """eV per energy unit."""
        return ENERGY_UNITS[self.energy]

    @property
    def length_factor(self) -> float:
        """Å per length unit."""
        return LENGTH_UNITS[self.length]

    @property
    def stress_factor(self) -> float:
        """eV/Å³ per stress unit."""
        return PRESSURE_UNITS[self.stress] if self.stress else self.energy_factor / self.length_factor**3
