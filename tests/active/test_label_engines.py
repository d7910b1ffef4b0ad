"""Labels through the executors of Parsl and Dask, which really run: a worker is killed, a label hangs, and still each is paid for once."""

import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from ase.build import bulk

from eqpot.active import label
from eqpot.data import read, write_extxyz
from eqpot.graph import Frame, Structure

sys.path.append(str(Path(__file__).parent))
from label_fakes import HANGS, Fake, atom, computed, nap, processes, until

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
TWENTY = [0.01 * k for k in range(20)]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")]


@contextmanager
def on_parsl(folder):
    """Two workers of Parsl's pilot, whose block is a process of this machine."""
    parsl = pytest.importorskip("parsl", reason="needs the extra 'parsl'")
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider

    provider = LocalProvider(init_blocks=1, max_blocks=1)
    pilot = parsl.HighThroughputExecutor(
        label="labels", address="127.0.0.1", max_workers_per_node=2, cores_per_worker=0.1, encrypted=False, provider=provider
    )
    with ParslPoolExecutor(parsl.Config(executors=[pilot], run_dir=str(folder / "parsl"), strategy="none")) as executor:
        yield executor


@contextmanager
def on_dask(folder):
    """Two workers of a local Dask cluster."""
    distributed = pytest.importorskip("distributed", reason="needs the extra 'dask'")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder / "dask")
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        yield executor


@pytest.mark.parametrize("engine", [on_parsl, on_dask])
def test_an_engine_is_transport(tmp_path, monkeypatch, engine):
    """One of its workers is killed in the middle; then a label hangs."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(ROOT)]))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))  # Parsl's own programs
    with engine(tmp_path) as executor:
        dies = Fake(folder=str(tmp_path), seconds=0.05, kill_at=TWENTY[7], victim="asker")
        found = label(dies, [atom(x) for x in TWENTY], tmp_path / "store", executor=executor, time_limit_s=60.0)
        assert (tmp_path / "killed").exists()
        assert [r.labels.energy for r in found.results if isinstance(r, Frame)] == TWENTY
        assert found.counts == {"asked": 20, "computed": 20, "cached": 0, "failed": 0}
        assert Counter(computed(tmp_path)) == Counter(TWENTY)

        hangs = Fake(folder=str(tmp_path))
        found = label(hangs, [atom(0.5), atom(0.6, HANGS), atom(0.7)], tmp_path / "store", executor=executor, time_limit_s=2.0)
        assert processes("sleep", nap(tmp_path)) == []
        assert [isinstance(r, Frame) for r in found.results] == [True, False, True]
        assert "time limit of 2 s" in found.failures[0].reason
        again = label(hangs, [atom(x) for x in TWENTY], tmp_path / "store", executor=executor)
        assert again.counts["cached"] == 20
    scratch = {Path(line.split()[1]).parent for line in (tmp_path / "computed").read_text().splitlines()}
    until(lambda: not any(folder.exists() for folder in scratch))  # the guards of the label processes end last, and clean up


def test_the_script_for_clusters_runs_on_this_machine(tmp_path):
    """Twice: what is there is not written over."""
    pytest.importorskip("parsl", reason="needs the extra 'parsl'")
    write_extxyz(tmp_path / "in.extxyz", [Frame(Structure.from_atoms(bulk("Cu", cubic=True, a=a))) for a in (3.5, 3.6, 3.7)])
    command = [sys.executable, str(ROOT / "train" / "label_on_slurm.py"), "emt", "in.extxyz", "-o", "out.extxyz", "--local"]
    first, second = (subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300) for _ in range(2))
    assert first.returncode == 0 and "'computed': 3" in first.stderr, first.stderr
    energies = [f.labels.energy for f in read(str(tmp_path / "out.extxyz"))]
    assert len(energies) == 3 and energies[1] == min(energies)
    assert second.returncode == 1 and second.stderr.startswith("error: ") and "exists" in second.stderr
