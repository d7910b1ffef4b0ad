"""A store gives back what was put into it, frame by frame, and refuses to be read when it is not whole."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from eqpot.core.errors import DataError, StructureError
from eqpot.data import Dataset, FrameStream, LabelKeys, Store, Units, check, is_store, prepare_store, read, shared_structures, write
from eqpot.graph.structure import Frame, Labels, Structure

FIELDS = ("energy", "forces", "stress", "charges", "dipole")


def mixed(n=60, seed=0):
    """Molecules and crystals of different sizes; each label is missing in some."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        size = int(rng.integers(1, 9))
        periodic = k % 3 == 0
        positions = 1.7 * np.arange(size)[:, None] * [1, 0.3, 0.2] + rng.normal(0, 0.1, (size, 3))
        cell = np.diag(rng.uniform(15, 20, 3)) if periodic else np.zeros((3, 3))
        structure = Structure(rng.choice([1, 6, 8, 79], size), positions, cell, periodic, charge=float(k % 4 == 1))
        stress = rng.normal(size=(3, 3)) * 0.01
        charges = rng.normal(size=size)
        charges += (structure.charge - charges.sum()) / size
        labels = Labels(
            energy=float(rng.normal()) if k % 5 else None,
            forces=rng.normal(size=(size, 3)) if k % 7 else None,
            stress=stress + stress.T if periodic else None,
            charges=charges if k % 2 else None,
            dipole=rng.normal(size=3) if k % 4 else None,
        )
        frames.append(Frame(structure, labels, f"säts.xyz:frame {k}" if k % 6 else "", f"group {k % 3}", 1.0 + k % 2, ("", "other")[k % 2]))
    frames.append(Frame(Structure([6], [[0, 0, 0]]), Labels(energy=-1000.0), group="IsolatedAtom"))
    return Dataset(tuple(frames))


def assert_same(a, b):
    for name in ("numbers", "positions", "cell", "pbc", "charge"):
        np.testing.assert_array_equal(getattr(a.structure, name), getattr(b.structure, name))
    assert a.labels.known == b.labels.known
    for name in a.labels.known:
        np.testing.assert_array_equal(getattr(a.labels, name), getattr(b.labels, name))
    assert (a.origin, a.group, a.weight, a.head, a.oracle) == (b.origin, b.group, b.weight, b.head, b.oracle)


@pytest.fixture
def store(tmp_path):
    return prepare_store(mixed(), tmp_path / "set", shard_mb=0.005)


@pytest.mark.parametrize("shard_mb", [0.001, 0.005, 64.0])
def test_frames_come_back_bit_for_bit_whatever_the_shards(tmp_path, shard_mb):
    frames = mixed()
    store = prepare_store(frames, tmp_path / "set", shard_mb=shard_mb)
    assert len(store) == len(frames)
    for k in np.random.default_rng(1).permutation(len(frames)):
        assert_same(store[int(k)], frames[int(k)])
    for name in ("content_hash", "elements", "groups"):
        assert getattr(store, name) == getattr(frames, name)
    assert store.label_counts() == frames.label_counts() == store.folder.header["label_counts"]
    assert store.sizes.tolist() == [len(f) for f in frames]


def test_a_part_is_a_store_of_its_own(store):
    frames = mixed()
    odd = store[np.arange(1, len(store), 2)]
    assert len(odd) == len(frames[1::2]) and odd.label_counts() == frames[1::2].label_counts() and odd.groups == frames[1::2].groups
    assert_same(odd[3], frames[7])
    assert_same(odd[2:][-1], frames[1::2][-1])
    assert odd.content_hash not in (store.content_hash, store[::2].content_hash) and store[:].content_hash == store.content_hash
    carbon = np.array([set(f.structure.numbers) == {6} for f in frames])
    assert store[carbon].elements == ("C",) and len(store[carbon]) == carbon.sum()


def test_a_sample_follows_from_the_seed_and_keeps_isolated_atoms(store):
    first, again, other = (store.sample(10, seed) for seed in (0, 0, 1))
    assert first.content_hash == again.content_hash != other.content_hash
    assert sum(f.group == "IsolatedAtom" for f in first) == 1 and sum(first.label_counts()[n] for n in FIELDS)
    assert store.sample(1000).content_hash == store.content_hash


