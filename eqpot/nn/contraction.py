"""The symmetric contraction: many-body features as products of the atomic basis with itself.

    B_i,L = Σ_ν Σ_k w_ν,k(z_i) Σ_m U_ν,k,L(m_1 … m_ν) A_m1 ⊙ … ⊙ A_mν,   ν = 1 … correlation

as in MACE (Batatia et al., arXiv:2206.07697, eq. 10), with a basis of couplings that is complete and without repetition. It is evaluated
recursively and never forms U: pair products are coupled once by one matrix product, weighted and summed over the paths that share an
intermediate degree, and only then coupled with the third factor.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from eqpot.nn.coupling import (
    clebsch_gordan,
    pair_couplings,
    pair_matrix,
    pair_monomials,
    pair_norm,
    triple_couplings,
)
from eqpot.nn.layers import Features, normal_param


class SymmetricContraction(nnx.Module):
    """Products of up to `correlation` factors, with weights per element, path and channel.

    Args:
        l_in: largest degree of the incoming features.
        l_out: largest degree of the result.
        channels: number of channels.
        n_species: number of elements.
        correlation: highest number of factors, 1 to 3 (body order minus one).
    """

    def __init__(self, l_in: int, l_out: int, channels: int, n_species: int, correlation: int, *, rngs: nnx.Rngs) -> None:
        self.l_in, self.l_out, self.correlation = l_in, l_out, correlation
        self.pairs = self._needed_pairs()
        counts = [1 + len(self._second(L)) + len(self._third(L)) for L in range(l_out + 1)]
        self.weights = nnx.List([normal_param(rngs, n_species, n, channels, scale=n**-0.5) for n in counts])

    def _second(self, L: int) -> tuple[tuple[int, int], ...]:
        return pair_couplings(self.l_in, L) if self.correlation >= 2 else ()

    def _third(self, L: int) -> tuple[tuple[int, int, int, int, float], ...]:
        return triple_couplings(self.l_in, L) if self.correlation >= 3 else ()

    def _needed_pairs(self) -> tuple[tuple[int, int, int], ...]:
        degrees = range(self.l_out + 1)
        needed = {(l1, l2, L) for L in degrees for l1, l2 in self._second(L)}
        needed |= {path[:3] for L in degrees for path in self._third(L)}
        return tuple(sorted(needed))

    def __call__(self, features: Features, species: Int[Array, " N"]) -> Features:
        """Multiply.

        Returns:
            features up to degree l_out.
        """
        pairs = self._couple_pairs(features)
        outputs = []
        for L, weights in enumerate(self.weights):
            w = iter(jnp.moveaxis(weights[...][species], 1, 0))  # one [N, C] per path
            out = next(w) * features[L]
            for l1, l2 in self._second(L):
                out = out + next(w) * pairs[l1, l2, L]
            outputs.append(out + self._third_order(L, w, pairs, features) if self._third(L) else out)
        return tuple(outputs)

    def _couple_pairs(self, features: Features) -> dict[tuple[int, int, int], Float[Array, "_ N C"]]:
        """All needed (A_l1 A_l2)_L12 by one matrix product on the pair monomials."""
        if not self.pairs:
            return {}
        stacked = jnp.concatenate(features)  # [S, N, C]
        a, b = pair_monomials(self.l_in)
        matrix = jnp.asarray(pair_matrix(self.l_in, self.pairs), stacked.dtype)
        coupled = jnp.einsum("pq,qnc->pnc", matrix, stacked[a] * stacked[b])
        result, row = {}, 0
        for l1, l2, L in self.pairs:
            result[l1, l2, L] = coupled[row : row + 2 * L + 1]
            row += 2 * L + 1
        return result

    def _third_order(self, L: int, weights, pairs: dict, features: Features) -> Float[Array, "_ N C"]:
        """Σ over (L12, l3) of C (Σ_paths w (A A)_L12) ⊗ A_l3."""
        groups: dict[tuple[int, int], Array] = {}
        for l1, l2, L12, l3, norm in self._third(L):
            term = next(weights) * pairs[l1, l2, L12] * (pair_norm(self.l_in, l1, l2, L12) / norm)
            groups[L12, l3] = groups[L12, l3] + term if (L12, l3) in groups else term
        out = jnp.zeros_like(features[L])
        for (L12, l3), summed in groups.items():
            table = jnp.asarray(clebsch_gordan(L12, l3, L), out.dtype).reshape(-1, 2 * L + 1)
            outer = (summed[:, None] * features[l3][None]).reshape(-1, *out.shape[1:])
            out = out + jnp.einsum("pm,pnc->mnc", table, outer)
        return out
