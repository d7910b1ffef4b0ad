"""Labels at scale: each structure gets an answer, none is computed twice, and no process is left, whatever is killed when."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from eqpot.active import label, label_server, label_worker
from eqpot.active.label_store import LabelStore
from eqpot.active.loop_data import collected
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import Dataset
from eqpot.graph import Frame, Structure
from eqpot.oracles import Failure, TBLiteOracle

sys.path.append(str(Path(__file__).parent))
from label_fakes import HANGS, HARD, NO_SPACE, NOT_A_NUMBER, POISON, Fake, atom, computed, gone, lines, nap, processes, stuck, until

TWENTY = [0.01 * k for k in range(20)]
HERE = (label_worker.SERVER, str(os.getpid()))
"""Words in the command of the workers of this process."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(label_worker, "GRACE_S", 0.3)


def energies(found):
    return [r.labels.energy if isinstance(r, Frame) else None for r in found.results]


@pytest.mark.parametrize("victim", ["server", "guard"])
def test_a_killed_worker_costs_no_label(tmp_path, victim):
    oracle = Fake(folder=str(tmp_path), seconds=0.01, kill_at=TWENTY[7], victim=victim)
    found = label(oracle, [atom(x) for x in TWENTY], tmp_path / "store", time_limit_s=30.0)
    assert (tmp_path / "killed").exists()
    assert energies(found) == TWENTY
    assert Counter(computed(tmp_path)) == Counter(TWENTY)
    assert found.counts == {"asked": 20, "computed": 20, "cached": 0, "failed": 0}
    assert gone(*HERE)


def test_a_killed_driver_costs_only_what_it_was_computing(tmp_path):
    structures = [atom(x) for x in TWENTY[:6]] + [atom(0.5, HANGS), atom(0.6, HANGS)]
    script = "from label_fakes import *; from eqpot.active import label; import sys; folder = sys.argv[1]\n"
    script += f"xs = {TWENTY[:6]!r}; label(Fake(folder=folder), [*map(atom, xs), atom(0.5, HANGS), atom(0.6, HANGS)], folder + '/store')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])}
    driver = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment)
    try:
        until(lambda: driver.poll() is not None or (lines(tmp_path / "store") == 6 and len(processes("sleep", nap(tmp_path))) == 4))
    finally:
        driver.kill()
        driver.wait()
    assert gone("sleep", nap(tmp_path))
    assert gone(label_worker.SERVER, str(driver.pid))
    found = label(Fake(folder=str(tmp_path), hangs=False), structures, tmp_path / "store", workers=1)
    assert energies(found) == [*TWENTY[:6], 0.5, 0.6]
    assert found.counts == {"asked": 8, "computed": 2, "cached": 6, "failed": 0}
    assert set(Counter(computed(tmp_path)).values()) == {1}


def test_the_time_limit_holds_for_all_that_a_label_starts(tmp_path):
    """One program ignores SIGTERM, another has a process group of its own; temporary files are gone too."""
    found = label(Fake(folder=str(tmp_path)), [atom(0.1), atom(0.2, HANGS), atom(0.3)], tmp_path / "store", time_limit_s=1.0, workers=1)
    assert processes("sleep", nap(tmp_path)) == []
    assert not list(Path(tempfile.gettempdir()).glob(f"{nap(tmp_path)}*"))
    assert energies(found) == [0.1, None, 0.3]
    assert "time limit of 1 s" in found.failures[0].reason
    assert 1.0 < found.seconds < 60


def test_a_structure_that_kills_its_worker_fails_alone(tmp_path):
    found = label(Fake(folder=str(tmp_path)), [atom(0.1), atom(0.2, POISON), atom(0.3)], tmp_path / "store", retries=2, workers=1)
    assert energies(found) == [0.1, None, 0.3]
    assert "killed or crashed (2 times)" in found.failures[0].reason
    assert "attempt 2" in found.failures[0].log


