"""Batches for training: padded graphs with their labels, in few shapes and a reproducible order.

What shares a batch is settled by a layout (see `sizes` and `packing`) as a pure function of (seed, epoch): nothing has to be remembered to resume.
Every batch is dealt to shards of one padded size, which is the leading axis of all its arrays, so that devices take one each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from eqpot.core.errors import DataError, did_you_mean
from eqpot.core.tree import record
from eqpot.data import Frames, group_names
from eqpot.graph import Capacity, Graph, collate
from eqpot.graph.graph import Either
from eqpot.training.packing import Packing
from eqpot.training.samples import Sample, sizes_of
from eqpot.training.sizes import SizeClasses, Sizes
from eqpot.training.workers import WorkerStream


@record
class Targets:
    """Labels of a batch; a missing one is zero under a false mask.

    Attributes:
        energy: without reference energies [eV].
        forces: [eV/Å].
        stress: [eV/Å³].
        charges: of atoms [e].
        dipole: [e·Å].
        has_energy, has_forces, has_stress, has_charges, has_dipole: which of them are known; forces and charges per atom.
        weight: of each structure in the loss; with a leading member axis.
    """

    energy: Float[Either, " G"]
    forces: Float[Either, "N 3"]
    stress: Float[Either, "G 3 3"]
    charges: Float[Either, " N"]
    dipole: Float[Either, "G 3"]
    has_energy: Bool[Either, " G"]
    has_forces: Bool[Either, " N"]
    has_stress: Bool[Either, " G"]
    has_charges: Bool[Either, " N"]
    has_dipole: Bool[Either, " G"]
    weight: Float[Either, "*K G"]

    def replace(self, **changes: Any) -> "Targets":
        """A copy with some arrays replaced."""
        return replace(self, **changes)


Batch = tuple[list[int], Graph, Targets]


@dataclass(frozen=True, eq=False)
class Batches:
    """All batches of a data set.

    Attributes:
        samples: prepared frames, in memory or in a store.
        batch_size: structures per batch; not used with `batch_atoms`.
        weights: weight of each sample for each member, [members, samples].
        dtype: of the arrays.
        batch_atoms: fill batches up to this many atoms.
        shards: parts into which every batch is dealt, alike in atoms.
        workers: processes that make batches ahead; 0: the calling process makes each when it is asked for.

    Raises:
        DataError: a structure with more atoms than `batch_atoms`.
    """

    samples: Sequence[Sample]
    batch_size: int
    weights: np.ndarray
    dtype: str = "float32"
    batch_atoms: int | None = None
    shards: int = 1
    workers: int = 0
    _streams: list[WorkerStream] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch_atoms is not None and len(large := np.flatnonzero(self.sizes.atoms > self.batch_atoms)):
            k = int(large[0])
            name, more = self.samples[k].frame.origin or f"frame {k}", f" ({len(large)} such frames)" if len(large) > 1 else ""
            raise DataError(
                f"{name}: has {self.sizes.atoms[k]} atoms, above training.batch_atoms = {self.batch_atoms}{more}; "
                f"set it to at least {self.sizes.atoms.max()} or leave the frame out"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_streams": []}

    @cached_property
    def sizes(self) -> Sizes:
        """Atoms and neighbours of the samples."""
        return sizes_of(self.samples)

    @cached_property
    def layout(self) -> SizeClasses | Packing:
        """Which structures share a batch, and the padded sizes."""
        return layout_of(self.sizes, self.batch_size, self.batch_atoms, self.shards)

    @property
    def classes(self) -> list[tuple[np.ndarray, Capacity]]:
        """Indices and padded shape (of a shard) of each size class; all in one when packed."""
        if isinstance(self.layout, SizeClasses):
            return self.layout.groups
        return [(np.arange(len(self.samples)), self.layout.capacity)]

    @cached_property
    def steps_per_epoch(self) -> int:
        """Number of batches; packed, an epoch may rarely have one more or less."""
        return len(self.layout.plan(0, 0))

    @cached_property
    def padding(self) -> tuple[float, float]:
        """Shares of atoms and of neighbour slots that are padding, over all shards of an epoch."""
        padded = [self.layout.deal(chosen)[1] for chosen in self.layout.plan(0, 0)]
        atoms = self.sizes.atoms.sum(dtype=np.int64) / (self.shards * sum(c.atoms for c in padded))
        slots = self.sizes.edges.sum(dtype=np.int64) / (self.shards * sum(c.slots for c in padded))
        return float(1 - atoms), float(1 - slots)

    def epoch(self, seed: int, epoch: int, start: int = 0, local: range | None = None) -> Iterator[Batch]:
        """Batches of an epoch in its order.

        Args:
            seed, epoch: settle order and composition.
            start: batches to leave out at the beginning; they cost nothing.
            local: shards to make; by default all.

        Yields:
            the samples of the whole batch; graph and labels, whose arrays have a leading axis of (local) shards.
        """
        plan = self.layout.plan(seed, epoch)
        if not self.workers or start >= len(plan):
            yield from (self.make(chosen, local) for chosen in plan[start:])
            return
        stream = self._stream_at(seed, epoch, start, local)
        for k in range(start, len(plan)):
            graph, targets = stream.next()
            stream.position = (seed, epoch, k + 1, local) if k + 1 < len(plan) else (seed, epoch + 1, 0, local)
            yield plan[k].tolist(), graph, targets

    def _stream_at(self, seed: int, epoch: int, start: int, local: range | None) -> WorkerStream:
        """The running stream when it has come to this place, or a new one."""
        if not self._streams or self._streams[0].position != (seed, epoch, start, local):
            self.close()
            self._streams.append(WorkerStream(self.arrays, self.layout.plan, seed, epoch, start, local, self.workers))
        return self._streams[0]

    def close(self) -> None:
        """End the worker processes; the next epoch starts new ones."""
        while self._streams:
            self._streams.pop().close()

    def make(self, chosen: np.ndarray, local: range | None = None) -> Batch:
        """One batch of chosen samples; see `epoch`."""
        return chosen.tolist(), *self.arrays(chosen, local)

    def arrays(self, chosen: np.ndarray, local: range | None = None) -> tuple[Graph, Targets]:
        """Graph and labels of chosen samples, with a leading axis of shards."""
        parts, capacity = self.layout.deal(chosen)
        shards = [self._shard(parts[s], capacity, chosen) for s in (range(self.shards) if local is None else local)]
        return jax.tree.map(lambda *arrays: np.stack(arrays), *shards)

    def _shard(self, part: np.ndarray, capacity: Capacity, chosen: np.ndarray) -> tuple[Graph, Targets]:
        samples = [self.samples[int(k)] for k in part]
        targets = self._targets(samples, self.weights[:, part], capacity)
        if samples:
            return collate([s.host for s in samples], capacity, self.dtype), targets
        return _blank(collate([self.samples[int(chosen[0])].host], capacity, self.dtype)), targets

    def _targets(self, samples: Sequence[Sample], weights: np.ndarray, capacity: Capacity) -> Targets:
        targets = _no_labels(capacity, len(weights), self.dtype)
        first = 0
        for g, sample in enumerate(samples):
            labels, rows = sample.frame.labels, slice(first, first + len(sample.host))
            first += len(sample.host)
            targets.weight[:, g] = weights[:, g] * sample.frame.weight
            known = {"energy": sample.energy, **{name: getattr(labels, name) for name in ("forces", "stress", "charges", "dipole")}}
            if sample.host.structure.pbc.any():
                known["dipole"] = None  # a periodic structure has no one dipole
            if not sample.host.structure.pbc.all():
                known["stress"] = None  # none is predicted without a volume
            for name, value in known.items():
                if value is not None:
                    place = rows if name in ("forces", "charges") else g
                    getattr(targets, name)[place], getattr(targets, f"has_{name}")[place] = value, True
        return targets


def layout_of(sizes: Sizes, batch_size: int, batch_atoms: int | None, shards: int = 1) -> SizeClasses | Packing:
    """Batches of structures of these sizes: packed to `batch_atoms` where that is given, else counted."""
    return SizeClasses(sizes, batch_size, shards) if batch_atoms is None else Packing(sizes, batch_atoms, shards)


def structures_per_batch(samples: Sequence[Sample], batch_size: int, batch_atoms: int | None) -> int:
    """How many structures share a batch; packed, about so many."""
    return batch_size if batch_atoms is None else max(1, int(batch_atoms / sizes_of(samples).atoms.mean()))


def _no_labels(capacity: Capacity, members: int, dtype: str) -> Targets:
    """Targets of a batch without any label."""
    G, N = capacity.graphs, capacity.atoms
    shapes = {"energy": (G,), "forces": (N, 3), "stress": (G, 3, 3), "charges": (N,), "dipole": (G, 3), "weight": (members, G)}
    masks = {f"has_{name}": np.zeros(shape[0], bool) for name, shape in shapes.items() if name != "weight"}
    return Targets(**{name: np.zeros(shape, dtype) for name, shape in shapes.items()}, **masks)


def _blank(graph: Graph) -> Graph:
    """A graph of the same sizes that is all padding."""
    capacity = graph.capacity
    last = {"graph_index": np.full_like(graph.graph_index, capacity.graphs - 1)}
    if graph.receivers is not None:
        last["receivers"] = np.full_like(graph.receivers, capacity.atoms - 1)
    return jax.tree.map(np.zeros_like, graph).replace(**last)


def bootstrap_weights(members: int, samples: int, seed: int, bootstrap: bool) -> np.ndarray:
    """Weight of each sample for each member, mean one, [members, samples].

    Exponential weights are the Bayesian bootstrap (Rubin, Ann. Stat. 9, 130 (1981)): members see different data, and no frame is lost to any.
    A single member sees all frames alike.
    """
    if not bootstrap or members == 1:
        return np.ones((members, samples))
    weights = np.random.default_rng([seed, 0xB007]).exponential(size=(members, samples))
    return weights / weights.mean(1, keepdims=True)


def group_weights(frames: Frames, factors: Mapping[str, float]) -> np.ndarray:
    """Factor of each frame by the name of its group, one for the groups that are not named, [frames].

    Raises:
        DataError: a name that no frame has, or factors that leave nothing.
    """
    names = group_names(frames).tolist()
    for name in factors:
        if name not in names:
            raise DataError(
                f"loss.groups: found '{name}', expected the group of some training frame, as read from data.keys.group; {did_you_mean(name, {*names})}"
            )
    weights = np.array([factors.get(name, 1.0) for name in names])
    if not weights.any():
        raise DataError("loss.groups: found 0 for the groups of all training frames, expected one that counts")
    return weights
