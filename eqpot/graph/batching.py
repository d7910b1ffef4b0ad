"""From structures to padded graphs, in few shapes.

XLA compiles once for each shape, so batches are padded to a small set of capacities ("buckets"). Sizes are rounded up on
a geometric grid; a data set is cut into a few size classes so that a large structure does not pad all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqpot.core.elements import atomic_number, symbol
from eqpot.core.errors import EqpotError, StructureError
from eqpot.graph.graph import Capacity, Graph
from eqpot.graph.neighbors import Neighbors, find_neighbors
from eqpot.graph.structure import Structure

GRID = 1.25
"""Ratio of neighbouring sizes on the rounding grid of atom capacities; padding stays below 1 − 1/1.25 = 20 %."""
LAYOUTS = (None, 16, 8)
"""Slots per row to choose from; None is a row per atom, with as many slots as any atom has neighbours."""
ROW = 5
"""What a row costs beside its slots, in slots (measured on a CPU: mixing channels and summing rows)."""


@dataclass(frozen=True, eq=False)
class Host:
    """A structure made ready for batching: its neighbours, its species as indices of a list of elements, and the index of its level of theory."""

    structure: Structure
    neighbors: Neighbors
    species: np.ndarray
    head: int = 0

    def __len__(self) -> int:
        return len(self.structure)


def round_up(n: int, step: int = 4, ratio: float = GRID) -> int:
    """The smallest size on the grid step·{1, 2, 3, …, then growing by `ratio`} that holds n."""
    size = step
    while size < n:
        size = max(size + step, int(np.ceil(size * ratio / step)) * step)
    return size


def species_index(structure: Structure, elements: Sequence[str]) -> np.ndarray:
    """Index of each atom's element in `elements`.

    Raises:
        StructureError: naming the element that the model has not seen and those that it has.
    """
    lookup = np.full(120, -1, np.int32)
    lookup[[atomic_number(e) for e in elements]] = np.arange(len(elements))
    index = lookup[structure.numbers]
    unseen = sorted({symbol(z) for z in structure.numbers[index < 0]})
    if unseen:
        raise StructureError(f"element {', '.join(unseen)} is unknown to this potential; it was trained on {', '.join(elements)}")
    return index


def prepare(structure: Structure, elements: Sequence[str], cutoff: float, head: int = 0) -> Host:
    """Check a structure, map its elements and find its neighbours; `head` is the index of the level of theory to predict it at.

    Raises:
        StructureError: see `Structure.check`, `find_neighbors` and `species_index`.
    """
    structure.check()
    return Host(structure, species=species_index(structure, elements), neighbors=find_neighbors(structure, cutoff), head=head)


def capacity_of(hosts: Sequence[Host], exact: bool = False, slots: int | None = None) -> Capacity:
    """The capacity that a batch needs, rounded up on the grid unless `exact`; with `slots`, in rows of that many slots instead of a row per atom."""
    atoms, most = sum(map(len, hosts)), max((h.neighbors.max_count for h in hosts), default=0)
    rows = sum(int(_rows(h.neighbors, slots).sum()) for h in hosts) if slots else None
    if exact:
        return Capacity(len(hosts), atoms, slots or max(most, 1), rows)
    return Capacity(len(hosts), round_up(atoms), slots or round_up(most), rows and round_up(rows))


def needed(hosts: Sequence[Host], capacity: Capacity) -> Capacity:
    """What a batch needs in the layout of a capacity."""
    return capacity_of(hosts, exact=True, slots=capacity.neighbors if capacity.rows is not None else None)


def bucket(hosts: Sequence[Host], fine: bool = False) -> Capacity:
    """A padded size from a coarse grid, so that structures of any size share a dozen programs; or from a fine one, for a system that is evaluated many times.

    The table has a row per atom unless atoms have very unequal numbers of neighbours.
    """
    slots = best_slots(hosts)
    need = capacity_of(hosts, exact=True, slots=slots)
    step, grid, slot_grid = (4, 1.1, 1.1) if fine else (8, 1.4, 1.5)
    graphs, atoms = round_up(need.graphs, 1, 4.0), round_up(need.atoms, step, grid)
    return Capacity(graphs, atoms, slots or round_up(need.neighbors, step, slot_grid), need.rows and round_up(need.rows, step, grid))


def best_slots(hosts: Sequence[Host]) -> int | None:
    """The layout in which a table costs least; a row per atom unless another is clearly cheaper."""

    def cost(slots: int | None) -> float:
        need = capacity_of(hosts, exact=True, slots=slots)
        return (need.rows or need.atoms) * (need.neighbors + ROW) * (1.0 if slots is None else 1.1)

    return min(LAYOUTS, key=cost)


def _rows(edges: Neighbors, slots: int) -> np.ndarray:
    """Rows of the table that each atom takes."""
    return -(-np.bincount(edges.receivers, minlength=len(edges.positions)) // slots)


def collate(hosts: Sequence[Host], capacity: Capacity | None = None, dtype: str = "float32") -> Graph:
    """Pad and join prepared structures into one graph of NumPy arrays.

    Args:
        hosts: prepared structures, at least one.
        capacity: padded sizes; by default what the batch needs, rounded up.
        dtype: of positions, cell, charge and origin.
    """
    if not hosts:
        raise EqpotError("no structures: expected at least one")
    capacity = capacity or capacity_of(hosts)
    need = needed(hosts, capacity)
    if not capacity.fits(need):
        raise EqpotError(f"a batch of {need} does not fit the capacity {capacity}")
    G, N, M = capacity.graphs, capacity.atoms, capacity.neighbors
    R = N if capacity.rows is None else capacity.rows
    graph = Graph(
        positions=np.zeros((N, 3), dtype),
        cell=np.zeros((G, 3, 3), dtype),
        species=np.zeros(N, np.int32),
        neighbors=np.zeros((R, M), np.int32),
        shifts=np.zeros((R, M, 3), np.int32),
        edge_mask=np.zeros((R, M), bool),
        atom_mask=np.zeros(N, bool),
        graph_index=np.full(N, G - 1, np.int32),
        graph_mask=np.zeros(G, bool),
        charge=np.zeros(G, dtype),
        head=np.zeros(G, np.int32),
        origin=np.zeros((G, 3), dtype),
        receivers=None if capacity.rows is None else np.full(R, N - 1, np.int32),
    )
    first = row = 0
    for g, host in enumerate(hosts):
        atoms = slice(first, first + len(host))
        graph.positions[atoms] = host.neighbors.positions
        graph.cell[g] = np.where(host.structure.pbc[:, None], host.structure.cell, 0.0)
        graph.species[atoms] = host.species
        graph.atom_mask[atoms] = True
        graph.graph_index[atoms] = g
        graph.graph_mask[g] = True
        graph.charge[g], graph.head[g] = host.structure.charge, host.head
        if not host.structure.pbc.any():
            graph.origin[g] = host.structure.positions[0] - host.neighbors.positions[0]
        row = _fill_table(graph, host.neighbors, first, row)
        first += len(host)
    return graph


def _fill_table(graph: Graph, edges: Neighbors, first: int, row: int) -> int:
    """Write the edges of one structure, whose atoms start at `first`, into the table from `row` on; returns the next free row."""
    counts = np.bincount(edges.receivers, minlength=len(edges.positions))
    rank = np.arange(len(edges.receivers)) - np.repeat(np.cumsum(counts) - counts, counts)
    slots = graph.neighbors.shape[1]
    if graph.receivers is None:
        taken = np.ones(len(counts), int)
    else:
        taken = _rows(edges, slots)
        graph.receivers[row : row + taken.sum()] = np.repeat(np.arange(len(counts)), taken) + first
    start = row + np.cumsum(taken) - taken
    at = start[edges.receivers] + rank // slots, rank % slots
    graph.neighbors[at] = edges.senders + first
    graph.shifts[at] = edges.shifts
    graph.edge_mask[at] = True
    return row + int(taken.sum())
