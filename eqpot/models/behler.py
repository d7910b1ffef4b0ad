"""The Behler–Parrinello network: descriptors of fixed form, and a small network for each element.

J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007), with the functions of `eqpot.basis.symmetry_functions`. All of the geometry is in the
descriptors, which have no parameters: members of an ensemble share them, and one more costs next to nothing.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from pydantic import Field, PositiveInt, field_validator

from eqpot.basis import angular_functions, angular_weights, cutoff_function, directions, element_pairs, radial_functions
from eqpot.basis.symmetry_functions import NEAREST, angular_set, radial_set
from eqpot.core.errors import ConfigError
from eqpot.core.numerics import safe_norm
from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.models.base import AtomOutputs, EnergyModel, Normalization
from eqpot.models.readouts import of_head, shift_of
from eqpot.models.settings import DescriptorSettings, Heads
from eqpot.nn import SpeciesLinear
from eqpot.nn.layers import normal_param, scaled_silu

LARGEST_POWER = 16


class BehlerParrinelloConfig(DescriptorSettings):
    """Symmetry functions and one network per element: a fast classical baseline. The number of functions grows with the square of that of the elements."""

    kind: Literal["behler-parrinello"] = "behler-parrinello"
    cutoff: float = Field(default=6.0, ge=2.0, le=20.0, description="radius of the surroundings that an atom sees [Å]")
    n_radial: int = Field(default=8, ge=1, le=64, description="radial functions G² per element, evenly spaced Gaussians")
    n_angular: int = Field(default=2, ge=1, le=8, description="radial widths of the angular functions G⁵: r_c/2, r_c/4, …")
    powers: tuple[int, ...] = Field(default=(1, 2, 4, 8), description="ζ of the angular functions, each with λ = ±1; at most 16")
    hidden: tuple[PositiveInt, ...] = Field(default=(32, 32), description="hidden widths of the network of each element")
    heads: Heads = Field(default=(), description="levels of theory, by name, that share all but the last layer")

    @field_validator("powers")
    @classmethod
    def _powers_are_few_and_whole(cls, powers: tuple[int, ...]) -> tuple[int, ...]:
        if not powers or len(set(powers)) < len(powers) or not all(1 <= power <= LARGEST_POWER for power in powers):
            raise ConfigError(
                f"powers: found {list(powers)}, expected whole numbers from 1 to {LARGEST_POWER} that differ, such as [1, 2, 4, 8]"
            )
        return powers

    @field_validator("hidden")
    @classmethod
    def _there_is_a_hidden_layer(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if not hidden:
            raise ConfigError("hidden: found no width, expected at least one, such as [32, 32]")
        return hidden

    @property
    def summary(self) -> str:
        """One line for people."""
        widths = " + ".join(map(str, self.hidden))
        return f"{self.kind}: {self.n_radial} radial, {2 * len(self.powers) * self.n_angular} angular functions, hidden {widths}"


@record
class Descriptors:
    """What the networks see of the positions.

    Attributes:
        radial: G² of each element of neighbours, in units of their usual size.
        angular: G⁵ of each unordered pair of elements of neighbours, likewise.
        bound: 0 for an atom alone, 1 for an atom in company.
    """

    radial: Float[Array, "N Z B"]
    angular: Float[Array, "N P A"]
    bound: Float[Array, " N"]


def usual_sizes(config: BehlerParrinelloConfig, average_neighbors: float) -> tuple[np.ndarray, np.ndarray]:
    """√⟨G²⟩ of each radial [B] and angular [A] function where the neighbours are of one element and independent of each other (Poisson),
    evenly spread over directions and over distances from 0.8 Å to the cutoff. It takes the number of neighbours alone, and no pass over the data.

    With n neighbours, ⟨G²⟩ = n⟨g²⟩ + n²⟨g⟩² for a sum of g, and for one of pairs w_j w_k h(θ)
    ⟨G²⟩ = ½n²⟨w²⟩²⟨h²⟩ + n³⟨w²⟩⟨w⟩²⟨h⟩² + ¼n⁴⟨w⟩⁴⟨h⟩².
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    distance = NEAREST + (config.cutoff - NEAREST) * (nodes[:, None] + 1) / 2
    x, (centers, width) = distance / config.cutoff, radial_set(config.cutoff, config.n_radial)
    ending = (1 - x) ** 3 * (1 + 3 * x + 6 * x**2)
    g = np.exp(-width * (distance - centers) ** 2) * ending
    w = np.exp(-angular_set(config.cutoff, config.n_angular) * distance**2) * ending
    n, weights = average_neighbors, weights / 2  # the mean over distances, and over cos θ
    radial = np.sqrt(n * weights @ g**2 + (n * weights @ g) ** 2)
    h = np.array([2.0 ** (1 - power) * (1 + sign * nodes) ** power for power in config.powers for sign in (1, -1)])
    first, second = (weights @ w)[:, None] ** 2, (weights @ w**2)[:, None]
    mean, square = h @ weights, h**2 @ weights
    angular = np.sqrt(n**2 / 2 * second**2 * square + (n**3 * second * first + n**4 / 4 * first**2) * mean**2)
    return radial, angular.ravel()


