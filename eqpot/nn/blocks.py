"""Evaluation in blocks of atoms that fit the cache, with derivatives of any order that store nothing between blocks.

On a CPU a layer is bound by memory, not arithmetic: its messages are a hundred times larger than what goes in and comes out. Here a kernel sees a
few atoms at a time, and its derivative is the same loop over the kernel's own pullback, which recomputes what it needs. What is
gathered by neighbours is added back in place, so that no block touches the whole table.

Inside a `jax.shard_map` with an axis named "atoms", the devices along that axis share the blocks among them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from eqpot.core.tree import record, static

AXIS = "atoms"
"""Mesh axis along which blocks are dealt out."""

Tree = Any
Kernel = Callable[[Tree, Tree, Tree, Tree], tuple[Tree, Tree, Tree]]
"""(shared, rows, gathered, fixed) of one block → (summed over blocks, rows, scattered to the tables' rows)."""


@record
class Static:
    """A hashable value that travels with arrays."""

    value: Any = static()


def in_blocks(
    kernel: Callable[[Tree, Tree, Tree, Tree], Tree], shared: Tree, rows: Tree, tables: Tree, fixed: Tree, index: Any, size: int
) -> Tree:
    """kernel(shared, rows, tables[index], fixed) for all rows at once, evaluated block by block.

    Args:
        kernel: pure function of one block; each row of its result depends on that row of its arguments only. It is given zeros in rows that
            fill the last block, where its derivatives must be finite.
        shared: arrays that every block uses (parameters).
        rows: arrays with a row per atom.
        tables: arrays whose rows are gathered by `index`.
        fixed: integers and booleans with a row per atom; not differentiated.
        index: rows of the tables that each atom needs, [rows, slots].
        size: about how many rows make a block.

    Returns:
        the kernel's result for all rows. It can be differentiated in reverse to any order in `shared`, `rows` and `tables`.
    """
    count = index.shape[0]
    blocks = max(1, round(count / size))
    blocks = blocks if blocks < workers() else -(-blocks // workers()) * workers()
    per_block = -(-count // blocks)
    missing = blocks * per_block - count

    def split(x: Any) -> Any:
        x = jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))) if missing else x
        return x.reshape(blocks, per_block, *x.shape[1:])

    def join(x: Any) -> Any:
        return x.reshape(-1, *x.shape[2:])[:count]

    def first(shared: Tree, rows: Tree, gathered: Tree, fixed: Tree) -> tuple[Tree, Tree, Tree]:
        return (), kernel(shared, rows, gathered, fixed), ()

    loop = _loop(first, *jax.tree.map(split, (fixed, index)))
    return jax.tree.map(join, loop(shared, jax.tree.map(split, rows), tables)[1])


def _loop(kernel: Kernel, fixed: Tree, index: Any) -> Callable[[Tree, Tree, Tree], tuple[Tree, Tree, Tree]]:
    """The loop over blocks of a kernel; its reverse derivative is the loop of the kernel's pullback, in which the roles turn round:
    what was shared is summed, what was gathered is scattered, and conversely. Only what is asked for is pulled back: forces need no slope in the
    parameters, and a training step then needs no second derivative of it."""
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]  # pullbacks are traced later, outside of its context

    @jax.custom_vjp
    def loop(inputs: tuple[Tree, Tree, Tree], fixed: Tree, index: Any) -> tuple[Tree, Tree, Tree]:
        with jax.default_matmul_precision(precision):
            return _run(kernel, inputs, fixed, index)

    def forward(inputs: Tree, fixed: Tree, index: Any) -> tuple[Tree, tuple]:
        arguments, wanted = (jax.tree.map(lambda x, name=name: getattr(x, name), inputs) for name in ("value", "perturbed"))
        fixed, index = jax.tree.map(lambda x: x.value, (fixed, index))
        return loop(arguments, fixed, index), (arguments, fixed, index, Static(tuple(jax.tree.leaves(wanted))))

    def backward(residuals: tuple, slopes: tuple[Tree, Tree, Tree]) -> tuple:
        inputs, fixed, index, wanted = residuals
        given = [not _is_zero(s) for s in jax.tree.leaves(slopes, is_leaf=_is_zero)]
        slopes = jax.tree.map(lambda s: None if _is_zero(s) else s, slopes, is_leaf=_is_zero)

        def pullback(shared: Tree, rows: Tree, gathered: Tree, fixed: Tree) -> tuple[Tree, Tree, Tree]:
            arguments, slopes = zip(shared, rows, gathered, strict=True)
            leaves, tree = jax.tree.flatten(arguments)

            def of_wanted(chosen: list[Any]) -> list[Any]:
                rest = iter(chosen)
                everything = [next(rest) if w else x for x, w in zip(leaves, wanted.value, strict=True)]
                shared, rows, gathered = jax.tree.unflatten(tree, everything)
                results = jax.tree.leaves(kernel(shared, rows, gathered, fixed))
                return [x for x, g in zip(results, given, strict=True) if g]

            chosen = [x for x, w in zip(leaves, wanted.value, strict=True) if w]
            pulled = iter(jax.vjp(of_wanted, chosen)[1](jax.tree.leaves(slopes))[0])
            return jax.tree.unflatten(tree, [next(pulled) if w else None for w in wanted.value])

        with jax.default_matmul_precision(precision):
            return _loop(pullback, fixed, index)(*zip(inputs, slopes, strict=True)), None, None

    loop.defvjp(forward, backward, symbolic_zeros=True)
    return lambda *inputs: loop(inputs, fixed, index)


def _is_zero(slope: Any) -> bool:
    return isinstance(slope, SymbolicZero)


def _run(kernel: Kernel, inputs: tuple[Tree, Tree, Tree], fixed: Tree, index: Any) -> tuple[Tree, Tree, Tree]:
    shared, rows, tables = inputs

    def call(block: Any) -> tuple[Tree, Tree, Tree]:
        rows, fixed, at = block
        return kernel(shared, rows, jax.tree.map(lambda table: table[at], tables), fixed)

    def body(totals: tuple[Tree, Tree], block: Any) -> tuple[tuple[Tree, Tree], Tree]:
        summed, out, scattered = call(block)
        total = jax.tree.map(jnp.add, totals[0], summed)
        return (total, jax.tree.map(lambda table, x: table.at[block[2]].add(x), totals[1], scattered)), out

    blocks = (rows, fixed, index)
    summed, _, scattered = jax.eval_shape(call, jax.tree.map(lambda x: x[0], blocks))
    length = next((len(t) for t in jax.tree.leaves(tables)), 0)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), summed)
    zero_tables = jax.tree.map(lambda a: jnp.zeros((length, *a.shape[2:]), a.dtype), scattered)
    share = len(index) // workers()
    if share * workers() != len(index) or workers() == 1:  # too few blocks: every device does them all
        totals, out = jax.lax.scan(body, (zeros, zero_tables), blocks)
        return totals[0], out, totals[1]
    mine = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * share, share), blocks)
    totals, out = jax.lax.scan(body, (zeros, zero_tables), mine)
    total, table = jax.lax.psum(totals, AXIS)
    return total, jax.lax.all_gather(out, AXIS, tiled=True), table


def workers() -> int:
    """Devices that share the blocks."""
    try:
        return jax.lax.axis_size(AXIS)
    except NameError:
        return 1
