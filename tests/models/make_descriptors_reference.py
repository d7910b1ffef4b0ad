"""Make descriptors_reference.json with DScribe (https://singroup.github.io/dscribe, 2.1): `pip install dscribe ase`, then run this file.

DScribe is no dependency: its values are kept, and the tests compare with them.
"""

import json
from pathlib import Path

import ase.build
import ase.data
import numpy as np
from dscribe.descriptors import ACSF, SOAP  # type: ignore[import-not-found]

ETA, CENTERS, POWERS = [0.05, 0.4], [0.0, 1.5], [1, 2, 4]


def environments():
    """Name, structure, elements, centres that are described."""
    crystal = ase.build.bulk("NaCl", "rocksalt", a=5.64)
    crystal.rattle(0.15, seed=1)
    return [
        ("methane", ase.build.molecule("CH4"), ["H", "C"], [0, 1]),
        ("ethanol", ase.build.molecule("CH3CH2OH"), ["H", "C", "O"], [0, 2, 3]),
        ("salt", crystal, ["Na", "Cl"], [0, 1]),
    ]


def described(atoms, elements, centers):
    periodic = bool(atoms.pbc.any())
    settings = {"r_cut": 4.5 if periodic else 6.0, "n_max": 3, "l_max": 3, "sigma": 0.5}
    soap = SOAP(**settings, species=elements, rbf="gto", periodic=periodic)
    acsf = ACSF(
        r_cut=4.5,
        g2_params=[[eta, center] for eta in ETA for center in CENTERS],
        g4_params=[[eta, power, sign] for eta in ETA for power in POWERS for sign in (1, -1)],
        g5_params=[[eta, power, sign] for eta in ETA for power in POWERS for sign in (1, -1)],
        species=elements,
        periodic=periodic,
    )
    digits = lambda array: [[float(f"{x:.11g}") for x in row] for row in array]  # noqa: E731
    return {**settings, "soap": digits(soap.create(atoms, centers=centers)), "acsf": digits(acsf.create(atoms, centers=centers))}


def main():
    found = {"eta": ETA, "centers": CENTERS, "powers": POWERS, "environments": {}}
    for name, atoms, elements, centers in environments():
        found["environments"][name] = {
            "numbers": atoms.numbers.tolist(),
            "positions": np.round(atoms.positions, 12).tolist(),
            "cell": atoms.cell[:].tolist() if atoms.pbc.any() else None,
            "elements": [int(ase.data.atomic_numbers[e]) for e in elements],
            "atoms": centers,
            **described(atoms, elements, centers),
        }
    Path(__file__).with_name("descriptors_reference.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
