"""Neighbour lists on the host, for any cell, cutoff and periodicity.

An edge is (receiver i, sender j, shift S) with the vector r_j + S·cell − r_i and 0 < |vector| < cutoff. All periodic
images are counted, also several images of one pair and images of an atom itself, so a primitive cell is as good as
a large one. The pairs come from vesin; tests compare them with a brute-force sum over images.
"""

from dataclasses import dataclass

import numpy as np

from eqpot.core.errors import StructureError
from eqpot.graph.structure import Structure

MIN_DISTANCE = 0.1
"""Closest distance that is still an input [Å]; anything nearer is an error, not a number."""


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Directed edges of one structure, sorted by (receiver, sender, shift) so that sums are reproducible.

    Attributes:
        positions: coordinates that the shifts belong to: wrapped into the cell along periodic directions and
            centred along the others, so that float32 keeps its digits anywhere in space, [atoms, 3] in Å.
        receivers: index i, [edges].
        senders: index j, [edges].
        shifts: image of the sender in units of lattice vectors, [edges, 3].
    """

    positions: np.ndarray
    receivers: np.ndarray
    senders: np.ndarray
    shifts: np.ndarray

    @property
    def max_count(self) -> int:
        """Largest number of neighbours of any atom."""
        return int(np.bincount(self.receivers).max()) if len(self.receivers) else 0


def complete_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with the rows of non-periodic directions replaced by unit vectors normal to the periodic ones."""
    full = np.array(cell, np.float64)
    if pbc.all():
        return full
    _, _, normals = np.linalg.svd(np.where(pbc[:, None], full, 0.0))
    full[~pbc] = normals[int(pbc.sum()) :]
    return full


def wrap(structure: Structure) -> np.ndarray:
    """Positions folded into the cell along periodic directions and centred on the origin along the others."""
    cell = complete_cell(structure.cell, structure.pbc)
    fractional = np.linalg.solve(cell.T, structure.positions.T).T
    offset = np.where(structure.pbc, np.floor(fractional), fractional.mean(0))
    return structure.positions - offset @ cell


def find_neighbors(structure: Structure, cutoff: float, min_distance: float = MIN_DISTANCE) -> Neighbors:
    """All pairs within the cutoff.

    Args:
        structure: any checked structure.
        cutoff: radius [Å].
        min_distance: pairs closer than this are refused [Å]; 0 switches the check off.

    Raises:
        StructureError: when two atoms (or an atom and an image) are closer than `min_distance`; both are named.
    """
    from vesin import NeighborList

    structure.check()
    positions = wrap(structure)
    cell = complete_cell(structure.cell, structure.pbc)
    search = NeighborList(cutoff=max(float(cutoff), min_distance), full_list=True, n_threads=1)
    i, j, shifts, distances = search.compute(positions, cell, structure.pbc, quantities="ijSd")
    if len(distances) and distances.min() < min_distance:
        k = int(np.argmin(distances))
        raise StructureError(
            f"atoms {i[k]} and {j[k]} are {distances[k]:.3g} Å apart (image {shifts[k].tolist()}); "
            f"expected at least {min_distance:g} Å: overlapping or duplicated atoms"
        )
    order = np.lexsort((*shifts.T[::-1], j, i))
    order = order[distances[order] < cutoff]
    return Neighbors(positions, i[order].astype(np.int32), j[order].astype(np.int32), shifts[order].astype(np.int32))
