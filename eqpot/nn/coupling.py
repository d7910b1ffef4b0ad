"""Angular-momentum algebra as constant NumPy tables, in e3nn's real basis.

Everything here is computed once in float64 and cached; the layers use the tables as constants of their matrix products.
Only irreps of natural parity (0e, 1o, 2e, 3o, …) are carried between layers: a vector is what an arrow is, a pseudovector is not.
"""

from functools import cache
from itertools import combinations_with_replacement
from math import factorial, sqrt

import numpy as np


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """C[m1, m2, m3] with Σ_{m1 m2} C² = 1 for each m3: couples unit-variance inputs to unit-variance outputs."""
    import e3nn_jax as e3nn

    table = np.asarray(e3nn.clebsch_gordan(l1, l2, l3), np.float64) * sqrt(2 * l3 + 1)
    table.flags.writeable = False
    return table


def convolution_paths(l_in: int, l_edge: int, l_out: int) -> tuple[tuple[int, int, int], ...]:
    """All (l1, l2, l3) with l1 ≤ l_in, l2 ≤ l_edge, l3 ≤ l_out that the triangle rule and natural parity allow."""
    return tuple(
        (l1, l2, l3)
        for l3 in range(l_out + 1)
        for l1 in range(l_in + 1)
        for l2 in range(l_edge + 1)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    )


def degree_slice(degree: int) -> slice:
    """Rows of the components of one degree when 0 … l_max are stacked."""
    return slice(degree**2, (degree + 1) ** 2)


def _pair_couplings(l_max: int) -> list[tuple[int, int, int]]:
    """(l1 ≤ l2, L) of all symmetric pair couplings; two equal degrees couple to even L only."""
    return [
        (l1, l2, L)
        for l1 in range(l_max + 1)
        for l2 in range(l1, l_max + 1)
        for L in range(l2 - l1, l1 + l2 + 1)
        if l1 != l2 or L % 2 == 0
    ]


@cache
def _pair_tensor(l_max: int, l1: int, l2: int, L: int) -> np.ndarray:
    """Coefficients [S, S, 2L+1] of (A_l1 ⊗ A_l2)_L, symmetric in the first two axes, S = (l_max + 1)²."""
    size = (l_max + 1) ** 2
    tensor = np.zeros((size, size, 2 * L + 1))
    tensor[degree_slice(l1), degree_slice(l2)] = clebsch_gordan(l1, l2, L)
    return (tensor + tensor.transpose(1, 0, 2)) / 2


def _norm(tensor: np.ndarray, order: int) -> float:
    """√⟨B²⟩ of the fully connected part of B = T·A^⊗order for standard normal A, per component of the output."""
    return sqrt(factorial(order) * float(np.sum(tensor**2)) / tensor.shape[-1])


def _symmetrised(pair: np.ndarray, l_max: int, L12: int, l3: int, L: int) -> np.ndarray:
    """Coefficients [S, S, S, 2L+1] of ((A A)_L12 ⊗ A_l3)_L, made symmetric under exchange of the three factors."""
    size = (l_max + 1) ** 2
    tensor = np.zeros((size, size, size, 2 * L + 1))
    tensor[:, :, degree_slice(l3)] = np.einsum("abm,mcn->abcn", pair, clebsch_gordan(L12, l3, L))
    return (tensor + tensor.transpose(0, 2, 1, 3) + tensor.transpose(2, 1, 0, 3)) / 3


@cache
def triple_couplings(l_max: int, L: int) -> tuple[tuple[int, int, int, int, float], ...]:
    """A linearly independent set of third-order couplings to degree L, as (l1, l2, L12, l3, norm).

    The products ((A_l1 A_l2)_L12 A_l3)_L over all intermediate L12 span every symmetric equivariant product of order three,
    but not independently: coupling three factors in another order gives combinations of the same. A path is kept when it adds a
    direction to those before it, so the number of paths equals that of generalised Clebsch–Gordan coefficients
    (Batatia et al., arXiv:2206.07697, eq. 10; Dusson et al., arXiv:1911.03550).
    """
    kept: list[tuple[int, int, int, int, float]] = []
    directions: list[np.ndarray] = []
    for l1, l2, L12 in _pair_couplings(l_max):
        for l3 in range(l2, l_max + 1):
            if not abs(L12 - l3) <= L <= L12 + l3 or (l1 + l2 + l3 + L) % 2:
                continue
            tensor = _symmetrised(_pair_tensor(l_max, l1, l2, L12), l_max, L12, l3, L)
            norm = _norm(tensor, 3)
            vector = tensor[..., 0].ravel() / max(norm, 1e-12)
            rest = vector - sum((d * (d @ vector) for d in directions), np.zeros_like(vector))
            rest -= sum((d * (d @ rest) for d in directions), np.zeros_like(vector))
            if norm > 1e-9 and np.linalg.norm(rest) > 1e-6 * np.linalg.norm(vector):
                directions.append(rest / np.linalg.norm(rest))
                kept.append((l1, l2, L12, l3, norm))
    return tuple(kept)


@cache
def pair_couplings(l_max: int, L: int) -> tuple[tuple[int, int], ...]:
    """The second-order couplings (l1 ≤ l2) to degree L of natural parity."""
    return tuple((l1, l2) for l1, l2, degree in _pair_couplings(l_max) if degree == L and (l1 + l2 + L) % 2 == 0)


@cache
def pair_monomials(l_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Row indices (a ≤ b) of all products of two components."""
    a, b = np.array(list(combinations_with_replacement(range((l_max + 1) ** 2), 2)), np.int32).T
    return a, b


@cache
def pair_matrix(l_max: int, pairs: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Matrix [Σ(2L+1), monomials] from pair monomials to the couplings (l1, l2, L), each of unit variance."""
    a, b = pair_monomials(l_max)
    rows = []
    for l1, l2, L in pairs:
        tensor = _pair_tensor(l_max, l1, l2, L)
        symmetric = np.where((a == b)[:, None], tensor[a, b], 2 * tensor[a, b])
        rows.append(symmetric.T / _norm(tensor, 2))
    return np.concatenate(rows) if rows else np.zeros((0, len(a)))


def pair_norm(l_max: int, l1: int, l2: int, L: int) -> float:
    """The norm that `pair_matrix` divides a coupling by."""
    return _norm(_pair_tensor(l_max, l1, l2, L), 2)
