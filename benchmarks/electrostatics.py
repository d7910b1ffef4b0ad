"""Energy, forces and stress of charges in a crystal: sums over waves, our mesh, and jax-pme where it is installed; then the mesh alone for many charges.

python -m benchmarks.electrostatics [--largest 100000] [--repeats 7]

Rattled rock salt, unit charges, float32. Here charges are Gaussians of 1 Å, and what is nearer than 5 Å is a network's; jax-pme has point charges, so
"mesh + pairs" adds the pairs within 6 Å from the same list that jax-pme gets. Errors are RMS of forces, relative to those of Ewald's sum in float64.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.build import bulk

from benchmarks.common import interleaved, median_ms, table, write
from eqpot.core.units import COULOMB
from eqpot.graph import Structure, find_neighbors
from eqpot.physics import mesh_energies, mesh_points, periodic_energies

SMEARING, CUTOFF = 1.0, 6.0
SIZES = ((5, 5, 5), (10, 10, 10), (15, 15, 15), (23, 23, 23))
"""Cubic cells of eight ions along each direction: 1,000 to 97,336 ions."""


def main() -> None:
    """Time what there is at 1,000 ions, then the mesh at all sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    first = compared(options.repeats)
    table("1,000 ions, energy + forces + stress", first)
    scaling = []
    for repeat in SIZES:
        if 8 * np.prod(repeat) > options.largest:
            break
        atoms, charges = salt(repeat)
        ways = {f"mesh, order {order}": differentiated(mesh_of(atoms, order), atoms, charges) for order in (6, 8)}
        times = interleaved(ways, max(3, options.repeats // 2))
        scaling.append({"ions": len(atoms), **{name: median_ms(found) for name, found in times.items()}})
        print(scaling[-1], flush=True)
    table("The mesh, ms", scaling)
    write("electrostatics", {"thousand": first, "scaling": scaling})


def salt(repeat: tuple[int, ...]) -> tuple[Any, np.ndarray]:
    """Rattled rock salt and its charges."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * repeat
    atoms.rattle(0.1, seed=0)
    atoms.wrap()
    return atoms, np.where(atoms.numbers == 11, 1.0, -1.0)


def mesh_of(atoms: Any, order: int) -> Callable[..., jax.Array]:
    """Energy of positions, cell and charges on a mesh."""
    points = mesh_points(atoms.cell.array, SMEARING)
    return lambda x, cell, q: mesh_energies(x, cell, q, SMEARING, points, order).sum()


def waves(x: jax.Array, cell: jax.Array, q: jax.Array, tolerance: float = 1e-6) -> jax.Array:
    """The same, wave by wave."""
    index, mask = jnp.zeros(len(x), jnp.int32), jnp.ones(len(x), bool)
    return periodic_energies(x, cell[None], q, index, mask, SMEARING, tolerance).sum()


def with_pairs(soft: Callable[..., jax.Array], atoms: Any) -> Callable[..., jax.Array]:
    """Adds K q_i q_j erfc(r/(√2 σ))/r over pairs within the cutoff: the energy of point charges."""
    found = find_neighbors(Structure.from_atoms(atoms), CUTOFF)
    once = (found.receivers < found.senders) | (found.receivers == found.senders) & (found.shifts @ [10_000, 100, 1] > 0)
    i, j, shifts = (jnp.asarray(x[once]) for x in (found.receivers, found.senders, found.shifts))

    def energy(x: jax.Array, cell: jax.Array, q: jax.Array) -> jax.Array:
        distance = jnp.linalg.norm(x[j] - x[i] + shifts.astype(x.dtype) @ cell, axis=-1)
        near = q[i] * q[j] * jax.lax.erfc(distance / (2**0.5 * SMEARING)) / distance
        return soft(x, cell, q) + COULOMB * jnp.sum(near)

    return energy


def differentiated(energy: Callable[..., jax.Array], atoms: Any, charges: np.ndarray, dtype: str = "float32") -> Callable[[], Any]:
    """Energy, and its derivatives by positions and strain."""

    def total(x: jax.Array, strain: jax.Array, cell: jax.Array, q: jax.Array) -> jax.Array:
        deform = jnp.eye(3, dtype=x.dtype) + strain
        return energy(x @ deform, cell @ deform, q)

    call = jax.jit(jax.value_and_grad(total, (0, 1)))
    arrays = [jnp.asarray(a, dtype) for a in (atoms.positions, np.zeros((3, 3)), atoms.cell.array, charges)]
    return partial(call, *arrays)


def compared(repeats: int) -> list[dict[str, Any]]:
    """Ways to the energy of a thousand ions: time, and error of the forces."""
    atoms, charges = salt(SIZES[0])
    ways = {
        "waves": differentiated(waves, atoms, charges),
        "mesh, order 8": differentiated(mesh_of(atoms, 8), atoms, charges),
        "mesh, order 6": differentiated(mesh_of(atoms, 6), atoms, charges),
        "mesh + pairs, order 6": differentiated(with_pairs(mesh_of(atoms, 6), atoms), atoms, charges),
        "mesh + pairs, order 4": differentiated(with_pairs(mesh_of(atoms, 4), atoms), atoms, charges),
        **peers(atoms, charges),
    }
    with jax.enable_x64(True):
        soft = differentiated(partial(waves, tolerance=1e-10), atoms, charges, "float64")()[1][0]
        points = differentiated(with_pairs(partial(waves, tolerance=1e-10), atoms), atoms, charges, "float64")()[1][0]
    times, rows = interleaved(ways, repeats), []
    for name, way in ways.items():
        exact = np.asarray(points if "pairs" in name or "jax-pme" in name else soft)
        slope = np.asarray(way()[1][0], float)
        rows.append(
            {"way": name, "ms": median_ms(times[name]), "force_error": float(np.linalg.norm(slope - exact) / np.linalg.norm(exact))}
        )
    return rows


def peers(atoms: Any, charges: np.ndarray) -> dict[str, Callable[[], Any]]:
    """P3M and PME of jax-pme, with a mesh as fine as ours."""
    try:
        import jaxpme
    except ImportError:
        print("jax-pme is not installed: left out")
        return {}
    found = {}
    for name, make in (("P3M", jaxpme.P3M), ("PME", jaxpme.PME)):
        calculator = make(prefactor=COULOMB)
        given = calculator.prepare(atoms, charges, CUTOFF, SMEARING / 2, SMEARING)
        arrays = [jnp.asarray(x, "float32") if getattr(x, "dtype", None) == np.float64 else x for x in given]
        static = [k for k, x in enumerate(arrays) if not isinstance(x, (jax.Array, np.ndarray))]

        def call(*moving: Any, calculator: Any = calculator, arrays: list = arrays, static: list = static) -> Any:
            rest = iter(moving)
            every = [arrays[k] if k in static else next(rest) for k in range(len(arrays))]
            energy, forces, stress = calculator.energy_forces_stress(*every)
            return energy, (-forces, stress)

        found[f"jax-pme {name}, 4 nodes"] = partial(jax.jit(call), *[x for k, x in enumerate(arrays) if k not in static])
    return found


if __name__ == "__main__":
    main()
