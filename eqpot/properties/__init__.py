"""What follows from a potential: how far its forces see, how its dipole answers to displacements, how stiff a crystal is.

Functions take a `Potential` and a structure and give numbers with units.
"""

from eqpot.properties.born import born_effective_charges
from eqpot.properties.elastic import ElasticConstants, elastic_constants
from eqpot.properties.locality import Locality, locality

__all__ = ["ElasticConstants", "Locality", "born_effective_charges", "elastic_constants", "locality"]
