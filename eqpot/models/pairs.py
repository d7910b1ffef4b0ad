"""Terms of pairs of atoms: repulsion by `eqpot.physics`, for any graph.

Their energies end at an outer radius of each pair of elements, which lies within their cutoff; masked slots lie on the cutoff and give nothing.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from pydantic import Field, PositiveFloat, field_validator, model_validator

from eqpot.core.elements import atomic_number
from eqpot.core.errors import ConfigError, StructureError
from eqpot.core.numerics import safe_norm
from eqpot.graph import Graph
from eqpot.models.base import AtomOutputs, EnergyModel
from eqpot.models.settings import KnownTermSettings
from eqpot.physics import covalent_sums, inverse_power, pair_radii, zbl_pairs, zbl_switched
from eqpot.physics.repulsion import FACTOR, LARGEST_OUTER

WALL = 0.02
"""Default A of the inverse power in units of (r_a + r_b)¹², sums of covalent radii [eV]: near ZBL at half the sum."""
UNIT = float(np.log(np.e - 1))
"""softplus(UNIT) = 1."""


def ordered_pairs(pairs: dict[str, Any]) -> dict[str, Any]:
    """The same pairs of elements, 'C-H' and not 'H-C', in alphabetical order.

    Raises:
        ConfigError: for a name that is no pair of elements, or a pair that is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs.items():
        try:
            first, second = sorted(part.strip() for part in name.split("-"))
            numbers_of(f"{first}-{second}")
        except StructureError as error:
            raise ConfigError(f"the pair '{name}': {error}") from None
        except ValueError:
            raise ConfigError(f"found the pair '{name}', expected two elements such as 'C-H'") from None
        if f"{first}-{second}" in found:
            raise ConfigError(f"the pair {first}-{second} is given twice; leave one out")
        found[f"{first}-{second}"] = value
    return dict(sorted(found.items()))


def numbers_of(name: str) -> tuple[int, int]:
    """Atomic numbers of a pair such as 'C-H'."""
    first, second = map(atomic_number, name.split("-"))
    return first, second


class PairConfig(KnownTermSettings):
    """What all terms of pairs have in common: no outputs but the energy, and an outer radius."""

    factor: float = Field(default=FACTOR, gt=0, le=2, description="outer radius of a pair in sums of covalent radii, at most 3 Å")
    outer: float | None = Field(default=None, gt=0, le=10, description="outer radius of all pairs [Å], instead of `factor`")

    @property
    def cutoff(self) -> float:
        """Radius within which all outer radii lie, whatever the elements [Å]."""
        return LARGEST_OUTER if self.outer is None else self.outer

    @property
    def receptive_field(self) -> float:
        """Pairs see as far as the cutoff [Å]."""
        return self.cutoff


