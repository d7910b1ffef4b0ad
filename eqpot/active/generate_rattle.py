"""Thermal displacements: of independent oscillators, or of the normal modes of a potential.

Classical statistics: each quadratic degree of freedom has k_B·T/2 of potential energy. At low temperature real atoms move more, by their zero-point
motion, which is left out.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from eqpot.active.generate_record import Generated, Number, Recipe, Screen, content_hash, drawn
from eqpot.core.elements import mass
from eqpot.core.errors import ConfigError, StructureError
from eqpot.core.units import FS, KB
from eqpot.graph import Graph, Structure
from eqpot.md.restart import fingerprint
from eqpot.potential import ModelSpec, Params, Potential, hessian_vector_product

HBAR = 0.6582119514 * FS
"""ħ in eV times the internal unit of time (CODATA 2014)."""
THZ = 2 * np.pi * 1e-3 / FS
"""Angular frequency of 1 THz in internal units."""
SPRING = 5.0
"""Spring constant of an atom when nothing is said [eV/Å²]: copper has 4.4 (from its Debye temperature), silicon 7."""
MIN_FREQUENCY_THZ = 0.5
"""Modes below this are left out: translations, rotations, and what is so soft that its amplitude is no vibration."""


def amplitudes(
    structure: Structure,
    temperature_K: Number,
    spring: Number | None = None,
    frequency_THz: Number | None = None,
    debye_K: Number | None = None,
) -> Float[np.ndarray, " N"]:
    """Standard deviation √⟨u²⟩ of each atom's displacement along each direction [Å], [atoms].

    Einstein: ⟨u²⟩ = k_B·T/(m·ω²) with ω = 2πν (`frequency_THz`), or k_B·T/k with a spring constant (`spring`, the same for all atoms).
    Debye: the mean of 1/ω² over the Debye spectrum is 3/ω_D², ω_D = k_B·θ/ħ (`debye_K`), so ⟨u²⟩ = 3ħ²·T/(m·k_B·θ²).

    Raises:
        ConfigError: for a number that is not above 0, or several of the three; none means `SPRING`.

    Reference: N. W. Ashcroft, N. D. Mermin, Solid State Physics (1976), chapter 23.
    """
    given = {k: v for k, v in {"spring": spring, "frequency_THz": frequency_THz, "debye_K": debye_K}.items() if v is not None}
    if len(given) > 1:
        raise ConfigError(f"found {' and '.join(given)}, expected one of spring, frequency_THz and debye_K")
    for name, value in {"temperature_K": temperature_K, **given}.items():
        if not 0 < value < 1e6:
            raise ConfigError(f"{name}: found {value}, expected a number above 0")
    masses = mass(structure.numbers)
    if frequency_THz is not None:
        springs = masses * (THZ * frequency_THz) ** 2
    elif debye_K is not None:
        springs = masses * (KB * debye_K / HBAR) ** 2 / 3
    else:
        springs = np.full(len(masses), SPRING if spring is None else float(spring))
    return np.sqrt(KB * temperature_K / springs)


@dataclass(frozen=True, eq=False)
class Modes:
    """Normal modes that vibrate.

    Attributes:
        frequencies_THz: ascending, [modes].
        shapes: displacements for unit mass-weighted amplitude, M^(−1/2)·e [amu^(−1/2)], [modes, atoms, 3].
        left_out: modes below the least frequency, besides translations and rotations.
        imaginary: those of them with negative curvature.
    """

    frequencies_THz: Float[np.ndarray, " K"]
    shapes: Float[np.ndarray, "K N 3"]
    left_out: int
    imaginary: int

    def displacements(self, temperature_K: Number, rng: np.random.Generator) -> Float[np.ndarray, "N 3"]:
        """u = Σ_k q_k·M^(−1/2)·e_k with ⟨q_k²⟩ = k_B·T/ω_k², so that each mode has k_B·T/2 of potential energy on average [Å]."""
        widths = np.sqrt(KB * temperature_K) / (THZ * self.frequencies_THz)
        return np.einsum("k,kia->ia", rng.normal(size=len(widths)) * widths, self.shapes)


def normal_modes(structure: Structure, hessian: Float[np.ndarray, "C C"], min_frequency_THz: Number = MIN_FREQUENCY_THZ) -> Modes:
    """Normal modes of a Hessian: M^(−1/2)·H·M^(−1/2)·e = ω²·e, without translations and, in free space, rotations.

    Args:
        structure: where the Hessian was taken; at best a minimum.
        hessian: ∂²E/∂r_iα∂r_jβ [eV/Å²], [3·atoms, 3·atoms].
        min_frequency_THz: modes below this are left out.

    Raises:
        StructureError: for a Hessian of another shape or with numbers that are not finite.
    """
    n = 3 * len(structure)
    if hessian.shape != (n, n) or not np.isfinite(hessian).all():
        raise StructureError(f"hessian: found shape {hessian.shape} or what is not finite, expected ({n}, {n}) finite numbers")
    roots = np.repeat(np.sqrt(mass(structure.numbers)), 3)
    basis = _internal(structure, roots)
    matrix = basis.T @ ((hessian + hessian.T) / 2 / np.outer(roots, roots)) @ basis
    squares, vectors = np.linalg.eigh(matrix)
    floor = (THZ * min_frequency_THz) ** 2
    kept = squares > floor
    shapes = ((basis @ vectors[:, kept]) / roots[:, None]).T.reshape(-1, len(structure), 3)
    return Modes(np.sqrt(squares[kept]) / THZ, shapes, int((~kept).sum()), int((squares < -floor).sum()))


def _internal(structure: Structure, roots: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted directions that neither translate nor (in free space) rotate the whole; [3·atoms, internal]."""
    rigid = [np.tile(axis, len(structure)) for axis in np.eye(3)]
    if not structure.pbc.any():
        arms = structure.positions - np.average(structure.positions, axis=0, weights=mass(structure.numbers))
        rigid += [np.cross(axis, arms).ravel() for axis in np.eye(3)]
    vectors, sizes, _ = np.linalg.svd(np.stack(rigid, 1) * roots[:, None], full_matrices=True)
    return vectors[:, int((sizes > 1e-6 * sizes.max()).sum()) :]  # a linear molecule has one rotation less


