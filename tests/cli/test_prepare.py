"""`eqpot prepare` as a user meets it, and a fit from what it made."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eqpot.data import Store, read, write

SHIPPED = Path(__file__).parents[2] / "train" / "data" / "ethanol_gfn2.extxyz.xz"


def eqpot(*args, folder):
    """Run the command as a process, as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "eqpot.cli.main", *map(str, args)], cwd=folder, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with two files of ethanol and a store of both."""
    folder = tmp_path_factory.mktemp("prepare")
    shipped = read(SHIPPED)
    write(folder / "a.extxyz", shipped[:40])
    write(folder / "b.extxyz.gz", shipped[40:60])
    result = eqpot("prepare", "a.extxyz", "b.*", "set", "--shard-mb", 0.02, "--json", folder=folder)
    assert result.returncode == 0, result.stderr
    return folder, json.loads(result.stdout)


def test_it_writes_what_the_files_hold(home):
    folder, header = home
    frames = read([folder / "a.extxyz", folder / "b.extxyz.gz"])
    store = Store.open(folder / "set")
    assert store.content_hash == header["content_hash"] == frames.content_hash and len(header["shards"]) > 1
    assert header["label_counts"] == frames.label_counts() and header["statistics"]["n_atoms"] == sum(map(len, frames))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("a.extxyz", "set"), "set: exists already"),
        (("a.extxyz", "new", "--key", "enrgy=x"), "--key: found 'enrgy=x', expected LABEL=NAME (did you mean 'energy'?)"),
        (("a.extxyz", "new", "--unit", "energy=furlong"), "energy unit: found 'furlong'"),
        (("a.extxyz", "new", "--key", "energy=E"), "found no key 'E' for energy"),
        (("c.extxyz", "new"), "found no such file"),
        (("a.extxyz", "no/such/folder"), "no/such/folder: cannot be made"),
        (("a.extxyz", "new", "--unit", "energy=kcal/mol", "--unit", "length=Bohr"), "length"),
    ],
)
def test_faults_are_one_line_and_write_nothing(home, arguments, text):
    folder, _ = home
    before = sorted(p.name for p in folder.iterdir())
    result = eqpot("prepare", *arguments, folder=folder)
    lines = [line for line in result.stderr.splitlines() if line.startswith("eqpot: ")]
    assert result.returncode == 1 and len(lines) == 1 and text in lines[0], result.stderr
    assert sorted(p.name for p in folder.iterdir()) == before


def test_overwriting_moves_the_old_store_aside(home):
    folder, _ = home
    eqpot("prepare", "a.extxyz", "twice", folder=folder)
    result = eqpot("prepare", "b.extxyz.gz", "twice", "--overwrite", "--allow", "energy-unit", folder=folder)
    assert result.returncode == 0 and "20 with" in result.stdout
    assert len(Store.open(folder / "twice")) == 20 and len(Store.open(folder / "twice.previous-1")) == 40
