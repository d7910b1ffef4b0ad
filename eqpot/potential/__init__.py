"""Potentials: a model, its parameters, its derivatives, its ensemble, its file."""

from eqpot.core.devices import use_cores
from eqpot.potential.derivatives import Prediction, hessian_vector_product, predict, predict_members, predictor
from eqpot.potential.members import map_members, place_members
from eqpot.potential.potential import Potential
from eqpot.potential.result import Result
from eqpot.potential.spec import ModelSpec, Params, Products

use_cores()

__all__ = [
    "ModelSpec",
    "Params",
    "Potential",
    "Prediction",
    "Products",
    "Result",
    "hessian_vector_product",
    "map_members",
    "place_members",
    "predict",
    "predict_members",
    "predictor",
]
