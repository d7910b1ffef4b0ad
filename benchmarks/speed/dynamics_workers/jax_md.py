"""jax-md: its NequIP, its neighbour list, its velocity Verlet in a compiled loop."""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax_md import energy, simulate, space
from jax_md.nn import nequip

structure, steps = np.load(sys.argv[2]), int(sys.argv[3])
box = jnp.asarray(np.diag(structure["cell"]), jnp.float32)
positions = jnp.asarray(structure["positions"], jnp.float32)
config = nequip.default_config()
config.update(n_elements=1, r_max=5.0, n_neighbors=28.0, shift=0.0, scale=0.05, graph_net_steps=3)
config.update(hidden_irreps="64x0e + 64x1o + 64x2e", sh_irreps="1x0e + 1x1o + 1x2e")
displacement, shift = space.periodic(box)
neighbors, init, potential = energy.nequip_neighbor_list(displacement, box, config, atoms=jnp.ones((len(positions), 1), jnp.float32))
listed = neighbors.allocate(positions)
parameters = jax.jit(init)(jax.random.key(0), positions, listed)


def energy_of(position, neighbor):
    return potential(parameters, position, neighbor)


begin, apply = simulate.nve(energy_of, shift, dt=1.0e-3 * 98.22694788464063)
state = begin(jax.random.PRNGKey(0), positions, kT=300 * 8.617e-5, mass=28.0855, neighbor=listed)


@jax.jit
def run(state, listed):
    def one(_, carry):
        state, listed = carry
        listed = listed.update(state.position)
        return apply(state, neighbor=listed), listed

    return jax.lax.fori_loop(0, steps, one, (state, listed))


for _ in sys.stdin:
    began = time.perf_counter()
    state, listed = jax.block_until_ready(run(state, listed))
    assert not listed.did_buffer_overflow
    print("seconds", time.perf_counter() - began, flush=True)
