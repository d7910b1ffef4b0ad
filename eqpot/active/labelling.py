"""Labelling at scale: many structures, many processes, no label paid for twice.

    result = label(TBLiteOracle(), structures, "labels", workers=8, time_limit_s=600)
    write_labels("train.extxyz", result)

What holds, whatever is killed when:

- **Each structure gets an answer**, in order: a frame, or a Failure with reason and log. None is dropped.
- **No label is paid for twice**: results are on disk (`label_store`) before they count, under a hash of structure and settings.
- **One level of theory per store.** Alternatives (more iterations, another mixing) are tried in order after a failure; which one
  was used is kept with the label.
- **A time limit holds for all that a label starts**, and nothing of it runs on after whoever asked for it (`label_server`): the driver, or an
  executor's worker.
- **A full disk is no structure's fault**: it stops the call and leaves no failure behind.
- **The executor is only transport**: a worker or a whole pool that is lost costs the labels that it was computing, no others.
"""

import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eqpot.active.label_jumps import energy_jumps
from eqpot.active.label_level import require_same_level
from eqpot.active.label_record import Entry, settings_hash
from eqpot.active.label_run import Run, Task
from eqpot.active.label_store import LabelStore
from eqpot.core.errors import ConfigError, EqpotError
from eqpot.data import Dataset
from eqpot.graph.neighbors import find_neighbors
from eqpot.graph.structure import Frame, Structure
from eqpot.oracles import Failure, Oracle
from eqpot.oracles.base import screen

MakesExecutor = Callable[[], Executor]
OnProgress = Callable[[int, int, int], Any]


@dataclass(frozen=True, eq=False)
class Labelled:
    """What came of a call of `label`.

    Attributes:
        results: a Frame or a Failure per structure, in the order given.
        settings: of the oracle.
        alternatives: per structure the settings of the alternative that gave the label, or None.
        counts: structures `asked`; `computed` now; `cached`, answered from the store or by an equal structure of this call; `failed`.
        seconds: wall time of the call.
    """

    results: tuple[Frame | Failure, ...]
    settings: Mapping[str, Any]
    alternatives: tuple[Mapping[str, Any] | None, ...]
    counts: Mapping[str, int]
    seconds: float

    @cached_property
    def frames(self) -> Dataset:
        """The structures that got labels."""
        return Dataset(tuple(r for r in self.results if isinstance(r, Frame)))

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """The structures that got none."""
        return tuple(r for r in self.results if isinstance(r, Failure))


