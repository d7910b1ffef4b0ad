"""The symmetric contraction: many-body features as products of the atomic basis with itself.

    B_i,L = Σ_ν Σ_k w_ν,k(z_i) Σ_m U_ν,k,L(m_1 … m_ν) A_m1 ⊙ … ⊙ A_mν,   ν = 1 … correlation

as in MACE (Batatia et al., arXiv:2206.07697, eq. 10), with a basis of couplings that is complete and without repetition (docs/contraction.md).
It is evaluated recursively and never forms U: each path is a factor or the product of two, a factor being A_l or a coupled pair. Pairs are
coupled once; what the paths multiply onto one second factor is weighted and summed first; products of equal degrees are summed before
they are coupled.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import sqrt

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from eqpot.core.errors import ArchiveError, ConfigError
from eqpot.nn.coupling import Factor, Path, arrangements, clebsch_gordan, pair_norm, path_block, product_paths, symmetric_block
from eqpot.nn.layers import Planes, einsum, normal_param

Plane = Float[Array, "_ N C"]


class SymmetricContraction(nnx.Module):
    """Products of up to `correlation` factors, with weights per element, path and channel.

    Args:
        l_in: largest degree of the incoming features.
        l_out: largest degree of the result, at most l_in.
        channels: number of channels.
        n_species: number of elements.
        correlation: highest number of factors, 1 to 4 (body order minus one).
    """

    def __init__(self, l_in: int, l_out: int, channels: int, n_species: int, correlation: int, *, rngs: nnx.Rngs) -> None:
        if not 1 <= correlation <= 4:
            raise ConfigError(f"correlation is the number of factors in the symmetric contraction: expected 1 to 4, got {correlation}")
        self.l_in, self.l_out, self.correlation = l_in, l_out, correlation
        counts = [len(product_paths(l_in, correlation, L)) for L in range(l_out + 1)]
        self.weights = nnx.List([normal_param(rngs, n_species, n, channels, scale=n**-0.5) for n in counts])

    def __call__(self, features: Planes, species: Int[Array, " N"]) -> Planes:
        """Multiply.

        Returns:
            features up to degree l_out.
        """
        paths = [product_paths(self.l_in, self.correlation, L) for L in range(self.l_out + 1)]
        needed = {factor for path in sum(paths, ()) for factor in path[:2] if factor is not None}
        factors = _factors(features, needed)
        outputs = []
        for L, weights in enumerate(self.weights):
            w = jnp.moveaxis(weights[...][species], 1, 0)  # one [N, C] per path
            out = w[0] * features[L]
            sums: dict[tuple[int, Factor], Array] = {}  # by degree of the first factor, and second factor
            for k, (first, second, scale) in enumerate(paths[L][1:], start=1):
                term = (w[k] * scale) * factors[first]
                if second is None:
                    out = out + term
                else:
                    _add(sums, (first[-1], second), term)
            products: dict[tuple[int, int], Array] = {}
            for (degree, second), x in sums.items():
                _add(products, (degree, second[-1]), _product(x, factors[second], L))
            outputs.append(sum((_couple(x, *degrees, L) for degrees, x in products.items()), out))
        return tuple(outputs)


def _add(sums: dict, key, term: Array) -> None:
    sums[key] = sums[key] + term if key in sums else term


def _factors(features: Planes, needed: set[Factor]) -> dict[Factor, Plane]:
    """A_l, and (A_l1 ⊗ A_l2)_L of unit variance, as arrays [2L+1, N, C]; one small matrix product for each (l1, l2)."""
    factors: dict[Factor, Array] = {(l,): x for l, x in enumerate(features)}
    pairs = sorted(factor for factor in needed if len(factor) == 3)
    for l1, l2 in dict.fromkeys(pair[:2] for pair in pairs):
        degrees = [L for *ls, L in pairs if ls == [l1, l2]]
        table = np.concatenate([clebsch_gordan(l1, l2, L) for L in degrees], -1) / pair_norm(l1, l2)
        coupled, row = _contract(_outer(features[l1], features[l2]), table), 0
        for L in degrees:
            factors[l1, l2, L] = coupled[row : row + 2 * L + 1]
            row += 2 * L + 1
    return factors


def _outer(x: Plane, y: Plane) -> Plane:
    """All products of a component of x and one of y."""
    return (x[:, None] * y[None]).reshape(-1, *x.shape[1:])


def _contract(outer: Plane, table: np.ndarray) -> Plane:
    """Products of components to coupled components by a table [2l1+1, 2l2+1, M]."""
    return einsum("pm,pnc->mnc", jnp.asarray(table.reshape(-1, table.shape[-1]), outer.dtype), outer)


def _product(x: Plane, y: Plane, L: int) -> Plane:
    """The products of components that `_couple` needs; to a scalar it is only those of equal components."""
    return x * y if L == 0 else _outer(x, y)


def _couple(product: Plane, l1: int, l2: int, L: int) -> Plane:
    """Σ_m1m2 C[m1, m2, M] of products summed over the paths of the same degrees."""
    table = clebsch_gordan(l1, l2, L)
    return jnp.sum(product, 0, keepdims=True) * table[0, 0, 0] if L == 0 else _contract(product, table)


def weights_from_couplings(
    l_in: int, L: int, couplings: Sequence[np.ndarray], weights: Sequence[np.ndarray], tolerance: float = 1e-5
) -> Float[np.ndarray, "n_species n_paths C"]:
    """Weights of degree L that make `SymmetricContraction` equal to a contraction with explicit coupling tensors, such as MACE's.

        Σ_k W_ν[z, k, c] U_ν[M, m_1 … m_ν, k] A_m1 ⊙ … ⊙ A_mν, summed over ν

    Only the part of U_ν that is symmetric in its factors acts; it is expanded in our paths, U_sym[…, k] = Σ_p M[p, k] B_p, and w = M W.
    Repetition among U's paths does no harm.

    Args:
        l_in: largest degree of the factors.
        L: degree of the result.
        couplings: for each order ν = 1, 2, …, U_ν of shape [2L+1, S, …, S, n_paths_ν], S = (l_in + 1)²; for L = 0 the first axis may be missing.
        weights: for each order, W_ν of shape [n_species, n_paths_ν, C].
        tolerance: largest part of U_sym, in the norm, that may lie outside the span of our paths.
    """
    paths, rows = product_paths(l_in, len(couplings), L), []
    for order, (u, w) in enumerate(zip(couplings, weights, strict=True), start=1):
        u = np.asarray(u, np.float64)
        u = u[None] if L == 0 and u.ndim == order + 1 else u
        expected = (2 * L + 1, *[(l_in + 1) ** 2] * order)
        if u.shape[:-1] != expected or u.shape[-1] != np.shape(w)[1]:
            raise ArchiveError(
                f"the coupling tensor of order {order} to degree {L} has shape {u.shape} and weights {np.shape(w)}: "
                f"expected {(*expected, 'paths')} and ('species', 'paths', 'channels')"
            )
        matrix, outside = _expand(u, [path for path in paths if len(path.degrees) == order], L, l_in)
        if outside > tolerance:
            raise ArchiveError(
                f"a fraction {outside:.1e} of the coupling tensor of order {order} to degree {L} is no equivariant product of natural parity "
                "in e3nn's real basis, so no weights can reproduce it: check the order of degrees (0 … l) and components (e3nn's), "
                "and the version of the program that wrote it"
            )
        rows.append(np.einsum("pk,zkc->zpc", matrix, np.asarray(w, np.float64)))
    return np.concatenate(rows, 1)


def _expand(u: np.ndarray, paths: Sequence[Path], L: int, l_in: int) -> tuple[np.ndarray, float]:
    """M with U_sym[…, k] = Σ_p M[p, k] B_p by least squares in each block of degrees, and the relative norm of what remains."""
    matrix, total, outside = np.zeros((len(paths), u.shape[-1])), 0.0, 0.0
    for degrees in combinations_with_replacement(range(l_in + 1), u.ndim - 2):
        target = symmetric_block(np.moveaxis(u, 0, -2), degrees).reshape(-1, u.shape[-1])
        total += arrangements(degrees) * float(np.sum(target**2))
        members = [p for p, path in enumerate(paths) if path.degrees == degrees]
        if members:
            blocks = [path_block(paths[p].first, paths[p].second, L)[1] * paths[p].scale / arrangements(degrees) for p in members]
            basis = np.stack([block.ravel() for block in blocks], -1)
            matrix[members] = np.linalg.lstsq(basis, target, rcond=None)[0]
            target = target - basis @ matrix[members]
        outside += arrangements(degrees) * float(np.sum(target**2))
    return matrix, sqrt(outside / total) if total else 0.0