class ZBLConfig(PairConfig):
    """Screened repulsion of nuclei (Ziegler, Biersack, Littmark), ended smoothly; nothing is learned."""

    kind: Literal["zbl"] = "zbl"
    inner: float | None = Field(default=None, gt=0, description="where the switching begins [Å]; by default half the outer radius")
    pairs: dict[str, tuple[PositiveFloat, PositiveFloat]] = Field(
        default={}, description="inner and outer radius [Å] by pair of elements, such as {C-H: [0.4, 0.8]}"
    )

    @field_validator("pairs")
    @classmethod
    def _pairs_are_radii(cls, pairs: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (inner, outer) in pairs.items():
            if not inner < outer <= 10:
                raise ConfigError(f"the pair {name} has the radii {inner:g} and {outer:g} Å, expected inner below outer, and at most 10 Å")
        return ordered_pairs(pairs)

    @model_validator(mode="after")
    def _inner_is_inside(self) -> "ZBLConfig":
        if self.inner is not None and self.inner >= self.cutoff:
            raise ConfigError(
                f"found an inner radius of {self.inner:g} Å and an outer one of {self.cutoff:g} Å at most, expected inner below outer"
            )
        return self

    @property
    def cutoff(self) -> float:
        """Radius within which all outer radii lie, whatever the elements [Å]."""
        return max([super().cutoff, *(outer for _, outer in self.pairs.values())])

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"zbl: outer radii {f'{self.factor:g} × covalent' if self.outer is None else f'{self.outer:g} Å'}"

    def radii(self, elements: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """See `eqpot.physics.pair_radii`."""
        given = {numbers_of(name): radii for name, radii in self.pairs.items()}
        return pair_radii([atomic_number(e) for e in elements], self.factor, self.inner, self.outer, given)


class InversePowerConfig(PairConfig):
    """A wall A/r¹² for each pair of elements, ended smoothly; A is given, or learned."""

    kind: Literal["inverse-power"] = "inverse-power"
    strengths: dict[str, PositiveFloat] = Field(
        default={}, description="A [eV·Å¹²] by pair of elements, such as {C-H: 0.1}; by default 0.02 eV × (sum of covalent radii)¹²"
    )
    trainable: bool = Field(default=False, description="learn a positive factor of each A")

    @field_validator("strengths")
    @classmethod
    def _pairs_are_elements(cls, strengths: dict[str, float]) -> dict[str, float]:
        return ordered_pairs(strengths)

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"inverse-power: {'trainable' if self.trainable else 'fixed'} strengths"

    def walls(self, elements: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """A [eV·Å¹²] and outer radius [Å] of all pairs, [elements, elements].

        Raises:
            ConfigError: for an element that has neither covalent radius nor strengths.
        """
        numbers = [atomic_number(e) for e in elements]
        strength = WALL * covalent_sums(numbers) ** 12
        for name, value in self.strengths.items():
            for a, b in (numbers_of(name), numbers_of(name)[::-1]):
                strength[np.ix_([z == a for z in numbers], [z == b for z in numbers])] = value
        for i, j in np.argwhere(np.isnan(strength)):
            raise ConfigError(f"{elements[i]}-{elements[j]}: no covalent radius is known for one of them; give A in strengths")
        return strength, pair_radii(numbers, self.factor, outer=self.outer)[1]


def pair_distances(graph: Graph, cutoff: float) -> Float[Array, "R M"]:
    """Lengths of the edges [Å]; a masked slot is exactly as long as the cutoff."""
    away = jnp.asarray([cutoff, 0, 0], graph.positions.dtype)
    return safe_norm(jnp.where(graph.edge_mask[..., None], graph.edge_vectors(), away), graph.edge_mask, fill=cutoff)


def pair_species(graph: Graph) -> tuple[Int[Array, "R 1"], Int[Array, "R M"]]:
    """Species of receiver and sender of every slot."""
    species = jnp.asarray(graph.species)
    first = species if graph.receivers is None else species[graph.receivers]
    return first[:, None], species[graph.neighbors]


def half_sums(energy: Float[Array, "R M"], graph: Graph) -> Float[Array, " N"]:
    """Half of the energy of each of an atom's pairs."""
    return graph.sum_rows(jnp.sum(jnp.where(graph.edge_mask, energy, 0), -1)) / 2


def energy_alone(energy: Float[Array, " N"], graph: Graph) -> AtomOutputs:
    """The outputs of a term that says nothing but energies: its features have no channel."""
    return AtomOutputs(jnp.where(graph.atom_mask, energy, 0), jnp.zeros((len(energy), 0), energy.dtype))


class ZBLRepulsion(EnergyModel):
    """½ Σ_j V_ab(r_ij), see `eqpot.physics.zbl_switched`; without parameters, so that all members of an ensemble share one evaluation.

    Args:
        config: radii.
        elements: symbols, in the order of `Graph.species`.

    Raises:
        ConfigError: for radii that do not fit the elements, see `eqpot.physics.pair_radii`.
    """

    def __init__(self, config: ZBLConfig, elements: tuple[str, ...]) -> None:
        config.radii(elements)
        self.config, self.elements = config, elements
        self.cutoff = self.receptive_field = config.cutoff

    def describe(self, graph: Graph) -> Float[Array, " N"]:
        """The energies [eV]: there is nothing to be learned about them."""
        first, second = pair_species(graph)
        dtype = graph.positions.dtype
        table = zbl_pairs([atomic_number(e) for e in self.elements], *self.config.radii(self.elements))
        pairs = jax.tree.map(lambda values: jnp.asarray(values, dtype)[first, second], table)
        return half_sums(zbl_switched(pair_distances(graph, self.cutoff), pairs), graph)

    def __call__(self, graph: Graph, geometry: Float[Array, " N"]) -> AtomOutputs:
        return energy_alone(geometry, graph)


class InversePower(EnergyModel):
    """½ Σ_j A_ab u(r_ij/r₂)/r_ij¹² with A = A⁰·softplus(w + ln(e − 1)); w is zero at first, and A then A⁰.

    Args:
        config: strengths and radii.
        elements: symbols, in the order of `Graph.species`.

    Raises:
        ConfigError: for strengths or radii that do not fit the elements.
    """

    def __init__(self, config: InversePowerConfig, elements: tuple[str, ...]) -> None:
        config.walls(elements)
        self.config, self.elements = config, elements
        self.cutoff = self.receptive_field = config.cutoff
        if config.trainable:
            self.strength = nnx.Param(jnp.zeros((len(elements), len(elements)), jnp.float32))

    def describe(self, graph: Graph) -> Float[Array, "R M"]:
        """Energies of the slots for A = A⁰ [eV]."""
        first, second = pair_species(graph)
        strength, outer = (jnp.asarray(t, graph.positions.dtype)[first, second] for t in self.config.walls(self.elements))
        return strength * inverse_power(pair_distances(graph, self.cutoff), outer)

    def __call__(self, graph: Graph, geometry: Float[Array, "R M"]) -> AtomOutputs:
        if self.config.trainable:
            weights = self.strength[...]
            first, second = pair_species(graph)
            geometry = geometry * jax.nn.softplus((weights + weights.T) / 2 + UNIT)[first, second]
        return energy_alone(half_sums(geometry, graph), graph)
