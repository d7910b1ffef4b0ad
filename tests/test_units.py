"""The unit factors against those of ASE."""

import ase.units
import pytest

from eqpot.core import units


def test_constants_agree_with_ase():
    assert pytest.approx(ase.units.kB, rel=1e-12) == units.KB
    assert pytest.approx(ase.units.fs, rel=1e-12) == units.FS
    assert pytest.approx(1 / ase.units.GPa, rel=1e-12) == units.EV_PER_A3_TO_GPA


@pytest.mark.parametrize(
    ("table", "name", "value"),
    [
        (units.ENERGY_UNITS, "eV", 1.0),
        (units.ENERGY_UNITS, "meV", 1e-3),
        (units.ENERGY_UNITS, "Hartree", ase.units.Hartree),
        (units.ENERGY_UNITS, "Ry", ase.units.Rydberg),
        (units.ENERGY_UNITS, "kcal/mol", ase.units.kcal / ase.units.mol),
        (units.ENERGY_UNITS, "kJ/mol", ase.units.kJ / ase.units.mol),
        (units.LENGTH_UNITS, "Angstrom", 1.0),
        (units.LENGTH_UNITS, "Bohr", ase.units.Bohr),
        (units.LENGTH_UNITS, "nm", ase.units.nm),
        (units.PRESSURE_UNITS, "eV/A^3", 1.0),
        (units.PRESSURE_UNITS, "GPa", ase.units.GPa),
        (units.PRESSURE_UNITS, "kbar", 1000 * ase.units.bar),
    ],
)
def test_each_factor_is_that_of_ase(table, name, value):
    assert table[name] == pytest.approx(value, rel=1e-9)


def test_every_declared_unit_is_tested():
    assert set(units.ENERGY_UNITS) == {"eV", "meV", "Hartree", "Ry", "kcal/mol", "kJ/mol"}
    assert set(units.LENGTH_UNITS) == {"Angstrom", "Bohr", "nm"}
    assert set(units.PRESSURE_UNITS) == {"eV/A^3", "GPa", "kbar"}
