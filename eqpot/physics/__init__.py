"""Energies that are known without learning: pure functions of arrays, in eV and Å.

Nothing here knows graphs, models or parameters of a network. A term of `eqpot.models` describes a graph as distances, asks this room for energies,
and `eqpot.potential` differentiates them.
"""

from eqpot.physics.repulsion import ZBL, covalent_sums, inverse_power, pair_radii, universal_screening, zbl, zbl_pairs, zbl_switched

__all__ = ["ZBL", "covalent_sums", "inverse_power", "pair_radii", "universal_screening", "zbl", "zbl_pairs", "zbl_switched"]