class BehlerParrinello(EnergyModel):
    """E_i = b_i·(scale·N_z(G_i) + shift_z): N_z is the network of the atom's element, b = tanh(2 Σ_j f_c(r_ij)) is exactly 0 for an atom alone.

    Descriptors are divided by `usual_sizes`, so that parameters start at unit scale; biases and weights learn the rest. Descriptors of an element
    that is not there are zero: a network that later learns of more elements starts as the same function.

    Args:
        config: functions and widths.
        n_species: number of elements that `Graph.species` counts.
        normalization: statistics of the data; `shift` has one value per element, or per head and element.
        rngs: source of the initial parameters.

    Raises:
        ConfigError: for another number of shifts.
    """

    def __init__(self, config: BehlerParrinelloConfig, n_species: int, normalization: Normalization, *, rngs: nnx.Rngs) -> None:
        heads = config.n_heads
        self.config, self.normalization, self.n_species = config, normalization, n_species
        self.shift = normalization.shifts(heads, n_species)
        self.cutoff = self.receptive_field = config.cutoff
        angular, width = 2 * len(config.powers) * config.n_angular, config.hidden[0]
        scale = (n_species * config.n_radial + n_species * (n_species + 1) // 2 * angular) ** -0.5
        # An axis for each element that a weight belongs to, that of the atom first: fine-tuning adds elements along them.
        self.radial = normal_param(rngs, n_species, n_species, config.n_radial, width, scale=scale)
        self.angular = normal_param(rngs, n_species, n_species, n_species, angular, width, scale=scale)
        self.layers = nnx.List(
            [SpeciesLinear(1, n_species, a, b, rngs=rngs) for a, b in zip(config.hidden, config.hidden[1:], strict=False)]
        )
        self.biases = nnx.List([nnx.Param(jnp.zeros((n_species, 1, b), jnp.float32)) for b in config.hidden])
        self.readouts = nnx.List([SpeciesLinear(1, n_species, config.hidden[-1], heads, rngs=rngs)])

    def describe(self, graph: Graph) -> Descriptors:
        """The symmetry functions of every atom; a masked slot is a neighbour at the cutoff, where all of them end smoothly."""
        config, mask, dtype = self.config, graph.edge_mask, graph.positions.dtype
        vectors = jnp.where(mask[..., None], graph.edge_vectors(), jnp.asarray([config.cutoff, 0, 0], dtype))
        distance = safe_norm(vectors, mask, fill=config.cutoff)
        element = jax.nn.one_hot(graph.species[graph.neighbors], self.n_species, dtype=dtype)  # [R, M, Z]
        harmonics = directions(vectors / distance[..., None], max(config.powers))
        weights = angular_weights(distance, config.cutoff, config.n_angular)
        radial = jnp.einsum("rmz,rmb->rzb", element, radial_functions(distance, config.cutoff, config.n_radial))
        moments = jnp.einsum("rms,rmzb->rszb", harmonics, element[..., None] * weights[..., None, :])
        squares = jnp.einsum("rmz,rmb->rzb", element, weights**2)
        angular = angular_functions(graph.sum_rows(moments), graph.sum_rows(squares), config.powers)
        sizes = [jnp.asarray(size, dtype) for size in usual_sizes(config, self.normalization.average_neighbors)]
        bound = jnp.tanh(2 * graph.sum_rows(jnp.sum(cutoff_function(distance, config.cutoff), -1)))
        return Descriptors(graph.sum_rows(radial) / sizes[0], angular.reshape(*angular.shape[:2], -1) / sizes[1], bound)

    def __call__(self, graph: Graph, geometry: Descriptors) -> AtomOutputs:
        species, bound, n = graph.species, geometry.bound, len(graph.species)
        features = jnp.concatenate([geometry.radial.reshape(n, -1), geometry.angular.reshape(n, -1)], -1)
        x = self._by_element(self._first_layer(), features, species)
        for layer, bias in zip(self.layers, self.biases[:-1], strict=True):
            x = scaled_silu(x + bias[...][species, 0])
            x = layer((x[:, None],), species)[0][:, 0]
        x = scaled_silu(x + self.biases[-1][...][species, 0])
        with jax.default_matmul_precision("float32"):
            energy = of_head(self.readouts[0]((x[:, None],), species)[0][:, 0], graph, self.config.n_heads)[:, 0]
        energy = (energy * self.normalization.scale + shift_of(self.shift, graph, self.config.n_heads, bound.dtype)) * bound
        return AtomOutputs(jnp.where(graph.atom_mask, energy, 0), jnp.where(graph.atom_mask[:, None], features, 0))

    def _first_layer(self) -> Float[Array, "Z F H"]:
        """Weights of all descriptors in their order; those of a pair of elements do not depend on which is named first."""
        radial, angular = self.radial[...], self.angular[...]
        first, second = element_pairs(self.n_species)
        half = jnp.asarray(np.where(first == second, 0.5, 0.5**0.5), angular.dtype)[:, None, None]
        pairs = (angular[:, first, second] + angular[:, second, first]) * half
        return jnp.concatenate([w.reshape(self.n_species, -1, w.shape[-1]) for w in (radial, pairs)], 1)

    def _by_element(self, weights: Float[Array, "Z F H"], x: Float[Array, "N F"], species: Int[Array, " N"]) -> Float[Array, "N H"]:
        """One product per element, as in `SpeciesLinear`."""
        masks = species == jnp.arange(self.n_species, dtype=species.dtype)[:, None]
        return sum(jnp.matmul(jnp.where(m[:, None], x, 0), w) for m, w in zip(masks, weights, strict=True))  # type: ignore[return-value]
