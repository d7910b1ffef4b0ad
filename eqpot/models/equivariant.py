"""SE(3)-equivariant message passing.

A layer is: linear → edge convolution → update, with a self-connection per element. With the symmetric contraction as update this is MACE
(Batatia et al., arXiv:2206.07697); with a gate it is NequIP (Batzner et al., Nat. Commun. 13, 2453 (2022)). Convolution and update are chosen
by name and composed; how they are evaluated is the business of `eqpot.nn.kernels`.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from eqpot.basis import bessel, polynomial_envelope
from eqpot.core.numerics import safe_norm
from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.models.base import AtomOutputs, EnergyModel, Normalization
from eqpot.models.config import EquivariantConfig
from eqpot.models.readouts import Outputs, of_head, shift_of
from eqpot.nn import (
    MLP,
    Backend,
    ContractionUpdate,
    DegreeConvolution,
    Edges,
    Features,
    GateUpdate,
    GridUpdate,
    Linear,
    PathConvolution,
    SpeciesLinear,
    choose_backend,
    convolve,
    update,
)

CONVOLUTIONS = {"path": PathConvolution, "degree": DegreeConvolution}
PRODUCTS = {"contraction": ContractionUpdate, "grid": GridUpdate}


@record
class EdgeGeometry:
    """What the layers see of the positions.

    Attributes:
        harmonics: real spherical harmonics of each edge, degrees stacked, component normalised.
        radial_basis: Bessel functions × envelope of each edge; zero, with two derivatives, at the cutoff and in masked slots.
        bound: 0 for an atom alone, 1 for an atom in company; carries the shift of the energies so that a lone atom has none.
    """

    harmonics: Float[Array, "R M S"]
    radial_basis: Float[Array, "R M B"]
    bound: Float[Array, " N"]


class Layer(nnx.Module):
    """One interaction: features up to degree `l_in` of the neighbours in, new features of the atom up to `l_out` out."""

    def __init__(
        self,
        config: EquivariantConfig,
        l_in: int,
        l_out: int,
        n_species: int,
        average_neighbors: float,
        backend: Backend,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        channels, l_message = config.channels, l_out if config.update == "gate" else config.l_max
        radial_sizes = (config.n_radial, *config.radial_hidden)
        self.backend: Backend = backend
        self.linear = Linear(l_in + 1, channels, channels, rngs=rngs)
        build = CONVOLUTIONS[config.radial]
        self.convolution = build(l_in, config.l_max, l_message, channels, radial_sizes, average_neighbors, rngs=rngs)
        if config.update == "gate":
            self.update = GateUpdate(l_out, channels, n_species, rngs=rngs)
        else:
            self.update = PRODUCTS[config.update](l_message, l_out, channels, n_species, config.correlation, rngs=rngs)

    def __call__(self, features: Features, kept: Features, edges: Edges, species: Int[Array, " N"]) -> Features:
        message = convolve(self.convolution, self.linear(features), edges, self.backend)
        return update(self.update, message, kept, species, self.backend)


class Equivariant(EnergyModel):
    """The network of `EquivariantConfig`.

    Args:
        config: architecture.
        n_species: number of elements that `Graph.species` counts.
        normalization: statistics of the data; `shift` has one value per element, or per head and element.
        backend: how layers are evaluated, see `eqpot.nn.kernels`; "auto" for what suits the device.
        rngs: source of the initial parameters.
    """

    def __init__(
        self, config: EquivariantConfig, n_species: int, normalization: Normalization, backend: str = "auto", *, rngs: nnx.Rngs
    ) -> None:
        heads = config.n_heads
        self.config, self.normalization, self.n_species = config, normalization, n_species
        self.shift = normalization.shifts(heads, n_species)
        self.cutoff, self.receptive_field = config.cutoff, config.cutoff * config.n_layers
        channels, last = config.channels, config.n_layers - 1
        self.embedding = SpeciesLinear(1, n_species, 1, channels, rngs=rngs)
        # Scalars enter the first layer and leave the last, with vectors where forces are read from them.
        degrees = [0, *[config.hidden_l_max] * last, int(config.direct_forces)]
        args = (n_species, normalization.average_neighbors, choose_backend(backend))
        self.layers = nnx.List([Layer(config, degrees[t], degrees[t + 1], *args, rngs=rngs) for t in range(config.n_layers)])
        # The first layer keeps nothing: an atom without neighbours then has no features and exactly its reference energy.
        self.self_connections = nnx.List(
            [SpeciesLinear(min(degrees[t : t + 2]) + 1, n_species, channels, channels, rngs=rngs) for t in range(1, config.n_layers)]
        )
        self.readouts = nnx.List([MLP((channels, heads), rngs=rngs) for _ in range(last)])
        self.readouts.append(MLP((channels, config.readout_hidden, heads), rngs=rngs))
        self.outputs = Outputs(config, n_species, rngs=rngs)

    def describe(self, graph: Graph) -> EdgeGeometry:
        """Spherical harmonics, radial basis and boundness; a masked slot gets a vector of length r_c, where the envelope ends smoothly."""
        import e3nn_jax as e3nn

        config, mask = self.config, graph.edge_mask
        vectors = jnp.where(mask[..., None], graph.edge_vectors(), jnp.asarray([config.cutoff, 0, 0], graph.positions.dtype))
        distance = safe_norm(vectors, mask, fill=config.cutoff)
        harmonics = e3nn.spherical_harmonics(e3nn.s2_irreps(config.l_max), vectors / distance[..., None], False, normalization="component")
        envelope = polynomial_envelope(distance, config.cutoff, config.envelope_order)
        radial_basis = bessel(distance, config.cutoff, config.n_radial) * envelope[..., None]
        return EdgeGeometry(harmonics.array, radial_basis, jnp.tanh(2 * graph.sum_rows(jnp.sum(envelope, -1))))

    def __call__(self, graph: Graph, geometry: EdgeGeometry) -> AtomOutputs:
        bound, species = geometry.bound, graph.species
        edges = Edges(graph.neighbors, graph.receivers, geometry.harmonics, geometry.radial_basis)
        features = self.embedding((jnp.ones((*species.shape, 1, 1), bound.dtype),), species)
        energy, scalars = jnp.zeros_like(bound), []
        for t, (layer, readout) in enumerate(zip(self.layers, self.readouts, strict=True)):
            kept = self.self_connections[t - 1](features, species) if t else ()
            features = layer(features, kept, edges, species)
            scalars.append(features[0][:, 0])
            with jax.default_matmul_precision("float32"):
                energy = energy + of_head(readout(scalars[-1]), graph, self.config.n_heads)[:, 0]
        energy = energy * self.normalization.scale + shift_of(self.shift, graph, self.config.n_heads, bound.dtype) * bound
        invariants = jnp.concatenate(scalars, -1)
        others = self.outputs(features, invariants, graph, self.normalization.scale)
        return AtomOutputs(jnp.where(graph.atom_mask, energy, 0), invariants, **others)
