"""The ledger only grows, and nothing in it can be changed unseen."""

import json
import multiprocessing

import pytest

from eqpot.active.ledger import LINES, open_ledger, read_ledger
from eqpot.core.errors import DataError

WHO = {"seed": 0, "stop": [{"rounds": 3}], "fit.training.epochs": 5}


@pytest.fixture
def written(tmp_path):
    with open_ledger(tmp_path, WHO) as ledger:
        for k in range(3):
            ledger.append({"kind": "round", "round": k, "value": 0.1 * k})
    return tmp_path


def lines(folder):
    return (folder / LINES).read_bytes().splitlines(keepends=True)


def test_records_come_back_and_the_next_is_linked_to_them(written):
    with open_ledger(written, WHO) as ledger:
        assert [r["value"] for r in ledger.records] == [0.0, 0.1, 0.2]
        before = ledger.head
        ledger.append({"kind": "end"})
    assert json.loads(lines(written)[-1])["previous"] == before
    assert [r["kind"] for r in read_ledger(written)] == ["round"] * 3 + ["end"]


def test_equal_records_give_equal_heads(tmp_path, written):
    with open_ledger(tmp_path / "other", WHO) as other, open_ledger(written, WHO) as ledger:
        for k in range(3):
            other.append({"value": 0.1 * k, "kind": "round", "round": k})
        assert other.head == ledger.head


@pytest.mark.parametrize("fault", ["a value", "a line less", "two swapped", "the first gone", "no JSON"])
def test_no_line_is_changed_removed_or_moved_unseen(written, fault):
    content = lines(written)
    if fault == "a value":
        content[2] = content[2].replace(b'"value":0.1', b'"value":0.2')
    elif fault == "a line less":
        del content[2]
    elif fault == "two swapped":
        content[1], content[2] = content[2], content[1]
    elif fault == "the first gone":
        del content[0]
    else:
        content[2] = b"{}\n"
    (written / LINES).write_bytes(b"".join(content))
    with pytest.raises(DataError, match=r"line \d does not fit its hash"), open_ledger(written, WHO):
        pass


def test_a_torn_last_line_is_cut_off(written):
    whole = (written / LINES).read_bytes()
    (written / LINES).write_bytes(whole[:-7])
    assert len(read_ledger(written)) == 2
    with open_ledger(written, WHO) as ledger:
        assert len(ledger.records) == 2
        ledger.append({"kind": "round", "round": 2, "value": 0.2})
    assert (written / LINES).read_bytes() == whole


def test_it_belongs_to_one_run(written):
    with (
        pytest.raises(DataError, match=r"another run: fit\.training\.epochs was 5, now 6"),
        open_ledger(written, WHO | {"fit.training.epochs": 6}),
    ):
        pass
    with open_ledger(written, WHO | {"stop": [{"rounds": 9}]}, extendable=("stop",)) as ledger:
        assert len(ledger.records) == 3


def test_one_driver_at_a_time(written):
    with open_ledger(written, WHO), pytest.raises(DataError, match="open in this process already"), open_ledger(written, WHO):
        pass
    with open_ledger(written, WHO):
        child = multiprocessing.get_context("spawn").Process(target=_try, args=(written,))
        child.start()
        child.join(60)
        assert child.exitcode == 7
    with open_ledger(written, WHO):  # and it is free again
        pass


def _try(folder):
    try:
        with open_ledger(folder, WHO):
            raise SystemExit(0)
    except DataError as error:
        raise SystemExit(7 if "another driver" in str(error) else 1) from None


def test_a_full_disk_loses_nothing(written, monkeypatch):
    before = (written / LINES).read_bytes()
    with open_ledger(written, WHO) as ledger, monkeypatch.context() as patched:
        patched.setattr("eqpot.active.ledger.os.fsync", _full)
        with pytest.raises(DataError, match=r"cannot be written .*what was finished is kept"):
            ledger.append({"kind": "end"})
    (written / LINES).write_bytes(before + b'{"half a li')
    assert len(read_ledger(written)) == 3
    with pytest.raises(DataError, match="cannot be made"), open_ledger(written / LINES / "below", WHO):
        pass


def _full(*_):
    raise OSError(28, "No space left on device")
