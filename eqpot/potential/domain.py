"""The domain of a potential: which surroundings of an atom it has seen, in the space of its own descriptors.

Distances of an atom of element z with descriptors x (of the first member) from what was seen,

    d = min over groups k and centres c of ‖W_zk x − c_zkc‖,

with W a whitening matrix. One group with one centre is the Mahalanobis distance (P. C. Mahalanobis, Proc. Natl. Inst. Sci. India 2, 49 (1936));
several groups with a centre each are a mixture of Gaussians; one group with many centres is the distance to the nearest landmark. The novelty of an
atom is d divided by the limit of its element: above one it lies outside of the domain. `eqpot.uncertainty.fit_domain` makes it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from eqpot.core.tree import record, static

FAR = 1e15
"""Beyond every distance and σ, and its square still a float32."""


@record
class Domain:
    """What was seen, for Z elements, G groups, C centres of F descriptors.

    Attributes:
        whitening: W [Z, G, F, F]; row vectors are multiplied from the left.
        centers: c, in whitened coordinates [Z, G, C, F]; unused ones lie `FAR` away.
        limit: distance at which an element's novelty is one [Z].
        sigma_limit: σ of an atom's force, not calibrated, at which doubt is one [eV/Å], [Z]; `FAR` where it has no σ.
        kind: 'mahalanobis', 'mixture' or 'landmarks'.
        rule: how the limit was chosen, in words.
    """

    whitening: Any
    centers: Any
    limit: Any
    sigma_limit: Any
    kind: str = static(default="mahalanobis")
    rule: str = static(default="")


def novelty(domain: Domain, features: Float[Array, "N F"], species: Int[Array, " N"]) -> Float[Array, " N"]:
    """Distance of each atom from what was seen, in units of the limit of its element; one element and group after the other."""
    dtype = features.dtype

    def group(whitening: Array, centers: Array) -> Array:
        white = features @ whitening.astype(dtype)
        return jnp.min(jax.lax.map(lambda center: jnp.sum((white - center) ** 2, -1), centers.astype(dtype)), 0)

    def element(found: Array, each: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        index, whitening, centers, limit = each
        square = jnp.min(jax.lax.map(lambda pair: group(*pair), (whitening, centers)), 0)
        return jnp.where(species == index, jnp.sqrt(square) / limit.astype(dtype), found), None

    whitening, centers, limit = (jnp.asarray(x) for x in (domain.whitening, domain.centers, domain.limit))
    which = jnp.arange(len(limit), dtype=species.dtype)
    return jax.lax.scan(element, jnp.zeros_like(features[:, 0]), (which, whitening, centers, limit))[0]


def doubt(novelty: Any, sigma: Any, sigma_limit: Any) -> Any:
    """Composite score √(½(novelty² + (σ/σ_limit)²)): one at the edge of both, and large when either is."""
    return ((novelty**2 + (sigma / sigma_limit) ** 2) / 2) ** 0.5
