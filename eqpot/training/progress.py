"""What a run tells and what it remembers between steps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpochReport:
    """What a validated epoch tells: losses, validation errors of the ensemble mean, and time.

    Attributes:
        epoch: number of finished epochs, of `epochs`.
        loss: mean training loss over members and batches since the last report.
        terms: its unweighted terms.
        valid: mean absolute and root mean square errors on the validation frames (of averaged parameters).
        valid_loss: the loss made of them.
        best: whether this is the best so far (in this stage).
        rate: learning rate at the end of the epoch.
        seconds: since the start of the run, earlier sessions included.
        noise: trained σ of each quantity, mean over members, in eV/atom, eV/Å, eV/Å³; of those that have one (see `loss.noise`).
    """

    epoch: int
    epochs: int
    loss: float
    terms: dict[str, float]
    valid: dict[str, Any]
    valid_loss: float
    best: bool
    rate: float
    seconds: float
    noise: dict[str, float]


@dataclass
class Memory:
    """What the loop remembers between steps, JSON-able.

    Attributes:
        epoch, batch, step: finished epochs, finished batches of the current one, and finished steps in all.
        stage_step: step at which the second stage began.
        stage_epoch: finished epochs when the first stage had used up its patience, and gave way to the second before its time.
        best_loss, best_epoch: of this stage.
        scale: what plateaus have left of the learning rate, and in which epoch it was last lowered.
        sums: of loss and terms since the last report, and their number.
        history: the reports.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    stage_step: int | None = None
    stage_epoch: int | None = None
    best_loss: float = float("inf")
    best_epoch: int = 0
    scale: float = 1.0
    lowered: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


Observer = Callable[[EpochReport], None]
