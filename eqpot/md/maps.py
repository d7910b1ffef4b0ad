"""The maps of which all integrators are composed: kick, drift, noise, chain, rescaling.

Kick, drift and noise are JAX-MD's. Its Nosé–Hoover chain counts 3N degrees of freedom as a static number (a molecule of nine atoms 12 % too hot, no
batches of different molecules), and its velocity rescaling draws two numbers from one random key; these two are our own.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eqpot.core.tree import record
from eqpot.graph.graph import Either

SUZUKI_YOSHIDA = (1 / (2 - 2 ** (1 / 3)), -(2 ** (1 / 3)) / (2 - 2 ** (1 / 3)), 1 / (2 - 2 ** (1 / 3)))
"""Parts of a step of fourth order."""
CHAIN_STEPS = 2
"""Times that a chain is integrated in a step, each in the parts above."""


@contextmanager
def lenient() -> Iterator[None]:
    """JAX-MD's own habits with dtypes: it mixes them, and asks for float64 sums also where there is none."""
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):
        warnings.filterwarnings("ignore", "Explicitly requested dtype")
        yield


@cache
def jax_md() -> tuple[ModuleType, Any]:
    """JAX-MD's integrators, and the shift function of free space. Imported here and only when needed: it takes a second.

    While it is imported JAX-MD computes, with mixed dtypes; it must not do so within our trace or under strict promotion.
    """
    with jax.ensure_compile_time_eval(), jax.enable_x64(False), lenient():
        from jax_md import simulate, space
    return simulate, space.free()[1]


def kick(momenta: Float[Array, "N 3"], forces: Float[Array, "N 3"], time: Any) -> Float[Array, "N 3"]:
    """p + F·t."""
    simulate, _ = jax_md()
    return simulate.momentum_step(simulate.NVEState(momenta, momenta, forces, None), time).momentum


def drift(positions: Float[Array, "N 3"], momenta: Float[Array, "N 3"], masses: Float[Array, " N"], time: Any) -> Float[Array, "N 3"]:
    """r + p/m·t."""
    simulate, shift = jax_md()
    return simulate.position_step(simulate.NVEState(positions, momenta, momenta, masses[:, None]), shift, time).position


def noise(momenta: Float[Array, "N 3"], masses: Float[Array, " N"], kT: Any, friction: Any, time: Any, key: Array) -> Float[Array, "N 3"]:
    """The exact solution of dp = −γ·p·dt + √(2γ·m·k_BT)·dW."""
    simulate, _ = jax_md()
    with lenient():
        state = simulate.NVTLangevinState(momenta, momenta, momenta, masses[:, None], key)
        return simulate.stochastic_step(state, time, kT, friction).momentum.astype(momenta.dtype)


def kinetic_energy(momenta: Float[Array, "N 3"], masses: Float[Array, " N"]) -> Float[Array, ""]:
    """Σ p²/2m [eV]."""
    return jnp.sum(momenta**2 / (2 * masses[:, None]))


@record
class Chain:
    """A Nosé–Hoover chain: positions ξ and momenta p_ξ of its thermostats."""

    positions: Float[Either, "*S L"]
    momenta: Float[Either, "*S L"]


def chain_masses(length: int, dof: Any, kT: Any, damping: Any) -> Float[Array, " L"]:
    """Q₁ = N_f·k_BT·τ² and Q_k = k_BT·τ²."""
    return kT * damping**2 * jnp.concatenate([jnp.reshape(dof, 1), jnp.ones(length - 1, jnp.asarray(dof).dtype)])


def thermostat(momenta: Array, masses: Array, chain: Chain, dof: Any, kT: Any, damping: Any, time: Any) -> tuple[Array, Chain]:
    """Half a step, time/2, of a Nosé–Hoover chain: new momenta, new chain (Martyna et al., Mol. Phys. 87, 1117 (1996), eqs. 29–35)."""
    length = len(chain.positions)
    inertia = chain_masses(length, dof, kT, damping)
    twice_kinetic, scale = 2 * kinetic_energy(momenta, masses), jnp.ones((), momenta.dtype)
    x, p = list(chain.positions), list(chain.momenta)

    def pull(k: int) -> Array:
        return scale**2 * twice_kinetic - dof * kT if k == 0 else p[k - 1] ** 2 / inertia[k - 1] - kT

    def push(k: int, t: Any) -> None:
        damp = jnp.exp(-t / 8 * p[k + 1] / inertia[k + 1]) if k + 1 < length else 1.0
        p[k] = (p[k] * damp + t / 4 * pull(k)) * damp

    for part in SUZUKI_YOSHIDA * CHAIN_STEPS:
        t = part * time / CHAIN_STEPS
        for k in reversed(range(length)):
            push(k, t)
        scale = scale * jnp.exp(-t / 2 * p[0] / inertia[0])
        x = [a + t / 2 * b / inertia[k] for k, (a, b) in enumerate(zip(x, p, strict=True))]
        for k in range(length):
            push(k, t)
    return momenta * scale, Chain(jnp.stack(x), jnp.stack(p))


def chain_energy(chain: Chain, dof: Any, kT: Any, damping: Any) -> Float[Array, ""]:
    """Σ p_ξ²/2Q + N_f·k_BT·ξ₁ + k_BT·Σ_{k>1} ξ_k [eV]."""
    inertia = chain_masses(len(chain.positions), dof, kT, damping)
    return jnp.sum(chain.momenta**2 / (2 * inertia)) + kT * (dof * chain.positions[0] + jnp.sum(chain.positions[1:]))


def rescaling(kinetic: Float[Array, ""], dof: Any, kT: Any, damping: Any, time: Any, key: Array) -> Float[Array, ""]:
    """Factor α that takes momenta to those of a canonically sampled kinetic energy (Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), A7–A8)."""
    dtype = kinetic.dtype
    one, rest = jax.random.split(key)
    first = jax.random.normal(one, dtype=dtype)
    others = 2 * jax.random.gamma(rest, jnp.maximum(dof - 1, 0.5) / 2, dtype=dtype)
    others = jnp.where(dof > 1, others, 0)
    keep = jnp.exp(-time / damping)
    ratio = (1 - keep) * kT / (2 * jnp.maximum(kinetic, jnp.finfo(dtype).tiny))
    square = keep + ratio * (first**2 + others) + 2 * first * jnp.sqrt(keep * ratio)
    factor = jnp.sqrt(jnp.maximum(square, 0)) * jnp.sign(first + jnp.sqrt(keep / ratio))
    return jnp.where(kinetic > 0, factor, 1)
