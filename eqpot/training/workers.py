"""Batches made ahead by other processes, with grain.

A stream goes on from epoch to epoch, so the processes start once, and work while the training process validates. Batch k of an epoch follows from
(seed, epoch, k) alone: a stream may start anywhere, and an element is the same whoever makes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

AHEAD = 4
"""Batches that each process keeps ready."""

Plan = Callable[[int, int], list[np.ndarray]]


@dataclass(frozen=True, eq=False)
class _Parcel:
    """A batch that grain does not look into, so that it travels through a pipe: shared memory is small in containers, and lost when a stream is cut."""

    content: Any


class _Source:
    """Batch i of a stream that starts at (epoch, start); what grain reads, in each process."""

    def __init__(self, make: Callable[..., Any], plan: Plan, seed: int, epoch: int, start: int, local: range | None) -> None:
        self.make, self.plan, self.seed, self.local = make, plan, seed, local
        self.epoch, self.first, self.batches = epoch, -start, None

    def __len__(self) -> int:
        return 2**60

    def __getitem__(self, index: Any) -> Any:
        """Indices arrive in ascending order."""
        if self.batches is None:
            self.batches = self.plan(self.seed, self.epoch)
        while index - self.first >= len(self.batches):
            self.first += len(self.batches)
            self.epoch += 1
            self.batches = self.plan(self.seed, self.epoch)
        return _Parcel(self.make(self.batches[index - self.first], self.local))


class WorkerStream:
    """An endless stream of batches from (epoch, start) on.

    Args:
        make: from the structures of a batch and the range of shards to the batch; sent to the processes, as is `plan`.
        plan: from seed and epoch to the structures of each batch.
        seed, epoch, start, local: see `Batches.epoch`.
        workers: number of processes.

    Attributes:
        position: (seed, epoch, batch, local) of the next element; kept by the reader.
    """

    def __init__(self, make: Callable[..., Any], plan: Plan, seed: int, epoch: int, start: int, local: range | None, workers: int) -> None:
        import grain
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain reads its switches there, also in a program without absl's command line
        source = grain.MapDataset.source(_Source(make, plan, seed, epoch, start, local))
        reading = source.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=AHEAD)
        self.iterator: Any = iter(reading.mp_prefetch(options, worker_init_fn=_set_up))
        self.position = (seed, epoch, start, local)

    def next(self) -> Any:
        """The next batch."""
        return next(self.iterator).content

    def close(self) -> None:
        """End the processes."""
        self.iterator.close()


def _set_up(index: int, count: int) -> None:
    """In a worker: an interrupt is the training process's business, and so are accelerators."""
    del index, count
    import signal

    import jax

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")
