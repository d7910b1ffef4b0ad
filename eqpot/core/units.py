"""Units: eV, Å, amu, e and K inside; other units only at the door.

The factors are CODATA 2014 values, those of ASE (a test compares them), the same for every reader and writer of the package.
"""

from typing import Final

KB: Final = 8.617330337217213e-05
"""Boltzmann's constant [eV/K]."""

FS: Final = 0.09822694788464063
"""One femtosecond in the internal time unit Å·√(amu/eV)."""

COULOMB: Final = 14.399645351950545
"""e²/4πε₀, the energy of two elementary charges at a distance of 1 Å [eV·Å]."""

EV_PER_A3_TO_GPA: Final = 160.21766208
"""1 eV/Å³ in GPa."""

ENERGY_UNITS: Final = {
    "eV": 1.0,
    "meV": 1e-3,
    "Hartree": 27.211386024367243,
    "Ry": 13.605693012183622,
    "kcal/mol": 0.04336410390059322,
    "kJ/mol": 0.010364269574711572,
}
"""Energy units that a data set may be declared in, in eV."""

LENGTH_UNITS: Final = {"Angstrom": 1.0, "Bohr": 0.5291772105638411, "nm": 10.0}
"""Length units that a data set may be declared in, in Å."""

PRESSURE_UNITS: Final = {"eV/A^3": 1.0, "GPa": 1.0 / EV_PER_A3_TO_GPA, "kbar": 0.1 / EV_PER_A3_TO_GPA}
"""Stress units that a data set may be declared in, in eV/Å³."""
