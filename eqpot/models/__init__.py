"""Energy models: a graph in, one energy per atom out."""

from typing import Any

from flax import nnx

from eqpot.models.base import AtomOutputs, EnergyModel, Geometry, Normalization
from eqpot.models.behler import BehlerParrinello, BehlerParrinelloConfig
from eqpot.models.config import EquivariantConfig
from eqpot.models.dispersion import D3Config, Dispersion
from eqpot.models.electrostatics import ChargeEquilibration, Coulomb, CoulombConfig, EquilibrationConfig
from eqpot.models.equivariant import Equivariant
from eqpot.models.kinds import ModelConfig, SumConfig, TermConfig, model_config
from eqpot.models.linear import LinearConfig, LinearModel, n_invariants, parameters_of
from eqpot.models.pairs import InversePower, InversePowerConfig, ZBLConfig, ZBLRepulsion
from eqpot.models.readouts import take_head
from eqpot.models.sums import SumModel


def build_model(
    config: ModelConfig | TermConfig, elements: tuple[str, ...], normalization: Normalization, seed: int, backend: str = "auto"
) -> EnergyModel:
    """The model of a configuration with parameters drawn from `seed`.

    Args:
        config: of a network, a term or a sum.
        elements: chemical symbols, in the order of `Graph.species`.
        normalization: statistics of the data, which the network takes; other terms have units of their own.
        seed: of the parameters; a network draws the same alone and in a sum.
        backend: how layers are evaluated, as in `eqpot.nn.kernels`.
    """
    rngs = nnx.Rngs(params=seed)
    if isinstance(config, SumConfig):
        return SumModel({name: build_term(term, elements, normalization, backend, rngs) for name, term in config.terms.items()})
    return build_term(config, elements, normalization, backend, rngs)


def build_term(config: Any, elements: tuple[str, ...], normalization: Normalization, backend: str, rngs: nnx.Rngs) -> EnergyModel:
    """The model of a configuration that is no sum."""
    if isinstance(config, ZBLConfig):
        return ZBLRepulsion(config, elements)
    if isinstance(config, InversePowerConfig):
        return InversePower(config, elements)
    if isinstance(config, CoulombConfig):
        return Coulomb(config)
    if isinstance(config, D3Config):
        return Dispersion(config, elements)
    if isinstance(config, EquilibrationConfig):
        return ChargeEquilibration(config, len(elements))
    if isinstance(config, BehlerParrinelloConfig):
        return BehlerParrinello(config, len(elements), normalization, rngs=rngs)
    if isinstance(config, LinearConfig):
        return LinearModel(config, elements, normalization)
    return Equivariant(config, len(elements), normalization, backend, rngs=rngs)


__all__ = [
    "AtomOutputs",
    "BehlerParrinello",
    "BehlerParrinelloConfig",
    "ChargeEquilibration",
    "Coulomb",
    "CoulombConfig",
    "D3Config",
    "Dispersion",
    "EnergyModel",
    "EquilibrationConfig",
    "Equivariant",
    "EquivariantConfig",
    "Geometry",
    "InversePower",
    "InversePowerConfig",
    "LinearConfig",
    "LinearModel",
    "ModelConfig",
    "Normalization",
    "SumConfig",
    "SumModel",
    "TermConfig",
    "ZBLConfig",
    "ZBLRepulsion",
    "build_model",
    "model_config",
    "n_invariants",
    "parameters_of",
    "take_head",
]
