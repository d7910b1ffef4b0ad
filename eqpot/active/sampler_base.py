"""What a sampler is given, and what it brings."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eqpot.active.observables import Observable
from eqpot.active.query import Band
from eqpot.core.config import Config
from eqpot.core.errors import ConfigError
from eqpot.graph.structure import Frame, Structure
from eqpot.potential import Potential

OnProgress = Callable[[str, float], Any]
"""Called with what is being done and the part of it that is."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """What a sampler brought.

    Attributes:
        frames: structures; their group says how they came about.
        ends: where each walker of dynamics begins in the next round; empty for the other kinds.
        broken: walkers that left what the potential can be trusted with.
        lost: structures that they were to bring and did not.
        observables: by name, what was measured on the way, with its statistical error.
        notes: what is worth knowing.
    """

    frames: tuple[Frame, ...] = ()
    ends: tuple[Structure, ...] = ()
    broken: int = 0
    lost: int = 0
    observables: Mapping[str, Observable] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Start:
    """What a sampler begins with.

    Attributes:
        structures: those of the configuration, isolated atoms not among them.
        ends: of this sampler in the round before; empty in the first.
        seed: of this sampler in this round.
        band: beyond its upper edge the potential is not to be followed.
    """

    structures: tuple[Structure, ...]
    ends: tuple[Structure, ...]
    seed: int
    band: Band


class Sampler(Config):
    """Base of all kinds."""

    kind: str

    def check(self, structures: Sequence[Structure], elements: Collection[str]) -> None:
        """Refuse start structures that this sampler can do nothing with, before anything is paid for.

        Args:
            structures: those of two atoms or more, or periodic.
            elements: that the start knows.

        Raises:
            ConfigError: there is none of use.
        """
        if not structures:
            raise ConfigError(f"samplers: {self.kind} found no start structure of two atoms or more; give one in start.structures")

    def sample(self, potential: Potential, start: Start, progress: OnProgress) -> Sampled:
        """Bring structures."""
        raise NotImplementedError
