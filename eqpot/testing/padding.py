"""What the padded graph must not show: its padding, its company, the order of its slots; and what the compiler must not redo."""

import copy
from collections.abc import Sequence

import jax
import numpy as np

from eqpot.graph import Graph, Structure
from eqpot.graph.batching import capacity_of
from eqpot.testing.subject import GRAPHS, Subject, evaluate, split


def padding(subject: Subject, structures: Sequence[Structure]) -> float:
    """Exactly as large as needed, and larger in every direction."""
    structures = structures[: GRAPHS - 1]
    tight = subject(structures, capacity_of(subject.hosts(structures), exact=True))
    return subject.hold("padding", subject.mismatch(subject(structures), tight), "padding atoms or masked slots take part")


def batch(subject: Subject, structures: Sequence[Structure]) -> float:
    """Together as alone."""
    single = [subject([s])[0] for s in structures]
    return subject.hold("batch", subject.mismatch(subject(structures), single), "structures of one batch see each other")


def layout(subject: Subject, structures: Sequence[Structure]) -> float:
    """A row of slots per atom, and atoms that take several short rows."""
    structures = structures[:GRAPHS]
    split = subject(structures, capacity_of(subject.hosts(structures), slots=4))
    return subject.hold(
        "layout", subject.mismatch(subject(structures), split), "rows of neighbours are taken for atoms; see Graph.receivers"
    )


def edge_order(subject: Subject, structures: Sequence[Structure]) -> float:
    """Slots of the neighbour table in another order, masked ones among them, pointing anywhere."""
    graph = subject.graph(structures)
    found = split(subject.run(shuffle_slots(graph, np.random.default_rng(6))), structures)
    return subject.hold("edge_order", subject.mismatch(found, subject(structures)), "the order of neighbours, or a masked slot, matters")


def shuffle_slots(graph: Graph, rng: np.random.Generator) -> Graph:
    """The same graph with the slots of each atom permuted and nonsense in the masked ones."""
    order = rng.permuted(np.tile(np.arange(graph.neighbors.shape[1]), (len(graph.neighbors), 1)), axis=1)
    mask = np.take_along_axis(graph.edge_mask, order, 1)
    neighbors = np.take_along_axis(graph.neighbors, order, 1)
    shifts = np.take_along_axis(graph.shifts, order[..., None], 1)
    anywhere = rng.integers(0, len(neighbors), neighbors.shape).astype(neighbors.dtype)
    return graph.replace(neighbors=np.where(mask, neighbors, anywhere), shifts=shifts, edge_mask=mask)


def programs() -> int:
    """Programs compiled so far for `evaluate`."""
    return evaluate._cache_size()  # type: ignore[attr-defined]


def recompilation(subject: Subject, structures: Sequence[Structure]) -> float:
    """Number of programs made for other structures of the same padded shape, and for an equal copy of the specification."""
    capacity = subject.graph(structures).capacity
    subject(structures, capacity)
    before = programs()
    subject(list(structures)[::-1], capacity)
    other = Subject(copy.deepcopy(subject.spec), subject.params, subject.dtype)
    other(structures, capacity)
    made = float(programs() - before)
    return subject.hold("recompilation", made, "static attributes must hash by value, and shapes may depend on the capacity only")


def dtype(subject: Subject, structures: Sequence[Structure]) -> float:
    """Number of outputs in another precision than the input."""
    found = subject.run(subject.graph(structures))
    wrong = float(sum(a.dtype != subject.dtype for a in jax.tree.leaves(found)))
    return subject.hold("dtype", wrong, "a constant or parameter forces another precision")
