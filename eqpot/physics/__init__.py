"""Energies that are known without learning: pure functions of arrays, in eV and Å.

Nothing here knows graphs, models or parameters of a network. A term of `eqpot.models` describes a graph as distances, asks this room for energies,
and `eqpot.potential` differentiates them.
"""

from eqpot.physics.coulomb import gaussian_kernel, open_energies, open_matrix
from eqpot.physics.d3_functionals import Damping, damping_of
from eqpot.physics.dispersion import D3Elements, Range, d3_elements, d3_energies
from eqpot.physics.dispersion_tail import effective_cutoff, tail_energy, tail_pressure
from eqpot.physics.equilibration import equilibrated, interactions
from eqpot.physics.ewald import periodic_energies, periodic_matrix
from eqpot.physics.ewald_points import EwaldPlan, plan_ewald, point_energies
from eqpot.physics.mesh import coarsest_spacing, mesh_energies, mesh_points
from eqpot.physics.repulsion import ZBL, covalent_sums, inverse_power, pair_radii, universal_screening, zbl, zbl_pairs, zbl_switched

__all__ = [
    "ZBL",
    "D3Elements",
    "Damping",
    "EwaldPlan",
    "Range",
    "coarsest_spacing",
    "covalent_sums",
    "d3_elements",
    "d3_energies",
    "damping_of",
    "effective_cutoff",
    "equilibrated",
    "gaussian_kernel",
    "interactions",
    "inverse_power",
    "mesh_energies",
    "mesh_points",
    "open_energies",
    "open_matrix",
    "pair_radii",
    "periodic_energies",
    "periodic_matrix",
    "plan_ewald",
    "point_energies",
    "tail_energy",
    "tail_pressure",
    "universal_screening",
    "zbl",
    "zbl_pairs",
    "zbl_switched",
]
