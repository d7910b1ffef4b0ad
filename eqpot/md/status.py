"""What can befall a segment: bits set on the device, explained once on the host."""

from enum import IntFlag


class Status(IntFlag):
    """Why a segment ended before its last step; `Status(0)` when it did not."""

    STALE = 1
    """The next step leaves the range of the neighbour table: ordinary, a new table is made."""

    NOT_FINITE = 2
    """Energy, forces or velocities are no numbers."""

    TOO_HOT = 4
    """The temperature is above the bound."""

    @property
    def text(self) -> str:
        """The reason in words."""
        return "; ".join(_TEXTS[bit] for bit in Status if bit in self)


_TEXTS = {
    Status.STALE: "an atom moved further in one step than the neighbour list allows",
    Status.NOT_FINITE: "energy, forces or velocities are not finite",
    Status.TOO_HOT: "the temperature rose above the bound",
}
