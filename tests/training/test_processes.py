"""Training does not depend on how often it is killed, on how many devices it runs, or in how many processes."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "toy_run.py"
LIMIT = 600


def environment(devices: int = 1, **more: str) -> dict[str, str]:
    return {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def start(task: dict, **more) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, str(PROGRAM), json.dumps(task)], env=environment(**more), **pipes)


def rows(process: subprocess.Popen) -> list[dict]:
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


SETTINGS = {
    "plain": {},
    "everything": {
        "stage_two": {"start": 0.4},
        "loss": {"noise": "none", "huber": 0.3},
        "optimizer": {"name": "muon", "schedule": "plateau", "plateau_patience": 2, "weight_decay": 1e-3},
    },
    "likelihood": {"loss": {"noise": "learned"}, "optimizer": {"accumulate": 3}},
}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "kills"), [("everything", 2), pytest.param("plain", 9, marks=SLOW), pytest.param("likelihood", 9, marks=SLOW)]
)
def test_killed_and_started_again_equals_uninterrupted_bit_for_bit(name, kills, tmp_path):
    """Twenty deaths in all: at random steps, and within a save at a random moment of it. Every life continues the one before."""
    rng = random.Random(name)
    training = {"epochs": 24, "batch_size": 8, "checkpoint_every": 1, "checkpoint_steps": 3}
    settings = {**SETTINGS[name], "training": training}
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    whole = rows(start({"settings": settings, "folder": str(tmp_path / "whole")}, **cache))
    task = {"settings": settings, "folder": str(tmp_path / "killed")}
    for k in range(kills):
        fate = {"die_in_save": [rng.randint(1, 4), rng.uniform(0, 0.06)]} if k % 2 else {"die_at_step": rng.randint(2, 12)}
        victim = start({**task, **fate}, **cache)
        victim.communicate(timeout=LIMIT)
        assert victim.returncode == -signal.SIGKILL
    last = rows(start(task, **cache))
    assert 1 < last[0]["epoch"] < 24  # it went on, and had something left to do
    assert last[-1]["hash"] == whole[-1]["hash"]
    assert last[:-1] == whole[last[0]["epoch"] - 1 : -1]
    logs = [[json.loads(line) for line in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in ("whole", "killed")]
    assert [(r["epoch"], r["loss"], r["valid_loss"]) for r in logs[0]] == [(r["epoch"], r["loss"], r["valid_loss"]) for r in logs[1]]


@pytest.mark.slow
def test_a_full_disk_during_a_save_keeps_the_checkpoint_before(tmp_path):
    """The run ends with one clear line; with space again it goes on from the earlier checkpoint to the same result."""
    whole = rows(start({"folder": str(tmp_path / "whole")}))
    full = start({"folder": str(tmp_path / "full"), "full_at_save": 2})
    _, err = full.communicate(timeout=LIMIT)
    assert full.returncode == 1 and "the checkpoint of step 16 cannot be written" in err
    last = rows(start({"folder": str(tmp_path / "full")}))
    assert last[0]["epoch"] == 3 and last[-1] == whole[-1]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(task: dict, processes: int, devices: int) -> list[list[dict]]:
    """The same program in several processes that train together."""
    shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": str(processes)}
    each = [start(task, devices=devices, JAX_PROCESS_ID=str(k), **shared) for k in range(processes)]
    return [rows(process) for process in each]


def require_same_curve(run: list[dict], alone: list[dict], devices: int) -> None:
    """Losses and errors of all epochs are equal to rounding."""
    assert run[-1]["devices"] == devices
    for a, b in zip(alone[:-1], run[:-1], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=2e-5)
        assert b["valid"] == pytest.approx(a["valid"], rel=2e-4)


@pytest.fixture(scope="module")
def alone() -> list[dict]:
    """Two members, batches of eight, on one device."""
    return rows(start({}))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [4, 3], ids=["members × data", "shards that do not divide the batch evenly"])
def test_the_loss_curve_does_not_depend_on_devices(alone, devices):
    require_same_curve(rows(start({}, devices=devices)), alone, devices)


def test_the_loss_curve_does_not_depend_on_processes(alone, tmp_path):
    """Two processes of two devices each."""
    task = {"folder": str(tmp_path / "two")}
    first, second = together(task, 2, 2)
    assert first == second
    require_same_curve(first, alone, 4)
    assert len((tmp_path / "two" / "log.jsonl").read_text().splitlines()) == 6  # one of them writes
    resumed, _ = together({**task, "settings": {"training": {"epochs": 6, "batch_size": 8, "checkpoint_every": 2}}}, 2, 2)
    assert resumed == first[-1:]  # a finished run gives its result at once


@pytest.mark.slow
def test_processes_stop_together(tmp_path):
    """A signal that only the second of two gets, and a time limit that is over on the first one's clock alone, end the run on both."""
    shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    task = {"folder": str(tmp_path), "second_stops_at_step": 6}
    for process in [start(task, JAX_PROCESS_ID=str(k), **shared) for k in range(2)]:
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode != 0 and "KeyboardInterrupt" in err
    limits = {"settings": {"training": {"epochs": 6, "batch_size": 8, "checkpoint_every": 2, "max_minutes": 1e-9}}}
    first, second = together({"folder": str(tmp_path), "second_has_no_clock": True, **limits}, 2, 1)
    assert [row["epoch"] for row in first[:-1]] == [] and first == second
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_a_process_that_finds_no_others_says_what_is_missing():
    code = "from eqpot.training.parallel import join_processes; join_processes()"
    bare = {k: v for k, v in environment().items() if not k.startswith(("JAX_COORD", "JAX_NUM_PROC", "JAX_PROCESS", "SLURM", "OMPI"))}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert "ConfigError" in done.stderr and "JAX_COORDINATOR_ADDRESS" in done.stderr
