"""Averages under a potential from frames that were made with another one nearby: thermodynamic perturbation.

    ⟨O⟩_θ ≈ Σ_i w_i·O(x_i),     w_i = exp(−(U_θ(x_i) − U_θ₀(x_i))/k_BT) / Σ_j …

The weights are differentiable in θ, so that d⟨O⟩/dθ needs no trajectory: what comes out is the fluctuation formula
⟨∂O/∂θ⟩ − (⟨O·∂U/∂θ⟩ − ⟨O⟩⟨∂U/∂θ⟩)/k_BT. At constant pressure positions and cell of a frame are the same for both potentials and P·V cancels.

Reference: Thaler and Zavadlav, Nat. Commun. 12, 6884 (2021), eqs. 4–8; Zwanzig, J. Chem. Phys. 22, 1420 (1954).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def weights(energy: Float[Array, " F"], reference: Float[Array, " F"], kT: Any) -> Float[Array, " F"]:
    """w_i ∝ exp(−(U_i − U⁰_i)/k_BT), with sum 1.

    Args:
        energy: of the frames under the potential of interest [eV].
        reference: under the potential that made them [eV].
        kT: temperature that they were made at [eV].
    """
    return jax.nn.softmax(-(energy - jax.lax.stop_gradient(reference)) / kT)


def effective_size(weights: Float[Array, " F"]) -> Float[Array, ""]:
    """exp(−Σ w ln w): how many frames of equal weight would say as much; F for equal weights, 1 when one frame has all."""
    positive = jnp.where(weights > 0, weights, 1)
    return jnp.exp(-jnp.sum(weights * jnp.log(positive)))


def reweighted(values: Float[Array, "F *shape"], weights: Float[Array, " F"]) -> Float[Array, "*shape"]:
    """Σ_i w_i·O_i."""
    return jnp.tensordot(weights, values, 1)
