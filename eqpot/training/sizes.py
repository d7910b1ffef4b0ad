"""Which structures share a batch, and to which sizes batches are padded.

Two ways. *Size classes* (here): a batch has a fixed number of structures, and frames are sorted into a few classes of similar size, each with
its own padded shape. *Packing* (`packing`): a batch is filled to a budget of atoms and table rows, and the number of structures varies; all batches
share one shape. Either way the batches of an epoch are a pure function of (seed, epoch) and of the sizes, and their composition does not
depend on how many shards they are later dealt to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from eqpot.graph import Capacity
from eqpot.graph.batching import LAYOUTS, ROW

CLASS_COST = 0.03
"""A further size class (one more compile) has to save this share of the padded atom rows."""
MAX_CLASSES = 6
"""Most size classes of a data set."""
SLOTS = tuple(s for s in LAYOUTS if s is not None)
"""Slot counts of the layouts that split atoms over rows."""


@dataclass(frozen=True, eq=False)
class Sizes:
    """Sizes of structures.

    Attributes:
        atoms: of each structure, [n].
        edges: neighbours in all, [n].
        most: neighbours of the atom that has most, [n].
        rows: table rows for each of the slot counts in `LAYOUTS`, [n, layouts].
    """

    atoms: np.ndarray
    edges: np.ndarray
    most: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, structures: Iterable[tuple[int, np.ndarray]]) -> "Sizes":
        """From (atoms, receivers of the edges) of each structure."""
        table = []
        for atoms, receivers in structures:
            counts = np.bincount(receivers, minlength=atoms)
            table.append((atoms, counts.sum(), counts.max(initial=0), *(int((-(-counts // s)).sum()) for s in SLOTS)))
        columns = np.array(table, np.int32).reshape(-1, 3 + len(SLOTS))
        return cls(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3:])

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Any]) -> "Sizes":
        """From named arrays; inverse of `as_arrays`."""
        return cls(**{f.name: np.asarray(arrays[f.name]) for f in fields(cls)})

    def as_arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def join(cls, parts: Sequence["Sizes"]) -> "Sizes":
        """Those of several sets, one after the other."""
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def take(self, chosen: np.ndarray | Sequence[int]) -> "Sizes":
        """Those of some structures."""
        return Sizes(**{name: value[chosen] for name, value in self.as_arrays().items()})

    def __len__(self) -> int:
        return len(self.atoms)

    def rows_in(self, slots: int | None) -> np.ndarray:
        """Table rows of each structure in a layout, [n]."""
        return self.atoms if slots is None else self.rows[:, SLOTS.index(slots)]

    def best_slots(self) -> int | None:
        """The layout in which one table of all structures costs least; a row per atom unless another is clearly cheaper."""

        def cost(slots: int | None) -> float:
            rows = float(self.rows_in(slots).sum(dtype=np.int64))
            return rows * (slots + ROW) * 1.1 if slots else rows * (max(int(self.most.max()), 1) + ROW)

        return min(LAYOUTS, key=cost)


class Layout(Protocol):
    """How a data set becomes batches."""

    def plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Indices of the structures of each batch of an epoch, in order."""
        ...

    def deal(self, chosen: np.ndarray) -> tuple[list[np.ndarray], Capacity]:
        """The structures of each shard of a batch, and the padded size of every shard."""
        ...


def deal_out(sizes: np.ndarray, shards: int, most: int) -> list[np.ndarray]:
    """Positions dealt to shards so that sums are alike: the largest first, each to the emptiest shard that has fewer than `most`."""
    if shards == 1:
        return [np.arange(len(sizes))]
    parts: list[list[int]] = [[] for _ in range(shards)]
    load = np.zeros(shards)
    for k in np.argsort(-sizes, kind="stable"):
        shard = min((s for s in range(shards) if len(parts[s]) < most), key=lambda s: load[s])
        parts[shard].append(int(k))
        load[shard] += sizes[k]
    return [np.array(sorted(part), int) for part in parts]


@dataclass(frozen=True, eq=False)
class SizeClasses:
    """Batches of `batch_size` structures of similar size, one padded shape per class."""

    sizes: Sizes
    batch_size: int
    shards: int = 1

    @cached_property
    def groups(self) -> list[tuple[np.ndarray, Capacity]]:
        """Indices and padded shape (of a shard) of each class, small structures first."""
        order = np.argsort(self.sizes.atoms, kind="stable")
        edges = size_classes(self.sizes.atoms[order].tolist(), self.batch_size)
        return [(order[first:last], self._capacity(order[first:last])) for first, last in pairwise(edges)]

    def _capacity(self, group: np.ndarray) -> Capacity:
        sizes = self.sizes.take(group)
        slots = sizes.best_slots()
        graphs = -(-min(self.batch_size, len(group)) // self.shards)
        rows = None if slots is None else graphs * int(sizes.rows_in(slots).max())
        return Capacity(graphs, graphs * int(sizes.atoms.max()), slots or max(int(sizes.most.max()), 1), rows)

    @cached_property
    def _group_of(self) -> np.ndarray:
        found = np.zeros(len(self.sizes), int)
        for k, (group, _) in enumerate(self.groups):
            found[group] = k
        return found

    def plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """See `Layout`."""
        rng = np.random.default_rng([seed, epoch])
        batches = []
        for group, _ in self.groups:
            order, size = rng.permutation(group), min(self.batch_size, len(group))
            batches += [order[k : k + size] for k in range(0, len(order), size)]
        return [batches[k] for k in rng.permutation(len(batches))]

    def deal(self, chosen: np.ndarray) -> tuple[list[np.ndarray], Capacity]:
        """See `Layout`."""
        capacity = self.groups[self._group_of[chosen[0]]][1]
        return [chosen[part] for part in deal_out(self.sizes.atoms[chosen], self.shards, capacity.graphs)], capacity


def size_classes(sizes: Sequence[int], batch_size: int) -> list[int]:
    """Where to cut ascending sizes into classes so that padded rows plus `CLASS_COST` per class are fewest; cut points with both ends.

    Dynamic programme over the places where the size changes: rows of a class = batches × batch size × its largest structure.
    """
    ends = [k for k in range(1, len(sizes)) if sizes[k] != sizes[k - 1]] + [len(sizes)]
    ends = ends[:: max(1, len(ends) // 200)] if len(ends) > 200 else ends
    ends = ends if ends[-1] == len(sizes) else [*ends, len(sizes)]
    price = CLASS_COST * sum(sizes)
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [0])}
    for end in ends:
        options = []
        for start, (cost, cuts) in best.items():
            if len(cuts) <= MAX_CLASSES:
                count = end - start
                graphs = min(batch_size, count)
                rows = -(-count // graphs) * graphs * sizes[end - 1]
                options.append((cost + rows + price, [*cuts, end]))
        best[end] = min(options)
    return best[len(sizes)][1]