def test_threads_and_copies_read_the_same(store):
    """Frames read at once by many threads, and from a copy sent to another process, are those read one by one."""
    alone = [store[k] for k in range(len(store))]
    with ThreadPoolExecutor(8) as pool:
        for a, b in zip(alone * 4, pool.map(store.__getitem__, list(range(len(store))) * 4), strict=True):
            assert_same(a, b)
    copy = pickle.loads(pickle.dumps(store[5:9]))
    assert_same(copy[0], alone[5])
    assert len(pickle.dumps(store[5:9])) < 2000, "a copy carries indices, not the index"


def test_shared_structures_are_those_of_the_datasets(store):
    frames = mixed()
    held_out = Dataset((*frames[10:13], *mixed(5, seed=9)))
    expected = held_out.overlap(frames)
    assert len(expected) == 3
    for a in (held_out, frames):
        assert shared_structures(held_out, store).tolist() == expected.tolist() == shared_structures(held_out, a).tolist()[: len(expected)]
    assert len(shared_structures(store[:20], store[20:])) == 0


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted():
        yield from mixed()
        assert list(tmp_path.rglob("shard-*")), "shards are written on the way"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_store(interrupted(), tmp_path / "set", shard_mb=0.001)
    assert not list(tmp_path.iterdir())


def test_a_bad_frame_leaves_nothing_and_is_named(tmp_path):
    close = Frame(Structure([1, 1], [[0, 0, 0], [0, 0, 0.01]]), Labels(energy=0.0), "last.xyz:frame 7")
    with pytest.raises(DataError, match=r"last\.xyz:frame 7: atoms 0 and 1: found distance 0\.01 Å.*allow 'overlap'"):
        prepare_store((*mixed(), close), tmp_path / "set")
    nan = Frame(Structure([1], [[0, 0, np.nan]]), Labels(), "last.xyz:frame 8")
    with pytest.raises((DataError, StructureError), match=r"last\.xyz:frame 8"):
        prepare_store((*mixed(), nan), tmp_path / "set")
    with pytest.raises(DataError, match="found no frames to write"):
        prepare_store((), tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept(store, tmp_path):
    """A taken name is refused; overwriting moves the old store aside, twice if need be, and nothing is lost."""
    with pytest.raises(DataError, match="exists already"):
        prepare_store(mixed(10), store.folder.path)
    for n in (1, 2):
        prepare_store(mixed(10 + n), store.folder.path, overwrite=True)
    assert Store.open(tmp_path / "set.previous-1").content_hash == store.content_hash
    assert Store.open(tmp_path / "set.previous-2").content_hash == mixed(11).content_hash
    assert Store.open(tmp_path / "set").content_hash == mixed(12).content_hash
    with pytest.raises(DataError, match="found another store than the one opened before"):
        pickle.loads(pickle.dumps(store))


def test_a_failed_overwrite_keeps_the_old_store(store):
    torn = Frame(Structure([1, 1], [[0, 0, 0], [0, 0, 1.0]]), Labels(forces=np.full((2, 3), 400.0)))
    with pytest.raises(DataError, match="large-force"):
        prepare_store((*mixed(), torn), store.folder.path, overwrite=True)
    assert [p.name for p in store.folder.path.parent.iterdir()] == ["set"]
    assert Store.open(store.folder.path).content_hash == store.content_hash


def test_a_damaged_store_is_refused_by_name(store):
    path = store.folder.path
    shard = path / "shard-00001.h5"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"shard-00001\.h5: found \d+ bytes, expected \d+: the shard is cut"):
        Store.open(path)
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00001\.h5: found no such shard"):
        Store.open(path)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    shard.write_bytes(changed)
    with pytest.raises(DataError, match=r"shard-00001\.h5: found another checksum"):
        Store.open(path).verify()
    shard.write_bytes(b"\0" * len(whole))
    with pytest.raises(DataError, match=r"shard-00001\.h5: cannot be read as a shard"):
        list(Store.open(path))
    shard.write_bytes(whole)
    Store.open(path).verify()
    (path / "index.h5").write_bytes(b"no index")
    with pytest.raises(DataError, match=r"index\.h5: cannot be read"):
        Store.open(path)


