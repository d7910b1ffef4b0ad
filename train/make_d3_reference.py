"""Make the reference of the tests of the dispersion term: energies, forces and strain derivatives by the library `dftd3`.

    pip install dftd3 && python train/make_d3_reference.py

Pairs alone (s9 = 0), damping by name from the library's own list, cutoffs that end at once. Slabs and wires are calculated in a cell that is periodic in all
directions and wider than any cutoff: with fewer directions `dftd3` 1.7 leaves out images (its energy is not that of the wide cell).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from dftd3.interface import DispersionModel, RationalDampingParam  # pyright: ignore[reportMissingImports]

from eqpot.core.units import ENERGY_UNITS, LENGTH_UNITS

BOHR, HARTREE = LENGTH_UNITS["Bohr"], ENERGY_UNITS["Hartree"]
REACH, CN_REACH, VACUUM = 16.0, 14.0, 100.0
MIXED = "Cl, S, P and Na"
OTHERS = ("b3lyp", "b2plyp", "hse06", "r2scan", "wb97m")
"""Functionals that one structure is calculated with, besides PBE for all."""


def beside(first: str, second: str, shift: tuple[float, float, float]) -> Atoms:
    """Two molecules, the second of them turned and shifted."""
    other = molecule(second)
    other.rotate(35, (1, 2, 3))
    other.translate(shift)
    return molecule(first) + other


def cases() -> dict[str, Atoms]:
    """Structures by name."""
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    salt.rattle(0.1, seed=1)
    silicon, argon = bulk("Si"), bulk("Ar", "fcc", a=5.3)
    silicon.rattle(0.1, seed=2)
    points = np.random.default_rng(3).random((7, 3))
    triclinic = Atoms("C2H3OFe", scaled_positions=points, cell=[[4, 0.3, 0.2], [1.9, 4.5, 0.3], [-1.5, 0.8, 5]], pbc=True)
    slab, wire, leaning = salt.copy(), salt.copy(), triclinic.copy()
    slab.pbc, wire.pbc, leaning.pbc = (True, False, True), (False, False, True), (False, True, True)
    mixed = beside("CH3Cl", "SH2", (3.2, 0.4, 0.3)) + beside("PH3", "NaCl", (0.5, 3.4, 0.2))
    mixed.positions[-5:] += [0.3, 0.2, 4.0]
    return {
        "ethanol": molecule("CH3CH2OH"),
        "water dimer": beside("H2O", "H2O", (0.3, 0.2, 2.9)),
        "benzene dimer": beside("C6H6", "C6H6", (0.5, 0.3, 4.1)),
        MIXED: mixed,
        "sodium chloride": salt,
        "silicon": silicon,
        "argon": argon,
        "triclinic": triclinic,
        "slab": slab,
        "wire": wire,
        "leaning slab": leaning,
    }


def widened(atoms: Atoms) -> np.ndarray:
    """The cell with a wide vector, at right angles to the others, in each direction without periodicity."""
    cell, free = np.where(atoms.pbc[:, None], atoms.cell.array, 0), ~atoms.pbc
    cell[free] = VACUUM * np.linalg.svd(np.vstack([cell, np.zeros(3)]))[2][3 - free.sum() :]
    return cell


def answer(functional: str, atoms: Atoms) -> dict:
    """What the library says, in eV and Å; the last is ∂E/∂ε for a strain ε of positions and cell."""
    periodic = {"lattice": widened(atoms) / BOHR, "periodic": np.ones(3, bool)} if atoms.pbc.any() else {}
    model = DispersionModel(atoms.numbers, atoms.positions / BOHR, **periodic)
    model.set_realspace_cutoff(REACH / BOHR, 10.0, CN_REACH / BOHR)
    found = model.get_dispersion(RationalDampingParam(method=functional, atm=False), grad=True)
    forces, strain = -found["gradient"] * HARTREE / BOHR, found["virial"] * HARTREE
    return {"energy": float(found["energy"]) * HARTREE, "forces": forces.tolist(), "strain_derivative": strain.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "tests" / "physics" / "d3_reference.json")
    structures, found = cases(), {}
    for name, atoms in structures.items():
        atoms.positions, atoms.cell = atoms.positions.round(6), atoms.cell.array.round(6)
        structure = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(), "cell": atoms.cell.tolist()}
        found[name] = {**structure, "pbc": atoms.pbc.tolist(), **answer("pbe", atoms)}
    others = {functional: answer(functional, structures[MIXED])["energy"] for functional in OTHERS}
    how = "by train/make_d3_reference.py with dftd3 1.7.0: PBE, pairs alone (s9 = 0), cutoffs that end at once; eV and Å"
    out = parser.parse_args().out
    out.write_text(
        json.dumps(
            {"how": how, "reach": REACH, "cn_reach": CN_REACH, "cases": found, "functionals": {MIXED: others}}, separators=(",", ":")
        )
        + "\n"
    )
    print(f"{out}: {len(found)} structures, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