def test_what_cannot_be_labelled_is_told_and_not_paid_for_again(tmp_path):
    oracle = Fake(folder=str(tmp_path))
    nowhere = Structure([2, 2], [[0.0, 0, 0], [0, 0, 0.1]])
    structures = [atom(0.1), atom(0.1), atom(0.2, NOT_A_NUMBER), nowhere, "no structure"]
    told = []
    first = label(oracle, structures, tmp_path / "store", workers=1, on_progress=lambda *numbers: told.append(numbers))
    assert first.counts == {"asked": 5, "computed": 2, "cached": 1, "failed": 3}
    assert (told[0], told[-1]) == ((0, 2, 0), (2, 2, 1))
    assert [type(r) for r in first.results] == [Frame, Frame, Failure, Failure, Failure]
    for failure, part in zip(first.failures, ("energy: found nan", "0.1 Å apart", "found str"), strict=True):
        assert part in failure.reason
    again = label(oracle, structures, tmp_path / "store")
    assert again.counts == {"asked": 5, "computed": 0, "cached": 3, "failed": 3}
    assert "energy: found nan" in again.failures[0].reason and again.failures[0].log
    assert sorted(computed(tmp_path)) == [0.1, 0.2]
    label(oracle, structures, tmp_path / "store", retry_failures=True, workers=1)
    assert sorted(computed(tmp_path)) == [0.1, 0.2, 0.2]


def test_an_alternative_is_tried_after_a_failure_and_told(tmp_path):
    oracle, better = (Fake(folder=str(tmp_path), iterations=n) for n in (1, 2))
    found = label(oracle, [atom(0.1), atom(0.2, HARD)], tmp_path / "store", alternatives=[better], workers=1)
    assert energies(found) == [0.1, 0.2]
    assert found.alternatives == (None, better.settings)
    again = label(oracle, [atom(0.2, HARD)], tmp_path / "store")  # nobody needs to declare it again
    assert again.counts["cached"] == 1 and again.alternatives == (better.settings,)
    with LabelStore(tmp_path / "store", oracle.settings) as store:
        row = {"key": store.key(atom(0.2, HARD)), "status": "labelled", "role": "train", "origin": "hard", "group": ""}
    have = collected(tmp_path / "store", oracle, (), [{"asked": [row]}], Dataset(()))
    assert [have.alternatives[id(f)] for f in have.train] == [better.settings], "a loop knows it as well"


class Nameless(Fake):
    aids = ()


@pytest.mark.parametrize(
    "oracle, other, reason",
    [
        (TBLiteOracle(), TBLiteOracle(multiplicity=3), r"found multiplicity: 3 \(the oracle has None\); expected the same level of theory"),
        (TBLiteOracle(), TBLiteOracle(electronic_temperature=1000.0), r"found electronic_temperature: .*which leaves accuracy to change"),
        (TBLiteOracle(), TBLiteOracle(), "found the settings of the oracle, expected others"),
        (TBLiteOracle(), Fake(), "the same level of theory"),
        (Nameless(), Nameless(iterations=2), "found scf.iterations: 2 .* which leaves nothing to change"),
    ],
)
def test_an_alternative_must_not_change_the_potential_energy_surface(tmp_path, oracle, other, reason):
    with pytest.raises(ConfigError, match=reason):
        label(oracle, [], tmp_path / "store", alternatives=[other])


def test_an_energy_far_from_the_others_is_a_failure(tmp_path):
    oracle = Fake(folder=str(tmp_path))
    found = label(oracle, [atom(x) for x in (0.1, 0.2, 0.3, 7.0)], tmp_path / "store", workers=1)
    assert energies(found) == [0.1, 0.2, 0.3, None]
    assert "6.75 eV/atom from the median of 4 labels of He" in found.failures[0].reason
    wider = label(oracle, [atom(7.0)], tmp_path / "store", max_energy_jump=10.0)
    assert energies(wider) == [7.0] and wider.counts["computed"] == 0


