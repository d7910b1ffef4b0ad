"""The convolution as a textbook writes it: a tensor product per edge, a scatter per atom. Slow and obvious; what the fast forms are tested against."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from eqpot.nn.convolution import Convolution, Edges, PathConvolution
from eqpot.nn.coupling import degree_slice
from eqpot.nn.layers import Features


def convolve(module: Convolution, features: Features, edges: Edges) -> Features:
    """A_i,l3 on a list of edges, path by path, with e3nn's tensor product."""
    sender, receiver = edges.as_list()
    y, basis = (x.reshape(len(sender), -1) for x in (edges.harmonics, edges.radial_basis))
    radial = module.radial(basis).reshape(len(sender), -1, module.channels)
    columns: list[list[Array]] = [[] for _ in module.mix]
    for p, (l1, l2, l3) in enumerate(module.paths):
        first = e3nn.IrrepsArray(_irreps(l1), jnp.moveaxis(features[l1][sender], 1, 2))
        second = e3nn.IrrepsArray(_irreps(l2), y[:, None, degree_slice(l2)])
        product = e3nn.tensor_product(first, second, filter_ir_out=[e3nn.Irrep(l3, (-1) ** l3)])
        weight = radial[:, p if isinstance(module, PathConvolution) else l1, :, None]
        sums = jax.ops.segment_sum(product.array * weight, receiver, len(features[0]))  # [N, C, 2l+1]
        columns[l3].append(sums)
    return tuple(
        jnp.einsum("ncm,cd->nmd", jnp.concatenate(c, 1), mix[...]) * module.scale for c, mix in zip(columns, module.mix, strict=True)
    )


def _irreps(l: int) -> e3nn.Irreps:
    return e3nn.Irreps([(1, (l, (-1) ** l))])