def test_a_shard_cut_after_it_was_opened_is_noticed(store):
    store.folder.frame(0)
    shard = store.folder.path / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(DataError, match="found its end inside the array"):
        [store[k] for k in range(len(store))]


def test_headers_of_other_things_are_refused(store, tmp_path):
    header = store.folder.path / "header.json"
    good = json.loads(header.read_text())
    header.write_text(json.dumps({**good, "version": 99}))
    with pytest.raises(DataError, match="found format version 99, expected at most 1; update eqpot"):
        Store.open(store.folder.path)
    header.write_text("{")
    with pytest.raises(DataError, match="no valid JSON"):
        Store.open(store.folder.path)
    header.write_text("[]")
    with pytest.raises(DataError, match="another kind of file"):
        Store.open(store.folder.path)
    with pytest.raises(DataError, match="found no store"):
        Store.open(tmp_path / "nothing")
    assert not is_store(tmp_path) and not is_store(("a", "b"))


def test_a_stream_gives_what_read_gives(tmp_path):
    """Over several files, compressed or not, with names and units declared, one frame at a time."""
    frames = mixed()
    for k, name in enumerate(("a.extxyz", "b.extxyz.gz", "c.xyz.xz")):
        write(tmp_path / name, frames[20 * k : 20 * k + 20])
    paths = [str(tmp_path / "*.extxyz*"), tmp_path / "c.xyz.xz"]
    stream = FrameStream(paths, units=Units(energy="Hartree"))
    expected = read(paths, units=Units(energy="Hartree"))
    assert len(stream) == len(expected) == 60
    for _ in range(2):
        for a, b in zip(stream, expected, strict=True):
            assert_same(a, b)
    ignoring = FrameStream(paths, LabelKeys(forces=""))
    assert all(f.labels.forces is None for f in ignoring)
    with pytest.raises(DataError, match="found no key 'E' for energy"):
        FrameStream(paths, LabelKeys(energy="E"))


def test_a_stream_of_a_database(tmp_path):
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.db import connect

    atoms = mixed()[1].structure.to_atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5)
    connect(tmp_path / "set.db").write(atoms)
    stream = FrameStream(tmp_path / "set.db")
    assert len(stream) == 1 and [f.labels.energy for f in stream] == [-1.5]


def test_a_file_cut_short_ends_the_writing(tmp_path):
    write(tmp_path / "a.extxyz", mixed()[:20])
    lines = (tmp_path / "a.extxyz").read_text().splitlines(keepends=True)
    (tmp_path / "a.extxyz").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match="the file is cut"):
        prepare_store(FrameStream(tmp_path / "a.extxyz"), tmp_path / "set")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.extxyz"]


def test_a_store_has_labels_of_one_oracle(tmp_path):
    frames = Dataset(tuple(f.replace(oracle="a1" if k < 40 else "b2", head="") for k, f in enumerate(mixed())))
    with pytest.raises(DataError, match=r"oracle_hash is b2, that of .* a1.*allow 'mixed-oracles'"):
        prepare_store(frames, tmp_path / "set", shard_mb=0.001)
    store = prepare_store(frames[:40], tmp_path / "set", shard_mb=0.001)
    assert len(store) == 40 and {f.oracle for f in store} == {"a1"}
    assert "mixed-oracles" in {f.code for f in check(Dataset((store[0], frames[41].replace(head=store[0].head))))}


def test_a_store_that_knows_no_oracles_is_read(store):
    """As those that were made before there were any."""
    path = store.folder.path
    header = json.loads((path / "header.json").read_text())
    del header["oracles"]
    (path / "header.json").write_text(json.dumps(header))
    with h5py.File(path / "index.h5", "r+") as file:
        del file["oracle"]
    for old, new in zip(Store.open(path), store, strict=True):
        assert_same(old, new)
