"""The surroundings of a minimum: energy, slope and curvature in the unknowns of a relaxation, all differentiable with respect to the parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from eqpot.core.tree import record, static
from eqpot.graph import Graph, collate
from eqpot.graph.batching import bucket
from eqpot.graph.neighbors import complete_cell
from eqpot.md.bodies import product, projected, strain_scale
from eqpot.md.state import volume
from eqpot.md.systems import System
from eqpot.potential import ModelSpec, Params, Potential, map_members

NEWTON_STEPS = 20
"""Newton steps that a structure may need to its minimum; from a relaxed one it takes two or three."""
NEWTON_FORCE = 1e-9
"""Forces that count as none [eV/Å]: a Newton step squares the error, so the last one ends far below."""
SOLUTION = 1e-10
"""Relative residual of a linear system."""


@record
class Valley:
    """The surroundings of a minimum, in the unknowns z: displacements of the atoms, and three rows of a scaled symmetric strain where the cell may change.

    Attributes:
        graph: of the structure, float64.
        positions, cell: as the user has them [Å].
        free: which rows may change, [rows, 1].
        rigid: orthonormal displacements that cost no energy, [modes, rows, 3].
        scale: of the strain [Å].
        pressure: [eV/Å³].
        spec: of the model.
        shape: one of `CELLS`.
    """

    graph: Graph
    positions: Float[Array, "N 3"]
    cell: Float[Array, "3 3"]
    free: Bool[Array, "R 1"]
    rigid: Float[Array, "M R 3"]
    scale: Float[Array, ""]
    pressure: Float[Array, ""]
    spec: ModelSpec = static()
    shape: str = static()

    @classmethod
    def of(cls, potential: Potential, system: System, shape: str, pressure: float) -> "Valley":
        """The valley that a structure lies in."""
        host, structure = potential.prepare(system.structure), system.structure
        graph = collate([host], bucket([host]), "float64")
        free = np.concatenate([~system.fixed, np.ones(0 if shape == "fixed" else 3, bool)])[:, None]
        rigid = np.pad(rigid_modes(system), ((0, 0), (0, len(free) - len(structure)), (0, 0)))
        scale = strain_scale(len(structure), complete_cell(structure.cell, structure.pbc))
        arrays = jax.tree.map(jnp.asarray, (graph, structure.positions, structure.cell, free, rigid, scale, pressure))
        return cls(*arrays, spec=potential.spec, shape=shape)

    def deform(self, z: Float[Array, "R 3"]) -> Float[Array, "3 3"]:
        """1 + ε."""
        unit = jnp.eye(3, dtype=z.dtype)
        return unit if self.shape == "fixed" else unit + projected(z[-3:], self.shape) / self.scale

    def place(self, z: Float[Array, "R 3"]) -> tuple[Float[Array, "N 3"], Float[Array, "3 3"]]:
        """Positions and cell [Å]."""
        deform = self.deform(z)
        return product(self.positions + z[: len(self.positions)], deform), product(self.cell, deform)

    def energy(self, params: Params, z: Float[Array, "R 3"]) -> Float[Array, ""]:
        """Mean over members of E + P·V [eV]."""
        graph, n = self.graph, len(self.positions)
        strain = jnp.zeros_like(graph.cell).at[0].set(self.deform(z) - jnp.eye(3, dtype=z.dtype))
        graph = graph.replace(positions=graph.positions.at[:n].add(z[:n])).strained(strain)

        def total(graph: Graph) -> Callable[[Params], Array]:
            geometry = self.spec.describe(graph)
            return lambda params: graph.sum_atoms(self.spec.evaluate(params, graph, geometry).energy)[0]

        energy = jnp.mean(map_members(total, params, graph))
        return energy + self.pressure * volume(graph.cell[0]) if self.shape != "fixed" else energy

    def within(self, z: Float[Array, "R 3"]) -> Float[Array, "R 3"]:
        """What of a direction is free to change, and is no rigid motion."""
        if self.shape != "fixed":
            z = z.at[-3:].set(projected(z[-3:], self.shape))
        z = jnp.where(self.free, z, 0)
        return z - jnp.einsum("m,mri->ri", jnp.einsum("mri,ri->m", self.rigid, z), self.rigid)

    def slope(self, params: Params, z: Float[Array, "R 3"]) -> Float[Array, "R 3"]:
        """∂(E + P·V)/∂z [eV/Å]."""
        return self.within(jax.grad(self.energy, argnums=1)(params, z))

    def curvature(self, params: Params, z: Float[Array, "R 3"], v: Float[Array, "R 3"]) -> Float[Array, "R 3"]:
        """H·v [eV/Å² × unit of v]; reverse over reverse, which every kernel supports."""
        return self.within(jax.grad(lambda z: jnp.vdot(self.slope(params, z), v))(z))

    def solve(self, params: Params, z: Float[Array, "R 3"], right: Float[Array, "R 3"]) -> Float[Array, "R 3"]:
        """H⁻¹·right by conjugate gradients; not finite where H has no inverse, or a direction of negative curvature is met."""
        square = jnp.vdot(right, right)

        def go(state: tuple[Any, ...]) -> Array:
            return (state[3] > SOLUTION**2 * square) & (state[4] < 4 * right.size + 20)

        def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
            x, rest, direction, size, count = state
            bent = self.curvature(params, z, direction)
            bend = jnp.vdot(direction, bent)
            length = jnp.where(bend > 0, size / bend, jnp.nan)
            x, rest = x + length * direction, rest - length * bent
            new = jnp.vdot(rest, rest)
            return x, rest, rest + new / size * direction, new, count + 1

        x, _, _, size, _ = jax.lax.while_loop(go, step, (jnp.zeros_like(right), right, right, square, jnp.int32(0)))
        return jnp.where(size <= 1e-12 * square, x, jnp.nan)

    def minimum(self, params: Params) -> Float[Array, "R 3"]:
        """z of the minimum, by Newton's method; not finite where it finds none."""

        def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
            z, slope, count = state
            z = z - self.solve(params, z, slope)
            return z, self.slope(params, z), count + 1

        def go(state: tuple[Any, ...]) -> Array:
            return (jnp.abs(state[1]).max() > NEWTON_FORCE) & (state[2] < NEWTON_STEPS)

        start = jnp.zeros((len(self.free), 3), self.graph.positions.dtype)
        z, slope, _ = jax.lax.while_loop(go, step, (start, self.slope(params, start), jnp.int32(0)))
        return jnp.where(jnp.abs(slope).max() <= NEWTON_FORCE, z, jnp.nan)


def rigid_modes(system: System) -> Float[np.ndarray, "M N 3"]:
    """Orthonormal displacements that change no distance: translations, and rotations as far as periodicity allows; none that moves a fixed atom."""
    structure = system.structure
    units = np.eye(3)
    arms = structure.positions - structure.positions.mean(0)
    # Turning a cell would move its images: only a wire can turn, about itself.
    axes = [structure.cell[structure.pbc][0]] if structure.pbc.sum() == 1 else list(units) if not structure.pbc.any() else []
    modes = np.stack([np.broadcast_to(u, arms.shape) for u in units] + [np.cross(a / np.linalg.norm(a), arms) for a in axes])
    if system.n_fixed:
        _, sizes, mixes = np.linalg.svd(modes[:, system.fixed].reshape(len(modes), -1).T)
        rank = int((sizes > 1e-6 * max(1.0, sizes.max())).sum())
        modes = np.tensordot(mixes[rank:], modes, 1)
    _, sizes, basis = np.linalg.svd(modes.reshape(len(modes), arms.size), full_matrices=False)
    # A linear molecule has one rotation less.
    return basis[sizes > 1e-4 * sizes.max(initial=1.0)].reshape(-1, *arms.shape)
