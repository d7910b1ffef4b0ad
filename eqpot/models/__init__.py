"""Energy models: a graph in, one energy per atom out."""

from flax import nnx

from eqpot.models.base import AtomOutputs, EnergyModel, Geometry, Normalization
from eqpot.models.config import EquivariantConfig
from eqpot.models.equivariant import Equivariant
from eqpot.models.readouts import take_head

ModelConfig = EquivariantConfig
"""Union of the configurations of all models, told apart by `kind`."""


def build_model(config: ModelConfig, n_species: int, normalization: Normalization, seed: int, backend: str = "auto") -> EnergyModel:
    """The model of a configuration with parameters drawn from `seed`; `backend` as in `eqpot.nn.kernels`."""
    return Equivariant(config, n_species, normalization, backend, rngs=nnx.Rngs(params=seed))


__all__ = [
    "AtomOutputs",
    "EnergyModel",
    "Equivariant",
    "EquivariantConfig",
    "Geometry",
    "ModelConfig",
    "Normalization",
    "build_model",
    "take_head",
]
