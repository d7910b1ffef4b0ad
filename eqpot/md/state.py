"""What is carried from step to step, and what stays as it is; both have a leading axis of systems outside of the integrators."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eqpot.core.tree import record
from eqpot.graph.graph import Either
from eqpot.md.maps import Chain


@record
class Particles:
    """What a system consists of; padded to the size of the largest system of a run.

    Attributes:
        species: index into the potential's list of elements.
        masses: [amu]; 1 for padding.
        real: which atoms are not padding.
        free: which atoms move.
        dof: degrees of freedom that the kinetic energy is spread over.
        pbc: which directions are periodic.
        charge: total charge [e].
    """

    species: Int[Either, "*S N"]
    masses: Float[Either, "*S N"]
    real: Bool[Either, "*S N"]
    free: Bool[Either, "*S N"]
    dof: Float[Either, "*S"]
    pbc: Bool[Either, "*S 3"]
    charge: Float[Either, "*S"]


@record
class State:
    """Where a system is in its phase space.

    Attributes:
        positions: anywhere in space [Å].
        momenta: [amu·Å·√(eV/amu)].
        cell: rows are lattice vectors, those of directions without periodicity completed [Å].
        chain: of Nosé–Hoover thermostats; empty in other ensembles.
        strain: of the step that is being taken, by a barostat.
        work: what the energy has gained by anything but the motion itself, by thermostat and barostat [eV].
    """

    positions: Float[Either, "*S N 3"]
    momenta: Float[Either, "*S N 3"]
    cell: Float[Either, "*S 3 3"]
    chain: Chain
    strain: Float[Either, "*S 3 3"]
    work: Float[Either, "*S"]


@record
class Push:
    """What acts on a state: forces [eV/Å], and the stress of the potential with ASE's sign [eV/Å³]."""

    forces: Float[Either, "*S N 3"]
    stress: Float[Either, "*S 3 3"]


def volume(cell: Float[Array, "3 3"]) -> Float[Array, ""]:
    """|a·(b × c)| [Å³]."""
    return jnp.abs(jnp.vdot(cell[0], jnp.cross(cell[1], cell[2])))


def pressure(momenta: Float[Array, "N 3"], masses: Float[Array, " N"], cell: Float[Array, "3 3"], stress: Array) -> Float[Array, "3 3"]:
    """Instantaneous pressure tensor Σ p⊗p/(m·V) − σ [eV/Å³], positive under compression."""
    return jnp.einsum("ni,nj->ij", momenta, momenta / masses[:, None]) / volume(cell) - stress
