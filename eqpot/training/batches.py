"""Batches for training: padded graphs with their labels, in few shapes and a reproducible order.

Frames are sorted into size classes; every batch of a class has the same padded shape, so there is one compile per class. The order of an
epoch is a pure function of (seed, epoch): nothing has to be remembered to resume.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Array, Bool, Float

from eqpot.core.errors import StructureError
from eqpot.core.tree import record
from eqpot.graph import Capacity, Frame, Graph, Host, collate, prepare

CLASS_RATIO = 1.6
"""Largest ratio of sizes within a size class."""


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

    energy: Float[Array, " G"]
    forces: Float[Array, "N 3"]
    stress: Float[Array, "G 3 3"]
    has_energy: Bool[Array, " G"]
    has_forces: Bool[Array, " N"]
    has_stress: Bool[Array, " G"]
    weight: Float[Array, "*K G"]


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
        """Indices and padded shape of each size class, small structures first; a class smaller than a batch joins the next."""
        groups: list[list[int]] = []
        for k in sorted(range(len(self.samples)), key=lambda k: len(self.samples[k].host)):
            first = groups[-1][0] if groups else None
            if first is None or (
                len(self.samples[k].host) > CLASS_RATIO * len(self.samples[first].host) and len(groups[-1]) >= self.batch_size
            ):
                groups.append([])
            groups[-1].append(k)
        return [(group, self._capacity(group)) for group in groups]

    def _capacity(self, group: list[int]) -> Capacity:
        hosts = [self.samples[k].host for k in group]
        size = min(self.batch_size, len(group))
        return Capacity(size, size * max(map(len, hosts)), max(1, *(h.neighbors.max_count for h in hosts)))

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches."""
        return sum(-(-len(group) // capacity.graphs) for group, capacity in self.classes)

    @property
    def padding(self) -> float:
        """Share of atom rows that are padding."""
        rows = sum(-(-len(group) // c.graphs) * c.atoms for group, c in self.classes)
        return 1 - sum(len(s.host) for s in self.samples) / rows

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


def bootstrap_weights(members: int, samples: int, seed: int, bootstrap: bool) -> np.ndarray:
    """Weight of each sample for each member, mean one, [members, samples].

    Exponential weights are the Bayesian bootstrap (Rubin, Ann. Stat. 9, 130 (1981)): members see different data, and no frame is lost to any.
    A single member sees all frames alike.
    """
    if not bootstrap or members == 1:
        return np.ones((members, samples))
    weights = np.random.default_rng([seed, 0xB007]).exponential(size=(members, samples))
    return weights / weights.mean(1, keepdims=True)
