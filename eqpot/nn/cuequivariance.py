"""The convolution as one kernel of NVIDIA's cuEquivariance: gather, tensor product and scatter in a single pass over the edges.

The convolution is handed over as a segmented polynomial: rows of scalars, one of them per channel, and products of such rows with a coefficient.
Its operands, and how their rows are ordered:

    weights    R(r_ij)    one row per radial function
    features   h_j        one row per component, degrees stacked; gathered by the sender of an edge
    harmonics  Y(r̂_ij)    one number per component, the same for all channels
    messages   Σ_j …      one row per component of each of `module.paths`; summed into the receiver of an edge

Paths and coefficients are ours (`eqpot.nn.coupling`), so parameters mean the same here as in every other backend. Channels are mixed afterwards.

On a GPU with NVIDIA's closed package cuequivariance_ops_jax the method is "uniform_1d", a CUDA kernel. Anywhere else it is "naive", plain JAX and slow:
it serves to test the polynomial and its derivatives. Both can be differentiated to any order, forward and in reverse, and mapped over members.
"""

from functools import cache
from importlib.util import find_spec

import cuequivariance as cue  # pyright: ignore[reportMissingImports]
import cuequivariance_jax as cuex  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.errors import ConfigError
from eqpot.nn.convolution import Convolution, DegreeConvolution, Edges, PathConvolution
from eqpot.nn.coupling import clebsch_gordan
from eqpot.nn.layers import Features


def convolve(module: Convolution, features: Features, edges: Edges) -> Features:
    """A_i,l3 on a list of edges, all paths at once.

    Raises:
        ConfigError: for a convolution that is neither `PathConvolution` nor `DegreeConvolution`.
    """
    atoms, channels = len(features[0]), module.channels
    l_edge = round(edges.harmonics.shape[-1] ** 0.5) - 1
    polynomial = _polynomial(module.paths, _functions(module), len(features) - 1, l_edge, channels)
    senders, receivers = edges.as_list()
    weights, y = (x.reshape(len(senders), -1) for x in (module.radial(edges.radial_basis), edges.harmonics))  # [E, F·C], [E, S]
    stacked = jnp.concatenate(features, 1).reshape(atoms, -1)  # [N, S·C]
    (messages,) = cuex.segmented_polynomial(
        polynomial,
        [weights, stacked, y],
        [jax.ShapeDtypeStruct((atoms, polynomial.outputs[0].size), stacked.dtype)],
        [None, senders, None, receivers],
        method=_method(),
        name="eqpot_convolution",
    )
    return _mix(module, messages.reshape(atoms, -1, channels))


def _method() -> str:
    fast = jax.default_backend() == "gpu" and find_spec("cuequivariance_ops_jax") is not None
    return "uniform_1d" if fast else "naive"


def _functions(module: Convolution) -> tuple[int, ...]:
    """The radial function of each path."""
    if isinstance(module, PathConvolution):
        return tuple(range(len(module.paths)))
    if isinstance(module, DegreeConvolution):
        return tuple(l1 for l1, _, _ in module.paths)
    raise ConfigError(
        f"backend 'cuequivariance' knows PathConvolution and DegreeConvolution, found {type(module).__name__}: "
        "choose backend 'dense', or say in eqpot.nn.cuequivariance which radial function each path has"
    )


@cache
def _polynomial(paths: tuple[tuple[int, int, int], ...], functions: tuple[int, ...], l_in: int, l_edge: int, channels: int):
    """Σ over paths of C[i, j, k] · weights[u] · features[i, u] · harmonics[j] → messages[k, u], u the channel."""
    product = cue.SegmentedTensorProduct.from_subscripts("u,iu,j,ku+ijk")  # pyright: ignore[reportArgumentType]
    product.add_segments(0, [(channels,)] * (max(functions) + 1))
    product.add_segments(1, [(2 * l + 1, channels) for l in range(l_in + 1)])
    product.add_segments(2, [(2 * l + 1,) for l in range(l_edge + 1)])
    for function, (l1, l2, l3) in zip(functions, paths, strict=True):
        product.add_path(function, l1, l2, None, c=clebsch_gordan(l1, l2, l3))  # None: a new segment of the messages
    return cue.SegmentedPolynomial.eval_last_operand(product.flatten_coefficient_modes())


def _mix(module: Convolution, messages: Float[Array, "N K C"]) -> Features:
    """Mix the channels of all paths to a degree; paths come sorted by it."""
    outputs, first = [], 0
    for l3, mix in enumerate(module.mix):
        weight = mix[...].reshape(-1, module.channels, module.channels)  # [paths to l3, C, C]
        last = first + len(weight) * (2 * l3 + 1)
        sums = messages[:, first:last].reshape(len(messages), len(weight), 2 * l3 + 1, module.channels)
        outputs.append(jnp.einsum("npkc,pcd->nkd", sums, weight) * module.scale)
        first = last
    return tuple(outputs)
