"""What drives the atoms: the mean of the members at positions anywhere in space, with their spread, and whatever pushes beside the potential."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.graph.cell_list import Box, Candidates, EdgeTable, Grid, covers, edges, search
from eqpot.graph.graph import Either
from eqpot.md.bias import Bias, total_bias
from eqpot.md.state import Particles, Push
from eqpot.potential import Judge, Judgement, ModelSpec, Params, Prediction, pass_judgement, predict_members


@dataclass(frozen=True)
class Sizes:
    """Static sizes of a run: what may have to grow.

    Attributes:
        grid: of the search for neighbours within cutoff and skin.
        slots: neighbours that an atom can have within the cutoff.
        stride: steps between evaluations of all members; at the others the first member is evaluated alone (see `evaluate`).
    """

    grid: Grid
    slots: int
    stride: int = 1


@record
class Field:
    """The potential and how it is evaluated.

    Attributes:
        params: of the members.
        cutoff: of the potential [Å].
        radius: of the list of neighbours, cutoff and skin [Å].
        biases: what pushes beside the potential.
        first: parameters of the first member, where it is evaluated alone.
        judge: what calibrates σ and knows what was seen.
    """

    params: Params
    cutoff: Float[Either, ""]
    radius: Float[Either, ""]
    biases: tuple[Bias, ...] = ()
    first: Params = None
    judge: Judge = Judge()


@record
class Evaluation:
    """The potential at one set of positions; S systems of N atoms.

    Attributes:
        energy: mean over members, without reference energies [eV].
        energy_std: standard deviation as in `Result`; zero for a single member without noise [eV].
        forces: mean over members [eV/Å].
        atom_std: √Σ_xyz σ² of each atom's force, likewise [eV/Å].
        novelty: distance of each atom from what was seen, as in `Result`; zero for a potential without a domain.
        stress: mean over members [eV/Å³]; zero where there is no volume.
        bias: energy of what pushes beside the potential [eV].
        push: what moves the atoms and the cell: forces and stress of potential and biases; zero on atoms that are fixed.
        nearest: shortest distance of any pair [Å].
    """

    energy: Float[Either, "*S"]
    energy_std: Float[Either, "*S"]
    forces: Float[Either, "*S N 3"]
    atom_std: Float[Either, "*S N"]
    novelty: Float[Either, "*S N"]
    stress: Float[Either, "*S 3 3"]
    bias: Float[Either, "*S"]
    push: Push
    nearest: Float[Either, "*S"]


def no_candidates(positions: Float[Array, "S N 3"], sizes: Sizes) -> Candidates:
    """A list that covers nothing, so that one is made at the next evaluation."""
    systems, atoms = positions.shape[:2]
    senders = jnp.full((systems, atoms, sizes.grid.slots), atoms, jnp.int32)
    cell = jnp.zeros((systems, 3, 3), positions.dtype) + jnp.eye(3, dtype=positions.dtype)
    images, radius = jnp.zeros((*senders.shape, 3), jnp.int32), jnp.full(systems, -1, positions.dtype)
    return Candidates(senders, images, positions, cell, radius, jnp.zeros((systems, 3), jnp.int32))


def refresh(
    candidates: Candidates, field: Field, particles: Particles, positions: Array, cell: Array, sizes: Sizes
) -> tuple[Candidates, Bool[Array, ""]]:
    """The list, made anew for all systems if it does not cover some; and whether it was."""
    stale = ~jax.vmap(covers, in_axes=(0, 0, 0, None))(candidates, positions, cell, field.cutoff).all()

    def anew(_: Any) -> Candidates:
        def one(positions: Array, cell: Array, particles: Particles) -> Candidates:
            return search(positions, Box(cell, particles.pbc), particles.real, field.radius, sizes.grid)

        return jax.vmap(one)(positions, cell, particles)

    return jax.lax.cond(stale, anew, lambda c: c, candidates), stale


def evaluate(
    spec: ModelSpec,
    field: Field,
    particles: Particles,
    candidates: Candidates,
    positions: Float[Array, "S N 3"],
    cell: Float[Array, "S 3 3"],
    sizes: Sizes,
    step: Int[Array, ""] | int = 0,
) -> tuple[Evaluation, Int[Array, ""]]:
    """Energy, forces, stress and their spread; the network in its own dtype, sums over atoms and members in that of the positions.

    With a stride k > 1 all members are evaluated at every k-th step only, and what the mean adds to the first member acts there, k-fold: the mean drives by the
    impulses of a multiple time step (Tuckerman, Berne, Martyna, J. Chem. Phys. 97, 1990 (1992)). Between, energy and forces are the first
    member's and the spread is zero.

    Returns:
        the evaluation, and how many neighbours the atom with most has; where that is more than `sizes.slots`, the evaluation is wrong.
    """

    def near(candidates: Candidates, positions: Array, cell: Array, particles: Particles) -> EdgeTable:
        return edges(candidates, positions, Box(cell, particles.pbc), particles.real, field.cutoff, sizes.slots)

    table = jax.vmap(near)(candidates, positions, cell, particles)
    graph = as_graph(table, particles, cell, jax.tree.leaves(field.params)[0].dtype)

    def summary(params: Params, stride: int) -> Evaluation:
        return _summarise(spec, params, graph, field, particles, positions, cell, stride)

    if sizes.stride == 1:
        result = summary(field.params, 1)
    else:
        whole = step % sizes.stride == 0
        result = jax.lax.cond(whole, lambda: summary(field.params, sizes.stride), lambda: summary(field.first, 1))
    return replace(result, nearest=table.nearest.astype(positions.dtype)), table.needed.max()


def _summarise(
    spec: ModelSpec,
    params: Params,
    graph: Graph,
    field: Field,
    particles: Particles,
    positions: Float[Array, "S N 3"],
    cell: Float[Array, "S 3 3"],
    stride: int,
) -> Evaluation:
    """Mean and spread of some members on a graph, and the push that follows."""
    dtype = positions.dtype
    prediction = predict_members(spec, params, graph, is_stressed(spec))
    members = len(prediction.energy)
    energies = prediction.atom_energy.astype(dtype).reshape(members, *particles.real.shape).sum(-1)
    forces = prediction.forces.astype(dtype).reshape(members, *positions.shape)
    stress = jnp.zeros((1, *cell.shape), dtype) if prediction.stress is None else prediction.stress.astype(dtype)
    found = pass_judgement(field.judge, spec, params, graph, prediction.features)
    energy_std, atom_std = _standard_deviations(field.judge, found, prediction, particles, energies, forces)
    bias = total_bias(field.biases, particles, positions, cell, energies, forces)

    def driving(values: Array) -> Array:
        return values.mean(0) if stride == 1 else values[0] + stride * (values.mean(0) - values[0])

    return Evaluation(
        energy=energies.mean(0),
        energy_std=energy_std,
        forces=forces.mean(0),
        atom_std=atom_std,
        novelty=jnp.zeros_like(atom_std) if found.novelty is None else _real(found.novelty, particles, dtype),
        stress=stress.mean(0),
        bias=bias.energy,
        push=Push(jnp.where(particles.free[..., None], driving(forces) + bias.forces, 0), driving(stress) + bias.stress),
        nearest=jnp.zeros_like(bias.energy),
    )


def _standard_deviations(
    judge: Judge,
    found: Judgement,
    prediction: Prediction,
    particles: Particles,
    energies: Float[Array, "K S"],
    forces: Float[Array, "K S N 3"],
) -> tuple[Float[Array, " S"], Float[Array, "S N"]]:
    """σ of energies and of the forces on atoms: spread of members or last layer, noise, calibration."""
    dtype, sizes = energies.dtype, particles.real.sum(-1).astype(energies.dtype)
    energy, atoms = spread(energies) ** 2, jnp.sum(spread(forces) ** 2, -1)
    if found.energy is not None and found.forces is not None:
        energy, atoms = found.energy.astype(dtype) ** 2, _real(jnp.sum(found.forces**2, -1), particles, dtype)
    if prediction.force_noise is not None and prediction.energy_noise is not None:
        energy = energy + jnp.mean(prediction.energy_noise.astype(dtype) ** 2, 0)
        atoms = atoms + 3 * _real(jnp.mean(prediction.force_noise**2, 0), particles, dtype)
    elif judge.noise is not None:
        energy = energy + jnp.asarray(judge.noise[0], dtype) * sizes**2
        atoms = atoms + jnp.where(particles.real, jnp.asarray(3 * judge.noise[1], dtype), 0)
    return judge.energy_std(jnp.sqrt(energy), sizes), judge.atom_std(jnp.sqrt(atoms), particles.species)


def _real(values: Float[Array, " A"], particles: Particles, dtype: Any) -> Float[Array, "S N"]:
    """Values of the atoms of the graph as rows of systems, zero where there is no atom."""
    return jnp.where(particles.real, values.reshape(particles.real.shape).astype(dtype), 0)


def is_stressed(spec: Any) -> bool:
    """Whether the potential has a stress; a specification that does not say is conservative and has."""
    return getattr(spec, "conservative", True)


def as_graph(table: EdgeTable, particles: Particles, cell: Float[Array, "S 3 3"], dtype: Any) -> Graph:
    """The tables of all systems as one disjoint graph in the network's dtype."""
    systems, atoms, _ = table.positions.shape
    first = jnp.arange(systems, dtype=jnp.int32) * atoms

    def flat(x: Array) -> Array:
        return x.reshape(systems * atoms, *x.shape[2:])

    return Graph(
        positions=flat(table.positions).astype(dtype),
        cell=jnp.where(particles.pbc[..., None], cell, 0).astype(dtype),
        species=flat(particles.species),
        neighbors=flat(jnp.where(table.mask, table.senders + first[:, None, None], 0)),
        shifts=flat(table.shifts),
        edge_mask=flat(table.mask),
        atom_mask=flat(particles.real),
        graph_index=jnp.repeat(jnp.arange(systems, dtype=jnp.int32), atoms),
        graph_mask=jnp.ones(systems, bool),
        charge=particles.charge.astype(dtype),
        head=jnp.zeros(systems, jnp.int32),
        origin=jnp.zeros((systems, 3), dtype),
    )


def has_room(candidates: Candidates, slots: Array, sizes: Sizes) -> Bool[Array, ""]:
    """Whether nothing had to be left out of the neighbours."""
    needs = candidates.needs.max(0)
    return (needs[0] <= sizes.grid.per_bin) & (needs[1] <= sizes.grid.slots) & (needs[2] == 0) & (slots <= sizes.slots)


def blank(positions: Float[Array, "S N 3"]) -> Evaluation:
    """An evaluation of zeros, to start from."""
    atoms = jnp.zeros_like(positions)
    system = atoms[:, 0, 0]
    stress = jnp.zeros((len(positions), 3, 3), positions.dtype)
    return Evaluation(system, system, atoms, atoms[..., 0], atoms[..., 0], stress, system, Push(atoms, stress), system)


def spread(values: Any) -> Any:
    """Standard deviation over members, n − 1; zero for a single one."""
    return jnp.std(values, axis=0, ddof=1) if len(values) > 1 else jnp.zeros_like(values[0])
