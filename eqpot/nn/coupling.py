"""Angular-momentum algebra as constant NumPy tables, in e3nn's real basis.

Everything here is computed once in float64 and cached; the layers use the tables as constants of their matrix products.
Only irreps of natural parity (0e, 1o, 2e, 3o, …) are carried between layers: a vector is what an arrow is, a pseudovector is not.

The paths of the symmetric contraction are products of one or two factors, and a factor is a degree of A itself or a coupled pair of them.
Their formulas, normalisation and order are in docs/contraction.md; saved potentials rely on the order.
"""

from collections.abc import Iterable
from functools import cache
from itertools import combinations_with_replacement, permutations
from math import factorial, sqrt
from typing import NamedTuple

import numpy as np

Factor = tuple[int] | tuple[int, int, int]
"""(l,) is A_l; (l1, l2, L) is (A_l1 ⊗ A_l2)_L divided by its norm: √2 for equal degrees, else 1."""


class Path(NamedTuple):
    """One basis function of the symmetric contraction: scale · (first ⊗ second)_L, or `first` alone, of degree L."""

    first: Factor
    second: Factor | None
    scale: float

    @property
    def degrees(self) -> tuple[int, ...]:
        """The degrees of A that are multiplied, sorted."""
        return tuple(sorted(_degrees(self.first) + (_degrees(self.second) if self.second else ())))


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


def pair_norm(l1: int, l2: int) -> float:
    """√⟨B²⟩ of a component of (A_l1 ⊗ A_l2)_L for standard normal A, but for contractions among its factors."""
    return sqrt(2) if l1 == l2 else 1.0


def _pairs(l_max: int) -> list[tuple[int, int, int]]:
    """(l1 ≤ l2, L) of all symmetric pair couplings; two equal degrees couple to even L only."""
    return [
        (l1, l2, L) for l1 in range(l_max + 1) for l2 in range(l1, l_max + 1) for L in range(l2 - l1, l1 + l2 + 1) if l1 != l2 or L % 2 == 0
    ]


def _degrees(factor: Factor) -> tuple[int, ...]:
    """The degrees of A in a factor; its own degree is the last entry."""
    return factor[:-1] or factor


def _coefficients(factor: Factor) -> np.ndarray:
    """Coefficients [2l+1, (2l'+1,) 2L+1] of a factor."""
    if len(factor) == 1:
        return np.eye(2 * factor[0] + 1)
    l1, l2, L = factor
    return clebsch_gordan(l1, l2, L) / pair_norm(l1, l2)


def arrangements(degrees: tuple[int, ...]) -> int:
    """In how many distinct orders degrees can stand."""
    return len(set(permutations(degrees)))


def symmetric_block(tensor: np.ndarray, degrees: tuple[int, ...]) -> np.ndarray:
    """The block of the given degrees [2l_1+1, …, 2l_ν+1, …] of a tensor [S, …, S, …] made symmetric in its first ν axes."""
    order, total = len(degrees), np.zeros(())
    for p in permutations(range(order)):
        block = tensor[tuple(degree_slice(degrees[i]) for i in p)]
        total = total + block.transpose(*np.argsort(p), *range(order, tensor.ndim))
    return total / factorial(order)


@cache
def path_block(first: Factor, second: Factor | None, L: int) -> tuple[tuple[int, ...], np.ndarray, float]:
    """The sorted degrees of a product, its coefficients [2l_1+1, …, 2l_ν+1, 2L+1] between them, and its norm.

    The coefficients are symmetric under exchange of equal degrees. The full tensor [S, …, S, 2L+1], symmetric in all ν factors, has this
    block with its axes exchanged for each of the `arrangements` of the degrees, divided by their number.
    The norm is √⟨B²⟩ per component of the fully connected part for standard normal A, that is √(ν! Σ U² / (2L + 1)).
    """
    tensor, degrees = _coefficients(first), _degrees(first)
    if second is not None:  # [… first, … second, 2L+1]
        right, degrees = _coefficients(second), degrees + _degrees(second)
        coupled = np.tensordot(tensor, clebsch_gordan(first[-1], second[-1], L), axes=(-1, 0))
        tensor = np.moveaxis(np.tensordot(coupled, right, axes=(-2, -1)), tensor.ndim - 1, -1)
    order, sort = len(degrees), np.argsort(degrees, kind="stable")
    tensor, degrees = tensor.transpose(*sort, order), tuple(sorted(degrees))
    exchanges = [p for p in permutations(range(order)) if tuple(degrees[i] for i in p) == degrees]
    tensor = sum((tensor.transpose(*p, order) for p in exchanges), np.zeros_like(tensor)) / len(exchanges)
    return degrees, tensor, sqrt(len(exchanges) * float(np.sum(tensor**2)) / (2 * L + 1))


