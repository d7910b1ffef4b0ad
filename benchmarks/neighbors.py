"""Neighbour lists of a rattled silicon crystal: time to make one and to take the edges of a step, and its size, against other lists.

python -m benchmarks.neighbors [--largest 50] [--repeats 3]

Cutoff 5 Å, skin 1 Å, positions in float64. All lists are made within cutoff and skin, on one core or device; JAX-MD's is made anew because atoms
have moved. What takes longer than a minute or more than 8 GB is left out, and so are all larger crystals.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from ase.build import bulk

from benchmarks.common import interleaved, median_ms, write
from eqpot.graph import Structure, find_neighbors
from eqpot.graph.cell_list import Box, Candidates, edges, search
from eqpot.graph.grid import choose_grid

CUTOFF, SKIN = 5.0, 1.0
REPEATS = (2, 3, 5, 8, 12, 20, 30, 50)
"""Cubic cells of eight atoms along each direction: 64 to 1,000,000 atoms."""
MOST_SECONDS, MOST_BYTES = 60.0, 8e9
OTHERS = ("vesin", "matscipy", "JAX-MD, cell list", "JAX-MD, all pairs", "JAX-MD, images")
Way = Callable[[], Any]


def silicon(repeat: int) -> Structure:
    """A crystal whose atoms are displaced by about 0.1 Å."""
    atoms = bulk("Si", cubic=True) * repeat
    atoms.positions += np.random.default_rng(0).normal(size=atoms.positions.shape) * 0.1
    return Structure.from_atoms(atoms)


def ours(structure: Structure) -> tuple[dict[str, Way], dict[str, Any]]:
    """Our list and the edges of a step, and how large they are."""
    grid = choose_grid([structure], CUTOFF + SKIN)
    positions, box = jax.device_put(structure.positions), jax.device_put(Box(structure.cell, structure.pbc))
    real = jax.device_put(np.ones(len(structure), bool))
    build = jax.jit(partial(search, grid=grid))
    slots = int(np.ceil(find_neighbors(structure, CUTOFF).max_count * 1.1))
    near = jax.jit(partial(edges, slots=slots))
    candidates: Candidates = build(positions, box, real, CUTOFF + SKIN)
    assert (np.asarray(candidates.needs) <= [grid.per_bin, grid.slots, 0]).all()
    table = near(candidates, positions, box, real, CUTOFF)
    size = {name: sum(x.nbytes for x in jax.tree.leaves(tree)) / len(structure) for name, tree in (("list", candidates), ("edges", table))}
    ways: dict[str, Way] = {
        "eqpot, list": lambda: build(positions, box, real, CUTOFF + SKIN),
        "eqpot, edges of a step": lambda: near(candidates, positions, box, real, CUTOFF),
    }
    return ways, {"grid": vars(grid), "bytes_per_atom": size}


def host(structure: Structure) -> dict[str, Way]:
    """Lists on the host: vesin's (ours, with its checks and order), matscipy's if it is there."""
    ways: dict[str, Way] = {"vesin": lambda: find_neighbors(structure, CUTOFF + SKIN)}
    try:
        from matscipy.neighbours import neighbour_list
    except ImportError:
        return ways
    arguments = {"cell": structure.cell, "pbc": structure.pbc, "positions": structure.positions}
    return ways | {"matscipy": lambda: neighbour_list("ijS", cutoff=CUTOFF + SKIN, **arguments)}


def jax_md_list(structure: Structure, cell_list: bool) -> Way:
    """JAX-MD's list for cells of more than two cutoffs; it counts the nearest image only."""
    from jax_md import partition, space

    side = jax.numpy.diag(jax.numpy.asarray(structure.cell))
    maker = partition.neighbor_list(
        space.periodic(side)[0], side, CUTOFF, SKIN, disable_cell_list=not cell_list, format=partition.NeighborListFormat.Sparse
    )
    start = jax.numpy.asarray(structure.positions % side)
    moved = (start + 0.6 * SKIN) % side
    made = maker.allocate(start)
    assert not made.did_buffer_overflow
    update = jax.jit(lambda positions, neighbours: neighbours.update(positions))
    return lambda: update(moved, made).idx


