"""Electrostatic energy of the charges that the network of a sum predicts."""

from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pydantic import Field

from eqpot.core.errors import StructureError
from eqpot.core.tree import record
from eqpot.graph import Graph, Structure
from eqpot.models.base import AtomOutputs, EnergyModel
from eqpot.models.settings import KnownTermSettings
from eqpot.physics import open_energies, periodic_energies

NEUTRAL = 1e-3
"""A total charge [e] below this counts as none."""
BACKGROUND = "a uniform background neutralises a charged crystal: say background: uniform for this term, or give the structure no charge"


class CoulombConfig(KnownTermSettings):
    """Gaussian charges, which a network predicts, attract and repel each other at any distance; in vacuum, in slabs and in crystals."""

    reads: ClassVar[tuple[str, ...]] = ("charges",)
    cutoff: ClassVar[float] = 0.0
    receptive_field: ClassVar[float] = float("inf")

    kind: Literal["coulomb"] = "coulomb"
    smearing: float = Field(
        default=1.0, ge=0.2, le=5, description="width σ of the charges [Å]; nearer than about 5 σ the network learns the rest"
    )
    tolerance: float = Field(default=1e-6, ge=1e-15, le=1e-2, description="Gaussian factor of the reciprocal vectors that are left out")
    background: Literal["refuse", "uniform"] = Field(
        default="refuse",
        description="what neutralises a charged crystal: nothing, and such structures are refused; or a uniform charge density",
    )

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"coulomb: Gaussian charges of {self.smearing:g} Å, any distance"

    def check(self, structure: Structure) -> None:
        """See `ModelSettings.check`.

        Raises:
            StructureError: for one periodic direction, for a charged slab, and for a charged crystal without a background.
        """
        directions, charged = int(np.sum(structure.pbc)), abs(structure.charge) >= NEUTRAL
        if directions == 1:
            raise StructureError(
                "coulomb: found one periodic direction, expected none, two or three; give a wire a wide cell, periodic in all three"
            )
        if directions == 2 and charged:
            raise StructureError(
                f"coulomb: found a slab with the charge {structure.charge:g} e, expected a neutral one: its energy would be infinite"
            )
        if directions == 3 and charged and self.background == "refuse":
            raise StructureError(f"coulomb: found a crystal with the charge {structure.charge:g} e; {BACKGROUND}")


@record
class Places:
    """Where the charges are: positions [Å] and cells [Å]."""

    positions: Float[Array, "N 3"]
    cell: Float[Array, "G 3 3"]


class Coulomb(EnergyModel):
    """½ Σ_{j≠i} K q_i q_j erf(r_ij/(√2 σ))/r_ij, over all images of a periodic structure; see `eqpot.physics.ewald`.

    The erf is 1 at several σ and finite at zero: near atoms, whose electrons overlap, are the network's to describe. Nothing is counted twice, because
    the network learns what is left of the energy beside this term. Charges move with the atoms, and forces and stress follow from both.

    The energy of a structure that `CoulombConfig.check` refuses is NaN.

    Args:
        config: width of the charges, tolerance, background.
    """

    reads = ("charges",)

    def __init__(self, config: CoulombConfig) -> None:
        self.config = config
        self.cutoff, self.receptive_field = config.cutoff, config.receptive_field

    def describe(self, graph: Graph) -> Places:
        """Positions and cells: the waves are not kept, because they are many, and cheap to make."""
        return Places(jnp.asarray(graph.positions), jnp.asarray(graph.cell))

    def __call__(self, graph: Graph, geometry: Places, charges: Float[Array, " N"] | None = None) -> AtomOutputs:
        assert charges is not None, "a coulomb term is given the charges of a network"
        index, mask, config = jnp.asarray(graph.graph_index), jnp.asarray(graph.atom_mask), self.config
        directions = jnp.sum(jnp.any(graph.cell != 0, -1), -1)
        energy = open_energies(geometry.positions, charges, index, mask, directions == 0, config.smearing)
        energy += periodic_energies(geometry.positions, geometry.cell, charges, index, mask, config.smearing, config.tolerance)
        charged = jnp.abs(graph.charge) >= NEUTRAL
        wrong = (directions == 1) | (directions == 2) & charged | (directions == 3) & charged & (config.background == "refuse")
        # Times the charge and not alone, so that the forces are NaN as well.
        spoilt = charges * jnp.where(wrong, jnp.asarray(jnp.nan, charges.dtype), 1)[index]
        energy = jnp.where(wrong[index], spoilt, energy)
        return AtomOutputs(jnp.where(mask, energy, 0), jnp.zeros((len(energy), 0), energy.dtype))
