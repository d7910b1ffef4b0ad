"""What a network does not see beyond its range, and what electrostatics adds: the same network alone, with the charges it predicts, and with charges that flow.

python -m benchmarks.long_range CC CP PP nacl [--epochs 400]

CC, CP, PP: rigid pairs of charged (C) or polar (P) organic molecules in a periodic cube of 30 Å (Huguenin-Dumittan et al.,
J. Phys. Chem. Lett. 14, 9612 (2023)), trained on ten near separations, tested on three far ones. nacl: ions of ±1 e with Born–Mayer repulsion, trained on
rattled crystals and neutral clusters; tested on an ion pair at 8 to 30 Å, where E = −K/r. No charge is labelled; electrostatics has to find them.
"""

import argparse
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.build import bulk

import eqpot
from benchmarks.common import SHARED, table, write
from eqpot.data import Dataset, read
from eqpot.graph import Frame, Labels, Structure
from eqpot.physics import open_energies, plan_ewald, point_energies
from eqpot.training import evaluate

SMEARING = 2.0
LONG = {"smearing": SMEARING, "tolerance": 1e-4, "background": "uniform"}
WAYS: dict[str, dict[str, Any] | None] = {
    "network alone": None,
    "coulomb": {"kind": "coulomb", **LONG},
    "charge-equilibration": {"kind": "charge-equilibration", **LONG},
}
STRENGTH, DECAY = 1100.0, 0.32
"""Born–Mayer repulsion A e^{−r/ρ} between unlike ions [eV], [Å]: a lattice constant near that of NaCl."""


