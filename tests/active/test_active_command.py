"""`eqpot active` as a user meets it: killed in the middle, started again, and what it prints."""

import json
import signal
import subprocess
import sys
import time

import pytest
from ase.cluster import Octahedron
from ase.io import write
from small_models import NETWORK

from eqpot.active import read_ledger


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path):
    write(tmp_path / "cluster.xyz", Octahedron("Cu", 2, 0))
    settings = {
        "oracle": "emt",
        "start": {"structures": str(tmp_path / "cluster.xyz"), "generate": [{"method": "rattle", "n": 5, "temperature_K": 300}]},
        "samplers": [{"kind": "md", "temperature_K": 300, "time_ps": 0.04, "timestep_fs": 2, "interval_fs": 10}],
        "query": {"n": 2, "audit": 1, "high_eV_A": 1e3},
        "fit": {"model": {**NETWORK, "cutoff": 3.2}, "ensemble": {"members": 2}, "training": {"epochs": 2, "batch_size": 2}},
        "stop": [{"rounds": 1}],
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    ledger = tmp_path / "run" / "ledger.jsonl"
    command = [sys.executable, "-m", "eqpot.cli.main", "active", str(tmp_path / "config.yaml"), "--folder", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (ledger.exists() and ledger.read_bytes().count(b"\n") == 2):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it came to its end before it was killed"
    before = ledger.read_bytes()

    found = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert found.returncode == 0, found.stdout
    for words in ("round 0: 4 labels to learn from (fresh)", "1 rounds were done", "9 structures were given to the oracle", "eqpot md"):
        assert words in " ".join(found.stdout.split()), words
    assert ledger.read_bytes().startswith(before) and [r["kind"] for r in read_ledger(tmp_path / "run")] == ["start", "round", "end"]
    keys = [json.loads(line)["record"]["key"] for line in (tmp_path / "run/labels/labels.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 9 and (tmp_path / "run" / "report.html").exists()
