"""One label in a process of its own, with a limit on its wall time: what an executor runs, here or on another machine.

`run_task` is a plain function of bytes and JSON values, so any `concurrent.futures.Executor` can carry it (threads, processes, Parsl,
Dask). Wherever it runs, it asks a worker: a process that leads its own session (see `label_server`) and is kept for the next task, because
importing a quantum-chemistry code can cost more than a label. A worker whose task takes too long is ended with all that it started.
"""

import atexit
import json
import os
import pickle
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from eqpot.active.label_server import end_session
from eqpot.core.errors import ConfigError, DataError
from eqpot.oracles.machine import machine_fault

SERVER = str(Path(__file__).with_name("label_server.py"))
GRACE_S = 3.0
"""Time between SIGTERM and SIGKILL."""
START_S = 300.0
"""Longest time that a worker may take to start and to import the oracle."""
STARTS = 3
"""How often a worker is started for one task before the oracle is at fault."""
LOG_CHARACTERS = 4000
"""How much of a worker's output is kept when it dies."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class WorkerDied(Exception):
    """The process ended without an answer."""


class Worker:
    """A process that computes labels, one at a time."""

    def __init__(self) -> None:
        self.scratch = tempfile.mkdtemp(prefix="eqpot-label-")
        self.output = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
        command = [sys.executable, "-P", SERVER, str(os.getpid()), str(GRACE_S), self.scratch]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self.output, start_new_session=True, env=os.environ | ONE_THREAD
        )
        self.loaded: set[bytes] = set()
        self.session: int | None = None
        self.buffer = b""

    def load(self, oracle: bytes) -> None:
        """Give the oracle to the process, where it is not known yet.

        Raises:
            WorkerDied, TimeoutError: the process ended or did not answer.
            ConfigError: the oracle cannot be built in another process.
        """
        if oracle in self.loaded:
            return
        found = self._exchange({"path": [os.path.abspath(entry) for entry in sys.path], "oracle": oracle}, START_S)
        if "fault" in found:
            raise ConfigError(
                f"the oracle cannot be built in a worker process ({found['fault']}); define it in a module that can be imported"
            )
        self.session = found["session"]
        self.loaded.add(oracle)

    def ask(self, oracle: bytes, structure: dict[str, Any], time_limit_s: float | None) -> dict[str, Any]:
        """The answer to one structure.

        Raises:
            WorkerDied: the process ended, with its last output.
            TimeoutError: no answer within the limit.
            DataError: the machine is at fault.
        """
        answer = self._exchange({"oracle": oracle, "structure": structure}, time_limit_s)
        if "exhausted" in answer:
            raise DataError(answer["exhausted"])
        return answer

    def _exchange(self, request: dict[str, Any], limit_s: float | None) -> dict[str, Any]:
        assert self.process.stdin
        deadline = None if limit_s is None else time.monotonic() + limit_s
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
        except OSError:
            raise WorkerDied(self._last_output()) from None
        return json.loads(self._line(deadline))

    def _line(self, deadline: float | None) -> bytes:
        assert self.process.stdout
        pipe = self.process.stdout.fileno()
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        while b"\n" not in self.buffer:
            left = None if deadline is None else 1000 * max(deadline - time.monotonic(), 0)
            if not poller.poll(left):
                raise TimeoutError
            data = os.read(pipe, 1 << 20)
            if not data:
                raise WorkerDied(self._last_output())
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def _last_output(self) -> str:
        with suppress(OSError, ValueError):
            self.output.seek(0, os.SEEK_END)
            self.output.seek(max(self.output.tell() - LOG_CHARACTERS, 0))
            return self.output.read().decode(errors="replace")
        return ""

    def stop(self) -> None:
        """Begin the end, from any thread: whoever waits for an answer gets WorkerDied."""
        self.process.terminate()

    def end(self) -> None:
        """End the process and all that it started; on return nothing of it runs."""
        with suppress(OSError):
            if self.process.stdin:
                self.process.stdin.close()  # the guard's sign
        try:
            self.process.wait(3 * GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.returncode:  # the guard itself was killed, or ended before it was one
            if self.session:
                end_session(self.session, GRACE_S)
            shutil.rmtree(self.scratch, ignore_errors=True)
        if self.process.stdout:
            self.process.stdout.close()
        self.output.close()


class WorkerPool:
    """Workers of one process: started when there is none idle, kept until `end`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[Worker] = []
        self.busy: set[Worker] = set()
        self.stopped = False

    def run(self, oracle: bytes, structure: dict[str, Any], time_limit_s: float | None) -> dict[str, Any]:
        """One task: `labels`, or a `reason` with a `log`; `died` when the process was lost, which says little about the structure."""
        worker = self._take(oracle)
        start = time.monotonic()
        healthy = False
        try:
            answer = worker.ask(oracle, structure, time_limit_s)
            healthy = True
        except WorkerDied as death:
            answer = {"died": True, "reason": "the process that computed it was killed or crashed", "log": str(death)}
        except TimeoutError:
            answer = {"reason": f"took longer than the time limit of {time_limit_s:g} s; all its processes were ended", "log": ""}
        finally:
            self._give_back(worker, healthy)
        return {"seconds": time.monotonic() - start} | answer

    def _take(self, oracle: bytes) -> Worker:
        """A worker that has loaded the oracle; that it dies before it has is no structure's fault."""
        for attempt in range(STARTS):
            with self.lock:
                if self.stopped:
                    raise ConfigError("labelling was interrupted")
                worker = self.idle.pop() if self.idle else _start()
                self.busy.add(worker)
            try:
                worker.load(oracle)
                return worker
            except (WorkerDied, TimeoutError) as error:
                self._give_back(worker, healthy=False)
                if attempt == STARTS - 1:
                    text = " ".join(str(error).split())[-400:]
                    raise ConfigError(f"worker processes end before they have loaded the oracle: {text or type(error).__name__}") from None
            except BaseException:
                self._give_back(worker, healthy=False)
                raise
        raise AssertionError

    def _give_back(self, worker: Worker, healthy: bool) -> None:
        with self.lock:
            self.busy.discard(worker)
            if healthy:
                self.idle.append(worker)
        if not healthy:
            worker.end()

    def end(self) -> None:
        """End the idle workers."""
        with self.lock:
            idle, self.idle = self.idle, []
        for worker in idle:
            worker.stop()
        for worker in idle:
            worker.end()

    def stop(self) -> None:
        """Begin the end of the busy ones, and start no more."""
        with self.lock:
            self.stopped = True
            for worker in self.busy:
                worker.stop()


def _start() -> Worker:
    try:
        return Worker()
    except OSError as error:
        raise machine_fault(error) or error from None


_HERE = WorkerPool()
"""The workers of this process for tasks that came through somebody else's executor."""


def run_task(oracle: bytes, structure: dict[str, Any], time_limit_s: float | None) -> dict[str, Any]:
    """Compute one label wherever this is called; see `WorkerPool.run`.

    Args:
        oracle: pickled.
        structure: the fields of a `Structure` as JSON values.
        time_limit_s: wall time, from when the oracle has been imported [s].
    """
    return _HERE.run(oracle, structure, time_limit_s)


def end_workers() -> None:
    """End the idle workers that `run_task` keeps in this process."""
    _HERE.end()


def stop_workers() -> None:
    """Begin the end of the busy workers that `run_task` keeps in this process."""
    with _HERE.lock:
        for worker in _HERE.busy:
            worker.stop()


atexit.register(end_workers)
if hasattr(os, "register_at_fork"):  # a forked process must not talk to its parent's workers
    os.register_at_fork(after_in_child=_HERE.__init__)
