"""The potential's file: exact, self-explaining, and refused whenever it is not what it says (reliability corpus E)."""

import json
import os
import pickle
import stat
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from eqpot.core.errors import ArchiveError
from eqpot.potential import Potential
from eqpot.potential.archive import FORMAT, _digest, flatten, read_archive, unflatten


@pytest.fixture(scope="module")
def path(potential, tmp_path_factory):
    return potential.save(tmp_path_factory.mktemp("archive") / "potential.safetensors")


@pytest.fixture
def forge(path, tmp_path):
    """A copy with header and tensors changed and the checksum made right again, as a careful hand or another program would."""

    def make(change_header=lambda h: None, change_tensors=lambda t: None):
        header, tensors = read_archive(path)
        change_header(header)
        change_tensors(tensors)
        text = json.dumps(header)
        tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
        forged = tmp_path / "forged.safetensors"
        forged.write_bytes(save(tensors, metadata={"eqpot": f"{_digest(text, tensors)} {text}"}))
        return forged

    return make


def test_there_and_back_is_exact(potential, path):
    again = Potential.load(path)
    assert again.spec == potential.spec
    assert again.reference_energies == potential.reference_energies
    assert again.metadata == potential.metadata
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(potential.params), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


def test_double_precision_survives(potential, tmp_path):
    again = Potential.load(potential.astype("float64").save(tmp_path / "p.safetensors"))
    assert again.dtype == "float64"
    assert jax.tree.leaves(again.params)[0].dtype == np.float64


def test_the_order_in_memory_does_not_matter(potential, path, tmp_path):
    """Sliced and transposed arrays were once hashed as one thing and written as another."""
    turned = replace(
        potential, params=jax.tree.map(lambda x: np.asfortranarray(np.repeat(np.asarray(x), 2, axis=0))[::2], potential.params)
    )
    assert turned.save(tmp_path / "turned.safetensors").read_bytes() == path.read_bytes()
    Potential.load(tmp_path / "turned.safetensors")


def test_the_same_potential_gives_the_same_bytes(potential, path, tmp_path):
    assert potential.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_the_header_explains_itself(path, potential):
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["eqpot"].partition(" ")[2])
    assert header["format"] == FORMAT
    assert header["units"] == {"energy": "eV", "length": "Angstrom", "stress": "eV/Angstrom^3", "charge": "e"}
    assert header["elements"] == list(potential.elements)
    assert header["model"]["cutoff"] == potential.cutoff
    assert header["members"] == 2


def test_trees_there_and_back():
    tree = {"a": {0: np.ones(2), 10: np.zeros(1)}, "b": np.ones(3)}
    flat = flatten(tree)
    assert list(flat) == ["a/0", "a/10", "b"]
    assert jax.tree.structure(unflatten(flat, tree)) == jax.tree.structure(tree)


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -200, -1])
def test_truncated(path, tmp_path, kept):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ArchiveError, match=r"cut\.safetensors: damaged or not a potential"):
        Potential.load(cut)


def test_no_flipped_bit_goes_unseen(path, tmp_path):
    rng, whole, bad = np.random.default_rng(0), path.read_bytes(), tmp_path / "bad.safetensors"
    for position in rng.integers(0, len(whole), 200):
        content = bytearray(whole)
        content[position] ^= 1 << int(rng.integers(8))
        bad.write_bytes(content)
        with pytest.raises(ArchiveError, match=r"bad\.safetensors: "):
            Potential.load(bad)


def test_an_altered_header_is_seen(path, tmp_path):
    """The cutoff edited in place, same length."""
    content, altered = path.read_bytes(), tmp_path / "altered.safetensors"
    assert content.count(b'cutoff\\": 3.5') == 1
    altered.write_bytes(content.replace(b'cutoff\\": 3.5', b'cutoff\\": 4.5'))
    with pytest.raises(ArchiveError, match="checksum does not match; the file was altered or damaged"):
        Potential.load(altered)


