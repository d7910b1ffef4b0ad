"""Uncertainty of a single member at almost no cost: how stiffly its training data hold the last linear layer.

With the descriptors g_i of the atoms of a structure, a readout w adds E(w) = w·Σ_i g_i to its energy. Data leave w a covariance D·Dᵀ, so that

    σ_E = ‖Dᵀ Σ_i g_i‖          σ_i = ‖Dᵀ g_i‖

are the doubt about the energy and about the share of one atom. Columns of D that are readouts in their own right (a shallow ensemble) also have
forces −∂E(w)/∂r, whose spread is exact and costs one reverse pass each; without them σ_i, a number in eV, stands for the doubt about the
force on the atom [eV/Å], and only calibration gives it its size. `eqpot.uncertainty.fit_last_layer` makes it.

References: F. Bigi, S. Chong, M. Ceriotti, F. Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024) (last-layer rigidity); S. Chong et al., J. Chem.
Theory Comput. 19, 8020 (2023) (of an atom); M. Kellner, M. Ceriotti, Mach. Learn.: Sci. Technol. 5, 035006 (2024) (shallow ensembles).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.tree import record, static
from eqpot.graph import Graph
from eqpot.potential.derivatives import describe_moving
from eqpot.potential.spec import ModelSpec, Params


@record
class LastLayer:
    """Directions in which the readout is uncertain.

    Attributes:
        directions: D [F, R] in eV; the descriptors are those of the first (and only) member.
        kind: 'rigidity' (closed form) or 'bootstrap' (readouts fitted to resampled structures).
        forces: whether each direction's forces are computed.
    """

    directions: Any
    kind: str = static(default="rigidity")
    forces: bool = static(default=False)


def energy_doubt(layer: LastLayer, features: Float[Array, "N F"], graph: Graph) -> tuple[Float[Array, " G"], Float[Array, " N"]]:
    """σ_E of each structure and σ_i of each atom [eV]."""
    along = features @ jnp.asarray(layer.directions, features.dtype)
    return jnp.sqrt(jnp.sum(graph.sum_atoms(along) ** 2, -1)), jnp.sqrt(jnp.sum(along**2, -1))


def force_doubt(spec: ModelSpec, params: Params, layer: LastLayer, graph: Graph) -> Float[Array, "N 3"]:
    """σ of each force component, the root of Σ_r (∂(Σ_i g_i·d_r)/∂r)² [eV/Å]."""
    geometry, pull_back = describe_moving(spec, graph)
    features, vjp = jax.vjp(lambda g: spec.evaluate(params, graph, g).features, geometry)

    def slope(direction: Float[Array, " F"]) -> Float[Array, "N 3"]:
        weights = jnp.where(graph.atom_mask[:, None], direction, 0)
        return pull_back(vjp(weights)[0])[0]

    slopes = jax.lax.map(slope, jnp.asarray(layer.directions, features.dtype).T)
    return jnp.sqrt(jnp.sum(slopes**2, 0))
