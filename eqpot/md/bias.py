"""What may push the atoms beside the potential: restraints, walls, and the ensemble's own doubt.

A bias is a function of the positions in space (not folded, so a restrained atom is free to cross a boundary of the cell and is pulled back across it).
Its energy is part of the conserved quantity, and never of the potential energy that is reported.
"""

from abc import abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.errors import SimulationError
from eqpot.core.tree import record
from eqpot.md.state import Particles


@record
class BiasResult:
    """Energy [eV], forces [eV/Å] and stress [eV/Å³] of all biases."""

    energy: Float[Array, " S"]
    forces: Float[Array, "S N 3"]
    stress: Float[Array, "S 3 3"]


class Bias:
    """Interface of all biases."""

    @abstractmethod
    def apply(self, particles: Particles, positions: Array, cell: Array, energies: Array, forces: Array) -> tuple[Array, Array]:
        """Energy [S] and forces [S, N, 3], from positions and from the members' energies [members, S] and forces [members, S, N, 3]."""

    def centred(self, centre: Float[np.ndarray, " 3"]) -> "Bias":
        """The same bias in coordinates about a new origin."""
        del centre
        return self

    def check(self, n_atoms: int) -> None:
        """Raise `SimulationError` when the bias does not fit a system of so many atoms."""
        del n_atoms


def total_bias(biases: tuple[Bias, ...], particles: Particles, positions: Array, cell: Array, energies: Array, forces: Array) -> BiasResult:
    """The sum of all biases. They have no stress: a barostat feels them through the atoms that they hold."""
    result = BiasResult(jnp.zeros_like(positions[:, 0, 0]), jnp.zeros_like(positions), jnp.zeros_like(cell))
    for bias in biases:
        energy, push = bias.apply(particles, positions, cell, energies, forces)
        result = BiasResult(result.energy + energy, result.forces + push, result.stress)
    return result


class PositionBias(Bias):
    """A bias that is a function of positions alone."""

    @abstractmethod
    def energy(self, positions: Float[Array, "N 3"], particles: Particles) -> Float[Array, ""]:
        """Energy of one system [eV]."""

    def apply(self, particles: Particles, positions: Array, cell: Array, energies: Array, forces: Array) -> tuple[Array, Array]:
        energy, slope = jax.vmap(jax.value_and_grad(self.energy))(positions, particles)
        return energy, -slope


@record
class HarmonicRestraint(PositionBias):
    """½k·|r_i − c_i|² for the atoms chosen.

    Attributes:
        atoms: their indices.
        centers: where they are held, [atoms, 3] in Å.
        force_constant: k [eV/Å²].
    """

    atoms: Any
    centers: Any
    force_constant: Any

    def energy(self, positions: Float[Array, "N 3"], particles: Particles) -> Float[Array, ""]:
        away = positions[jnp.asarray(self.atoms)] - jnp.asarray(self.centers, positions.dtype)
        return jnp.asarray(self.force_constant, positions.dtype) / 2 * jnp.sum(away**2)

    def centred(self, centre: Float[np.ndarray, " 3"]) -> "HarmonicRestraint":
        return HarmonicRestraint(np.asarray(self.atoms), np.asarray(self.centers, float) - centre, self.force_constant)

    def check(self, n_atoms: int) -> None:
        atoms, centers = np.asarray(self.atoms), np.asarray(self.centers)
        if atoms.ndim != 1 or not np.issubdtype(atoms.dtype, np.integer) or not ((atoms >= 0) & (atoms < n_atoms)).all():
            raise SimulationError(f"HarmonicRestraint.atoms: found {self.atoms!r:.80}, expected indices from 0 to {n_atoms - 1}")
        if centers.shape != (len(atoms), 3):
            raise SimulationError(f"HarmonicRestraint.centers: found shape {centers.shape}, expected ({len(atoms)}, 3)")
        _positive("HarmonicRestraint.force_constant", self.force_constant)


