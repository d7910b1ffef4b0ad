"""The padded graph that a model sees: inputs only, static shapes, everything masked.

Neighbours are a dense table [atoms, slots]: summing messages is then a batched matrix product over slots and needs no
scatter, which is what makes the network fast on a CPU (see docs/decisions.md). A padding atom has no neighbours, no
weight and species 0; a padding slot points to atom 0 and is masked.
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


@record
class Graph:
    """A batch of structures as one disjoint graph.

    Axes: N atoms, M neighbour slots per atom, G structures; each includes padding.

    Attributes:
        positions: Cartesian coordinates [Å].
        cell: rows are lattice vectors [Å]; zero where there is none.
        species: index into the model's list of elements.
        neighbors: atom index of the sender in each slot of a receiver.
        shifts: image of that sender in units of lattice vectors.
        edge_mask: which slots are used.
        atom_mask: which atoms are real.
        graph_index: structure that each atom belongs to, ascending.
        graph_mask: which structures are real.
    """

    positions: Float[Either, "N 3"]
    cell: Float[Either, "G 3 3"]
    species: Int[Either, " N"]
    neighbors: Int[Either, "N M"]
    shifts: Int[Either, "N M 3"]
    edge_mask: Bool[Either, "N M"]
    atom_mask: Bool[Either, " N"]
    graph_index: Int[Either, " N"]
    graph_mask: Bool[Either, " G"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(structures, atoms, neighbour slots), the bucket that this graph was padded to."""
        return self.cell.shape[0], *self.neighbors.shape

    def edge_vectors(self) -> Float[Array, "N M 3"]:
        """r_j + S·cell − r_i [Å] for every slot; a masked slot holds a vector of no meaning."""
        dtype = self.positions.dtype
        cell = self.cell[self.graph_index][:, None]
        images = jnp.sum(self.shifts.astype(dtype)[..., None] * cell, axis=-2)
        return self.positions[self.neighbors] - self.positions[:, None] + images

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
