"""The process in which labels are computed, run as a script: `python label_server.py ASKER GRACE SCRATCH`.

It is two processes. The *server* leads a session of its own, unpickles the oracle and answers one structure at a time; all that the
oracle starts (a program, its MPI ranks) is in that session. The *guard*, its parent, does nothing but wait for the first of:
the asker closed the pipe, the asker is dead, the server is dead, SIGTERM. Then it ends the whole session, with SIGTERM and after the
grace time with SIGKILL, and removes the scratch folder. So one piece of code enforces time limits and cleans up after a driver that was killed.

Only the standard library is imported here: the guard is small, and the server is forked before there are threads. What escapes is a
program that makes a session of its own (a daemon).
"""

import ctypes
import faulthandler
import json
import os
import pickle
import select
import shutil
import signal
import sys
import tempfile
import time
from typing import Any, NoReturn

POLL_MS = 100
"""How often the guard looks whether the server is alive."""
PR_SET_PDEATHSIG = 1


def session_members(session: int) -> list[int]:
    """Processes of a session that still run; empty where there is no /proc."""
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, _, _, its_session = file.read().rpartition(b")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if int(its_session) == session and state not in (b"Z", b"X"):
            found.append(int(name))
    return found


def signal_session(session: int, number: int) -> None:
    """Send a signal to the session's process group and to every member that has a group of its own, as MPI ranks do."""
    for send, target in [(os.killpg, session), *((os.kill, pid) for pid in session_members(session))]:
        try:
            send(target, number)
        except (ProcessLookupError, PermissionError):
            continue


def end_session(session: int, grace_s: float) -> None:
    """SIGTERM, then SIGKILL to those that are still there after the grace time."""
    signal_session(session, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while session_members(session) and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(100):  # one that forks while it is killed leaves another
        signal_session(session, signal.SIGKILL)
        if not session_members(session):
            return
        time.sleep(0.02)


def guard(server: int, asker: int, grace_s: float, scratch: str) -> NoReturn:
    """Wait until the server is no longer wanted or no longer there, then clean up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    poller = select.poll()
    poller.register(0, 0)  # no data wanted: only the hang-up is told
    try:
        os.close(1)  # so that the asker sees the end of the answers when the server ends
        while not poller.poll(POLL_MS) and os.getppid() == asker and not os.waitpid(server, os.WNOHANG)[0]:
            pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_session(server, grace_s)
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)


def serve(scratch: str) -> None:
    """Answer requests until the pipe is closed. Programs get an empty input, and their output goes to the log."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    faulthandler.enable()
    os.chdir(scratch)
    os.environ["TMPDIR"] = scratch  # temporary files of programs go when the worker goes, however it ends
    oracles: dict[bytes, Any] = {}
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        answer = load(oracles, **request) if "path" in request else compute(oracles[request["oracle"]], request["structure"], scratch)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def load(oracles: dict[bytes, Any], path: list[str], oracle: bytes) -> dict[str, Any]:
    """Unpickle an oracle, with the modules that the asker can import."""
    sys.path[:] = path
    try:
        oracles[oracle] = pickle.loads(oracle)
    except Exception as error:
        return {"fault": f"{type(error).__name__}: {error}"}
    return {"session": os.getpid()}


def compute(oracle: Any, document: dict[str, Any], scratch: str) -> dict[str, Any]:
    """Labels or the reason why there are none, as JSON values; in a folder of its own, for programs that write where they stand."""
    from eqpot.core.errors import DataError
    from eqpot.graph.structure import Frame, Structure
    from eqpot.oracles.machine import machine_fault

    start = time.perf_counter()
    try:
        folder = tempfile.mkdtemp(dir=scratch)
        os.chdir(folder)
        (result,) = oracle.label([Structure(**document)])
    except DataError as error:
        return {"exhausted": str(error)}
    except OSError as error:
        if fault := machine_fault(error):
            return {"exhausted": str(fault)}
        raise
    seconds = time.perf_counter() - start
    os.chdir(scratch)
    shutil.rmtree(folder, ignore_errors=True)
    if not isinstance(result, Frame):
        return {"reason": result.reason, "log": result.log, "seconds": seconds}
    labels = {name: getattr(result.labels, name) for name in result.labels.known}
    return {"labels": {k: v.tolist() if hasattr(v, "tolist") else float(v) for k, v in labels.items()}, "seconds": seconds}


def main() -> None:
    asker, grace_s, scratch = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    parent = os.getpid()
    server = os.fork()
    if server:
        guard(server, asker, grace_s, scratch)
    os.setsid()
    if sys.platform == "linux":  # for the case that the guard itself is killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    serve(scratch)


if __name__ == "__main__":
    main()
