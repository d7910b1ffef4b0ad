"""Functions of a distance: smooth cutoffs and radial bases. Plain arrays in, plain arrays out."""

from eqpot.basis.radial import bessel, polynomial_envelope

__all__ = ["bessel", "polynomial_envelope"]
