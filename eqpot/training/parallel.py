"""Devices and hosts: how one training step is dealt out.

All devices of all processes form a mesh of three axes. *members*: groups of ensemble members; *data*: shards of a batch, which run over the processes;
*atoms*: what is left of a CPU's devices shares the atoms of a shard (`eqpot.nn.blocks`). Parameters are copied along *data*, so that every
process has a whole ensemble; a step adds gradients along *data* and is otherwise the step of one device.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from eqpot.core.errors import ConfigError, TrainingError

MEMBERS, DATA = PartitionSpec("members"), PartitionSpec("data")
REPLICATED = PartitionSpec()


@dataclass(frozen=True)
class Layout:
    """How the devices are used.

    Attributes:
        mesh: members × data × atoms; None for a single device.
        shards: parts into which every batch is dealt.
        local: those of this process.
    """

    mesh: Mesh | None
    shards: int
    local: range

    def place(self, tree: Any, along: PartitionSpec) -> Any:
        """Arrays that every process has whole, on their devices."""
        return jax.tree.map(lambda x: self._put(x, along), tree)

    def place_batch(self, graph: Any, targets: Any) -> tuple[Any, Any]:
        """The shards of this process, on their devices."""
        return jax.tree.map(lambda x, spec: self._put(x, spec, whole=False), (graph, targets), batch_specs(graph, targets))

    def _put(self, x: Any, spec: PartitionSpec, whole: bool = True) -> Any:
        if self.mesh is None:
            return jax.device_put(x)
        sharding = NamedSharding(self.mesh, spec)
        if jax.process_count() == 1:
            return jax.device_put(x, sharding)
        if whole:
            return jax.make_array_from_callback(np.shape(x), sharding, np.asarray(x).__getitem__)
        return jax.make_array_from_process_local_data(sharding, x)

    def fetch(self, tree: Any) -> Any:
        """NumPy copies of arrays that are the same along *data*; every process gets them whole."""
        if self.mesh is not None and jax.process_count() > 1:
            tree = jax.jit(lambda x: x, out_shardings=NamedSharding(self.mesh, REPLICATED))(tree)
        return jax.tree.map(np.asarray, jax.device_get(tree))

    def run(self, body: Callable[..., tuple[Any, Any]], members: Any, shared: Any, sharded: Any) -> tuple[Any, Any]:
        """body(members, shared, sharded) on every device.

        Args:
            body: gets its group of members, the shared arrays, and its shard without the leading axis; sums over shards are its own business (`add`).
                Returns two trees with a leading member axis, the second of which is wanted on every process.
        """

        def on_device(members: Any, shared: Any, sharded: Any) -> tuple[Any, Any]:
            return body(members, shared, jax.tree.map(lambda x: x[0], sharded))

        if self.mesh is None:
            return on_device(members, shared, sharded)
        specs = (MEMBERS, REPLICATED, batch_specs(*sharded))
        first, second = jax.shard_map(on_device, mesh=self.mesh, in_specs=specs, out_specs=(MEMBERS, MEMBERS), check_vma=False)(
            members, shared, sharded
        )
        everywhere = NamedSharding(self.mesh, REPLICATED)
        return first, jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, everywhere), second)

    def add(self, tree: Any) -> Any:
        """Sum over shards; inside of `run`."""
        return tree if self.mesh is None else jax.lax.psum(tree, "data")

    def all_members(self, flags: Bool[Array, " K"]) -> Bool[Array, ""]:
        """Whether it is so for the members of all groups; inside of `run`."""
        found = jnp.all(flags)
        return found if self.mesh is None else jax.lax.pmin(found.astype(jnp.int32), "members") == 1


def batch_specs(graph: Any, targets: Any) -> tuple[Any, Any]:
    """Along data; the weights of a batch also have an axis of members, after that of the shards."""

    def spec(path: Any, leaf: Any) -> PartitionSpec:
        del leaf
        return PartitionSpec("data", "members") if getattr(path[-1], "name", "") == "weight" else DATA

    return jax.tree_util.tree_map_with_path(spec, (graph, targets))


def make_layout(members: int, structures: int) -> Layout:
    """Use all devices: first for groups of members, then for shards of a batch of that many structures, then, on a CPU, for parts of the atoms.

    Raises:
        ConfigError: when a batch has fewer structures than there are processes.
    """
    processes, here = jax.process_count(), jax.local_device_count()
    if structures < processes:
        raise ConfigError(
            f"{processes} processes share the structures of a batch: found {structures} in one, expected at least {processes}; raise "
            "training.batch_size (or batch_atoms), or start fewer processes"
        )
    groups = gcd(members, here)
    data = max(d for d in range(1, here // groups + 1) if (here // groups) % d == 0 and d * processes <= structures)
    atoms = here // groups // data if jax.default_backend() == "cpu" else 1
    if groups * data * atoms * processes == 1:
        return Layout(None, 1, range(1))
    rows = [sorted((d for d in jax.devices() if d.process_index == p), key=lambda d: d.id) for p in range(processes)]
    blocks = [np.array(row[: groups * data * atoms]).reshape(groups, data, atoms) for row in rows]
    mesh = Mesh(np.concatenate(blocks, 1), ("members", "data", "atoms"), axis_types=(AxisType.Auto,) * 3)
    return Layout(mesh, data * processes, range(jax.process_index() * data, (jax.process_index() + 1) * data))


def each_member(function: Callable[[Any], Any], members: Any) -> Any:
    """function(member) for all members of a group, stacked: one after the other on a CPU, side by side elsewhere (see `eqpot.potential.members`)."""
    return jax.lax.map(function, members) if jax.default_backend() == "cpu" else jax.vmap(function)(members)


def is_first() -> bool:
    """Whether this process writes files."""
    return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
    """Whether it is so on any process; all processes ask together and get one answer."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.int32(flag))))


def on_first(action: Callable[[], None]) -> None:
    """Do something on the first process while the others wait for it.

    Raises:
        TrainingError: on the others, when it failed there.
    """
    error = None
    if is_first():
        try:
            action()
        except Exception as found:  # kept until the others know
            error = found
    failed = anywhere(error is not None)
    if error is not None:
        raise error
    if failed:
        raise TrainingError("the first process of this run could not begin: expected its folder to be usable; see its message")


def join_processes() -> None:
    """Make this process part of a run of several, as the scheduler's environment (SLURM, Open MPI, Kubernetes, TPU) or these variables say:
    JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES, JAX_PROCESS_ID.

    Raises:
        ConfigError: when the environment does not say it, or the others cannot be reached.
    """
    number, rank = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(
            os.environ.get("JAX_COORDINATOR_ADDRESS"), None if number is None else int(number), None if rank is None else int(rank)
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"this process cannot join a run of several ({str(error).splitlines()[0]}); start it under a scheduler that JAX knows, or set "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from None
