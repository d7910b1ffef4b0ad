"""Batches for training: padded graphs with their labels, in few shapes and a reproducible order.

Frames are sorted into size classes; every batch of a class has the same padded shape, so there is one compile per class. The order of an
epoch is a pure function of (seed, epoch): nothing has to be remembered to resume.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from eqpot.core.errors import StructureError
from eqpot.core.tree import record
from eqpot.graph import Capacity, Frame, Graph, Host, collate, prepare
from eqpot.graph.batching import best_slots, capacity_of
from eqpot.graph.graph import Either

CLASS_COST = 0.03
"""A further size class (one more compile) has to save this share of the padded atom rows."""
MAX_CLASSES = 6
"""Most size classes of a data set."""


@record
class Targets:
    """Labels of a batch; a missing one is zero under a false mask.

    Attributes:
        energy: without reference energies [eV].
        forces: [eV/Å].
        stress: [eV/Å³].
        has_energy, has_forces, has_stress: which of them are known; forces per atom.
        weight: of each structure in the loss; with a leading member axis.
    """

    energy: Float[Either, " G"]
    forces: Float[Either, "N 3"]
    stress: Float[Either, "G 3 3"]
    has_energy: Bool[Either, " G"]
    has_forces: Bool[Either, " N"]
    has_stress: Bool[Either, " G"]
    weight: Float[Either, "*K G"]


@dataclass(frozen=True, eq=False)
class Sample:
    """A frame made ready: neighbours found, reference energy taken off."""

    frame: Frame
    host: Host
    energy: float | None


def make_samples(frames: Sequence[Frame], elements: Sequence[str], cutoff: float, reference: np.ndarray) -> list[Sample]:
    """Prepare frames.

    Raises:
        StructureError: with the origin of the frame in front.
    """
    samples = []
    for frame in frames:
        try:
            host = prepare(frame.structure, elements, cutoff)
        except StructureError as error:
            raise StructureError(f"{frame.origin}: {error}") from None
        known = frame.labels.energy
        samples.append(Sample(frame, host, None if known is None else float(known - reference[host.species].sum())))
    return samples


@dataclass(frozen=True, eq=False)
class Batches:
    """All batches of a data set.

    Attributes:
        samples: prepared frames.
        batch_size: structures per batch.
        weights: weight of each sample for each member, [members, samples].
        dtype: of the arrays.
    """

    samples: Sequence[Sample]
    batch_size: int
    weights: np.ndarray
    dtype: str = "float32"

    @cached_property
    def classes(self) -> list[tuple[list[int], Capacity]]:
        """Indices and padded shape of each size class, small structures first."""
        order = sorted(range(len(self.samples)), key=lambda k: len(self.samples[k].host))
        sizes = [len(self.samples[k].host) for k in order]
        edges = size_classes(sizes, self.batch_size)
        groups = [order[first:last] for first, last in pairwise(edges)]
        return [(group, self._capacity(group)) for group in groups]

    def _capacity(self, group: list[int]) -> Capacity:
        hosts = [self.samples[k].host for k in group]
        size = min(self.batch_size, len(group))
        slots = best_slots(hosts)
        each = [capacity_of([h], exact=True, slots=slots) for h in hosts]
        rows = None if slots is None else size * max(c.rows or 0 for c in each)
        return Capacity(size, size * max(c.atoms for c in each), max(c.neighbors for c in each), rows)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches."""
        return sum(-(-len(group) // capacity.graphs) for group, capacity in self.classes)

    @property
    def padding(self) -> tuple[float, float]:
        """Shares of atoms and of neighbour slots that are padding."""
        counts = [(-(-len(group) // c.graphs), c) for group, c in self.classes]
        atoms = sum(len(s.host) for s in self.samples) / sum(n * c.atoms for n, c in counts)
        edges = sum(len(s.host.neighbors.receivers) for s in self.samples) / sum(n * c.slots for n, c in counts)
        return 1 - atoms, 1 - edges

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[list[int], Graph, Targets]]:
        """Sample indices, graph and labels of each batch, in the order of this epoch."""
        rng = np.random.default_rng([seed, epoch])
        plan = []
        for group, capacity in self.classes:
            order = rng.permutation(group)
            plan += [(order[k : k + capacity.graphs].tolist(), capacity) for k in range(0, len(order), capacity.graphs)]
        for k in rng.permutation(len(plan)):
            chosen, capacity = plan[k]
            graph = collate([self.samples[i].host for i in chosen], capacity, self.dtype)
            yield chosen, graph, self._targets(chosen, capacity)

    def _targets(self, chosen: list[int], capacity: Capacity) -> Targets:
        G, N = capacity.graphs, capacity.atoms
        targets = Targets(
            energy=np.zeros(G, self.dtype),
            forces=np.zeros((N, 3), self.dtype),
            stress=np.zeros((G, 3, 3), self.dtype),
            has_energy=np.zeros(G, bool),
            has_forces=np.zeros(N, bool),
            has_stress=np.zeros(G, bool),
            weight=np.zeros((len(self.weights), G), self.dtype),
        )
        first = 0
        for g, k in enumerate(chosen):
            sample, labels = self.samples[k], self.samples[k].frame.labels
            rows = slice(first, first + len(sample.host))
            first += len(sample.host)
            targets.weight[:, g] = self.weights[:, k] * sample.frame.weight
            if sample.energy is not None:
                targets.energy[g], targets.has_energy[g] = sample.energy, True
            if labels.forces is not None:
                targets.forces[rows], targets.has_forces[rows] = labels.forces, True
            if labels.stress is not None:
                targets.stress[g], targets.has_stress[g] = labels.stress, True
        return targets


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


def bootstrap_weights(members: int, samples: int, seed: int, bootstrap: bool) -> np.ndarray:
    """Weight of each sample for each member, mean one, [members, samples].

    Exponential weights are the Bayesian bootstrap (Rubin, Ann. Stat. 9, 130 (1981)): members see different data, and no frame is lost to any.
    A single member sees all frames alike.
    """
    if not bootstrap or members == 1:
        return np.ones((members, samples))
    weights = np.random.default_rng([seed, 0xB007]).exponential(size=(members, samples))
    return weights / weights.mean(1, keepdims=True)
