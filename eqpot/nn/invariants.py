"""Scalar products of the atomic basis without weights: what the symmetric contraction sums, one number per path and channel."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.errors import ConfigError
from eqpot.nn.contraction import _factors
from eqpot.nn.coupling import clebsch_gordan, pair_paths, quadruple_paths, triple_paths
from eqpot.nn.layers import Planes

PATHS = {2: pair_paths, 3: triple_paths, 4: quadruple_paths}


def invariant_products(features: Planes, order: int) -> Float[Array, "p N C"]:
    """A linearly independent set of the invariant products of `order` components of A, each of unit variance for standard normal A.

        B_k = Σ_m U_k,0(m_1 … m_ν) A_m1 ⊙ … ⊙ A_mν

    as in R. Drautz, Phys. Rev. B 99, 014104 (2019), and with the couplings of `SymmetricContraction`. They are even under inversion.

    Args:
        features: A, degree l at index l, component first.
        order: ν, 2 to 4.

    Raises:
        ConfigError: for another order.
    """
    if order not in PATHS:
        raise ConfigError(f"order is the number of factors of an invariant: expected 2 to 4, found {order}")
    paths = PATHS[order](len(features) - 1, 0)
    factors = _factors(features, {factor for path in paths for factor in path[:2] if factor is not None})
    found = []
    for first, second, scale in paths:
        if second is None:
            found.append(factors[first][0] * scale)
        else:
            coupling = float(clebsch_gordan(first[-1], second[-1], 0)[0, 0, 0])
            found.append(jnp.sum(factors[first] * factors[second], 0) * (scale * coupling))
    return jnp.stack(found)
