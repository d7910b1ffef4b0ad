"""A chain of images between two minima as one set of coordinates: what a nudged elastic band descends."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.tree import record
from eqpot.md.bodies import largest
from eqpot.md.descent import Landscape, Slope
from eqpot.md.forces import Evaluation


@record
class Band(Landscape):
    """All images, the two ends among them, as one group that steps together.

    An image i between the ends feels, along the tangent τ of the path, the springs alone, and the potential's force across it:

        F_i = F − (F·τ)τ + k·(|R_{i+1} − R_i| − |R_i − R_{i−1}|)·τ

    The highest, where it climbs, goes up along the path and down across it: F − 2(F·τ)τ. The ends rest.

    Attributes:
        cell: of each image [Å].
        spring: k [eV/Å²].
        climb: one where the highest image climbs, else zero.
        tolerance: largest force that counts as none [eV/Å].

    Reference: tangent, Henkelman and Jónsson, J. Chem. Phys. 113, 9978 (2000), eqs. 8–12; climbing, Henkelman, Uberuaga and Jónsson, ibid. 9901, eq. 5.
    """

    cell: Float[Array, "S 3 3"]
    spring: Float[Array, ""]
    climb: Float[Array, ""]
    tolerance: Float[Array, ""]

    def place(self, point: Float[Array, "1 R 3"]) -> tuple[Float[Array, "S N 3"], Float[Array, "S 3 3"]]:
        return point.reshape(len(self.cell), -1, 3), self.cell

    def slope(self, point: Float[Array, "1 R 3"], cell: Float[Array, "S 3 3"], evaluation: Evaluation) -> Slope:
        images, _ = self.place(point)
        forces = self.forces(images, evaluation.energy, evaluation.push.forces)
        return Slope(evaluation.energy.max()[None], forces.reshape(point.shape), (largest(forces).max() / self.tolerance)[None])

    def forces(self, images: Float[Array, "S N 3"], energy: Float[Array, " S"], forces: Float[Array, "S N 3"]) -> Float[Array, "S N 3"]:
        """Nudged forces; zero at the ends."""
        ahead, behind = images[2:] - images[1:-1], images[1:-1] - images[:-2]
        along = tangents(ahead, behind, energy)
        inner = forces[1:-1]
        part = along * jnp.sum(inner * along, (1, 2), keepdims=True)
        stretch = self.spring * (_length(ahead) - _length(behind))
        highest = jnp.arange(len(inner)) == jnp.argmax(energy[1:-1])
        climbs = (self.climb > 0) & highest[:, None, None]
        return forces.at[1:-1].set(jnp.where(climbs, inner - 2 * part, inner - part + stretch * along)).at[0].set(0).at[-1].set(0)


def tangents(ahead: Float[Array, "I N 3"], behind: Float[Array, "I N 3"], energy: Float[Array, " S"]) -> Float[Array, "I N 3"]:
    """Unit tangents at the images between the ends: towards the higher neighbour; at an extremum a mean of both sides, weighted by their slopes."""
    up, down = energy[2:] - energy[1:-1], energy[:-2] - energy[1:-1]
    most, least = jnp.maximum(jnp.abs(up), jnp.abs(down)), jnp.minimum(jnp.abs(up), jnp.abs(down))
    rising, monotone = up > down, up * down < 0
    forth = jnp.where(monotone, jnp.where(rising, 1, 0), jnp.where(rising, most, least)).astype(energy.dtype)
    back = jnp.where(monotone, jnp.where(rising, 0, 1), jnp.where(rising, least, most)).astype(energy.dtype)
    # Images of equal energy have no slopes to weigh with.
    flat = (forth + back) == 0
    forth, back = jnp.where(flat, 1, forth), jnp.where(flat, 1, back)
    tangent = forth[:, None, None] * ahead + back[:, None, None] * behind
    return tangent / jnp.maximum(_length(tangent), 1e-12)


def _length(path: Float[Array, "I N 3"]) -> Float[Array, "I 1 1"]:
    return jnp.sqrt(jnp.sum(path**2, (1, 2), keepdims=True))
