"""What drives the atoms: the mean of the members, with their spread, at positions anywhere in space."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.potential import ModelSpec, Params, predict_members


@record
class Table:
    """A neighbour table and the region in which it is right.

    Attributes:
        graph: neighbours up to cutoff + skin; its dtype is that of the network. What lies beyond the cutoff adds exactly nothing,
            because the models' envelope is zero there with its derivatives.
        offset: position in space minus position in the graph [Å], constant while the table lasts. The graph's positions are small, so that
            float32 keeps its digits wherever the atoms have gone.
        origin: positions when the table was made [Å].
        reach: how far any atom may be from there [Å]: half the skin, or infinity when the table holds all pairs of a molecule.
    """

    graph: Graph
    offset: Float[Array, "N 3"]
    origin: Float[Array, "N 3"]
    reach: Float[Array, ""]

    def covers(self, positions: Float[Array, "N 3"]) -> Bool[Array, ""]:
        """Whether no atom has moved beyond reach; false when a position is not a number."""
        square = jnp.sum((positions - self.origin) ** 2, -1)
        return jnp.max(square) <= self.reach**2


@record
class Evaluation:
    """The potential at one set of positions.

    Attributes:
        energy: mean over members, without reference energies [eV].
        energy_std: standard deviation over members, n − 1; zero for a single one [eV].
        forces: mean over members [eV/Å].
        atom_std: √Σ_xyz σ² of each atom's force over members [eV/Å].
    """

    energy: Float[Array, ""]
    energy_std: Float[Array, ""]
    forces: Float[Array, "N 3"]
    atom_std: Float[Array, " N"]


def evaluate(spec: ModelSpec, params: Params, table: Table, positions: Float[Array, "N 3"]) -> Evaluation:
    """Energy, forces and their spread; the network in the graph's dtype, sums over atoms and members in that of the positions."""
    dtype, network = positions.dtype, table.graph.positions.dtype
    near = (positions - table.offset).astype(network)
    prediction = predict_members(spec, params, table.graph.replace(positions=near))
    energies = prediction.atom_energy.astype(dtype).sum(-1)  # [members]
    forces = prediction.forces.astype(dtype)  # [members, N, 3]
    atom_std = jnp.sqrt(jnp.sum(_std(forces) ** 2, -1))
    return Evaluation(energies.mean(0), _std(energies), forces.mean(0), atom_std)


def blank(positions: Float[Array, "N 3"]) -> Evaluation:
    """An evaluation of zeros, to start from."""
    zero = jnp.zeros((), positions.dtype)
    return Evaluation(zero, zero, jnp.zeros_like(positions), jnp.zeros_like(positions[:, 0]))


def _std(values: Any) -> Any:
    return jnp.std(values, axis=0, ddof=1) if len(values) > 1 else jnp.zeros_like(values[0])