@record
class SphericalWall(PositionBias):
    """½k·(|r_i − c| − R)² for every atom outside of a sphere: keeps a cluster together.

    Attributes:
        radius: R [Å].
        center: c [Å].
        force_constant: k [eV/Å²].
    """

    radius: Any
    center: Any = (0.0, 0.0, 0.0)
    force_constant: Any = 1.0

    def energy(self, positions: Float[Array, "N 3"], particles: Particles) -> Float[Array, ""]:
        dtype = positions.dtype
        square = jnp.sum((positions - jnp.asarray(self.center, dtype)) ** 2, -1)
        radius = jnp.asarray(self.radius, dtype)
        outside = particles.real & (square > radius**2)
        beyond = jnp.sqrt(jnp.where(outside, square, radius**2)) - radius
        return jnp.asarray(self.force_constant, dtype) / 2 * jnp.sum(jnp.where(outside, beyond, 0) ** 2)

    def centred(self, centre: Float[np.ndarray, " 3"]) -> "SphericalWall":
        return SphericalWall(self.radius, np.asarray(self.center, float) - centre, self.force_constant)

    def check(self, n_atoms: int) -> None:
        _vector("SphericalWall.center", self.center)
        _positive("SphericalWall.radius", self.radius)
        _positive("SphericalWall.force_constant", self.force_constant)


@record
class PlanarWall(PositionBias):
    """½k·d² for every atom at a depth d behind a plane: n·(p − r) > 0.

    Attributes:
        point: p, any point of the plane [Å].
        normal: n, towards the side where atoms may be.
        force_constant: k [eV/Å²].
    """

    point: Any
    normal: Any
    force_constant: Any = 1.0

    def energy(self, positions: Float[Array, "N 3"], particles: Particles) -> Float[Array, ""]:
        dtype = positions.dtype
        normal = jnp.asarray(self.normal, dtype)
        depth = jnp.sum((jnp.asarray(self.point, dtype) - positions) * (normal / jnp.sqrt(jnp.sum(normal**2))), -1)
        return jnp.asarray(self.force_constant, dtype) / 2 * jnp.sum(jnp.where(particles.real, jnp.maximum(depth, 0), 0) ** 2)

    def centred(self, centre: Float[np.ndarray, " 3"]) -> "PlanarWall":
        return PlanarWall(np.asarray(self.point, float) - centre, self.normal, self.force_constant)

    def check(self, n_atoms: int) -> None:
        _vector("PlanarWall.point", self.point)
        _vector("PlanarWall.normal", self.normal)
        _positive("PlanarWall.normal, its length", np.linalg.norm(np.asarray(self.normal, float)))
        _positive("PlanarWall.force_constant", self.force_constant)


@record
class UncertaintyBias(Bias):
    """A·(exp(−σ²/(N·b²)) − 1) with σ² the variance of the members' energies: the run is drawn to where the ensemble does not agree.

    Its force is exact and costs nothing, as ∇σ² needs the members' forces only.

    Attributes:
        height: A, the most energy that doubt can give [eV].
        width: b, doubt per √atom at which most of it is given [eV].

    Reference: Kulichenko et al., Nat. Comput. Sci. 3, 230 (2023), eq. 3.
    """

    height: Any
    width: Any

    def apply(self, particles: Particles, positions: Array, cell: Array, energies: Array, forces: Array) -> tuple[Array, Array]:
        dtype, members = positions.dtype, len(energies)
        height, width = jnp.asarray(self.height, dtype), jnp.asarray(self.width, dtype)
        apart = energies - energies.mean(0)  # [members, S]
        scale = particles.real.sum(-1).astype(dtype) * width**2
        weight = jnp.exp(-jnp.sum(apart**2, 0) / (members - 1) / scale)
        # ∇σ² = 2/(K−1) Σ_k (E_k − Ē) ∇E_k
        slope = -2 / (members - 1) * jnp.einsum("ks,ksni->sni", apart, forces)
        return height * (weight - 1), (height * weight / scale)[:, None, None] * slope

    def check(self, n_atoms: int) -> None:
        _positive("UncertaintyBias.height", self.height)
        _positive("UncertaintyBias.width", self.width)


def _vector(name: str, value: Any) -> None:
    if not (np.shape(value) == (3,) and np.isfinite(np.asarray(value, float)).all()):
        raise SimulationError(f"{name}: found {value!r:.80}, expected three numbers")


def _positive(name: str, value: Any) -> None:
    if not (np.ndim(value) == 0 and np.isfinite(float(value)) and float(value) > 0):
        raise SimulationError(f"{name}: found {value!r}, expected a number above 0")
