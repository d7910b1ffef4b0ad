"""Through a relaxation: how what is relaxed depends on the parameters of the potential.

At a minimum x*(p) of E(p, x) the slope ∂E/∂x is zero whatever p, so that

    dx*/dp = −H⁻¹ ∂²E/∂x∂p,    dq/dp = ∂q/∂p − (H⁻¹ ∂q/∂x)·∂²E/∂x∂p,    H = ∂²E/∂x²

One linear system is solved for each quantity, however many parameters there are, by conjugate gradients with products H·v that are
gradients of gradients; H is never
formed and the steps of the relaxation are not remembered. What costs no energy, a translation or a rotation of the whole, is left out of x.

Reference: Griewank and Faure, Numer. Algorithms 30, 113 (2002); Blondel et al., arXiv:2105.15183, section 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.errors import SimulationError
from eqpot.core.units import EV_PER_A3_TO_GPA
from eqpot.md.bodies import CELLS
from eqpot.md.ensembles import Number, require
from eqpot.md.minimize import check_choices
from eqpot.md.systems import read_system
from eqpot.md.valley import Valley
from eqpot.potential import Params, Potential


@dataclass(frozen=True, eq=False)
class RelaxedGradient:
    """A quantity of a relaxed structure, and its derivative with respect to the parameters.

    Attributes:
        value: of the quantity.
        gradient: dq/dp, like `potential.params`, float64.
        positions: of the minimum [Å].
        cell: of the minimum [Å].
    """

    value: float
    gradient: Params
    positions: Float[np.ndarray, "N 3"]
    cell: Float[np.ndarray, "3 3"]


def relaxed_gradient(
    potential: Potential,
    atoms: Any,
    quantity: Callable[[Params, Array, Array], Any],
    *,
    cell: Literal["fixed", "isotropic", "flexible"] = "fixed",
    pressure_GPa: Number = 0.0,
) -> RelaxedGradient:
    """dq/dp of a quantity q(p, positions, cell) at the relaxed structure, its dependence on p through the structure included.

        bond = lambda params, positions, cell: jnp.linalg.norm(positions[1] - positions[0])
        relaxed_gradient(potential, relax(potential, dimer).atoms, bond).gradient

    Args:
        potential: its parameters p, with their axis of members, are what is derived by; the mean energy of the members is minimal.
        atoms: a relaxed `ase.Atoms` (see `eqpot.relax`); a few Newton steps bring it to the minimum.
        quantity: JAX function of parameters, positions [atoms, 3] in Å and cell [3, 3] in Å, all float64, to a number.
        cell: what of the cell was relaxed: 'fixed', 'isotropic' or 'flexible'.
        pressure_GPa: at which [GPa].

    Raises:
        SimulationError: for a structure that is not near a minimum, or a potential without energy landscape.
    """
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, potential.astype("float64").params)
        relaxed = relaxed_structure(potential, atoms, cell=cell, pressure_GPa=pressure_GPa)
        positions, shape = relaxed(params)
        if not np.isfinite(positions).all():
            raise SimulationError(
                "the structure is not near a minimum (Newton's method finds none, or a direction of negative curvature); relax it first"
            )
        value, gradient = jax.value_and_grad(lambda p: quantity(p, *relaxed(p)))(params)
        return RelaxedGradient(float(value), jax.device_get(gradient), np.asarray(positions), np.asarray(shape))


def relaxed_structure(
    potential: Potential,
    atoms: Any,
    *,
    cell: Literal["fixed", "isotropic", "flexible"] = "fixed",
    pressure_GPa: Number = 0.0,
) -> Callable[[Params], tuple[Float[Array, "N 3"], Float[Array, "3 3"]]]:
    """The minimum near a structure as a function of the parameters, with the derivative above.

    Neighbours are those of the given structure: relax again when parameters have changed so much that others come within the cutoff. What the
    function returns is not finite where there is no minimum near.

    Args:
        see `relaxed_gradient`.

    Returns:
        a function of parameters (float64, with their axis of members; call it under `jax.enable_x64(True)`) to positions and cell [Å]. It may be
        differentiated once, in reverse, and compiled.

    Raises:
        SimulationError: for an argument out of range, or a potential without energy landscape.
    """
    check_choices(potential, cell=(cell, CELLS))
    pressure = require("pressure_GPa", pressure_GPa, -1e4, 1e4) / EV_PER_A3_TO_GPA
    system = read_system(atoms)
    if (cell != "fixed" or pressure) and not (system.structure.pbc.all() and cell != "fixed"):
        raise SimulationError(
            "cell: expected one that is periodic along all directions and not fixed, to relax it or to put it under pressure"
        )
    with jax.enable_x64(True):
        valley = Valley.of(potential, system, cell, pressure)
    return partial(_relaxed, valley)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _relaxed(valley: Valley, params: Params) -> tuple[Float[Array, "N 3"], Float[Array, "3 3"]]:
    return valley.place(_minimum(valley, params))


def _forward(valley: Valley, params: Params) -> Any:
    z = _minimum(valley, params)
    return valley.place(z), (params, z)


@jax.jit
def _minimum(valley: Valley, params: Params) -> Float[Array, "R 3"]:
    return valley.minimum(params)


@jax.jit
def _backward(valley: Valley, kept: Any, slopes: Any) -> tuple[Params]:
    params, z = kept
    by_z = jax.vjp(valley.place, z)[1](slopes)[0]
    answer = valley.solve(params, z, valley.within(by_z))
    return (jax.grad(lambda p: -jnp.vdot(valley.slope(p, z), answer))(params),)


_relaxed.defvjp(_forward, _backward)
