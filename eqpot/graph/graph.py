"""The padded graph that a model sees: inputs only, static shapes, everything masked.

Neighbours are a table [rows, slots]: summing messages over slots is then a batched matrix product and needs no scatter, which is what makes the
network fast on a CPU (see docs/decisions.md). With a row per atom the table is dense; where some atoms have many more neighbours
than others, an atom takes as many rows of fewer slots as it needs, down to one slot per row, which is a list of edges. A padding atom has no
neighbours, no weight and species 0; a padding slot points to atom 0 and is masked.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record

Either = Any if TYPE_CHECKING else Array | np.ndarray
"""A graph is filled with NumPy arrays on the host and holds JAX arrays on the device."""


@dataclasses.dataclass(frozen=True)
class Capacity:
    """Padded sizes of a batch: structures, atoms in all, neighbour slots per row, and rows, or None for one row per atom."""

    graphs: int
    atoms: int
    neighbors: int
    rows: int | None = None

    @property
    def slots(self) -> int:
        """Neighbour slots in all."""
        return (self.atoms if self.rows is None else self.rows) * self.neighbors

    def fits(self, other: "Capacity") -> bool:
        """Whether a batch that needs `other` can be padded to this; both have a row per atom, or neither."""
        mine, others = ((c.graphs, c.atoms, c.neighbors, c.rows or 0) for c in (self, other))
        return (self.rows is None) == (other.rows is None) and all(a >= b for a, b in zip(mine, others, strict=True))


@record
class Graph:
    """A batch of structures as one disjoint graph.

    Axes: N atoms, R rows of M neighbour slots, G structures; each includes padding.

    Attributes:
        positions: Cartesian coordinates [Å].
        cell: rows are lattice vectors [Å]; zero where there is none.
        species: index into the model's list of elements.
        neighbors: atom index of the sender in each slot of a row.
        shifts: image of that sender in units of lattice vectors.
        edge_mask: which slots are used.
        atom_mask: which atoms are real.
        graph_index: structure that each atom belongs to, ascending.
        graph_mask: which structures are real.
        charge: total charge of each structure [e].
        head: index of the level of theory that each structure is to be predicted at.
        origin: where the zero of the positions lies for a structure without periodicity [Å]; zero for others. Energies do not depend on it.
        receivers: atom that each row belongs to, ascending; None when row i is atom i.
    """

    positions: Float[Either, "N 3"]
    cell: Float[Either, "G 3 3"]
    species: Int[Either, " N"]
    neighbors: Int[Either, "R M"]
    shifts: Int[Either, "R M 3"]
    edge_mask: Bool[Either, "R M"]
    atom_mask: Bool[Either, " N"]
    graph_index: Int[Either, " N"]
    graph_mask: Bool[Either, " G"]
    charge: Float[Either, " G"]
    head: Int[Either, " G"]
    origin: Float[Either, "G 3"]
    receivers: Int[Either, " R"] | None = None

    @property
    def capacity(self) -> "Capacity":
        """The sizes that this graph was padded to."""
        rows, slots = self.neighbors.shape
        return Capacity(len(self.cell), len(self.positions), slots, None if self.receivers is None else rows)

    def edge_vectors(self) -> Float[Array, "R M 3"]:
        """r_j + S·cell − r_i [Å] for every slot; a masked slot holds a vector of no meaning."""
        dtype = self.positions.dtype
        cell = self.of_receivers(self.cell[self.graph_index])[:, None]
        images = jnp.sum(self.shifts.astype(dtype)[..., None] * cell, axis=-2)
        return self.positions[self.neighbors] - self.of_receivers(self.positions)[:, None] + images

    def of_receivers(self, values: Float[Either, "N *d"]) -> Float[Either, "R *d"]:
        """A per-atom quantity for every row of the table."""
        return values if self.receivers is None else values[self.receivers]

    def sum_rows(self, values: Float[Array, "R *d"]) -> Float[Array, "N *d"]:
        """Sum of a per-row quantity over the rows of each atom."""
        if self.receivers is None:
            return values
        return jax.ops.segment_sum(values, self.receivers, len(self.positions), indices_are_sorted=True)

    def strained(self, strain: Float[Array, "G 3 3"]) -> "Graph":
        """The graph under a homogeneous strain per structure: r → r(1 + ε), cell → cell(1 + ε)."""
        deform = strain + jnp.eye(3, dtype=strain.dtype)
        positions = jnp.einsum("ni,nij->nj", self.positions, deform[self.graph_index])
        return self.replace(positions=positions, cell=self.cell @ deform)

    def replace(self, **changes: Either) -> "Graph":
        """A copy with some arrays replaced."""
        return dataclasses.replace(self, **changes)

    def sum_atoms(self, values: Float[Array, "N *d"]) -> Float[Array, "G *d"]:
        """Sum of a per-atom quantity over the real atoms of each structure."""
        mask = self.atom_mask.reshape(-1, *(1,) * (values.ndim - 1))
        return jax.ops.segment_sum(jnp.where(mask, values, 0), self.graph_index, self.graph_mask.shape[0], indices_are_sorted=True)
