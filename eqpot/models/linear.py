"""The linear model: an energy linear in invariants of fixed form, so that the best weights have a closed form.

The invariants are those of the smoothed density of neighbours (`eqpot.basis.soap`): its spherical average, and its power spectrum (SOAP). A linear model of
them is a potential of up to three bodies (M. A. Wood, A. P. Thompson, J. Chem. Phys. 148, 241721 (2018); R. Drautz, Phys. Rev. B 99, 014104 (2019)).
"""

from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from pydantic import Field

from eqpot.basis import cutoff_function
from eqpot.basis.soap import density_coefficients, density_functions, density_harmonics, density_integrals, density_table, power_spectrum
from eqpot.basis.symmetry_functions import NEAREST
from eqpot.core.elements import atomic_number
from eqpot.core.numerics import safe_norm
from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.models.base import AtomOutputs, EnergyModel, Normalization
from eqpot.models.readouts import of_head, shift_of
from eqpot.models.settings import DescriptorSettings, Heads
from eqpot.nn.invariants import PATHS, invariant_products

DESCRIPTORS = 4
"""Mixtures whose power spectrum describes an atom, of which there would be thousands of numbers otherwise."""


class LinearConfig(DescriptorSettings):
    """A linear model of the density's average and SOAP power spectrum. The number of weights grows with the cube of that of the elements."""

    kind: Literal["linear"] = "linear"
    cutoff: float = Field(default=5.0, ge=2.0, le=20.0, description="radius of the surroundings that an atom sees [Å]")
    n_radial: int = Field(default=5, ge=1, le=12, description="radial functions per element")
    l_max: int = Field(default=4, ge=0, le=12, description="highest degree of the harmonics")
    smearing: float = Field(default=0.5, ge=0.1, le=2.0, description="width σ of the Gaussian that stands for a neighbour [Å]")
    correlation: int = Field(default=3, ge=2, le=4, description="factors of an invariant; beyond two, of mixtures of the density")
    mixtures: int = Field(default=64, ge=1, le=256, description="fixed random mixtures of elements and radial functions")
    l_mixtures: int = Field(default=4, ge=0, le=6, description="highest degree of the mixtures that are multiplied; at most l_max counts")
    heads: Heads = Field(default=(), description="levels of theory, by name; each has weights of its own")

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"{self.kind}: power spectrum of {self.n_radial} radial functions, degrees to {self.l_max}, smearing {self.smearing:g} Å"


@record
class Invariants:
    """What the model sees of the positions; channels C are (element, radial function).

    Attributes:
        bound: 0 for an atom alone, 1 for an atom in company.
        average: density averaged over directions, in units of its usual size.
        spectrum: power spectrum, likewise; symmetric in its channels.
        products: of three and more factors, of mixtures of the density.
        features: the average, and the power spectrum of few mixtures: descriptors of an atom.
    """

    bound: Float[Array, " N"]
    average: Float[Array, "N C"]
    spectrum: Float[Array, "N L C C"]
    products: Float[Array, "N P"]
    features: Float[Array, "N F"]

    def columns(self) -> Float[Array, "N B"]:
        """B_i with E_i = shift·bound + scale·w·B_i: all invariants, each once."""
        first, second = channel_pairs(self.average.shape[-1])
        pairs = self.spectrum[:, :, first, second].reshape(len(self.bound), -1)
        return jnp.concatenate([self.bound[:, None], self.average, self.products, pairs], -1)


