"""Equivariant layers on arrays. They see features, species and neighbour tables, never a Graph or a file."""

from eqpot.nn.contraction import SymmetricContraction
from eqpot.nn.convolution import Convolution
from eqpot.nn.layers import MLP, Features, Gate, Linear, SpeciesLinear
from eqpot.nn.updates import ContractionUpdate, GateUpdate

__all__ = [
    "MLP",
    "ContractionUpdate",
    "Convolution",
    "Features",
    "Gate",
    "GateUpdate",
    "Linear",
    "SpeciesLinear",
    "SymmetricContraction",
]
