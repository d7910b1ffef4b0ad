"""The edge convolution: messages are tensor products of neighbours with spherical harmonics, summed over neighbours.

    A_i,l3 = Σ_paths W_path Σ_j R_path(r_ij) ⊙ C_{l1 l2 l3} (h_j,l1 ⊗ Y_l2(r̂_ij))

This is the channel-wise convolution of NequIP and MACE (Batatia et al., arXiv:2206.07697, eq. 8). On the dense neighbour table the sum over
neighbours of a path is one batched matrix product: the Clebsch–Gordan table meets the spherical harmonics first (small, without channels),
then [components, neighbours] × [neighbours, channels]; no message is ever stored per path and component.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from eqpot.nn.coupling import clebsch_gordan, convolution_paths, degree_slice
from eqpot.nn.layers import MLP, Features, normal_param


class Convolution(nnx.Module):
    """Sum of neighbours' features, angularly coupled, with learned radial weights per path and channel.

    Args:
        l_in: largest degree of the incoming features.
        l_edge: largest degree of the spherical harmonics.
        l_out: largest degree of the result.
        channels: number of channels.
        radial_sizes: widths of the radial network, from the radial basis to its last hidden layer.
        average_neighbors: mean number of neighbours in the data; the sum is divided by it.
    """

    def __init__(
        self, l_in: int, l_edge: int, l_out: int, channels: int, radial_sizes: tuple[int, ...], average_neighbors: float, *, rngs: nnx.Rngs
    ) -> None:
        self.paths = convolution_paths(l_in, l_edge, l_out)
        self.channels = channels
        self.scale = 1.0 / average_neighbors
        self.radial = MLP((*radial_sizes, len(self.paths) * channels), rngs=rngs)
        fans = [sum(p[2] == l for p in self.paths) * channels for l in range(l_out + 1)]
        self.mix = nnx.List([normal_param(rngs, fan, channels, scale=fan**-0.5) for fan in fans])

    def __call__(
        self,
        features: Features,
        neighbors: Int[Array, "N M"],
        harmonics: Float[Array, "N M S"],
        radial_basis: Float[Array, "N M B"],
    ) -> Features:
        """Aggregate; `radial_basis` is zero in masked slots, which masks the message.

        Returns:
            features up to degree l_out.
        """
        n_atoms, n_slots = neighbors.shape
        weights = self.radial(radial_basis)  # [N, M, paths · C]
        senders = [jnp.moveaxis(h, 0, 1)[neighbors] for h in features]  # [N, M, 2l+1, C]
        sums: list[list[Array]] = [[] for _ in self.mix]
        for p, (l1, l2, l3) in enumerate(self.paths):
            radial = weights[..., p * self.channels : (p + 1) * self.channels]
            angular = harmonics[..., degree_slice(l2)]
            if l1:
                table = jnp.asarray(clebsch_gordan(l1, l2, l3), angular.dtype)
                angular = jnp.einsum("nmj,ijk->nmik", angular, table).reshape(n_atoms, n_slots * (2 * l1 + 1), 2 * l3 + 1)
            message = (senders[l1] * radial[..., None, :]).reshape(n_atoms, n_slots * (2 * l1 + 1), self.channels)
            sums[l3].append(jnp.einsum("nmk,nmc->nkc", angular, message))
        return tuple(
            jnp.moveaxis(jnp.matmul(jnp.concatenate(parts, -1), mix[...]), 1, 0) * self.scale
            for parts, mix in zip(sums, self.mix, strict=True)
        )