def test_an_energy_far_from_the_others_is_computed_again_by_the_alternative(tmp_path):
    """Before, it was a failure for good: neither the alternative nor `retry_failures` ever looked at it. One that jumps with all is still a failure."""
    oracle, better = (Fake(folder=str(tmp_path), iterations=n) for n in (1, 2))
    structures = [*map(atom, (0.1, 0.2, 0.3, 7.0)), stuck(0.15)]
    found = label(oracle, structures, tmp_path / "store", alternatives=[better], workers=1)
    assert energies(found) == [0.1, 0.2, 0.3, None, 0.15]
    assert found.alternatives[3:] == (better.settings, better.settings) and found.alternatives[:3] == (None,) * 3
    assert computed(tmp_path).count(0.1) == 1 and computed(tmp_path).count(7.0) == 2, "each way once"
    again = label(oracle, structures, tmp_path / "store", alternatives=[better], workers=1)
    assert energies(again) == energies(found) and again.counts["computed"] == 0
    told = label(oracle, structures, tmp_path / "store", alternatives=[better], workers=1, retry_failures=True)
    assert energies(told) == energies(found) and told.counts["computed"] == 1 and computed(tmp_path).count(7.0) == 4


def spawned():
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("make", [partial(ThreadPoolExecutor, 2), spawned])
def test_any_executor_is_transport(tmp_path, make):
    structures = [atom(0.1), atom(0.2, POISON), atom(0.3, HANGS), atom(0.4)]
    with make() as executor:
        asker = executor.submit(os.getpid).result()
        found = label(Fake(folder=str(tmp_path)), structures, tmp_path / "store", executor=executor, retries=1, time_limit_s=1.0)
    assert energies(found) == [0.1, None, None, 0.4]
    assert gone("sleep", nap(tmp_path)) and gone(label_worker.SERVER, str(asker))


def test_a_broken_pool_is_made_anew(tmp_path):
    oracle = Fake(folder=str(tmp_path), kill_at=TWENTY[3], victim="asker")
    found = label(oracle, [atom(x) for x in TWENTY[:6]], tmp_path / "store", executor=spawned)
    assert (tmp_path / "killed").exists()
    assert energies(found) == TWENTY[:6]
    assert Counter(computed(tmp_path)) == Counter(TWENTY[:6])


class Broken(Executor):
    """An executor that takes one task, and then no more, or loses all that it takes."""

    def __init__(self, error):
        self.error = error

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_exception(self.error)
        return future


@pytest.mark.parametrize(
    "error, reason", [(BrokenExecutor(), "pool is broken; what was"), (OSError("no\nqueue"), "OSError: no queue before")]
)
def test_a_useless_executor_is_no_failure_of_the_structures(tmp_path, error, reason):
    with pytest.raises(ConfigError, match=reason):
        label(Fake(folder=str(tmp_path)), [atom(0.1)], tmp_path / "store", executor=Broken(error))
    with pytest.raises(ConfigError, match=reason if isinstance(error, OSError) else "broke 6 times without a result"):
        label(Fake(folder=str(tmp_path)), [atom(0.1)], tmp_path / "store", executor=lambda: Broken(error))
    assert lines(tmp_path / "store") == 0


class Swift(Broken):
    """Answers at once: a label first, then an error, then a label."""

    given = 0

    def submit(self, fn, /, *args, **kwargs):
        self.given += 1
        if self.given == 2:
            return super().submit(fn)
        future = Future()
        future.set_result({"labels": {"energy": float(self.given), "forces": [[0.0, 0.0, 0.0]]}, "seconds": 0.0})
        return future


@pytest.mark.parametrize("error", [ConfigError("no such oracle"), DataError("disk full")])
def test_what_came_together_with_an_error_is_kept(tmp_path, error):
    with pytest.raises(type(error), match=str(error)):
        label(Fake(folder=str(tmp_path)), [atom(x) for x in TWENTY[:3]], tmp_path / "store", executor=Swift(error))
    assert lines(tmp_path / "store") == 2


def test_a_full_disk_stops_the_run_and_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    oracle, structures = Fake(folder=str(tmp_path)), [atom(0.1), atom(0.2, NO_SPACE), atom(0.3)]
    with pytest.raises(DataError, match=r"wavefunctions on .*: No space left on device.*; free space there.*; what was finished is kept"):
        label(oracle, structures, tmp_path / "store", workers=1, alternatives=[Fake(folder=str(tmp_path), iterations=2)])
    assert lines(tmp_path / "store") == 1 and gone(*HERE) and not list((tmp_path / "scratch").iterdir())
    (tmp_path / "freed").touch()
    found = label(oracle, structures, tmp_path / "store", workers=1)
    assert energies(found) == [0.1, 0.2, 0.3] and computed(tmp_path) == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.EROFS])