def channel_pairs(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second of all unordered pairs of channels, equal ones included."""
    return np.triu_indices(channels)


def _usual(config: LinearConfig) -> tuple[Float[np.ndarray, "r L n"], Float[np.ndarray, " r"]]:
    """f_c R_nl at the nodes of a quadrature over distances, and its weights, which sum to one."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    distance = NEAREST + (config.cutoff - NEAREST) * (nodes + 1) / 2
    x = distance / config.cutoff
    values = density_integrals(distance, config.cutoff, config.smearing, config.n_radial, config.l_max)
    return values * ((1 - x) ** 3 * (1 + 3 * x + 6 * x**2))[:, None, None], weights / 2


def usual_sizes(config: LinearConfig, average_neighbors: float) -> tuple[np.ndarray, np.ndarray]:
    """√⟨B²⟩ of the average [n] and the power spectrum [L, n, n] where the neighbours are of one element and independent of each other (Poisson),
    evenly spread over directions and over distances from 0.8 Å to the cutoff. It takes the number of neighbours alone, and no pass over the data.
    """
    (values, weights), n = _usual(config), average_neighbors
    one, two = n * np.einsum("r,rln->ln", weights, values), n * np.einsum("r,rln,rlk->lnk", weights, values, values)
    own, l = np.einsum("lnn->ln", two), np.arange(config.l_max + 1)[:, None, None]
    square = n * np.einsum("r,rln,rlk->lnk", weights, values**2, values**2) + two**2
    square = square + (own[:, :, None] * own[:, None] + two**2) / (2 * l + 1)
    three = n * np.einsum("r,rln,rlk->lnk", weights, values**2, values) * one[:, None]  # κ₂₁κ₀₁
    mixed = 2 * (three + three.swapaxes(1, 2)) + 4 * two * one[:, :, None] * one[:, None]
    mixed = mixed + own[:, :, None] * one[:, None] ** 2 + own[:, None] * one[:, :, None] ** 2 + (one[:, :, None] * one[:, None]) ** 2
    square = square + np.where(l == 0, mixed, 0)  # a mean over directions is left only of l = 0
    spectrum = np.sqrt((2 * l + 1) / 2 * square)  # √(8π²/(2l+1)) and (2l+1)/4π of the addition theorem
    return np.sqrt((own[0] + one[0] ** 2) / (4 * np.pi)), spectrum


@lru_cache(maxsize=32)
def mixing(numbers: tuple[int, ...], n_radial: int, count: int) -> tuple[Float[np.ndarray, "Z K"], Float[np.ndarray, "n K"]]:
    """Fixed random factors of elements and of radial functions, whose products mix the channels (a, n) to K; those of an element do not depend on
    which others there are.

    Tensor-reduced density (J. P. Darby et al., Phys. Rev. Lett. 131, 028001 (2023)): products within one mixture stand for those of all channels.
    """
    elements = np.stack([np.random.default_rng([number, 1]).normal(size=count) for number in numbers])
    return elements, np.random.default_rng([0, 2]).normal(size=(count, n_radial)).T


def mixture_sizes(config: LinearConfig, radial: Float[np.ndarray, "n K"], average_neighbors: float) -> Float[np.ndarray, "L K"]:
    """√⟨A²⟩ of a component of the mixtures, for the surroundings of `usual_sizes`."""
    values, weights = _usual(config)
    mixed = values @ radial
    square = average_neighbors * np.einsum("r,rlk->lk", weights, mixed**2)
    square[0] += (average_neighbors * weights @ mixed[:, 0]) ** 2
    return np.sqrt(square / (4 * np.pi))


class Weights(nnx.Module):
    """One array of weights whose last axis are the heads; zero before the training, so that what the data do not say stays zero."""

    def __init__(self, *shape: int) -> None:
        self.weights = nnx.List([nnx.Param(jnp.zeros(shape, jnp.float32))])


class LinearModel(EnergyModel):
    """E_i = shift_z·b_i + scale·w_z·B_i for an atom of element z, with B the invariants in units of `usual_sizes`, and b = tanh(2 Σ_j f_c(r_ij)),
    which is exactly 0 for an atom alone and one of the B besides. The energy is linear in w, and so are forces and stress.

    Weights of the power spectrum of channels c, d are (w_cd + w_dc)/√2, or w_cc. An element that is not there has invariants of zero: a
    model that later learns of more elements starts as the same function.

    Args:
        config: what is expanded, and how far.
        elements: chemical symbols, in the order of `Graph.species`.
        normalization: statistics of the data; `shift` has one value per element, or per head and element.

    Raises:
        ConfigError: for another number of shifts.
    """

    def __init__(self, config: LinearConfig, elements: tuple[str, ...], normalization: Normalization) -> None:
        heads, n_species = config.n_heads, len(elements)
        self.config, self.normalization, self.n_species = config, normalization, n_species
        self.numbers = tuple(atomic_number(element) for element in elements)
        self.shift = normalization.shifts(heads, n_species)
        self.cutoff = self.receptive_field = config.cutoff
        Z, n, L = n_species, config.n_radial, config.l_max + 1
        # An axis for each element that a weight belongs to, that of the atom first: fine-tuning adds elements along them.
        shapes = [(Z,), (Z, Z, n), (Z, n_products(config)), (Z, L, Z, n, Z, n)]
        self.readouts = nnx.List([Weights(*shape, heads) for shape in shapes])

    def describe(self, graph: Graph) -> Invariants:
        """The invariants of every atom; a masked slot is a neighbour at the cutoff, where all of them end smoothly."""
        config, mask, dtype = self.config, graph.edge_mask, graph.positions.dtype
        vectors = jnp.where(mask[..., None], graph.edge_vectors(), jnp.asarray([config.cutoff, 0, 0], dtype))
        distance = safe_norm(vectors, mask, fill=config.cutoff)
        element = jax.nn.one_hot(graph.species[graph.neighbors], self.n_species, dtype=dtype)
        ending = cutoff_function(distance, config.cutoff)
        table = density_table(config.cutoff, config.smearing, config.n_radial, config.l_max)
        radial = density_functions(distance, table, config.cutoff) * ending[..., None, None]
        harmonics = density_harmonics(vectors / distance[..., None], config.l_max)
        density = graph.sum_rows(density_coefficients(radial, harmonics, element))
        average, spectrum = usual_sizes(config, self.normalization.average_neighbors)
        sizes = np.tile(spectrum, (1, self.n_species, self.n_species))
        average = density[:, 0] / jnp.asarray(np.tile(average, self.n_species), dtype)
        bound = jnp.tanh(2 * graph.sum_rows(jnp.sum(ending, -1)))
        spectrum = power_spectrum(density) / jnp.asarray(sizes, dtype)
        mixed = self._mixed(density)
        return Invariants(bound, average, spectrum, self._products(mixed), jnp.concatenate([average, _described(mixed)], -1))

    def _mixed(self, density: Float[Array, "N S C"]) -> Float[Array, "N S K"]:
        """Mixtures of the density, in units of their usual size."""
        config, count = self.config, max(self.config.mixtures, DESCRIPTORS)
        elements, radial = mixing(self.numbers, config.n_radial, count)
        sizes = mixture_sizes(config, radial, self.normalization.average_neighbors)
        matrix = (elements[:, None] * radial).reshape(-1, count)
        mixed = jnp.matmul(density, jnp.asarray(matrix, density.dtype), precision=jax.lax.Precision.HIGHEST)
        return mixed / jnp.asarray(np.repeat(sizes, 2 * np.arange(config.l_max + 1) + 1, 0), density.dtype)

    def _products(self, mixed: Float[Array, "N S K"]) -> Float[Array, "N P"]:
        """Invariants of three and more factors."""
        config = self.config
        planes = jnp.moveaxis(mixed[..., : config.mixtures], 1, 0)
        degrees = tuple(planes[l**2 : (l + 1) ** 2] for l in range(min(config.l_mixtures, config.l_max) + 1))
        found = [invariant_products(degrees, order) for order in range(3, config.correlation + 1)]
        if not found:
            return jnp.zeros((len(mixed), 0), mixed.dtype)
        return jnp.moveaxis(jnp.concatenate(found), 0, 1).reshape(len(mixed), -1)

    def __call__(self, graph: Graph, geometry: Invariants) -> AtomOutputs:
        species, Z, H = graph.species, self.n_species, self.config.n_heads
        bias, average, products, spectrum = (readout.weights[0][...] for readout in self.readouts)
        channels = Z * self.config.n_radial
        spectrum = spectrum.reshape(Z, -1, channels, channels, H)
        spectrum = (spectrum + spectrum.swapaxes(2, 3)) * jnp.asarray(_halves(channels), spectrum.dtype)[..., None]
        with jax.default_matmul_precision("float32"):
            each = geometry.bound[:, None, None] * bias
            each = each + jnp.einsum("nc,zch->nzh", geometry.average, average.reshape(Z, channels, H))
            each = each + jnp.einsum("np,zph->nzh", geometry.products, products)
            each = each + jnp.einsum("nlcd,zlcdh->nzh", geometry.spectrum, spectrum)
        own = jax.nn.one_hot(species, Z, dtype=each.dtype)
        energy = of_head(jnp.sum(each * own[..., None], 1), graph, H)[:, 0]
        energy = energy * self.normalization.scale + shift_of(self.shift, graph, H, each.dtype) * geometry.bound
        return AtomOutputs(jnp.where(graph.atom_mask, energy, 0), jnp.where(graph.atom_mask[:, None], geometry.features, 0))


def n_products(config: LinearConfig) -> int:
    """Number of invariants of three and more factors."""
    degree = min(config.l_mixtures, config.l_max)
    return config.mixtures * sum(len(PATHS[order](degree, 0)) for order in range(3, config.correlation + 1))


def n_invariants(config: LinearConfig, n_species: int) -> int:
    """Number of `Invariants.columns`."""
    channels = n_species * config.n_radial
    return 1 + channels + n_products(config) + channels * (channels + 1) // 2 * (config.l_max + 1)


def _described(mixed: Float[Array, "N S K"]) -> Float[Array, "N D"]:
    """Power spectrum of the first few mixtures."""
    first, second = channel_pairs(DESCRIPTORS)
    return power_spectrum(mixed[..., :DESCRIPTORS])[:, :, first, second].reshape(len(mixed), -1)


def _halves(channels: int) -> np.ndarray:
    """What w + wᵀ is multiplied by, over both orders of each pair: a pair of channels counts with (w_cd + w_dc)/√2, an equal one with w_cc."""
    return np.where(np.eye(channels, dtype=bool), 0.5, 0.5**1.5)


def parameters_of(config: LinearConfig, weights: Float[np.ndarray, "H Z B"]) -> dict[str, Any]:
    """The parameters of a `LinearModel` whose energies are shift·bound + scale·w·B with B as in `Invariants.columns`."""
    heads, Z, _ = weights.shape
    channels, L = Z * config.n_radial, config.l_max + 1
    P = n_products(config)
    bias, average, products, pairs = np.split(weights, [1, 1 + channels, 1 + channels + P], -1)
    first, second = channel_pairs(channels)
    spectrum = np.zeros((heads, Z, L, channels, channels))
    pairs = pairs.reshape(heads, Z, L, -1) / np.where(first == second, 1.0, 2**0.5)
    spectrum[..., first, second], spectrum[..., second, first] = pairs, pairs
    shapes = [(heads, Z), (heads, Z, Z, config.n_radial), (heads, Z, P), (heads, Z, L, Z, config.n_radial, Z, config.n_radial)]
    arrays = [np.moveaxis(x.reshape(shape), 0, -1) for x, shape in zip((bias, average, products, spectrum), shapes, strict=True)]
    return {"readouts": {k: {"weights": {0: array}} for k, array in enumerate(arrays)}}
