"""Potentials: a model, its parameters, its derivatives, its ensemble, its file."""

from eqpot.core.devices import use_cores
from eqpot.potential.calibration import Calibration, QuantityCalibration, SigmaMap
from eqpot.potential.derivatives import Prediction, hessian_vector_product, predict, predict_members, predictor
from eqpot.potential.domain import Domain
from eqpot.potential.last_layer import LastLayer
from eqpot.potential.members import map_members, place_members
from eqpot.potential.potential import Potential
from eqpot.potential.result import Interval, Result
from eqpot.potential.spec import ModelSpec, Params, Products
from eqpot.potential.trust import Judge, Judgement, Trust, pass_judgement

use_cores()

__all__ = [
    "Calibration",
    "Domain",
    "Interval",
    "Judge",
    "Judgement",
    "LastLayer",
    "ModelSpec",
    "Params",
    "Potential",
    "Prediction",
    "Products",
    "QuantityCalibration",
    "Result",
    "SigmaMap",
    "Trust",
    "hessian_vector_product",
    "map_members",
    "pass_judgement",
    "place_members",
    "predict",
    "predict_members",
    "predictor",
]
