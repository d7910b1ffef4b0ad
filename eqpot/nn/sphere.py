"""The grid product: many-body features as powers of a function on the sphere.

    f_c(r̂) = Σ_lm A_lm,c Y_lm(r̂)      B_LM,c = Σ_ν w_ν,L,c(z) (1/4π) ∫ Y_LM f_c^ν dr̂,   ν = 1 … correlation

A product of two functions is pointwise on a grid, where in components it needs Gaunt coefficients; a quadrature that is exact for polynomials of the
degree at hand makes it as equivariant as the exact product (Luo, Chen & Krishnapriyan, arXiv:2401.10216). The weights of the paths inside one power are
those of the Gaunt coefficients and not learned, so the space it spans per channel is smaller than that of the symmetric contraction, at a
tenth of the cost.
"""

from functools import cache
from math import factorial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from eqpot.nn.coupling import clebsch_gordan, degree_slice
from eqpot.nn.layers import Features, einsum, normal_param


@cache
def quadrature(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [P, 3] and weights [P], summing to one, that integrate spherical polynomials up to `degree` exactly: Gauss–Legendre in z, uniform around it."""
    heights, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    angles = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    z, angle = (x.ravel() for x in np.meshgrid(heights, angles, indexing="ij"))
    points = np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], -1)
    return points, np.repeat(weights, degree + 1) / 2 / (degree + 1)


def harmonics(points: Float[np.ndarray, "P 3"], l_max: int) -> Float[np.ndarray, "P S"]:
    """Real spherical harmonics in float64, component normalised (Σ_m Y_lm² = 2l + 1), by coupling Y_1 to Y_l−1."""
    degrees = [np.ones((len(points), 1)), np.sqrt(3) * points]
    for l in range(2, l_max + 1):
        y = np.einsum("pi,pj,ijk->pk", degrees[1], degrees[-1], clebsch_gordan(1, l - 1, l))
        degrees.append(y * np.sqrt((2 * l + 1) / np.sum(y**2, -1, keepdims=True)))
    return np.concatenate(degrees[: l_max + 1], -1)


@cache
def grid_tables(l_in: int, l_out: int, correlation: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y [P, S_in], the projection [S_out, P], and the norm [correlation, l_out + 1] of each power for standard normal features.

    The norm is that of the fully connected part, √(ν! ∫∫ Y_L(r̂) Y_L(ŝ) K(r̂·ŝ)^ν) with the covariance K of f, as in the symmetric contraction.
    """
    points, weights = quadrature(correlation * l_in + l_out)
    values = harmonics(points, max(l_in, l_out))
    inputs, project = values[:, : (l_in + 1) ** 2], values[:, : (l_out + 1) ** 2].T * weights
    covariance = inputs @ inputs.T
    norms = np.empty((correlation, l_out + 1))
    for n in range(correlation):
        variance = factorial(n + 1) * np.einsum("mp,pq,mq->m", project, covariance ** (n + 1), project)
        norms[n] = np.sqrt([variance[degree_slice(l)].mean() for l in range(l_out + 1)])
    return inputs, project, norms


class GridProduct(nnx.Module):
    """Powers of the atomic density on a grid, with weights per element, power, degree and channel.

    Args:
        l_in: largest degree of the incoming features.
        l_out: largest degree of the result.
        channels: number of channels.
        n_species: number of elements.
        correlation: highest power (body order minus one).
    """

    def __init__(self, l_in: int, l_out: int, channels: int, n_species: int, correlation: int, *, rngs: nnx.Rngs) -> None:
        self.l_in, self.l_out, self.correlation = l_in, l_out, correlation
        self.weights = normal_param(rngs, n_species, correlation, l_out + 1, channels, scale=correlation**-0.5)

    def __call__(self, features: Features, species: Int[Array, " N"]) -> Features:
        """Multiply.

        Returns:
            features up to degree l_out.
        """
        inputs, project, norms = grid_tables(self.l_in, self.l_out, self.correlation)
        stacked = jnp.concatenate(features, 1)
        values = einsum("ps,nsc->npc", jnp.asarray(inputs, stacked.dtype), stacked)
        weights = self.weights[...][species]  # [N, correlation, l_out + 1, C]
        project, degrees = jnp.asarray(project, stacked.dtype), np.repeat(np.arange(self.l_out + 1), 2 * np.arange(self.l_out + 1) + 1)
        total, power = jnp.zeros((len(stacked), len(degrees), stacked.shape[-1]), stacked.dtype), jnp.ones_like(values)
        for n in range(self.correlation):
            power = power * values
            scale = jnp.asarray(1 / norms[n], stacked.dtype)[:, None]
            total += einsum("mp,npc->nmc", project, power) * (weights[:, n] * scale)[:, degrees]
        return tuple(total[:, degree_slice(l)] for l in range(self.l_out + 1))
