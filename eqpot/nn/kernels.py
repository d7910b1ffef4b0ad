"""How the two expensive parts of a layer are evaluated: the convolution over edges, and the update of atoms.

A backend changes how fast, never what: every one is tested against "reference" in value and in first and second derivatives.

    dense           whole arrays at once; XLA fuses what it can. For GPU and TPU, and whenever forward-mode derivatives are wanted.
    blocked         the same, for a few atoms at a time, with derivatives that recompute (`eqpot.nn.blocks`). For CPUs.
    cuequivariance  the convolution by NVIDIA's kernel (`eqpot.nn.cuequivariance`), the update as in dense. Never chosen by itself, because it has not
                    been run on a GPU yet. `pip install 'eqpot[kernels]'`, and on a GPU cuequivariance-ops-jax-cu12 or -cu13.
    reference       e3nn-jax on a list of edges. Slow and obvious.
"""

from importlib.util import find_spec
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int

from eqpot.core.errors import ConfigError
from eqpot.nn.blocks import in_blocks
from eqpot.nn.convolution import Convolution, Edges
from eqpot.nn.layers import Features
from eqpot.nn.reference import convolve as reference_convolve

Backend = Literal["dense", "blocked", "cuequivariance", "reference"]
BLOCK = 16
"""Atoms per block: their edges, with messages and slopes, fit the second-level cache."""


def choose_backend(wish: str = "auto") -> Backend:
    """The backend for the device at hand, or the one wished for.

    Raises:
        ConfigError: when there is none of that name, or it is not installed.
    """
    if wish == "auto":
        return "blocked" if jax.default_backend() == "cpu" else "dense"
    if wish not in get_args(Backend):
        raise ConfigError(f"backend: found '{wish}', expected auto, {' or '.join(get_args(Backend))}")
    if wish == "cuequivariance" and not _installed("cuequivariance_jax"):
        raise ConfigError("backend 'cuequivariance' needs a package that is not installed: pip install 'eqpot[kernels]', or choose 'auto'")
    if wish == "cuequivariance" and jax.default_backend() == "gpu" and not _installed("cuequivariance_ops_jax"):
        raise ConfigError(
            "backend 'cuequivariance' needs NVIDIA's kernels: pip install cuequivariance-ops-jax-cu12 (or -cu13), or choose 'auto'"
        )
    return wish  # type: ignore[return-value]


def _installed(package: str) -> bool:
    """Whether a package could be imported, without importing it."""
    return find_spec(package) is not None


def convolve(module: Convolution, features: Features, edges: Edges, backend: Backend) -> Features:
    """The messages of all atoms."""
    if backend == "reference":
        return reference_convolve(module, features, edges)
    if backend == "cuequivariance":
        from eqpot.nn.cuequivariance import convolve as fused_convolve  # optional: imported only when chosen

        return fused_convolve(module, features, edges)
    if backend == "blocked":
        graphdef, parameters = nnx.split(module)

        def kernel(parameters, rows, senders, _):
            return nnx.merge(graphdef, parameters)(senders, *rows)

        rows = (edges.harmonics, edges.radial_basis)
        messages = in_blocks(kernel, parameters, rows, features, (), edges.neighbors, BLOCK)
    else:
        messages = module(tuple(x[edges.neighbors] for x in features), edges.harmonics, edges.radial_basis)
    if edges.receivers is None:
        return messages
    return tuple(jax.ops.segment_sum(x, edges.receivers, len(features[0]), indices_are_sorted=True) for x in messages)


def update(module: nnx.Module, message: Features, kept: Features, species: Int[Array, " N"], backend: Backend) -> Features:
    """The new features of all atoms."""
    if backend != "blocked":
        return module(message, kept, species)  # type: ignore[operator]
    graphdef, parameters = nnx.split(module)

    def kernel(parameters, rows, _, species):
        return nnx.merge(graphdef, parameters)(*rows, species)

    return in_blocks(kernel, parameters, (message, kept), (), species, jnp.zeros((len(species), 0), jnp.int32), BLOCK)