def jax_md_images(structure: Structure) -> Way:
    """JAX-MD's list of several images, for small cells."""
    from jax_md.custom_partition import neighbor_list_multi_image

    maker = neighbor_list_multi_image(None, jax.numpy.asarray(structure.cell.T), CUTOFF, SKIN, fractional_coordinates=False)
    start = jax.numpy.asarray(structure.positions)
    made = maker.allocate(start)
    update = jax.jit(lambda positions, neighbours: neighbours.update(positions).idx)
    return lambda: update(start + 0.6 * SKIN, made)


def bytes_of(name: str, structure: Structure) -> float:
    """Memory that is taken at least: by quadratic ways for all pairs, or all images of all pairs; by lists on the host for some 45 edges of an atom."""
    images = np.prod(2 * np.ceil((CUTOFF + SKIN) / np.diag(structure.cell)) + 1)
    n_atoms = len(structure)
    each = {"JAX-MD, all pairs": 48.0 * n_atoms, "JAX-MD, images": 48.0 * images * n_atoms, "vesin": 1e4, "matscipy": 1e4}
    return each.get(name, 0.0) * n_atoms


def others(structure: Structure) -> dict[str, Callable[[], Way]]:
    """What makes each of JAX-MD's ways, if it can serve the structure."""
    ways = {"JAX-MD, images": lambda: jax_md_images(structure)}
    if structure.cell[0, 0] > 2 * (CUTOFF + SKIN):
        ways["JAX-MD, all pairs"] = lambda: jax_md_list(structure, False)
    if structure.cell[0, 0] > 3 * (CUTOFF + SKIN):
        ways["JAX-MD, cell list"] = lambda: jax_md_list(structure, True)
    return ways


def measure(structure: Structure, dropped: set[str], repeats: int) -> dict[str, Any]:
    """Medians of all ways that are still taken; those that have become too slow are dropped from the next crystal on."""
    ways, row = ours(structure)
    dropped |= {name for name in OTHERS if bytes_of(name, structure) > MOST_BYTES}
    ways |= host(structure) | {name: make() for name, make in others(structure).items() if name not in dropped}
    ways = {name: way for name, way in ways.items() if name not in dropped}
    times = {name: median_ms(t) for name, t in interleaved(ways, repeats).items()}
    # The next crystal has 2.5 to 5 times as many atoms.
    grows = {"JAX-MD, all pairs": 20.0, "JAX-MD, images": 20.0}
    dropped |= {name for name, ms in times.items() if grows.get(name, 5.0) * ms > 1e3 * MOST_SECONDS}
    return {"atoms": len(structure), "milliseconds": times} | row


def exponent(rows: list[dict[str, Any]], name: str, least: int = 1000) -> float:
    """Slope of log(time) against log(atoms), from `least` atoms on."""
    points = [(r["atoms"], r["milliseconds"][name]) for r in rows if r["atoms"] >= least and name in r["milliseconds"]]
    if len(points) < 2:
        return float("nan")
    atoms, times = np.log(np.array(points)).T
    return float(np.polyfit(atoms, times, 1)[0])


def main() -> None:
    """Measure, print a table, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=50, help="most cubic cells along each direction")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    names = ["eqpot, list", "eqpot, edges of a step", *OTHERS]
    print(f"{'milliseconds':>12s}" + "".join(f"{name:>24s}" for name in names))
    rows: list[dict[str, Any]] = []
    dropped: set[str] = set()
    with jax.enable_x64(True):
        for repeat in (r for r in REPEATS if r <= options.largest):
            rows.append(measure(silicon(repeat), dropped, options.repeats))
            times = rows[-1]["milliseconds"]
            print(f"{rows[-1]['atoms']:12d}" + "".join(f"{times[n]:24.2f}" if n in times else f"{'-':>24s}" for n in names), flush=True)
    slopes = {name: exponent(rows, name) for name in names}
    print("exponent".rjust(12) + "".join(f"{slopes[n]:24.2f}" for n in names))
    print("bytes per atom: " + ", ".join(f"{name} {size:.0f}" for name, size in rows[-1]["bytes_per_atom"].items()))
    write("neighbors", {"cutoff": CUTOFF, "skin": SKIN, "exponents_from_1000_atoms": slopes, "rows": rows})


if __name__ == "__main__":
    main()
