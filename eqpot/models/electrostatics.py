"""Electrostatic energy of charges, which the network of a sum predicts, or which follow from the electronegativities that it predicts."""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float
from pydantic import Field

from eqpot.core.errors import StructureError
from eqpot.core.tree import record
from eqpot.graph import Graph, Structure
from eqpot.models.base import AtomOutputs, EnergyModel
from eqpot.models.settings import KnownTermSettings
from eqpot.physics import coarsest_spacing, equilibrated, mesh_energies, mesh_points, open_energies, periodic_energies

NEUTRAL = 1e-3
"""A total charge [e] below this counts as none."""
INITIAL_HARDNESS = 2.0
"""Hardness of every element at first [eV/e²], beside that of a Gaussian charge."""
MOST_DENSE = 1000
"""Atoms of a batch for which a matrix of interactions is made, unless the configuration chooses."""
BACKGROUND = "a uniform background neutralises a charged crystal: say background: uniform for this term, or give the structure no charge"


class ElectrostaticConfig(KnownTermSettings):
    """What the terms of charges have in common: the shape of the charges, and which structures have an energy."""

    cutoff: ClassVar[float] = 0.0
    receptive_field: ClassVar[float] = float("inf")

    kind: str
    smearing: float = Field(
        default=1.0, ge=0.2, le=5, description="width σ of the charges [Å]; nearer than about 5 σ the network learns the rest"
    )
    tolerance: float = Field(default=1e-6, ge=1e-15, le=1e-2, description="Gaussian factor of the reciprocal vectors that are left out")
    background: Literal["refuse", "uniform"] = Field(
        default="refuse",
        description="what neutralises a charged crystal: nothing, and such structures are refused; or a uniform charge density",
    )

    def check(self, structure: Structure) -> None:
        """See `ModelSettings.check`.

        Raises:
            StructureError: for one periodic direction, for a charged slab, and for a charged crystal without a background.
        """
        directions, charged = int(np.sum(structure.pbc)), abs(structure.charge) >= NEUTRAL
        if directions == 1:
            raise StructureError(
                f"{self.kind}: found one periodic direction, expected none, two or three; give a wire a wide cell, periodic in all three"
            )
        if directions == 2 and charged:
            raise StructureError(
                f"{self.kind}: found a slab with the charge {structure.charge:g} e, expected a neutral one: its energy would be infinite"
            )
        if directions == 3 and charged and self.background == "refuse":
            raise StructureError(f"{self.kind}: found a crystal with the charge {structure.charge:g} e; {BACKGROUND}")


class CoulombConfig(ElectrostaticConfig):
    """Gaussian charges, which a network predicts, attract and repel each other at any distance; in vacuum, in slabs and in crystals."""

    reads: ClassVar[tuple[str, ...]] = ("charges",)

    kind: Literal["coulomb"] = "coulomb"
    mesh: tuple[int, int, int] | None = Field(
        default=None, description="points of a mesh along the lattice vectors, for one large crystal; else waves are summed one by one"
    )

    def check(self, structure: Structure) -> None:
        """See `ElectrostaticConfig.check`.

        Raises:
            StructureError: also where a mesh is for another cell.
        """
        super().check(structure)
        if self.mesh is not None and not structure.pbc.all():
            raise StructureError(
                f"coulomb: found periodicity {structure.pbc.tolist()}, expected three directions, for the mesh of a crystal"
            )
        spacing = np.linalg.norm(structure.cell, axis=1) / (self.mesh or np.inf)
        if (spacing > coarsest_spacing(self.smearing, self.tolerance)).any():
            raise StructureError(
                f"coulomb: a mesh of {self.mesh} points is too coarse here: found a spacing of {spacing.max():.3g} Å, expected at most "
                f"{coarsest_spacing(self.smearing, self.tolerance):.3g} Å; choose the mesh for this crystal with Potential.using(mesh=atoms)"
            )

    def meshed(self, cell: np.ndarray) -> "CoulombConfig":
        """See `ModelSettings.meshed`."""
        return self.model_copy(update={"mesh": mesh_points(cell, self.smearing, self.tolerance)})

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"coulomb: Gaussian charges of {self.smearing:g} Å, any distance"


class EquilibrationConfig(ElectrostaticConfig):
    """Gaussian charges that flow to where their energy is least, however far that is; a network predicts electronegativities."""

    reads: ClassVar[tuple[str, ...]] = ("electronegativity",)
    outputs: ClassVar[tuple[str, ...]] = ("charges",)
    charges: ClassVar[bool] = True

    kind: Literal["charge-equilibration"] = "charge-equilibration"
    solver: Literal["auto", "dense", "iterative"] = Field(
        default="auto",
        description="one factorisation, conjugate gradients, or the first for batches of up to a thousand atoms and the second beyond",
    )

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"charge-equilibration: Gaussian charges of {self.smearing:g} Å, any distance"


@record
class Places:
    """Where the charges are: positions [Å] and cells [Å]."""

    positions: Float[Array, "N 3"]
    cell: Float[Array, "G 3 3"]


