"""Tasks through an executor until each has its result: what is lost is sent again, what fails is tried with other settings."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from eqpot.active.label_record import Entry, labels_from, structure_document
from eqpot.active.label_store import LabelStore
from eqpot.active.label_worker import WorkerPool, end_workers, run_task, stop_workers
from eqpot.core.errors import ConfigError, DataError, EqpotError
from eqpot.graph.structure import Structure
from eqpot.oracles.machine import machine_fault

MAX_BREAKS = 5
"""How often a pool may break without a single result in between."""
LOG_CHARACTERS = 20_000


@dataclass(eq=False)
class Task:
    """A structure on its way to a label: which settings are tried, and what has happened to it."""

    key: str
    structure: Structure
    level: int = 0
    losses: int = 0
    tries: int = 0
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)


class Run:
    """One call's worth of labelling.

    Args:
        store: open; results go there.
        levels: (pickled oracle, hash of its settings), the oracle first, then the alternatives.
        executor: an executor, a function that makes one, or None for local processes.
        workers: number of local processes.
        retries: losses of its worker after which a structure has failed.
        time_limit_s: for one label.
        window: tasks given to the executor at a time.
        on_progress: f(done, total, failed).
    """

    def __init__(
        self,
        store: LabelStore,
        levels: Sequence[tuple[bytes, str]],
        executor: Executor | Callable[[], Executor] | None,
        workers: int,
        retries: int,
        time_limit_s: float | None,
        window: int,
        on_progress: Callable[[int, int, int], Any] | None,
    ) -> None:
        self.store, self.levels, self.retries, self.time_limit_s, self.on_progress = store, levels, retries, time_limit_s, on_progress
        self.window = window
        self.pool = WorkerPool()
        self.task = self.pool.run if executor is None else run_task
        self.given = executor if isinstance(executor, Executor) else None
        self.make = executor if callable(executor) else lambda: ThreadPoolExecutor(workers)
        self.failed = self.answers = 0

    def all(self, tasks: Sequence[Task], total: int) -> None:
        """Return when each task has its result in the store.

        Raises:
            ConfigError: the oracle cannot be built over there, or the pool breaks again and again.
            DataError: the machine is at fault, or the store cannot be written. What was finished is in the store.
        """
        waiting, breaks = deque(tasks), 0
        done = total - len(tasks)
        self._tell(done, total)
        while waiting:
            executor = self.given or self.make()
            finished = 0
            try:
                for entries in self._until_broken(executor, waiting):
                    self.store.add(entries)
                    finished += len(entries)
                    self._tell(done + finished, total)
            except BaseException:
                self._abandon(executor)
                raise
            self._close(executor)
            done += finished
            breaks = 0 if finished else breaks + 1
            if waiting and (self.given is not None or breaks > MAX_BREAKS):
                raise ConfigError(_BROKEN if self.given is not None else f"executor: broke {breaks} times without a result; {_KEPT}")

    def _until_broken(self, executor: Executor, waiting: deque[Task]) -> Iterator[list[Entry]]:
        """Yield results until no task waits or the pool is broken; tasks without a result are then waiting again."""
        flying: dict[Future, Task] = {}
        try:
            whole = self._fill(executor, waiting, flying)
            while flying:
                entries, fault = [], None
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    task = flying.pop(future)
                    try:
                        answer = self._answer(future, task)
                    except EqpotError as error:
                        fault = fault or error  # first the others, they have been paid for
                        continue
                    whole = whole and answer is not None
                    entry = None if answer is None else self._settle(task, answer)
                    if entry is None:
                        waiting.append(task)
                    else:
                        entries.append(entry)
                yield entries
                if fault:
                    raise fault
                whole = whole and self._fill(executor, waiting, flying)
        finally:
            for future in flying:
                with suppress(NotImplementedError):  # Parsl cannot call a task back
                    future.cancel()

    def _fill(self, executor: Executor, waiting: deque[Task], flying: dict[Future, Task]) -> bool:
        """Give tasks to the executor, as many as it may have; False when it takes no more because it is broken."""
        while waiting and len(flying) < self.window:
            task = waiting[0]
            try:
                future = executor.submit(self.task, self.levels[task.level][0], structure_document(task.structure), self.time_limit_s)
            except BrokenExecutor:
                return False
            flying[future] = waiting.popleft()
        return True

    def _answer(self, future: Future, task: Task) -> dict[str, Any] | None:
        """What came back; None when the pool broke.

        Raises:
            ConfigError: the executor loses every task, so that no structure can be at fault.
            DataError: the machine is at fault, here or over there.
        """
        try:
            answer = future.result()
        except BrokenExecutor:
            return None
        except DataError as error:
            raise DataError(f"{error}; {_KEPT}") from None
        except EqpotError:
            raise
        except Exception as error:  # the executor lost the task: its worker, its node, its queue
            if fault := machine_fault(error):
                raise DataError(f"executor: {fault}; {_KEPT}") from error
            reason = f"{type(error).__name__}: {error}"
            if not self.answers and task.losses + 1 >= self.retries:
                raise ConfigError(f"executor: found {' '.join(reason.split()):.300} before any answer; {_KEPT}") from error
            return {"died": True, "reason": reason, "log": ""}
        self.answers += 1
        return answer

    def _settle(self, task: Task, answer: dict[str, Any]) -> Entry | None:
        """The result, or None when the task is to be tried again."""
        task.tries += 1
        task.seconds += answer.get("seconds", 0.0)
        settings = self.levels[task.level][1]
        labels, reason = None, ""
        if "labels" in answer:
            labels = labels_from(answer["labels"])
        else:
            reason = " ".join(answer["reason"].split())
            task.log.append(f"attempt {task.tries}, settings {settings[:16]}: {reason}\n{answer['log']}")
            task.losses += answer.get("died", False)
            if answer.get("died") and task.losses < self.retries:
                return None
            if task.level + 1 < len(self.levels):
                task.level, task.losses = task.level + 1, 0
                return None
            reason += f" ({task.losses} times)" if answer.get("died") else ""
            self.failed += 1
        log = "\n".join(task.log)[-LOG_CHARACTERS:]
        return Entry(
            structure=task.structure, labels=labels, reason=reason, log=log, settings=settings, tries=task.tries, seconds=task.seconds
        )

    def _tell(self, done: int, total: int) -> None:
        if self.on_progress:
            self.on_progress(done, total, self.failed)

    def _close(self, executor: Executor) -> None:
        if executor is not self.given:
            executor.shutdown()
        self.pool.end()
        end_workers()

    def _abandon(self, executor: Executor) -> None:
        """End what runs here and forget what waits; what another machine has begun ends there, at the latest with its time limit."""
        if executor is not self.given:
            executor.shutdown(wait=False, cancel_futures=True)
        self.pool.stop()
        stop_workers()
        self._close(executor)


_KEPT = "what was finished is kept, call again to go on"
_BROKEN = f"executor: its pool is broken; {_KEPT}, or give a function that makes an executor so that it can be made anew"