def test_a_scratch_folder_that_cannot_be_made_is_no_failure(tmp_path, monkeypatch, code):
    def refuse(**_):
        raise OSError(code, os.strerror(code), "/scratch/x")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(DataError, match=f"/scratch/x on .*: {os.strerror(code)}.*; what was finished is kept"):
        label(Fake(folder=str(tmp_path)), [atom(0.1)], tmp_path / "store", retries=1)
    assert lines(tmp_path / "store") == 0
    answer = label_server.compute(Fake(), {"numbers": [2], "positions": [[0.0, 0, 0]]}, str(tmp_path))
    assert "/scratch/x on " in answer["exhausted"]


def test_an_executor_without_files_is_no_failure_of_the_structures(tmp_path):
    with pytest.raises(DataError, match=r"executor: .* Too many open files.*ulimit -n"):
        label(Fake(), [atom(0.1)], tmp_path / "store", executor=Broken(OSError(errno.EMFILE, "no pipe")), retries=1)
    assert lines(tmp_path / "store") == 0


class Stubborn(ThreadPoolExecutor):
    """Cannot call tasks back, as Parsl; the user interrupts when it is given its fifth."""

    given = 0

    def submit(self, fn, /, *args, **kwargs):
        self.given += 1
        if self.given == 5:
            raise KeyboardInterrupt
        future = super().submit(fn, *args, **kwargs)
        future.cancel = self.refuse
        return future

    def refuse(self):
        raise NotImplementedError


def test_an_interrupt_gets_through_where_tasks_cannot_be_called_back(tmp_path):
    with Stubborn(1) as executor, pytest.raises(KeyboardInterrupt):
        label(Fake(folder=str(tmp_path)), [atom(x) for x in TWENTY], tmp_path / "store", executor=executor, window=2)
    assert 2 <= lines(tmp_path / "store") <= 3 and len(computed(tmp_path)) <= 4  # two were given at a time


def test_an_oracle_that_cannot_be_sent_is_refused(tmp_path):
    class Local(Fake):
        pass

    with pytest.raises(ConfigError, match="cannot be sent to worker processes"):
        label(Local(folder=str(tmp_path)), [atom(0.1)], tmp_path / "store")


def test_labels_are_those_of_the_oracle(tmp_path):
    """Up to the order of sums, which differs with the number of threads; what is read from the store again is the same to the bit."""
    rng = np.random.default_rng(0)
    molecules = [molecule(name) for name in ("H2O", "CH4", "NH3")]
    for atoms in molecules:
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    direct = TBLiteOracle().label(molecules)
    first, again = (label(TBLiteOracle(), molecules, tmp_path / "store", workers=1) for _ in range(2))
    for frame, stored, expected in zip(first.results, again.results, direct, strict=True):
        assert isinstance(frame, Frame) and isinstance(stored, Frame) and isinstance(expected, Frame)
        assert frame.labels.known == stored.labels.known == expected.labels.known
        for name in frame.labels.known:
            np.testing.assert_allclose(getattr(frame.labels, name), getattr(expected.labels, name), rtol=1e-9, atol=1e-9)
            assert np.array_equal(getattr(stored.labels, name), getattr(frame.labels, name)), name


def test_an_interrupt_keeps_what_is_finished(tmp_path):
    def interrupt(done, total, failed):
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)

    oracle = Fake(folder=str(tmp_path), seconds=0.05)
    with pytest.raises(KeyboardInterrupt):
        label(oracle, [atom(x) for x in TWENTY], tmp_path / "store", workers=1, on_progress=interrupt)
    assert gone(*HERE, within_s=0.5)
    found = label(oracle, [atom(x) for x in TWENTY], tmp_path / "store", workers=1)
    assert energies(found) == TWENTY and found.counts["cached"] >= 5