@pytest.mark.parametrize(
    ("header", "tensors", "message"),
    [
        (None, lambda t: t.pop("embedding/weights/0"), "the parameter embedding/weights/0 is missing"),
        (None, lambda t: t.update(extra=np.zeros(2)), "the parameter extra does not belong to this architecture"),
        (
            None,
            lambda t: t.update({"embedding/weights/0": np.zeros((2, 3, 1, 9), "float32")}),
            r"has shape \(2, 3, 1, 9\), expected \(2, 3, 1, 4\)",
        ),
        (None, lambda t: t.update({"embedding/weights/0": np.zeros((2, 3, 1, 4))}), "is of type float64, expected float32"),
        (None, lambda t: t["embedding/weights/0"].fill(np.nan), "the parameter embedding/weights/0 is not finite"),
        (lambda h: h.update(format=FORMAT + 1), None, rf"format {FORMAT + 1} is newer than this eqpot reads \({FORMAT}\); install a newer"),
        (lambda h: h.pop("format"), None, "the header is not readable"),
        (lambda h: h.update(format="new"), None, "the header is not readable"),
        (lambda h: h.pop("elements"), None, "the header lacks 'elements'"),
        (lambda h: h.pop("metadata"), None, "the header lacks 'metadata'"),
        (lambda h: h.pop("normalization"), None, "the header lacks 'normalization'"),
        (lambda h: h.update(elements=["H", "C", "Qq"]), None, "'Qq' is not a chemical element"),
        (lambda h: h.update(reference_energies=[1.0]), None, "reference energies"),
        (lambda h: h.update(reference_energies=["a", 1, 2]), None, "header misstates"),
        (lambda h: h.update(dtype="float16"), None, "dtype 'float16'"),
        (lambda h: h.update(members=0), None, "0 members"),
        (lambda h: h.update(members=3), None, r"has shape .*, expected \(3, "),
        (lambda h: h["model"].update(cutoff=-1), None, "cutoff: found -1"),
        (lambda h: h["model"].update(l_mx=1), None, "unknown key 'l_mx': did you mean 'l_max'"),
        (lambda h: h["model"].update(hidden="9x0e"), None, "has shape"),
        (lambda h: h["normalization"].update(shift=[0.0]), None, "shift: found 1 values"),
    ],
)
def test_files_that_do_not_fit(forge, header, tensors, message):
    with pytest.raises(ArchiveError, match=message):
        Potential.load(forge(header or (lambda h: None), tensors or (lambda t: None)))


def test_other_safetensors_are_not_potentials(tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(save({"x": np.zeros(3)}))
    with pytest.raises(ArchiveError, match="a safetensors file, but not a potential of eqpot"):
        Potential.load(other)


def test_a_huge_declared_tensor_is_refused_before_it_is_made(tmp_path):
    header = json.dumps({"x": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}).encode()
    huge = tmp_path / "huge.safetensors"
    huge.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ArchiveError, match="damaged"):
        Potential.load(huge)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.pth", "model.safetensors"])
def test_pickles_are_never_opened(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ArchiveError, match="damaged" if name.endswith("safetensors") else "pickled models are refused"):
        Potential.load(tmp_path / name)
    assert not (tmp_path / "pickle-was-run").exists()


def test_paths(tmp_path):
    for wrong in (tmp_path, tmp_path / "missing.safetensors"):
        with pytest.raises(ArchiveError, match=r"no such file; expected a potential written by Potential\.save"):
            Potential.load(wrong)


def test_folders_are_made_and_the_file_is_readable(potential, tmp_path):
    saved = potential.save(tmp_path / "a" / "b" / "p.safetensors")
    assert stat.S_IMODE(saved.stat().st_mode) == 0o644
    assert [f.name for f in saved.parent.iterdir()] == ["p.safetensors"]


@pytest.mark.parametrize("fault", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(potential, tmp_path, monkeypatch, fault):
    path = potential.save(tmp_path / "p.safetensors")
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"eqpot.core.files.os.{fault}", fail)
    with pytest.raises(ArchiveError, match=r"p.safetensors: cannot be written \(No space left on device\)"):
        potential.member(0).save(path)
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["p.safetensors"]


def test_what_cannot_be_loaded_is_not_written(potential, tmp_path):
    broken = Potential(potential.spec, jax.tree.map(lambda x: np.full_like(x, np.nan), potential.params), potential.reference_energies)
    with pytest.raises(ArchiveError, match=r"not written, the parameter .* is not finite"):
        broken.save(tmp_path / "p.safetensors")
    with pytest.raises(ArchiveError, match="not written, the metadata cannot be JSON"):
        Potential(potential.spec, potential.params, potential.reference_energies, {"x": object()}).save(tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())
