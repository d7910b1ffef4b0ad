"""Make the data set of the quickstart: ethanol at 300–1000 K, labelled with GFN2-xTB.

    OMP_NUM_THREADS=1 python train/make_quickstart_data.py

Samples each temperature by Langevin dynamics on the GFN2-xTB surface, then labels every kept configuration afresh.
Positions are rounded before they are labelled, so the labels belong to the very numbers in the file.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.optimize import BFGS
from tblite.ase import TBLite

from eqpot.data import write_extxyz
from eqpot.graph.structure import Frame, Labels, Structure
from eqpot.oracles import Failure, TBLiteOracle

TEMPERATURES_K = (300, 500, 750, 1000)
TIMESTEP_FS = 0.5
EQUILIBRATION_FS = 2000
INTERVAL_FS = 50
MULTIPLICITIES = {"H": 2, "C": 3, "O": 3}


def sample(temperature_K: float, n_frames: int, rng: np.random.Generator) -> list[Structure]:
    """Configurations along one trajectory, with positions rounded to 1e-6 Å."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.01)
    dynamics = Langevin(atoms, TIMESTEP_FS * units.fs, temperature_K=temperature_K, friction=0.01 / units.fs, fixcm=False, rng=rng)
    dynamics.run(round(EQUILIBRATION_FS / TIMESTEP_FS))  # from rest: 20 times the relaxation time of the bath
    structures = []
    for _ in range(n_frames):
        dynamics.run(round(INTERVAL_FS / TIMESTEP_FS))
        centred = atoms.get_positions() - atoms.get_center_of_mass()
        structures.append(Structure(atoms.numbers, centred.round(6)))
    return structures


def label(structures: list[Structure], group: str, multiplicity: int) -> list[Frame]:
    """Labels rounded to the digits that are worth keeping; any failure ends the script."""
    frames = []
    for result in TBLiteOracle("GFN2-xTB", multiplicity=multiplicity, accuracy=0.1).label(structures):
        if isinstance(result, Failure):
            raise SystemExit(f"{group}: {result.reason}\n{result.log}")
        found = vars(result.labels)
        digits = {"energy": 7, "forces": 6, "charges": 5, "dipole": 5}
        labels = Labels(**{name: np.round(found[name], n) for name, n in digits.items()})
        frames.append(result.replace(labels=labels, group=group))
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "ethanol_gfn2.extxyz.xz")
    parser.add_argument("--frames", type=int, default=100, help="configurations per temperature")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    frames = []
    for symbol, multiplicity in MULTIPLICITIES.items():
        frames += label([Structure.from_atoms(Atoms(symbol))], "IsolatedAtom", multiplicity)
    for i, temperature in enumerate(TEMPERATURES_K):
        structures = sample(temperature, arguments.frames, np.random.default_rng([arguments.seed, i]))
        frames += label(structures, f"T{temperature}", multiplicity=1)
        print(f"{temperature} K: {len(structures)} configurations labelled")
    write_extxyz(arguments.out, frames, overwrite=True)
    print(f"wrote {len(frames)} frames to {arguments.out}")


if __name__ == "__main__":
    main()
