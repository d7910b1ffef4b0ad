"""Functions of a distance: smooth cutoffs and radial bases. Plain arrays in, plain arrays out."""

from eqpot.basis.radial import bessel, polynomial_envelope
from eqpot.basis.symmetry_functions import angular_functions, angular_weights, cutoff_function, directions, element_pairs, radial_functions

__all__ = [
    "angular_functions",
    "angular_weights",
    "bessel",
    "cutoff_function",
    "directions",
    "element_pairs",
    "polynomial_envelope",
    "radial_functions",
]
