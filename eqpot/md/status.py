"""What can befall a run: bits set on the device, explained once on the host."""

from enum import IntFlag


class Status(IntFlag):
    """Why a system stopped before its last step; `Status(0)` while it goes on."""

    NOT_FINITE = 1
    """Energy, forces or velocities are no numbers."""

    TOO_HOT = 2
    """The temperature is above the bound."""

    TOO_CLOSE = 4
    """Two atoms are nearer than the bound."""

    TOO_UNSURE = 8
    """The uncertainty of an atom's force is above the bound."""

    TOO_FAR = 16
    """An atom would move by more than half the potential's cutoff in one step."""

    TOO_NOVEL = 32
    """The surroundings of an atom are farther than the bound from what the potential has seen."""

    @property
    def text(self) -> str:
        """The reason in words."""
        return "; ".join(_TEXTS[bit] for bit in Status if bit in self)


_TEXTS = {
    Status.NOT_FINITE: "energy, forces or velocities are not finite",
    Status.TOO_HOT: "the temperature rose above the bound",
    Status.TOO_CLOSE: "two atoms came nearer than the bound",
    Status.TOO_UNSURE: "the uncertainty of a force rose above the bound",
    Status.TOO_NOVEL: "the novelty of an atom rose above the bound",
    Status.TOO_FAR: "an atom moved by more than half the cutoff in one step",
}
