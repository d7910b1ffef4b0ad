"""Batches filled to a budget; see `sizes` for the other way."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from eqpot.graph import Capacity
from eqpot.training.sizes import Sizes, deal_out

WINDOW = 64
"""Batches that are packed together; each gets its share of every size."""
PILOT = 50_000
"""Most structures packed on trial to find the budget."""
GROWTH = (1.0, 1.05, 1.15, 1.3, 1.6, 2.0, 3.0, 4.0, 8.0)
"""Factors of the usual capacity of a shard, of which a batch takes the first that holds it."""


@dataclass(frozen=True, eq=False)
class Packing:
    """Batches filled to a budget of atoms and table rows, all of one padded shape.

    Structures are sorted by size and dealt at random to windows of `WINDOW` batches, a share of every size to each; in a window the largest
    comes first, each into the emptiest batch (longest processing time first; Graham, SIAM J. Appl. Math. 17, 416 (1969)). Batches are
    then nearly equal in load, and the budget is lowered to what they need.

    Attributes:
        sizes: of the structures; none is above the budget.
        batch_atoms: most atoms of a batch.
        shards: to which a batch is dealt.
    """

    sizes: Sizes
    batch_atoms: int
    shards: int = 1

    @cached_property
    def slots(self) -> int | None:
        """Layout of the table."""
        return self.sizes.best_slots()

    @cached_property
    def loads(self) -> np.ndarray:
        """What each structure takes of the budget: atoms, rows, one graph, [n, 3]."""
        return np.stack([self.sizes.atoms, self.sizes.rows_in(self.slots), np.ones(len(self.sizes), int)], 1).astype(float)

    @cached_property
    def budget(self) -> tuple[np.ndarray, int]:
        """Most atoms, rows and structures of a batch, [3], and the number of batches of an epoch: the fewest that hold all structures."""
        loads, rng = self.loads, np.random.default_rng(0)
        rows = max(self.batch_atoms * loads[:, 1].sum() / loads[:, 0].sum() * 1.02, loads[:, 1].max())
        limit = np.array([self.batch_atoms, np.ceil(rows), np.inf])
        pilot = loads if len(loads) <= PILOT else loads[rng.choice(len(loads), PILOT, replace=False)]
        batches = max(1, int(np.ceil((pilot.sum(0) / limit).max())))
        while (found := fill(pilot, limit, batches, rng)).min() < 0:
            batches = max(batches + 1, int(batches * 1.01))
        several = [found, *(fill(pilot, limit, batches, rng) for _ in range(2))]
        most = np.max([loads.max(0), *(totals(where, pilot).max(0) for where in several)], axis=0)
        return np.minimum(np.ceil(most * (1, 1.01, 1.5)), limit), -(-batches * len(loads) // len(pilot))

    def plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """See `Layout`; an epoch whose structures do not quite fit has a few batches more."""
        rng = np.random.default_rng([seed, epoch])
        limit, batches = self.budget
        while (where := fill(self.loads, limit, batches, rng)).min() < 0:
            batches += 1 + batches // 200
        order = rng.permutation(len(where))
        order = order[np.argsort(where[order], kind="stable")]
        packs = [pack for pack in np.split(order, np.cumsum(np.bincount(where))[:-1]) if len(pack)]
        return [packs[k] for k in rng.permutation(len(packs))]

    @cached_property
    def capacity(self) -> Capacity:
        """Usual padded size of a shard."""
        if self.shards == 1:
            return self._as_capacity(self.budget[0])
        batches = self.plan(0, 0)[:200]
        parts = [part for chosen in batches for part in self._parts(chosen)]
        return self._as_capacity(np.max([self.loads[part].sum(0) for part in parts], axis=0))

    def _as_capacity(self, need: np.ndarray) -> Capacity:
        atoms, rows, graphs = (int(np.ceil(x)) for x in need)
        return Capacity(graphs, atoms, self.slots or max(int(self.sizes.most.max()), 1), None if self.slots is None else rows)

    def _parts(self, chosen: np.ndarray) -> list[np.ndarray]:
        return [chosen[part] for part in deal_out(self.sizes.atoms[chosen], self.shards, len(chosen))]

    def deal(self, chosen: np.ndarray) -> tuple[list[np.ndarray], Capacity]:
        """See `Layout`; a batch that cannot be dealt evenly takes the usual capacity times one of `GROWTH`."""
        parts, usual = self._parts(chosen), self.capacity
        need = self._as_capacity(np.max([self.loads[part].sum(0) for part in parts], axis=0))
        return parts, next((capacity for factor in GROWTH if (capacity := _grown(usual, factor)).fits(need)), need)


def _grown(capacity: Capacity, factor: float) -> Capacity:
    rows = None if capacity.rows is None else ceil(capacity.rows * factor)
    return Capacity(ceil(capacity.graphs * factor), ceil(capacity.atoms * factor), capacity.neighbors, rows)


def totals(where: np.ndarray, loads: np.ndarray) -> np.ndarray:
    """Sum of loads of each batch, [batches, 3]; structures without one (−1) are left out."""
    placed = where >= 0
    return np.stack([np.bincount(where[placed], column[placed]) for column in loads.T], 1)


def fill(loads: np.ndarray, limit: np.ndarray, batches: int, rng: np.random.Generator) -> np.ndarray:
    """Batch of each structure, [n], −1 where it did not fit: windows side by side, in each the largest structure next into the emptiest batch."""
    share = loads / limit
    windows = max(1, round(batches / WINDOW))
    width = -(-batches // windows)
    order = np.lexsort((rng.random(len(loads)), -share[:, :2].max(1)))
    steps = -(-len(order) // windows)
    table = np.full(steps * windows, -1)
    table[: len(order)] = order
    filled, where, each = np.zeros((windows, width, loads.shape[1])), np.full(len(order), -1), np.arange(windows)
    for row in rng.permuted(table.reshape(steps, windows), axis=1):
        after = filled + np.where(row >= 0, share[row].T, 0).T[:, None]
        best = after[:, :, :2].max(2).argmin(1)
        fits = (row >= 0) & (after[each, best] <= 1 + 1e-9).all(1)
        filled[each[fits], best[fits]] = after[each[fits], best[fits]]
        where[row[fits]] = each[fits] * width + best[fits]
    return where
