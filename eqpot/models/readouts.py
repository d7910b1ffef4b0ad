"""What is read from the features of an atom besides its energy, and which columns of a readout belong to which head.

A head is a level of theory. All heads share the network; every readout has columns of its own for each of them, head-major, and a structure
uses those of its own head. No head can therefore change what another says, except through what they share.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from eqpot.graph import Graph
from eqpot.models.config import EquivariantConfig
from eqpot.nn import MLP, Features
from eqpot.nn.layers import normal_param

NOISE_FLOOR = 1e-4
"""Smallest predicted noise, in units of `Normalization.scale`: keeps the likelihood of labels without any noise bounded."""
ELEMENT_CHARGE = 0.1
"""Width of the first q⁰ [e]; from zero they would never move, for the energy of charges is quadratic in them."""


def of_head(values: Float[Array, "N *d _"], graph: Graph, n_heads: int) -> Float[Array, "N *d _"]:
    """Of n_heads·k columns (last axis, head-major), the k of the head of each atom's structure."""
    if n_heads == 1:
        return values
    columns = values.reshape(*values.shape[:-1], n_heads, -1)  # [N, …, H, k]
    chosen = graph.head[graph.graph_index][:, None] == jnp.arange(n_heads, dtype=graph.head.dtype)  # [N, H]
    mask = chosen.reshape(len(values), *(1,) * (values.ndim - 2), n_heads, 1)
    return jnp.sum(jnp.where(mask, columns, 0), -2)


def shift_of(shifts: tuple[float, ...], graph: Graph, n_heads: int, dtype: Any) -> Float[Array, " N"]:
    """Of shifts per head and element (head-major), that of each atom, at the level of theory of its structure."""
    row = graph.species
    if n_heads > 1:
        row = row + len(shifts) // n_heads * graph.head[graph.graph_index]
    return jnp.asarray(shifts, dtype)[row]


class Outputs(nnx.Module):
    """The outputs that `EquivariantConfig` asks for; without parameters when it asks for none.

        σ_i = scale · (softplus(f(s_i)) + floor)         noise of a force component and of the atom's energy
        q_i = p_i + (Q − Σ_j p_j) / n                    charges, from p_i = g(s_i) + q⁰ of the element
        χ_i = h(s_i)                                     electronegativities [eV/e]
        F_i = scale · Σ_c w_c v_ic                       direct forces

    s are the invariants of all layers, v the vectors (degree 1) of the last, Q and n the total charge and the number of atoms of the structure,
    f, g and h networks without biases. An atom without neighbours has no features, so what an ion far from all others carries is q⁰.

    References: D. A. Nix, A. S. Weigend, Proc. IEEE Int. Conf. Neural Networks 1, 55 (1994); A. Kendall, Y. Gal, NeurIPS (2017), arXiv:1703.04977
    (noise); O. T. Unke, M. Meuwly, J. Chem. Theory Comput. 15, 3678 (2019) (charges).
    """

    def __init__(self, config: EquivariantConfig, n_species: int, *, rngs: nnx.Rngs) -> None:
        sizes, self.n_heads = (config.channels * config.n_layers, config.readout_hidden), config.n_heads
        self.noise = MLP((*sizes, 2 * self.n_heads), rngs=rngs) if config.noise else None
        self.charges = MLP((*sizes, self.n_heads), rngs=rngs) if config.charges else None
        self.electronegativity = MLP((*sizes, self.n_heads), rngs=rngs) if config.electronegativity else None
        self.forces = MLP((config.channels, self.n_heads), rngs=rngs) if config.direct_forces else None
        self.element_charges = normal_param(rngs, n_species, self.n_heads, scale=ELEMENT_CHARGE) if config.charges else None

    def __call__(self, features: Features, invariants: Float[Array, "N F"], graph: Graph, scale: float) -> dict[str, Float[Array, "N *d"]]:
        """The fields of `AtomOutputs` that are not always there."""
        found, mask = {}, graph.atom_mask
        with jax.default_matmul_precision("float32"):
            if self.noise is not None:
                sigma = (jax.nn.softplus(of_head(self.noise(invariants), graph, self.n_heads)) + NOISE_FLOOR) * scale
                found["force_noise"], found["energy_noise"] = jnp.moveaxis(jnp.where(mask[:, None], sigma, 1), 1, 0)
            if self.charges is not None and self.element_charges is not None:
                partial = self.charges(invariants) + self.element_charges[...][graph.species]
                found["charges"] = neutralised(of_head(partial, graph, self.n_heads)[:, 0], graph)
            if self.electronegativity is not None:
                found["electronegativity"] = jnp.where(mask, of_head(self.electronegativity(invariants), graph, self.n_heads)[:, 0], 0)
            if self.forces is not None:
                forces = of_head(self.forces(features[1]), graph, self.n_heads)[..., 0] * scale
                found["forces"] = jnp.where(mask[:, None], forces, 0)
        return found


def neutralised(charges: Float[Array, " N"], graph: Graph) -> Float[Array, " N"]:
    """The nearest charges that sum to the total charge of each structure: what is missing is shared equally by its atoms."""
    missing = graph.charge - graph.sum_atoms(charges)
    share = missing / jnp.maximum(graph.sum_atoms(jnp.ones_like(charges)), 1)
    return jnp.where(graph.atom_mask, charges + share[graph.graph_index], 0)


def take_head(params: Any, index: int, n_heads: int) -> Any:
    """The parameters of a model with that head alone; leaves may have leading axes (members)."""

    def sliced(readout: Any) -> Any:
        if not isinstance(readout, dict):  # a parameter, else a network whose last layer makes the columns
            return readout.reshape(*readout.shape[:-1], n_heads, -1)[..., index, :]
        weights = readout["weights"]
        return {**readout, "weights": {**weights, max(weights): sliced(weights[max(weights)])}}

    if "terms" in params:  # of a sum, only the network has heads
        terms = params["terms"].items()
        return {**params, "terms": {name: take_head(term, index, n_heads) if "readouts" in term else term for name, term in terms}}
    groups = [name for name in ("readouts", "outputs") if name in params]
    return {**params, **{name: {key: sliced(readout) for key, readout in params[name].items()} for name in groups}}
