"""What is seen of structures before some are chosen: descriptors, and σ of the forces on their atoms.

Learned descriptors are those of the potential's first member; fixed ones, for when there is no potential, the spherical average and the power spectrum
(SOAP) of the density of neighbours within 5 Å, of few mixtures of elements and radial functions (`eqpot.models.linear`).

A structure is the point x with a block x_z for each element z,

    x_z = Σ_{i of z} g_i/s_z / n

where n is the number of atoms, g_i the descriptors of an atom and s_z their standard deviations over all atoms of z at hand. x does not change when
a cell is repeated, so a large cell is no farther from others for being large; without balance the sum is not divided by n. Its unit is the root mean
square distance between two of the structures at hand, whatever the potential.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from eqpot.core.elements import symbol
from eqpot.core.errors import EqpotError
from eqpot.graph import Frame, collate, prepare
from eqpot.graph.batching import bucket
from eqpot.models import LinearConfig, Normalization
from eqpot.potential import ModelSpec, Potential
from eqpot.potential.passes import grouped

CHUNK = 1000
"""Structures that are looked at together, which bounds the memory that neighbour lists take."""
FLAT = 1e-6
"""Descriptors that vary less than this, relative to the one that varies most, say nothing."""


@dataclass(frozen=True, eq=False)
class View:
    """What was seen of some structures, in order.

    Attributes:
        judged: indices of those that could be looked at, to which all else refers [N].
        fault: why the first of the others could not be; empty if there is none.
        numbers: atomic numbers of the atoms of each.
        descriptors: of each atom, [atoms, F] for each structure.
        sigma: calibrated σ of the force on each atom [eV/Å], [atoms] for each structure; empty where it was not asked for.
    """

    judged: Int[np.ndarray, " N"]
    fault: str
    numbers: list[np.ndarray]
    descriptors: list[np.ndarray]
    sigma: list[np.ndarray]


def look(potential: Potential | None, frames: Sequence[Frame], with_sigma: bool, elements: Sequence[str] = ()) -> View:
    """Look at structures with a potential, or with fixed descriptors of the given elements; those that it cannot judge are left out."""
    eye: Any = _Fixed(tuple(elements)) if potential is None else _Learned(potential, with_sigma)
    judged, fault, descriptors, sigma = [], "", [], []
    for first in range(0, len(frames), CHUNK):
        hosts = []
        for k in range(first, min(first + CHUNK, len(frames))):
            try:
                hosts.append(eye.prepare(frames[k]))
                judged.append(k)
            except EqpotError as error:
                fault = fault or f"{frames[k].origin or f'structure {k}'}: {error}"
        if hosts:
            found = eye.look(hosts)
            descriptors += found[0]
            sigma += found[1]
    numbers = [np.asarray(frames[k].structure.numbers) for k in judged]
    return View(np.array(judged, int), fault, numbers, descriptors, sigma)


class _Learned:
    """The eye of a potential."""

    def __init__(self, potential: Potential, with_sigma: bool) -> None:
        self.potential, self.with_sigma = potential, with_sigma

    def prepare(self, frame: Frame) -> Any:
        return self.potential.prepare_frames([frame])[0]

    def look(self, hosts: list[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        descriptors = self.potential.describe_hosts(hosts)
        sigma = [r.atom_std for r in self.potential.predict_hosts(hosts)] if self.with_sigma else []
        return [d.astype(np.float32) for d in descriptors], sigma


class _Fixed:
    """The eye that has learned nothing."""

    def __init__(self, elements: tuple[str, ...]) -> None:
        self.spec = ModelSpec(LinearConfig(n_radial=4, l_max=3, mixtures=4, correlation=2), elements, Normalization())

    def prepare(self, frame: Frame) -> Any:
        return prepare(frame.structure, self.spec.elements, self.spec.config.cutoff)

    def look(self, hosts: list[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        found: dict[int, np.ndarray] = {}
        for batch in grouped(hosts):
            chosen = [hosts[k] for k in batch]
            features = np.asarray(_describe(self.spec, collate(chosen, bucket(chosen))))
            found |= dict(zip(batch, np.split(features, np.cumsum([len(h) for h in chosen]))[:-1], strict=True))
        return [found[k] for k in range(len(hosts))], []


@partial(jax.jit, static_argnames="spec")
def _describe(spec: ModelSpec, graph: Any) -> Any:
    return spec.describe(graph).features


def points(views: Sequence[View], balance: bool) -> list[Float[np.ndarray, "_ D"]]:
    """The structures of each view as points; see the text of this module."""
    numbers = [z for view in views for z in view.numbers]
    if not numbers:
        return [np.zeros((0, 1)) for _ in views]
    elements = np.unique(np.concatenate(numbers))
    sums, squares, counts = (np.array(x) for x in zip(*(_sums(n, d, elements) for v in views for n, d in _atoms(v)), strict=True))
    total = np.maximum(counts.sum(0), 1)[:, None]
    size = np.sqrt(np.maximum(squares.sum(0) / total - (sums.sum(0) / total) ** 2, 0))
    size = np.where(size > FLAT * size.max(initial=0), size, np.inf)
    x = sums / size
    if balance:
        x /= counts.sum(1)[:, None, None]
    x = x.reshape(len(x), -1)
    unit = np.sqrt(2 * x.var(0).sum())
    x = (x - x.mean(0)) / (unit if unit > 0 else 1)
    return np.split(x, np.cumsum([len(v.numbers) for v in views])[:-1])


def _atoms(view: View) -> Any:
    return zip(view.numbers, view.descriptors, strict=True)


def _sums(numbers: np.ndarray, descriptors: np.ndarray, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums over the atoms of each element: of descriptors and their squares [Z, F], and of ones [Z]."""
    own = (numbers == elements[:, None]).astype(np.float64)
    wide = descriptors.astype(np.float64)
    return own @ wide, own @ wide**2, own.sum(1)


def symbols(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Elements of structures, by atomic number; numbers that are no elements are left out."""
    found = sorted({int(z) for f in frames for z in np.unique(f.structure.numbers)})
    return tuple(symbol(z) for z in found if 0 < z <= 118)
