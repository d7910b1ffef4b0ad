"""From structures to padded graphs, in few shapes.

XLA compiles once for each shape, so batches are padded to a small set of capacities ("buckets"). Sizes are rounded up on
a geometric grid; a data set is cut into a few size classes so that a large structure does not pad all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqpot.core.elements import atomic_number, symbol
from eqpot.core.errors import EqpotError, StructureError
from eqpot.graph.graph import Graph
from eqpot.graph.neighbors import Neighbors, find_neighbors
from eqpot.graph.structure import Structure

GRID = 1.25
"""Ratio of neighbouring sizes on the rounding grid of atom capacities; padding stays below 1 − 1/1.25 = 20 %."""


@dataclass(frozen=True)
class Capacity:
    """Padded sizes of a batch: structures, atoms in all, neighbour slots per atom."""

    graphs: int
    atoms: int
    neighbors: int

    def fits(self, other: "Capacity") -> bool:
        """Whether a batch that needs `other` can be padded to this."""
        return self.graphs >= other.graphs and self.atoms >= other.atoms and self.neighbors >= other.neighbors


@dataclass(frozen=True, eq=False)
class Host:
    """A structure made ready for batching: its neighbours, and its species as indices of a list of elements."""

    structure: Structure
    neighbors: Neighbors
    species: np.ndarray

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


def prepare(structure: Structure, elements: Sequence[str], cutoff: float) -> Host:
    """Check a structure, map its elements and find its neighbours.

    Raises:
        StructureError: see `Structure.check`, `find_neighbors` and `species_index`.
    """
    structure.check()
    return Host(structure, species=species_index(structure, elements), neighbors=find_neighbors(structure, cutoff))


def capacity_of(hosts: Sequence[Host], exact: bool = False) -> Capacity:
    """The capacity that a batch needs, rounded up on the grid unless `exact`."""
    atoms, slots = sum(map(len, hosts)), max((h.neighbors.max_count for h in hosts), default=0)
    if exact:
        return Capacity(len(hosts), atoms, max(slots, 1))
    return Capacity(len(hosts), round_up(atoms), round_up(slots))


def collate(hosts: Sequence[Host], capacity: Capacity | None = None, dtype: str = "float32") -> Graph:
    """Pad and join prepared structures into one graph of NumPy arrays.

    Args:
        hosts: prepared structures, at least one.
        capacity: padded sizes; by default what the batch needs, rounded up.
        dtype: of positions and cell.
    """
    if not hosts:
        raise EqpotError("no structures: expected at least one")
    need = capacity_of(hosts, exact=True)
    capacity = capacity or capacity_of(hosts)
    if not capacity.fits(need):
        raise EqpotError(f"a batch of {need} does not fit the capacity {capacity}")
    G, N, M = capacity.graphs, capacity.atoms, capacity.neighbors
    graph = Graph(
        positions=np.zeros((N, 3), dtype),
        cell=np.zeros((G, 3, 3), dtype),
        species=np.zeros(N, np.int32),
        neighbors=np.zeros((N, M), np.int32),
        shifts=np.zeros((N, M, 3), np.int32),
        edge_mask=np.zeros((N, M), bool),
        atom_mask=np.zeros(N, bool),
        graph_index=np.full(N, G - 1, np.int32),
        graph_mask=np.zeros(G, bool),
    )
    first = 0
    for g, host in enumerate(hosts):
        atoms = slice(first, first + len(host))
        graph.positions[atoms] = host.neighbors.positions
        graph.cell[g] = np.where(host.structure.pbc[:, None], host.structure.cell, 0.0)
        graph.species[atoms] = host.species
        graph.atom_mask[atoms] = True
        graph.graph_index[atoms] = g
        graph.graph_mask[g] = True
        _fill_table(graph, host.neighbors, first)
        first += len(host)
    return graph


def _fill_table(graph: Graph, edges: Neighbors, first: int) -> None:
    """Write the edges of one structure into the dense table, atoms starting at row `first`."""
    counts = np.bincount(edges.receivers, minlength=1)
    slot = np.arange(len(edges.receivers)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = edges.receivers + first
    graph.neighbors[row, slot] = edges.senders + first
    graph.shifts[row, slot] = edges.shifts
    graph.edge_mask[row, slot] = True
