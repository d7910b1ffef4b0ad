"""What follows from a potential: how far its forces see, how its dipole answers to displacements.

Functions take a `Potential` and a structure and give numbers with units; they need neither training nor dynamics.
"""

from eqpot.properties.born import born_effective_charges
from eqpot.properties.locality import Locality, locality

__all__ = ["Locality", "born_effective_charges", "locality"]
