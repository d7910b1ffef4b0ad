"""The edge convolution: messages are tensor products of neighbours with spherical harmonics, summed over neighbours.

    A_i,l3 = (1/n̄) Σ_paths W_path Σ_j R(r_ij) ⊙ C_{l1 l2 l3} (h_j,l1 ⊗ Y_l2(r̂_ij))

`PathConvolution` has a radial function R for every path (l1, l2, l3) and channel: the channel-wise convolution of NequIP and MACE (Batatia et al.,
arXiv:2206.07697, eq. 8). `DegreeConvolution` has one for every incoming degree l1 and channel; the sum over neighbours can then be taken before
anything is coupled, and the Clebsch–Gordan tables meet atoms instead of edges.

Both are written for a block of atoms with a dense table of neighbours, where every sum over neighbours is a batched matrix product. No message is ever
stored per path and component.
"""

from abc import abstractmethod

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from eqpot.core.tree import record
from eqpot.nn.coupling import clebsch_gordan, convolution_paths, degree_slice
from eqpot.nn.layers import MLP, Features, einsum, normal_param

Senders = tuple[Float[Array, "R M _ C"], ...]
"""Features of each neighbour, degree l at index l."""


@record
class Edges:
    """What a convolution sees of the graph.

    Attributes:
        neighbors: sender of each slot.
        receivers: atom that each row of the table belongs to, ascending; None when row i is atom i.
        harmonics: spherical harmonics of each slot, degrees stacked.
        radial_basis: radial basis of each slot; zero where masked.
    """

    neighbors: Int[Array, "R M"]
    receivers: Int[Array, " R"] | None
    harmonics: Float[Array, "R M S"]
    radial_basis: Float[Array, "R M B"]

    def as_list(self) -> tuple[Int[Array, " E"], Int[Array, " E"]]:
        """Sender and receiver of every slot."""
        rows, slots = self.neighbors.shape
        return self.neighbors.ravel(), jnp.repeat(jnp.arange(rows) if self.receivers is None else self.receivers, slots)


class Convolution(nnx.Module):
    """Sum of neighbours' features, angularly coupled, with learned radial functions.

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
        self.l_in, self.l_out, self.channels = l_in, l_out, channels
        self.paths = convolution_paths(l_in, l_edge, l_out)
        self.scale = 1.0 / average_neighbors
        self.radial = MLP((*radial_sizes, self.radial_functions() * channels), rngs=rngs)
        fans = [sum(p[2] == l for p in self.paths) * channels for l in range(l_out + 1)]
        self.mix = nnx.List([normal_param(rngs, fan, channels, scale=fan**-0.5) for fan in fans])

    @abstractmethod
    def radial_functions(self) -> int:
        """Radial functions per channel."""

    @abstractmethod
    def sums(self, senders: Senders, harmonics: Float[Array, "R M S"], radial: "Radial") -> list[Float[Array, "R _ C"]]:
        """Σ_j R C (h_j ⊗ Y_ij) for each of `paths`."""

    def __call__(self, senders: Senders, harmonics: Float[Array, "R M S"], radial_basis: Float[Array, "R M B"]) -> Features:
        """Aggregate; `radial_basis` is zero in masked slots, which masks the message.

        Returns:
            features up to degree l_out, one row per row of the table.
        """
        outputs = [jnp.zeros((len(harmonics), 2 * l + 1, self.channels), harmonics.dtype) for l in range(self.l_out + 1)]
        used = [0] * (self.l_out + 1)
        for (_, _, l3), aggregated in zip(self.paths, self.sums(senders, harmonics, Radial(self.radial, radial_basis)), strict=True):
            weight = self.mix[l3][used[l3] : used[l3] + self.channels]
            used[l3] += self.channels
            outputs[l3] += jnp.matmul(aggregated, weight)
        return tuple(x * self.scale for x in outputs)


class Radial:
    """The radial network on the edges of a block, its last layer evaluated for one function at a time."""

    def __init__(self, network: MLP, basis: Float[Array, "R M B"]) -> None:
        self.hidden, self.last = network.hidden(basis), network.weights[-1]

    def __call__(self, function: int, channels: int) -> Float[Array, "R M C"]:
        return jnp.matmul(self.hidden, self.last[:, function * channels : (function + 1) * channels])


class PathConvolution(Convolution):
    """Radial functions per path and channel: exact NequIP and MACE.

    The Clebsch–Gordan table meets the spherical harmonics first (small, without channels), then
    [components, neighbours] × [neighbours, channels] for each path.
    """

    def radial_functions(self) -> int:
        return len(self.paths)

    def sums(self, senders: Senders, harmonics: Float[Array, "R M S"], radial: Radial) -> list[Float[Array, "R _ C"]]:
        rows, slots = harmonics.shape[:2]
        result = []
        for p, (l1, l2, l3) in enumerate(self.paths):
            angular = harmonics[..., degree_slice(l2)]
            if l1:
                table = jnp.asarray(clebsch_gordan(l1, l2, l3), angular.dtype)
                angular = einsum("rmj,ijk->rmik", angular, table).reshape(rows, slots * (2 * l1 + 1), 2 * l3 + 1)
            weighted = (senders[l1] * radial(p, self.channels)[:, :, None]).reshape(rows, slots * (2 * l1 + 1), self.channels)
            result.append(einsum("rmk,rmc->rkc", angular, weighted))
        return result


class DegreeConvolution(Convolution):
    """Radial functions per incoming degree and channel: sum first, couple after.

    One matrix product over neighbours per degree l1 gives Σ_j Y_ij ⊗ R h_j; coupling it is a small product per atom.
    """

    def radial_functions(self) -> int:
        return self.l_in + 1

    def sums(self, senders: Senders, harmonics: Float[Array, "R M S"], radial: Radial) -> list[Float[Array, "R _ C"]]:
        rows, slots = harmonics.shape[:2]
        products = []
        for l1, sender in enumerate(senders):
            weighted = (sender * radial(l1, self.channels)[:, :, None]).reshape(rows, slots, (2 * l1 + 1) * self.channels)
            products.append(einsum("rms,rmc->rsc", harmonics, weighted).reshape(rows, -1, 2 * l1 + 1, self.channels))
        tables = (jnp.asarray(clebsch_gordan(*path), harmonics.dtype) for path in self.paths)
        return [
            einsum("rjic,ijk->rkc", products[l1][:, degree_slice(l2)], table) for (l1, l2, _), table in zip(self.paths, tables, strict=True)
        ]