def label(
    oracle: Oracle,
    structures: Iterable[Any],
    store: str | Path,
    *,
    workers: int = 2,
    time_limit_s: float | None = None,
    executor: Executor | MakesExecutor | None = None,
    retries: int = 3,
    alternatives: Sequence[Oracle] = (),
    retry_failures: bool = False,
    window: int = 1000,
    max_energy_jump: float = 5.0,
    on_progress: OnProgress | None = None,
) -> Labelled:
    """Label structures in other processes, and keep the labels.

    Call it again with the same store to go on after an interruption.

    Args:
        oracle: picklable, and defined in a module that workers can import.
        structures: `eqpot.Frame` (its group is kept, its labels are not), `eqpot.Structure` or `ase.Atoms`.
        store: folder of results of this oracle's settings; made when it is not there.
        workers: local processes, one label at a time each, with OMP_NUM_THREADS=1.
        time_limit_s: wall time for one label; then all processes that it started are ended. None: no limit.

        executor: what carries the tasks instead of local processes: an executor (Parsl's ParslPoolExecutor, Dask's
            client.get_executor()), or a function that makes one, so that a broken pool can be made anew.
        retries: how often a structure may lose its worker before that is taken for its fault.
        alternatives: oracles of the same level of theory, tried in order when a label fails; only settings named in `oracle.aids` may differ.
        retry_failures: compute structures again that the store knows as failures, or whose energies jump.
        window: structures given to the executor at a time. Parsl cannot call tasks back: this many may be computed in vain when the driver
            is killed, so take about twice the number of its workers where labels are dear.
        max_energy_jump: energies further than this from the median of their composition are computed again with the alternatives, and are failures if
            these do not mend it [eV/atom].
        on_progress: called as f(done, total, failed) after results have been kept.

    Raises:
        ConfigError: an oracle that cannot be sent to other processes, alternatives of another level, a pool that breaks again and again.
        DataError: a store that cannot be used, see `LabelStore`; a machine that is at fault, such as a full disk. What was finished is kept.
    """
    start = time.perf_counter()
    _require_sense(oracle, alternatives, {"workers": workers, "retries": retries, "window": window}, time_limit_s, max_energy_jump)
    oracles = (oracle, *alternatives)
    asked = [_asked(item, oracle) for item in structures]
    with LabelStore(store, oracle.settings, [a.settings for a in alternatives]) as kept:
        wanted = {kept.key(item.structure): item.structure for item in asked if isinstance(item, Frame)}
        again: set[str] = set()
        if retry_failures:
            jumps = energy_jumps(kept.entries.values(), max_energy_jump)
            again = {key for key, e in kept.entries.items() if e.labels is None or id(e) in jumps}
        todo = {key: s for key, s in wanted.items() if key not in kept.entries or key in again}
        tasks = [Task(key, structure) for key, structure in todo.items()]
        levels = [(_sendable(o), settings_hash(o.settings)) for o in oracles]
        run = Run(kept, levels, executor, workers, retries, time_limit_s, window, on_progress)
        run.all(tasks, total=len(wanted))
        later = {settings: k + 1 for k, (_, settings) in enumerate(levels[:-1])}
        while jumps := energy_jumps(kept.entries.values(), max_energy_jump):  # the next alternative may find the state of the others
            jumping = {key: e for key in wanted if id(e := kept.entries[key]) in jumps and e.settings in later}
            if not jumping:
                break
            run.all([Task(key, e.structure, later[e.settings]) for key, e in jumping.items()], total=len(wanted))
            todo |= {key: e.structure for key, e in jumping.items()}
        entries = [kept.entries[kept.key(item.structure)] if isinstance(item, Frame) else None for item in asked]
    results = tuple(_result(item, entry, oracle, jumps, kept.level) for item, entry in zip(asked, entries, strict=True))
    failed = sum(isinstance(r, Failure) for r in results)
    n_valid = sum(e is not None for e in entries)
    counts = {"asked": len(asked), "computed": len(todo), "cached": n_valid - len(todo), "failed": failed}
    known = {settings_hash(a): a for a in kept.alternatives}
    used = tuple(known.get(e.settings) if e is not None and e.settings != kept.level else None for e in entries)
    return Labelled(results, kept.settings, used, counts, time.perf_counter() - start)


def _require_sense(
    oracle: Oracle, alternatives: Sequence[Oracle], counts: Mapping[str, int], time_limit_s: float | None, jump: float
) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name}: found {value}, expected at least 1")
    for name, limit in (("time_limit_s", time_limit_s), ("max_energy_jump", jump)):
        if limit is not None and not limit > 0:
            raise ConfigError(f"{name}: found {limit}, expected a positive number")
    for other in alternatives:
        require_same_level(oracle, other)


def _sendable(oracle: Oracle) -> bytes:
    """The oracle pickled.

    Raises:
        ConfigError: it cannot be pickled, or worker processes could not import it.
    """
    try:
        blob = pickle.dumps(oracle)
    except Exception as error:
        raise ConfigError(
            f"the oracle cannot be sent to worker processes ({error}); use functions and classes of modules, no lambda"
        ) from None
    if b"__main__" in blob:
        raise ConfigError("the oracle uses what the script itself defines, which worker processes cannot import; move that into a module")
    return blob


def _asked(item: Any, oracle: Oracle) -> Frame | Failure:
    """The structure as a frame without labels; what no oracle could label is refused here and costs nothing."""
    structure = None
    try:
        frame = item if isinstance(item, Frame) else Frame(Structure.from_atoms(item), origin=oracle.name)
        structure = frame.structure
        find_neighbors(structure, 0.0, oracle.limits.min_distance)
    except EqpotError as error:
        return Failure(structure, " ".join(str(error).split()))
    return Frame(structure, origin=frame.origin, group=frame.group, weight=frame.weight, head=frame.head)


def _result(item: Frame | Failure, entry: Entry | None, oracle: Oracle, jumps: Mapping[int, str], level: str) -> Frame | Failure:
    """The answer for people; labels of the store are screened with the limits of today."""
    if isinstance(item, Failure) or entry is None:
        assert isinstance(item, Failure)
        return item
    if entry.labels is None:
        return Failure(item.structure, entry.reason, entry.log)
    reason = screen(entry.labels, item.structure, oracle.limits) or jumps.get(id(entry))
    if reason:
        return Failure(item.structure, f"{oracle.name}: {reason}", repr(entry.labels))
    return item.replace(labels=entry.labels, oracle=level)