def hessian_of(potential: Potential, structure: Structure) -> Float[np.ndarray, "C C"]:
    """∂²E/∂r_iα∂r_jβ, mean over members, in float64 [eV/Å²], [3·atoms, 3·atoms]; one gradient of forces for each coordinate.

    Raises:
        StructureError: for a structure that the potential has no energy for.
        EqpotError: for direct forces.
    """
    precise = potential.astype("float64")
    host = precise.prepare(structure)
    ((_, graph),) = precise.batches([host])
    with jax.enable_x64(True):
        members = [jax.tree.map(lambda x, k=k: x[k], precise.params) for k in range(precise.n_members)]
        rows = [np.asarray(_rows(precise.spec, 3 * len(host), params, graph)) for params in members]
    return np.mean(rows, 0)


@partial(jax.jit, static_argnums=(0, 1))
def _rows(spec: ModelSpec, n: int, params: Params, graph: Graph) -> jax.Array:
    zero = jnp.zeros_like(jnp.asarray(graph.positions))

    def row(k: jax.Array) -> jax.Array:
        unit = zero.ravel().at[k].set(1).reshape(zero.shape)
        return hessian_vector_product(spec, params, graph, unit).ravel()[:n]

    return jax.lax.map(row, jnp.arange(n))


def rattled(
    atoms: Any,
    temperature_K: Number,
    n: int,
    seed: int = 0,
    *,
    spring: Number | None = None,
    frequency_THz: Number | None = None,
    debye_K: Number | None = None,
    potential: Potential | None = None,
    hessian: Float[np.ndarray, "C C"] | None = None,
    screen: Screen | None = None,
) -> Generated:
    """Structures with thermal displacements.

    Each atom for itself, by an Einstein or Debye estimate (see `amplitudes`; by default a spring of `SPRING`), or all together by the normal modes of a
    potential or a Hessian, which stretch bonds as little as they are stiff.

    Args:
        atoms: an `ase.Atoms` or a `Structure`; for modes at best a minimum, as relaxed by `eqpot.md.relax`.
        temperature_K: of the displacements [K].
        n: structures.
        seed: of the draws.
        spring, frequency_THz, debye_K: see `amplitudes` [eV/Å², THz, K].
        potential: displace along the normal modes of its Hessian.
        hessian: the same of this Hessian [eV/Å²], [3·atoms, 3·atoms].
        screen: what is refused.

    Raises:
        ConfigError: for numbers out of range, or several ways at once.
        StructureError: for a structure without meaning, one of a single atom, and one without any vibration.
    """
    structure = Structure.from_atoms(atoms).check()
    if len(structure) < 2:
        raise StructureError("rattle: found one atom, whose displacement changes nothing, expected two or more (a larger cell)")
    parameters: dict[str, Any] = {"temperature_K": float(temperature_K)}
    estimates = {k: float(v) for k, v in {"spring": spring, "frequency_THz": frequency_THz, "debye_K": debye_K}.items() if v is not None}
    sigma = amplitudes(structure, temperature_K, **estimates)
    notes: tuple[str, ...] = ()
    modes = None
    if potential is not None or hessian is not None:
        if estimates or (potential is not None and hessian is not None):
            raise ConfigError("rattle: found several ways to displace, expected one of spring, frequency_THz, debye_K and a Hessian")
        parameters["modes"] = _name(potential, hessian)
        modes = normal_modes(structure, hessian_of(potential, structure) if potential is not None else np.asarray(hessian, float))
        if not len(modes.frequencies_THz):
            raise StructureError(f"rattle: found no vibration above {MIN_FREQUENCY_THZ} THz, expected at least one mode")
        notes = (_note(structure, modes),) if modes.left_out else ()
    else:
        parameters |= estimates or {"spring": SPRING}

    def make(rng: np.random.Generator, index: int) -> tuple[Structure, dict[str, Any]]:
        del index
        shift = rng.normal(size=(len(sigma), 3)) * sigma[:, None] if modes is None else modes.displacements(temperature_K, rng)
        return replace(structure, positions=structure.positions + shift), {}

    recipe = Recipe("rattle", parameters, seed, content_hash(structure))
    return replace(drawn(recipe, n, make, screen or Screen()), notes=notes)


def _name(potential: Potential | None, hessian: np.ndarray | None) -> str:
    if potential is None:
        return f"hessian {fingerprint([hessian])}"
    return f"potential {fingerprint(potential.params, repr(potential.spec), potential.dtype)}"


def _note(structure: Structure, modes: Modes) -> str:
    note = f"rattle of {structure.formula}: {modes.left_out} modes below {MIN_FREQUENCY_THZ} THz left out"
    return note + (f", {modes.imaginary} of them imaginary: the start is no minimum, relax it first" if modes.imaginary else "")