class Electrostatics(EnergyModel):
    """Base of the terms of charges.

    The energy of a structure that the configuration's `check` refuses is NaN.

    Args:
        config: width of the charges, tolerance, background.
    """

    mesh: tuple[int, int, int] | None = None

    def __init__(self, config: ElectrostaticConfig) -> None:
        self.config = config
        self.cutoff, self.receptive_field = config.cutoff, config.receptive_field

    def describe(self, graph: Graph) -> Places:
        """Positions and cells: the waves are not kept, because they are many, and cheap to make."""
        return Places(jnp.asarray(graph.positions), jnp.asarray(graph.cell))

    def spoilt(self, graph: Graph, energy: Float[Array, " N"], given: Float[Array, " N"]) -> Float[Array, " N"]:
        """Energies that are no numbers in structures without a finite one, and zero for atoms that are not there."""
        directions, charged = jnp.sum(jnp.any(graph.cell != 0, -1), -1), jnp.abs(graph.charge) >= NEUTRAL
        wrong = (directions == 1) | (directions == 2) & charged | (directions == 3) & charged & (self.config.background == "refuse")
        wrong = graph.graph_mask & (wrong | self.off_mesh(graph))
        # Times what the network gave and not alone, so that the forces are NaN as well, and those of no other structure.
        spoilt = given * jnp.where(wrong, jnp.asarray(jnp.nan, given.dtype), 1)[graph.graph_index]
        return jnp.where(graph.atom_mask, jnp.where(wrong[graph.graph_index], spoilt, energy), 0)

    def off_mesh(self, graph: Graph) -> Bool[Array, " G"]:
        """Structures that a mesh is not for."""
        if self.mesh is None:
            return jnp.zeros(len(graph.cell), bool)
        spacing = jnp.linalg.norm(graph.cell, axis=-1) / jnp.asarray(self.mesh, graph.cell.dtype)
        return jnp.any((spacing > coarsest_spacing(self.config.smearing, self.config.tolerance)) | (spacing == 0), -1)


class Coulomb(Electrostatics):
    """½ Σ_{j≠i} K q_i q_j erf(r_ij/(√2 σ))/r_ij, over all images of a periodic structure; see `eqpot.physics.ewald`.

    The erf is 1 at several σ and finite at zero: near atoms, whose electrons overlap, are the network's to describe. Nothing is counted twice, because
    the network learns what is left of the energy beside this term. Charges move with the atoms, and forces and stress follow from both.
    """

    reads = ("charges",)

    def __init__(self, config: CoulombConfig) -> None:
        super().__init__(config)
        self.mesh = config.mesh

    def __call__(self, graph: Graph, geometry: Places, charges: Float[Array, " N"] | None = None) -> AtomOutputs:
        assert charges is not None, "a coulomb term is given the charges of a network"
        index, mask, config = jnp.asarray(graph.graph_index), jnp.asarray(graph.atom_mask), self.config
        if self.mesh is not None:
            energy = self._on_mesh(graph, geometry, charges, self.mesh)
        else:
            isolated = ~jnp.any(graph.cell != 0, (1, 2))
            energy = open_energies(geometry.positions, charges, index, mask, isolated, config.smearing)
            energy += periodic_energies(geometry.positions, geometry.cell, charges, index, mask, config.smearing, config.tolerance)
        return AtomOutputs(self.spoilt(graph, energy, charges), jnp.zeros((len(energy), 0), energy.dtype))

    def _on_mesh(self, graph: Graph, geometry: Places, charges: Float[Array, " N"], points: tuple[int, int, int]) -> Float[Array, " N"]:
        """Energies from one mesh for each structure, one after the other; zero where there are not three lattice vectors."""

        def one(cell: Float[Array, "3 3"], bulk: Array, here: Array) -> Float[Array, " N"]:
            cell = jnp.where(bulk, cell, jnp.eye(3, dtype=cell.dtype))
            return mesh_energies(geometry.positions, cell, jnp.where(here, charges, 0), self.config.smearing, points)

        bulk = jnp.all(jnp.any(graph.cell != 0, -1), -1)
        here = (graph.graph_index == jnp.arange(len(bulk), dtype=graph.graph_index.dtype)[:, None]) & graph.atom_mask & bulk[:, None]
        return jnp.sum(jax.lax.map(lambda structure: one(*structure), (geometry.cell, bulk, here)), 0)


class ChargeEquilibration(Electrostatics):
    """Charges of least energy for the electronegativities of the network, χ_i + χ⁰(element), and hardnesses η(element); see `eqpot.physics.equilibration`.

    χ⁰ starts at zero and η at 2 eV/e² beside the Gaussian's own K √(2/π)/σ. η = 2 softplus(w + ln(e − 1)) is above zero for any w.

    Args:
        config: width of the charges, tolerance, background, solver.
        n_species: number of elements.
    """

    reads = ("electronegativity",)

    def __init__(self, config: EquilibrationConfig, n_species: int) -> None:
        super().__init__(config)
        self.solver = config.solver
        self.offset, self.hardness = (nnx.Param(jnp.zeros((n_species, 1), jnp.float32)) for _ in range(2))

    def __call__(self, graph: Graph, geometry: Places, electronegativity: Float[Array, " N"] | None = None) -> AtomOutputs:
        assert electronegativity is not None, "charge-equilibration is given the electronegativities of a network"
        index, mask, config = jnp.asarray(graph.graph_index), jnp.asarray(graph.atom_mask), self.config
        hardness = INITIAL_HARDNESS * jax.nn.softplus(self.hardness[:, 0] + float(np.log(np.e - 1)))[graph.species]
        wanted = electronegativity + self.offset[:, 0][graph.species]
        few = len(mask) <= MOST_DENSE if self.solver == "auto" else self.solver == "dense"
        charges, energy = equilibrated(
            geometry.positions,
            geometry.cell,
            wanted,
            hardness,
            graph.charge,
            index,
            mask,
            config.smearing,
            config.tolerance,
            "dense" if few else "iterative",
        )
        return AtomOutputs(self.spoilt(graph, energy, electronegativity), jnp.zeros((len(energy), 0), energy.dtype), charges=charges)
