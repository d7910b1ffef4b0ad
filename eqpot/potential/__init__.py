"""Potentials: a model, its parameters, its derivatives, its ensemble, its file."""

from eqpot.potential.derivatives import Prediction, hessian_vector_product, map_members, predict, predict_members, predictor
from eqpot.potential.potential import Potential, Result
from eqpot.potential.spec import ModelSpec, Params

__all__ = [
    "ModelSpec",
    "Params",
    "Potential",
    "Prediction",
    "Result",
    "hessian_vector_product",
    "map_members",
    "predict",
    "predict_members",
    "predictor",
]
