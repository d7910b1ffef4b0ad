"""Equivariant layers on arrays. They see features, species and neighbour tables, never a Graph or a file."""

from eqpot.nn.contraction import SymmetricContraction
from eqpot.nn.convolution import Convolution, DegreeConvolution, Edges, PathConvolution
from eqpot.nn.kernels import Backend, choose_backend, convolve, update
from eqpot.nn.layers import MLP, Features, Gate, Linear, SpeciesLinear
from eqpot.nn.sphere import GridProduct
from eqpot.nn.updates import ContractionUpdate, GateUpdate, GridUpdate

__all__ = [
    "MLP",
    "Backend",
    "ContractionUpdate",
    "Convolution",
    "DegreeConvolution",
    "Edges",
    "Features",
    "Gate",
    "GateUpdate",
    "GridProduct",
    "GridUpdate",
    "Linear",
    "PathConvolution",
    "SpeciesLinear",
    "SymmetricContraction",
    "choose_backend",
    "convolve",
    "update",
]
