"""Neighbour tables of a moving system, made on the host, in few shapes."""

from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float

from eqpot.core.errors import SimulationError, StructureError
from eqpot.graph import Capacity, Host, Structure, collate, prepare
from eqpot.graph.batching import round_up
from eqpot.md.forces import Table
from eqpot.potential import Potential

GRID = 1.1
"""Ratio of neighbouring sizes on the grid of slots: finer than that of batches, as a run may compile twice but has many steps to pay for padding."""
FREE_SLOTS = 1.25
"""All pairs of a molecule are taken when they need at most this many times the slots of a list with skin: then no list is ever made again."""


class TableMaker:
    """Makes the table of a structure at given positions; remembers how many slots it has needed.

    Args:
        potential: the potential that the table is for, already in the dtype of the network.
        structure: the system; its own positions are the first.
        skin: range beyond the cutoff [Å].
        dtype: of positions in space.

    Attributes:
        slots: neighbour slots per atom; never shrinks, so that a run compiles once unless the system becomes denser.
        made: tables made so far.
        grown: how often the slots had to grow.
        reference_energy: of the whole structure [eV].
    """

    def __init__(self, potential: Potential, structure: Structure, skin: float, dtype: str) -> None:
        self.potential, self.structure, self.skin, self.dtype = potential, structure, skin, dtype
        self.slots, self.made, self.grown = 1, 0, 0
        host = self._find(structure, skin)
        self.reference_energy = potential.offset(host)
        self.complete = not structure.pbc.any() and len(structure) - 1 <= FREE_SLOTS * round_up(host.neighbors.max_count, ratio=GRID)

    def make(self, positions: Float[np.ndarray, "N 3"]) -> Table:
        """The table at these positions, on the device.

        Raises:
            SimulationError: when two atoms have come too close for the potential to mean anything.
        """
        structure = replace(self.structure, positions=positions)
        try:
            host = self._find(structure, self._diameter(positions) if self.complete else self.skin)
        except StructureError as error:
            raise SimulationError(str(error)) from None
        self._grow(host)
        self.made += 1
        graph = collate([host], Capacity(1, len(structure), self.slots), self.potential.dtype)
        reach = np.inf if self.complete else self.skin / 2
        arrays = (np.asarray(x, self.dtype) for x in (positions - host.neighbors.positions, positions, reach))
        return Table(jax.device_put(graph), *map(jax.device_put, arrays))

    def _find(self, structure: Structure, skin: float) -> Host:
        return prepare(structure, self.potential.elements, self.potential.cutoff + skin)

    def _diameter(self, positions: np.ndarray) -> float:
        """At least the largest distance [Å]."""
        return 1.0 + 2 * float(np.linalg.norm(positions - positions.mean(0), axis=1).max())

    def _grow(self, host: Host) -> None:
        need = host.neighbors.max_count
        if need > self.slots:
            self.grown += self.made > 0
            self.slots = len(self.structure) - 1 if self.complete else round_up(need, ratio=GRID)
