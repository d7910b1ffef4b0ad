"""An ensemble is an axis: how a function of one member becomes a function of all.

Graph and geometry are shared by the members. On a GPU or TPU they run side by side under `vmap`. On a CPU a product
batched over members loses the cache blocking that makes a single member fast, so they run one after the other (`lax.map`), in as many
groups as the CPU devices allow (`eqpot.core.devices`); devices that are left share the atoms of a group (`eqpot.nn.blocks`).
"""

from collections.abc import Callable
from math import gcd
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

ALONG = PartitionSpec("members")


def _mesh(members: Any) -> Mesh | None:
    """The CPU devices as groups of members × sharers of their atoms; None when there is one device only."""
    devices = jax.local_devices()
    if jax.default_backend() != "cpu" or len(devices) == 1:
        return None
    groups = gcd(len(jax.tree.leaves(members)[0]), len(devices))
    shape = (groups, len(devices) // groups)
    return jax.make_mesh(shape, ("members", "atoms"), (AxisType.Auto, AxisType.Auto), devices=devices)


def place_members(members: Any, *shared: Any) -> Any:
    """The arrays of an ensemble (leading member axis) on the devices where `map_members` will want them.

    Arrays that all members share, if given, are copied to each of these devices and returned after the members: what a compiled program gives back
    lives there, and a first call with arrays that live elsewhere would be compiled for itself.
    """
    mesh = _mesh(members)
    along, everywhere = (NamedSharding(mesh, ALONG), NamedSharding(mesh, PartitionSpec())) if mesh else (None, None)
    placed = jax.device_put(members, along)
    return (placed, *(jax.device_put(x, everywhere) for x in shared)) if shared else placed


def map_members(make: Callable[..., Callable[[Any], Any]], members: Any, *shared: Any) -> Any:
    """make(*shared)(member) for each member of an ensemble, results stacked along a leading axis.

    Args:
        make: is called once per group of members with the shared arrays, works out what all members need, and returns the function of one member.
        members: pytree of arrays with a leading member axis.
        shared: arrays that all members use; pass them here instead of closing over them, so that every group has them on its own device.
    """
    if jax.default_backend() != "cpu":
        return jax.vmap(make(*shared))(members)

    def one_by_one(group: Any, *shared: Any) -> Any:
        return jax.lax.map(make(*shared), group)

    mesh = _mesh(members)
    if mesh is None:
        return one_by_one(members, *shared)
    specs = (ALONG, *[PartitionSpec()] * len(shared))
    return jax.shard_map(one_by_one, mesh=mesh, in_specs=specs, out_specs=ALONG, check_vma=False)(members, *shared)
