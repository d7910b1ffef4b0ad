"""Energies that are known without learning: pure functions of arrays, in eV and Å.

Nothing here knows graphs, models or parameters of a network. A term of `eqpot.models` describes a graph as distances, asks this room for energies,
and `eqpot.potential` differentiates them.
"""

from eqpot.physics.coulomb import gaussian_kernel, open_energies
from eqpot.physics.ewald import periodic_energies
from eqpot.physics.ewald_points import EwaldPlan, plan_ewald, point_energies
from eqpot.physics.mesh import mesh_energies, mesh_points
from eqpot.physics.repulsion import ZBL, covalent_sums, inverse_power, pair_radii, universal_screening, zbl, zbl_pairs, zbl_switched

__all__ = [
    "ZBL",
    "EwaldPlan",
    "covalent_sums",
    "gaussian_kernel",
    "inverse_power",
    "mesh_energies",
    "mesh_points",
    "open_energies",
    "pair_radii",
    "periodic_energies",
    "plan_ewald",
    "point_energies",
    "universal_screening",
    "zbl",
    "zbl_pairs",
    "zbl_switched",
]
