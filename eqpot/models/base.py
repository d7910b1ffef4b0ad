"""What an energy model must answer.

A model maps a `Graph` to one energy per atom, and to what else it was configured to say of an atom. It is a pure function of its parameters and
the graph: it differentiates nothing, knows no data, files, units other than eV and Å, and no ensemble. `eqpot.potential` differentiates the sum
of its energies; a model is therefore built only from operations with finite derivatives, also for masked slots and atoms.

To be accepted, a model passes `eqpot.testing.checks.check_model`: invariances, smoothness at the cutoff, locality, padding.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from eqpot.core.errors import ConfigError
from eqpot.core.tree import record
from eqpot.graph import Graph

Geometry = Any
"""Pytree of arrays that a model makes of positions and cell."""


@record
class AtomOutputs:
    """Per-atom results of a model; padding atoms hold zeros, and a noise of one. What a model does not say is None.

    Attributes:
        energy: energy without the reference energies of the elements [eV].
        features: invariant descriptors, for novelty and selection; their last axis is the channel.
        forces: forces that are no derivative of the energy [eV/Å].
        force_noise: standard deviation of the label of a force component [eV/Å], above zero.
        energy_noise: standard deviation that the atom adds to the label of the energy [eV], above zero.
        charges: partial charges [e]; they sum to the total charge of the structure.
        electronegativity: what an atom pays for a positive charge [eV/e]; charges follow from it, see `eqpot.physics.equilibrated`.
    """

    energy: Float[Array, " N"]
    features: Float[Array, "N F"]
    forces: Float[Array, "N 3"] | None = None
    force_noise: Float[Array, " N"] | None = None
    energy_noise: Float[Array, " N"] | None = None
    charges: Float[Array, " N"] | None = None
    electronegativity: Float[Array, " N"] | None = None


@dataclass(frozen=True)
class Normalization:
    """What a model knows of its data beforehand, so that its parameters can start at unit scale.

    Attributes:
        average_neighbors: mean number of neighbours within the cutoff.
        scale: size of the energies that the network has to learn [eV], by default the RMS force component times 1 Å.
        shift: energy of an atom in its usual surroundings relative to its reference energy [eV], one per element;
            with several heads, one per head and element, those of the first head first.
    """

    average_neighbors: float = 10.0
    scale: float = 1.0
    shift: tuple[float, ...] = ()

    def shifts(self, n_heads: int, n_species: int) -> tuple[float, ...]:
        """`shift`, or as many zeros.

        Raises:
            ConfigError: for another number of values.
        """
        if len(self.shift) not in (0, n_heads * n_species):
            expected = f"one per element ({n_species})" if n_heads == 1 else f"one per head and element ({n_heads} × {n_species})"
            raise ConfigError(f"shift: found {len(self.shift)} values, expected {expected} or none")
        return self.shift or (0.0,) * (n_heads * n_species)


class EnergyModel(nnx.Module):
    """Interface of all energy models: geometry first, then energies.

    Attributes:
        cutoff: radius of the neighbour table that the model needs [Å].
        receptive_field: distance beyond which atoms cannot influence each other's energy [Å].
        reads: fields of `AtomOutputs` that the model, as a term of a sum, takes from the terms before it, as keywords.
    """

    cutoff: float
    receptive_field: float
    reads: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def describe(self, graph: Graph) -> Geometry:
        """Everything that depends on positions and cell and on no parameter; computed once for all members of an ensemble."""

    @abstractmethod
    def __call__(self, graph: Graph, geometry: Geometry) -> AtomOutputs:
        """Energies of the atoms; positions and cell may enter only through `geometry`, or they would be missed by the derivatives."""
