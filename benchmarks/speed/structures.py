"""What is computed on: rattled silicon of any size, and liquid water."""

import gzip
import io

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read

from benchmarks.common import SHARED


def silicon(cells: int) -> Atoms:
    """Rattled diamond, 8 cells³ atoms."""
    atoms = bulk("Si", cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=0)
    return atoms


def water() -> Atoms:
    """64 molecules: a frame of liquid water if the reference data are there, else molecules turned at random on a grid."""
    path = SHARED / "water_pbe0ts" / "val.extxyz.gz"
    if path.exists():
        return read(io.StringIO(gzip.decompress(path.read_bytes()).decode()), 0, format="extxyz")
    spacing, rng = 12.42 / 4, np.random.default_rng(0)
    atoms = Atoms(cell=[12.42] * 3, pbc=True)
    for site in np.ndindex(4, 4, 4):
        one = molecule("H2O")
        one.euler_rotate(*rng.uniform(0, 360, 3), center="COM")
        one.translate(spacing * np.array(site))
        atoms += one
    return atoms


def structure(name: str) -> Atoms:
    """ "si" and a number of atoms, or "water192"."""
    return water() if name == "water192" else silicon(round((int(name.removeprefix("si")) / 8) ** (1 / 3)))