def main() -> None:
    """Fit each way to each set, and print the errors of the far test beside its spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=["CC", "CP", "PP", "nacl"])
    parser.add_argument("--epochs", type=int, default=400)
    options = parser.parse_args()
    for name in options.sets:
        train, test = ions() if name == "nacl" else dimers(name)
        rows = [{"way": way, **one_way(name, way, train, test, options.epochs)} for way in WAYS]
        table(f"{name}: far test of {len(test)}, spread of its energies {1e3 * np.std(energies(test)):.1f} meV", rows)
        write(
            f"long_range_{name.lower()}",
            {"set": name, "epochs": options.epochs, "spread_meV": 1e3 * float(np.std(energies(test))), "ways": rows},
        )


def dimers(name: str) -> tuple[Dataset, Dataset]:
    """Near and far separations of a pair of molecules."""
    return read(SHARED / "lode_dimers" / f"{name}_train.extxyz.gz"), read(SHARED / "lode_dimers" / f"{name}_test.extxyz.gz")


def energies(frames: Dataset) -> np.ndarray:
    """Labels [eV]."""
    return np.array([frame.labels.energy for frame in frames])


def one_way(name: str, way: str, train: Dataset, test: Dataset, epochs: int) -> dict[str, Any]:
    """Errors of one model on the far test: energy [meV], forces [meV/Å], and the charges it found."""
    term = WAYS[way]
    network = {"kind": "equivariant", "cutoff": 5.0, "hidden": "16x0e + 16x1o", "l_max": 2, "correlation": 2}
    asked = {"coulomb": "charges", "charge-equilibration": "electronegativity"}
    model = {"kind": "sum", "terms": {"network": {**network, asked[way]: True}, "electrostatics": term}} if term else network
    config = {
        "name": name,
        "model": model,
        "data": {"valid": 0.1, **({"reference_energies": {"Na": 0.0, "Cl": 0.0}} if name == "nacl" else {})},
        "loss": {"energy": 1000, "forces": 10},
        "optimizer": {"learning_rate": 0.01},
        "training": {"epochs": epochs, "batch_size": 10, "validate_every": 10},
    }
    began = time.perf_counter()
    potential = eqpot.fit(config, train)
    found = evaluate(potential, test)
    errors = np.array([result.energy for result in found.results]) - energies(test)
    row = {
        "energy_rmse_meV": 1e3 * float(np.sqrt((errors**2).mean())),
        "force_rmse_meV_A": 1e3 * found.summary()["forces"]["rmse"],
        "train_force_rmse_meV_A": 1e3 * evaluate(potential, train).summary()["forces"]["rmse"],
        "minutes": (time.perf_counter() - began) / 60,
    }
    charges = found.results[-1].charges
    if charges is not None:  # of the first molecule, which is as many atoms as the file says; or of the first ion
        first = test[-1].structure
        row["charge_of_first"] = float(charges[: _atoms_of_first(first)].sum())
    print(way, {key: round(value, 3) for key, value in row.items()}, flush=True)
    return row


def _atoms_of_first(pair: Structure) -> int:
    """Atoms before the widest gap: molecules are written one after the other."""
    centre = [np.linalg.norm(pair.positions[:k].mean(0) - pair.positions[k:].mean(0)) for k in range(1, len(pair))]
    return 1 + int(np.argmax(centre))


def ions() -> tuple[Dataset, Dataset]:
    """Rattled crystals and clusters of Na⁺ and Cl⁻, and ion pairs further apart than any of them."""
    rng, cube = np.random.default_rng(0), bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    train = []
    for k in range(80):
        if k % 2:
            atoms = cube.copy()
            atoms.set_cell(cube.cell.array * rng.uniform(0.95, 1.08), scale_atoms=True)
        else:
            half = rng.integers(1, 4)
            atoms = cube[np.concatenate([rng.permutation(np.flatnonzero(cube.numbers == z))[:half] for z in (11, 17)])]
            atoms.pbc, atoms.cell = False, None
            atoms.positions *= rng.uniform(0.95, 1.3)
        atoms.positions += rng.normal(0, 0.12, atoms.positions.shape)
        train.append(labelled(Structure(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc), f"train {k}"))
    test = [labelled(Structure([11, 17], [[0, 0, 0], [r, 0, 0]]), f"pair at {r} Å") for r in (8, 10, 12, 15, 20, 30)]
    return Dataset(tuple(train)), Dataset(tuple(test))


def labelled(structure: Structure, origin: str) -> Frame:
    """Born–Mayer and Coulomb energies of point charges in float64; an ion alone has none."""
    with jax.enable_x64(True):
        signs = jnp.where(jnp.asarray(structure.numbers) == 11, 1.0, -1.0)
        value, slope = energy_and_slope(jnp.asarray(structure.positions), jnp.asarray(structure.cell), signs, bool(structure.pbc.any()))
    return Frame(structure, Labels(energy=float(value), forces=-np.asarray(slope)), origin=origin)


@partial(jax.jit, static_argnums=3)
@jax.value_and_grad
def energy_and_slope(positions: jax.Array, cell: jax.Array, signs: jax.Array, periodic: bool) -> jax.Array:
    """Energy [eV], differentiated by the positions."""
    images = np.array(list(np.ndindex(5, 5, 5))) - 2.0 if periodic else np.zeros((1, 3))
    vectors = positions[None, :, None] - positions[:, None, None] + jnp.asarray(images) @ cell
    square = jnp.sum(vectors**2, -1)
    unlike = (square > 0) & (signs[:, None, None] * signs[None, :, None] < 0)
    repulsion = STRENGTH / 2 * jnp.sum(jnp.where(unlike, jnp.exp(-jnp.sqrt(jnp.where(square > 0, square, 1)) / DECAY), 0))
    if periodic:
        return repulsion + point_energies(positions, cell, signs, plan_ewald(5.6 * np.eye(3), 8, 1e-12)).sum()
    index, mask = jnp.zeros(len(signs), int), jnp.ones(len(signs), bool)
    return repulsion + open_energies(positions, signs, index, mask, jnp.ones(1, bool)).sum()


if __name__ == "__main__":
    main()
