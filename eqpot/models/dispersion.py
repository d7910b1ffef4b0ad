"""Dispersion energy of Grimme's D3, for networks whose labels have none."""

from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import Field, model_validator

from eqpot.core.elements import atomic_number, symbol
from eqpot.core.errors import ConfigError, StructureError
from eqpot.graph import Graph, Structure
from eqpot.models.base import AtomOutputs, EnergyModel
from eqpot.models.settings import KnownTermSettings
from eqpot.physics import Damping, Range, d3_elements, d3_energies, damping_of

HEAVIEST = 94
"""Plutonium: the last element that D3 has parameters of."""


class D3Config(KnownTermSettings):
    """D3 with the damping of Becke and Johnson, pairs alone, for all atoms of a structure and their images within a reach."""

    cutoff: ClassVar[float] = 0.0
    receptive_field: ClassVar[float] = float("inf")

    kind: Literal["d3"] = "d3"
    functional: str | None = Field(
        default=None, description="density functional of the labels, such as PBE or wB97M; or give s8, a1 and a2"
    )
    s6: float | None = Field(default=None, ge=0, description="scale of r⁻⁶; by default 1")
    s8: float | None = Field(default=None, ge=0, description="scale of r⁻⁸")
    a1: float | None = Field(default=None, ge=0, description="damping radius in units of √(C8/C6)")
    a2: float | None = Field(default=None, gt=0, description="what is added to the damping radius [bohr]")
    reach: float = Field(default=20.0, ge=5, le=100, description="where pairs end [Å], faded out over the last `switch`")
    cn_reach: float = Field(default=21.2, ge=5, le=100, description="where neighbours that an atom is coordinated by end [Å], likewise")
    switch: float = Field(default=2.0, gt=0, le=4, description="length of both fadings [Å]")
    tail: bool = Field(default=False, description="add to crystals the energy of pairs beyond the reach, as if they were uniform there")

    @model_validator(mode="after")
    def _damping_is_given_once(self) -> "D3Config":
        given = [name for name in ("s6", "s8", "a1", "a2") if getattr(self, name) is not None]
        missing = [name for name in ("s8", "a1", "a2") if name not in given]
        if self.functional is not None and given:
            raise ConfigError(f"d3: found a functional and {', '.join(given)}, expected either")
        if self.functional is None and missing:
            raise ConfigError(
                f"d3: found no {', '.join(missing)}; say which functional the labels are of, such as functional: pbe, or give them"
            )
        _ = self.damping
        return self

    @property
    def damping(self) -> Damping:
        """Parameters of the functional, or those that were given.

        Raises:
            ConfigError: for an unknown functional.
        """
        if self.functional is not None:
            return damping_of(self.functional)
        return Damping(1.0 if self.s6 is None else self.s6, self.s8 or 0.0, self.a1 or 0.0, self.a2 or 0.0)

    @property
    def within(self) -> Range:
        """The reaches."""
        return Range(self.reach, self.cn_reach, self.switch, self.tail)

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"d3: {self.functional or 'own damping'}, up to {self.reach:g} Å{' and a tail' if self.tail else ''}"

    def check(self, structure: Structure) -> None:
        """See `ModelSettings.check`.

        Raises:
            StructureError: for elements beyond plutonium.
        """
        unknown = sorted({symbol(number) for number in np.unique(structure.numbers) if number > HEAVIEST})
        if unknown:
            raise StructureError(f"d3: found {', '.join(unknown)}, expected elements up to {symbol(HEAVIEST)}: no others have parameters")


class Dispersion(EnergyModel):
    """−½ Σ_j C6 [s6/(r⁶ + f⁶) + …], see `eqpot.physics.dispersion`; without parameters, so that all members of an ensemble share one evaluation.

    Args:
        config: damping and reaches.
        elements: symbols, in the order of `Graph.species`.

    Raises:
        ConfigError: for elements beyond plutonium.
    """

    def __init__(self, config: D3Config, elements: tuple[str, ...]) -> None:
        unknown = [name for name in elements if atomic_number(name) > HEAVIEST]
        if unknown:
            raise ConfigError(f"d3: no parameters are known for {', '.join(unknown)}; leave the term out, or these elements")
        self.config, self.elements = config, elements
        self.cutoff, self.receptive_field = config.cutoff, config.receptive_field

    def describe(self, graph: Graph) -> Float[Array, " N"]:
        """The energies [eV]: there is nothing to be learned about them."""
        known = d3_elements([atomic_number(name) for name in self.elements])
        positions, cell, species = map(jnp.asarray, (graph.positions, graph.cell, graph.species))
        index, mask = jnp.asarray(graph.graph_index), jnp.asarray(graph.atom_mask)
        return d3_energies(positions, cell, species, index, mask, known, self.config.damping, self.config.within)

    def __call__(self, graph: Graph, geometry: Float[Array, " N"]) -> AtomOutputs:
        energy = jnp.where(graph.atom_mask, geometry, 0)
        return AtomOutputs(energy, jnp.zeros((len(energy), 0), energy.dtype))
