"""A model without its parameters: a static, hashable description, and the pure functions that it defines.

Flax modules live below this line; above it there is only this spec, a pytree of arrays, and plain JAX. Two equal specs compile once.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from eqpot.core.errors import ConfigError
from eqpot.graph import Graph
from eqpot.models import AtomOutputs, Geometry, ModelConfig, Normalization, TermConfig, build_model

Products = Literal["float32", "tensorfloat32", "bfloat16"]
"""Precision of matrix products with parameters, for a float32 network on a device that offers a choice (a CPU does not)."""

Params = Any
"""Nested dict of arrays; with a leading member axis wherever a docstring says so."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything static that a model is built from.

    Attributes:
        config: architecture.
        elements: chemical symbols, in the order of `Graph.species`.
        normalization: statistics of the data that the model was made for.
        backend: how layers are evaluated, "auto" for what suits the device (see `eqpot.nn.kernels`).
        products: precision of matrix products with parameters. Geometry, couplings, sums over neighbours and readouts are always exact to the dtype.

    The last two are about a run and not about the model: an archive does not keep them.
    """

    config: ModelConfig | TermConfig
    elements: tuple[str, ...]
    normalization: Normalization
    backend: str = "auto"
    products: str = "float32"

    def __post_init__(self) -> None:
        if self.products not in get_args(Products):
            raise ConfigError(f"products: found '{self.products}', expected {' or '.join(get_args(Products))}")

    @property
    def conservative(self) -> bool:
        """Whether forces are derivatives of the energy; otherwise they are read from the features, and there is no stress."""
        return not self.config.direct_forces

    def init(self, seed: int) -> Params:
        """Parameters of one member."""
        model = build_model(self.config, self.elements, self.normalization, seed, self.backend)
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def init_members(self, seeds: list[int]) -> Params:
        """Parameters of an ensemble, stacked along a leading member axis."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[self.init(seed) for seed in seeds])

    def shapes(self) -> Params:
        """Shapes and dtypes of one member's parameters, without computing any."""
        return jax.eval_shape(lambda: self.init(0))

    def describe(self, graph: Graph) -> Geometry:
        """The geometry that all members share."""
        with jax.default_matmul_precision("float32"):
            return nnx.merge(*_skeleton(self)).describe(graph)

    def evaluate(self, params: Params, graph: Graph, geometry: Geometry) -> AtomOutputs:
        """Per-atom energies [eV] of one member on a described graph, and what else its configuration asks for."""
        graphdef, state = _skeleton(self)
        state = jax.tree.map(lambda leaf: leaf, state)  # a copy: the cached skeleton stays abstract
        nnx.replace_by_pure_dict(state, params)
        with jax.default_matmul_precision(self.products):
            return nnx.merge(graphdef, state)(graph, geometry)


@lru_cache(maxsize=64)
def _skeleton(spec: ModelSpec) -> tuple[Any, Any]:
    """Graph definition and abstract state of a spec."""
    model = nnx.eval_shape(lambda: build_model(spec.config, spec.elements, spec.normalization, 0, spec.backend))
    return nnx.split(model)
