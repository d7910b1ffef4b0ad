"""One thing that looks wrong about one frame."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """A suspicion about a frame.

    Attributes:
        frame: index of the frame in its set.
        code: what kind of suspicion: 'energy', 'energy-unit', 'forces', 'force-unit', 'force-sign', 'force-pairing', 'force-order',
            'force-orientation', 'force-zero', 'distance', 'detached' or 'conflicting-labels'.
        text: what was found, in one line of plain words.
        score: how far from what is usual in the set, in robust standard deviations.
        numbers: the figures behind it, by name.
    """

    frame: int
    code: str
    text: str
    score: float
    numbers: dict[str, float] = field(default_factory=dict)