def _independent(products: Iterable[tuple[Factor, Factor]], L: int) -> tuple[Path, ...]:
    """The products that add a direction to those before them (products of other degrees are orthogonal)."""
    kept: list[Path] = []
    directions: dict[tuple[int, ...], list[np.ndarray]] = {}
    for first, second in products:
        degrees, tensor, norm = path_block(first, second, L)
        if norm < 1e-9:
            continue
        vector, others = tensor[..., 0].ravel() / norm, directions.setdefault(degrees, [])
        rest = vector
        for _ in range(2):  # twice is enough
            rest = rest - sum((d * (d @ rest) for d in others), np.zeros_like(rest))
        if np.linalg.norm(rest) > 1e-6 * np.linalg.norm(vector):
            others.append(rest / np.linalg.norm(rest))
            kept.append(Path(first, second, 1 / norm))
    return tuple(kept)


def _couple(first: Factor, second: Factor, L: int) -> bool:
    """Whether the triangle rule and natural parity allow a product."""
    parity = sum(_degrees(first)) + sum(_degrees(second)) + L
    return abs(first[-1] - second[-1]) <= L <= first[-1] + second[-1] and parity % 2 == 0


@cache
def pair_paths(l_max: int, L: int) -> tuple[Path, ...]:
    """The second-order paths: factors (l1 ≤ l2, L) of natural parity."""
    return tuple(Path(pair, None, 1.0) for pair in _pairs(l_max) if pair[2] == L and sum(pair) % 2 == 0)


@cache
def triple_paths(l_max: int, L: int) -> tuple[Path, ...]:
    """A linearly independent set of third-order paths ((A_l1 A_l2)_L12 A_l3)_L, l1 ≤ l2 ≤ l3.

    Over all intermediate L12 these span every symmetric equivariant product of order three, but not independently: coupling the factors
    in another order gives combinations of the same. A path is kept when it adds a direction to those before it, so the number of
    paths equals that of generalised Clebsch–Gordan coefficients (Batatia et al., arXiv:2206.07697, eq. 10; Dusson et al., arXiv:1911.03550).
    """
    products = ((pair, (l3,)) for pair in _pairs(l_max) for l3 in range(pair[1], l_max + 1))
    return _independent((p for p in products if _couple(*p, L)), L)


@cache
def quadruple_paths(l_max: int, L: int) -> tuple[Path, ...]:
    """A linearly independent set of fourth-order paths ((A_l1 A_l2)_L12 (A_l3 A_l4)_L34)_L, L12 ≤ L34.

    They span all: symmetric products of four factors are products of two symmetric products of two. Those with a small L12 + L34 come
    first, so that these are kept: they are cheaper.
    """
    pairs = sorted(_pairs(l_max), key=lambda pair: (pair[2], pair))
    products = [(p, q) for p, q in combinations_with_replacement(pairs, 2) if _couple(p, q, L)]
    return _independent(sorted(products, key=lambda pq: (pq[0][-1] + pq[1][-1], pq)), L)


def product_paths(l_max: int, correlation: int, L: int) -> tuple[Path, ...]:
    """All paths to degree L of up to `correlation` factors from degrees 0 … l_max, in the order of the weights."""
    orders = (pair_paths, triple_paths, quadruple_paths)[: correlation - 1]
    return sum((paths(l_max, L) for paths in orders), (Path((L,), None, 1.0),))
