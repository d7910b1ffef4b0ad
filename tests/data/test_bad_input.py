"""The corpus of bad input: each case gives one error of one line that names the place, what was found and what was expected."""

import gzip
import lzma
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqpot.core.errors import DataError, EqpotError
from eqpot.data import Dataset, LabelKeys, Units, check, read, reference_energies, require_sane
from eqpot.graph.structure import Frame, Labels, Structure

WATER = "O 0.0 0.0 0.119 0.0 0.0 0.1\nH 0.0 0.763 -0.477 0.0 0.1 -0.05\nH 0.0 -0.763 -0.477 0.0 -0.1 -0.05\n"


def water_text(energy: object = -14.2, extra: str = 'pbc="F F F"', rows: str = WATER, count: object = 3) -> str:
    """One frame of extended XYZ."""
    return f"{count}\nProperties=species:S:1:pos:R:3:forces:R:3 energy={energy} {extra}\n{rows}"


GOOD = water_text()
ROWS = WATER.splitlines(keepends=True)
CRYSTAL = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 energy=-5 {}\nSi 0 0 0\n'

FILES = {
    "B1 empty": ("", "found no frames, expected at least one"),
    "B2 blank lines": ("\n  \n\n", "found no frames"),
    "B3 cut mid-line": (GOOD + water_text()[:-20], r"frame 1 \(line 10\): atom 2: found 4 columns .* expected 7 .*file is cut at byte \d+"),
    "B3 cut in the header": (GOOD + "3\nProperties=species:S:1:pos", r"frame 1 \(line 7\)"),
    "B3 cut after the count": (GOOD + "3\n", "frame 1 .*expected a comment line; the file is cut"),
    "B4 three rows short": (GOOD + "6\nenergy=-1\n" + "H 0 0 0\n" * 3, r"frame 1 .*found 3 atom rows .*expected 6 rows"),
    "B4 rows missing before the next frame": (water_text(count=5) + GOOD, "frame 0 .*atom 3: found 1 columns .*only 3 of the 5 atoms"),
    "B5 a billion atoms": ("1000000000\nenergy=-1\nH 0 0 0\n", "frame 0 .*found 1000000000 atoms, expected at most"),
    "B5 many atoms": ("1000000\nenergy=-1\nH 0 0 0\n", "frame 0 .*found 1 atom rows .*expected 1000000 rows"),
    "B6 negative count": (water_text(count=-3), "found '-3', expected the number of atoms"),
    "B6 zero count": ("0\n\n", "found '0', expected the number of atoms"),
    "B6 float count": (water_text(count="3.0"), "found '3.0', expected the number of atoms"),
    "B6 text count": (water_text(count="three"), "found 'three', expected the number of atoms"),
    "B9 NUL": (GOOD + water_text().replace("0.119", "0.\x0019"), r"frame 1 .*NUL byte at offset \d+, expected text"),
    "B9 not UTF-8": (GOOD.encode() + water_text(extra="config_type=caf\u00e9").encode("latin-1"), r"frame 1 .*0xe9 at offset \d+, expected UTF-8"),
    "B12 missing column": (water_text(rows=ROWS[0] + "H 0 0 1 0 0\n" + ROWS[2]), r"frame 0 \(line 4\): atom 1: found 6 columns .*expected 7"),
    "B12 surplus column": (water_text(rows=ROWS[0] + "H 0 0 1 0 0 0 9\n" + ROWS[2]), r"\(line 4\): atom 1: found 8 columns .*expected 7"),
    "B12 surplus row": (water_text(rows=WATER + ROWS[2]) + GOOD, "frame 1 .*found 'H 0.0.*expected the number of atoms.*more rows"),
    "B12 blank row": (water_text(rows=ROWS[0] + "\n" + ROWS[1]), "atom 1: found 0 columns"),
    "B13 decimal comma": (GOOD + water_text().replace("0.119", "0,119"), "frame 1 .*atom 0: pos: found '0,119', expected a number .*decimal comma"),
    "B13 Fortran exponent": (water_text().replace("0.119", "1.19D-01"), "atom 0: pos: found '1.19D-01'.*write E for D"),
    "B13 asterisks": (water_text().replace("-0.05", "********"), r"atom 1: forces: found '\*{8}', expected a number .*overflow"),
    "B13 underscore": (water_text().replace("0.119", "1_9"), "atom 0: pos: found '1_9'"),
    "B13 energy asterisks": (water_text("********"), r"frame 0: energy .*found '\*{8}', expected a number"),
    "B13 energy exponent": (water_text("-1.42D+01"), "frame 0: energy .*found '-1.42D"),
    "B14 energy nan": (GOOD + water_text("nan"), "frame 1: energy: found nan, expected finite"),
    "B15 force inf": (water_text().replace("-0.05", "inf", 1), "frame 0: forces: found inf at atom 1, expected finite"),
    "B17 energy text": (water_text('"minus five"'), "frame 0: energy .*found 'minus', expected a number"),
    "B17 energy list": (water_text('"1 2"'), "energy .*found 2 numbers .*expected one"),
    "B20 unknown key": (GOOD.replace("energy=", "E_total_energy="), "found no energy under a known name.*'E_total_energy'.*keys present:.*LabelKeys"),
    "B20 unknown forces": (GOOD.replace("forces", "my_forces"), "found no forces under a known name.*LabelKeys.forces='my_forces'"),
    "B21 capital": (GOOD.replace("energy=", "Energy="), "found no energy .*has 'Energy'.*did you mean 'energy'"),
    "B22 free energy": (GOOD + water_text(extra="free_energy=-14.0"), "frame 1: energy: 'energy' and 'free_energy' differ by up to 0.2 .*choose"),
    "B23 twice": (water_text(extra="energy=-14.2"), "frame 0 .*found key 'energy' twice.*expected once"),
    "B27 virial": (CRYSTAL.format('stress="1 0 0 0 1 0 0 0 1" virial="27 0 0 0 27 0 0 0 27"'), "stress and virial disagree by 2 .*expected"),
    "B28 asymmetric": (CRYSTAL.format('stress="1 0.1 0 0 1 0 0 0 1"'), "frame 0: stress: the 3×3 matrix is not symmetric"),
    "B29 stress of 5": (CRYSTAL.format('stress="1 1 1 0 0"'), "stress .*found 5 numbers, expected 9, or 6 in the order xx yy zz yz xz xy"),
    "B40 NaN coordinate": (water_text().replace("0.119", "nan"), "frame 0: atom 0: position .*not finite"),
    "B42 far": (water_text().replace("0.119", "1e12"), "frame 0: atom 0: position .*beyond"),
    "B49 no cell": (water_text(extra='pbc="T T T"'), "frame 0: periodic .*singular"),
    "B59 dummy": (water_text().replace("O 0", "X 0"), "frame 0 .*atom 0: found 'X' is not a chemical element"),
    "lower-case symbol": (water_text().replace("H 0.0 0", "h 0.0 0"), r"\(line 4\): atom 1: found 'h' .*did you mean"),
    "lattice in lower case": (CRYSTAL.format("").replace("Lattice", "lattice"), "found key 'lattice', expected 'Lattice'"),
    "lattice of 6": (CRYSTAL.format("").replace("3 0 0 0 3 0 0 0 3", "3 0 0 0 3 0"), "Lattice: found 6 numbers, expected 9"),
    "unclosed bracket": (water_text(extra="a=[[1 2"), "expected key=value pairs with closed quotes and brackets"),
    "atomic number of 20 digits": ("1\nProperties=Z:I:1:pos:R:3\n99999999999999999999 0 0 0\n", "atom 0: Z: found '9+', expected a whole number"),
    "atomic number in real": ("1\nProperties=Z:I:1:pos:R:3\n6.0 0 0 0\n", "atom 0: Z: found '6.0', expected a whole number"),
    "atomic number 0": ("1\nProperties=Z:I:1:pos:R:3\n0 0 0 0\n", "atom 0: atomic number 0 is no element"),
    "NaN in the lattice": (CRYSTAL.format("").replace("3 0 0", "nan 0 0", 1), "Lattice: found 'nan .*expected finite"),
    "bad pbc": (CRYSTAL.format('pbc="T T"'), "pbc: found 'T T', expected three flags"),
    "bad properties": (CRYSTAL.format("").replace("pos:R:3", "pos:R"), "Properties: found .*expected name:type:count"),
    "unclosed quote": (water_text(extra='pbc="F F F'), "expected key=value pairs with closed quotes and brackets"),
    "empty value": (water_text(extra="config_type= a=b"), "expected a value after 'config_type='"),
    "stress on a molecule": (water_text(extra='stress="1 0 0 0 1 0 0 0 1" pbc="F F F"'), "stress: found one on a frame without periodicity"),
    "mixed names": (GOOD + GOOD.replace("energy=", "REF_energy="), "frame 1: energy: found under 'REF_energy', expected 'energy'"),
    "negative weight": (water_text(extra="config_weight=-1"), "weight: found -1.0, expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_gives_one_line_that_names_the_place(case, tmp_path):
    text, expected = FILES[case]
    path = tmp_path / "bad.xyz"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.perf_counter()
    with pytest.raises(EqpotError, match=rf"(?s)bad\.xyz.*{expected}") as error:
        read(path)
    assert str(error.value).isprintable()
    assert time.perf_counter() - start < 1.0


def test_a_number_cut_at_the_end_of_the_file_is_noticed(tmp_path):
    rows = "".join(f"H {i}.000000 0.000000 0.123456\n" for i in range(5))
    (tmp_path / "bad.xyz").write_text(f"5\nProperties=species:S:1:pos:R:3\n{rows}"[:-4])
    with pytest.raises(DataError, match=r"bad\.xyz:frame 0 .*ends inside a number.*'0\.123'"):
        read(tmp_path / "bad.xyz")


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_truncated_or_damaged_archive_is_refused_and_can_be_salvaged(suffix, pack, tmp_path):
    rng = np.random.default_rng(0)
    text = "".join(water_text(energy=e) for e in rng.normal(size=3000))
    packed = pack(text.encode())
    path = tmp_path / f"bad.xyz{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"bad\.xyz.*frame \d+ .*end of the compressed stream after \d+ bytes, expected more"):
        read(path)
    with pytest.warns(UserWarning, match=r"salvage kept \d+ whole frames"):
        assert 100 < len(read(path, salvage=True)) < 3000
    path.write_bytes(b"no archive at all" * 10)
    with pytest.raises(DataError, match=r"bad\.xyz.*frame 0 .*found a damaged compressed stream"):
        read(path)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(EqpotError, match=r"bad\.xyz.*frame \d+"):
        read(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_happens_to_a_file_it_is_read_or_refused_in_one_line(tmp_path_factory, data):
    """Bytes changed, removed, doubled: a dataset or an EqpotError, never another exception, never a non-finite label."""
    text = bytearray((GOOD + CRYSTAL.format('stress="1 0 0 0 1 0 0 0 1" config_type="a b"') + GOOD).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        new = data.draw(
            st.sampled_from([b"", b"\n", b" ", b"=", b'"', b"-", b"9", b"e", b"nan", b"\0", b"\xff", b":", b"{", b"[["])
            | st.binary(max_size=3)
        )
        text[place : place + data.draw(st.integers(0, 3))] = new
    path = tmp_path_factory.mktemp("fuzz") / "bad.xyz"
    path.write_bytes(text)
    message = refusal(path)
    assert message is None or ("bad.xyz" in message and message.isprintable())


def refusal(path) -> str | None:
    """The error's text, or None when the file is read and all its energies are finite."""
    try:
        dataset = read(path)
    except EqpotError as error:
        return str(error)
    assert all(np.isfinite(f.labels.energy) for f in dataset if f.labels.energy is not None)
    return None


def test_salvage_keeps_the_whole_frames_before_a_cut_and_counts_them(tmp_path):
    path = tmp_path / "cut.xyz"
    path.write_text(GOOD * 4 + GOOD[:-20])
    with pytest.warns(UserWarning, match=r"kept 4 whole frames.*frame 4"):
        assert len(read(path, salvage=True)) == 4


def test_an_archive_that_expands_without_end_is_stopped(tmp_path):
    path = tmp_path / "bomb.xyz.gz"
    path.write_bytes(gzip.compress((b" " * 99 + b"\n") * 50_000))
    with pytest.raises(DataError, match=r"bomb\.xyz\.gz.*exceeds max bytes = 1000000"):
        read(path, max_bytes=1_000_000)
    path.write_bytes(gzip.compress(b"3" * 2_000_000))
    with pytest.raises(DataError, match="line longer than"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.xyz", None, "found no such file"),
        ("a" * 500 + ".xyz", None, "cannot be read: File name too long"),
        ("data.traj", b"x", r"found suffix '.traj', expected one of .xyz, .extxyz"),
        ("data.db", b"", "found no frames"),
        ("data.db", b"not a database" * 100, "found no readable ASE database"),
        ("folder", "dir", "found a folder, expected a file"),
        ("*.xyz", None, "no file that matches the pattern"),
    ],
)
def test_a_path_that_is_no_data_set_is_refused(name, content, expected, tmp_path):
    path = tmp_path / name
    if content == "dir":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=expected) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_misspelled_file_name_gets_a_hint(tmp_path):
    (tmp_path / "train.xyz").write_text(GOOD)
    with pytest.raises(DataError, match=r"did you mean '.*train\.xyz'"):
        read(tmp_path / "tarin.xyz")


def test_names_and_units_given_by_the_user_are_checked(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(GOOD)
    with pytest.raises(DataError, match=r"a\.xyz: found no key 'enrgy' for energy.*did you mean 'energy'"):
        read(path, keys=LabelKeys(energy="enrgy"))
    with pytest.raises(DataError, match=r"energy unit: found 'hartree', expected one of .*did you mean 'Hartree'"):
        Units(energy="hartree")
    with pytest.raises(DataError, match=r"index: found 5, expected indices between -1 and 0"):
        read(path, index=5)


def test_strict_refuses_labels_that_are_not_everywhere(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(GOOD + GOOD.replace("forces", "velocities"))
    assert read(path).label_counts()["forces"] == 1
    with pytest.raises(DataError, match=r"a\.xyz:frame 1: forces: found it in 1 of 2 frames, expected all"):
        read(path, strict=True)


def test_atoms_with_labels_of_another_structure_are_refused():
    ase = pytest.importorskip("ase")
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    atoms.calc = SinglePointCalculator(atoms, energy=-31.0, forces=np.zeros((2, 3)))
    atoms.positions[1, 2] = 0.8
    with pytest.raises(DataError, match=r"frame 0: found calculator results of another geometry"):
        Dataset.from_atoms([atoms])
    short = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    short.info["forces"] = np.zeros((1, 3))
    with pytest.raises(DataError, match=r"frame 0: forces: found shape \(1, 3\), expected \(2, 3\)"):
        Dataset.from_atoms([short])
    with pytest.raises(DataError, match=r"frame 1: expected ase.Atoms or eqpot.Structure, found NoneType"):
        Dataset.from_atoms([short, None])
    with pytest.raises(DataError, match="found no frames"):
        Dataset.from_atoms([])


def _set(water, n: int = 20, change=lambda i, f: f) -> Dataset:
    rng = np.random.default_rng(1)
    return Dataset(
        tuple(change(i, water(-14.2 + 0.01 * i, 0.02 * x, forces=np.full((3, 3), 0.1))) for i, x in enumerate(rng.normal(size=n)))
    )


def _labels(frame: Frame, **changes) -> Frame:
    labels = {name: getattr(frame.labels, name) for name in frame.labels.known}
    return frame.replace(labels=Labels(**{**labels, **changes}))


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("large-force", lambda i, f: _labels(f, forces=np.eye(3) * 1e6) if i == 7 else f),
        ("zero-forces", lambda i, f: _labels(f, forces=np.zeros((3, 3))) if i % 4 else f),
        ("energy-outlier", lambda i, f: _labels(f, energy=3e5) if i == 7 else f),
        ("length-unit", lambda i, f: f.replace(structure=Structure(f.structure.numbers, f.structure.positions / 0.529))),
        ("length-unit", lambda i, f: f.replace(structure=Structure(f.structure.numbers, f.structure.positions / 10))),
        ("overlap", lambda i, f: f.replace(structure=Structure(np.array([8, 1, 1]), f.structure.positions[[0, 1, 1]])) if i == 7 else f),
        ("energy-unit", lambda i, f: _labels(f, energy=-76.4 + 0.001 * i)),
    ],
)
def test_values_that_physics_excludes_are_refused_unless_allowed(code, change, water):
    dataset = _set(water, 20, change)
    with pytest.raises(DataError, match=rf"found .*expected .*allow '{code}'") as error:
        require_sane(dataset)
    assert "\n" not in str(error.value)
    assert code in {f.code for f in require_sane(dataset, allow={f.code for f in check(dataset)})}


def test_an_atom_on_its_own_image_is_an_overlap():
    frame = Frame(Structure(np.array([14, 14]), np.array([[0, 0, 0], [0, 0, 4.0]]), np.eye(3) * 4.0, np.ones(3, bool)))
    with pytest.raises(DataError, match=r"atoms 0 and 1: found distance 0 Å, expected at least 0.1"):
        require_sane(Dataset((frame,)))


def test_more_frames_asked_than_there_are(water):
    with pytest.raises(DataError, match=r"found 20 frames, expected at least 15 \+ 6"):
        _set(water).split(15, 6)
    with pytest.raises(DataError, match="split: found size 0"):
        _set(water).split(0)


def test_an_element_without_any_energy_has_no_reference(water):
    dataset = Dataset((water(), Frame(Structure(np.array([6]), np.zeros((1, 3))))))
    with pytest.raises(DataError, match="reference energy of C: found no frame with an energy"):
        reference_energies(dataset)
    with pytest.raises(DataError, match="reference energy of H: found nan"):
        reference_energies(dataset, given={"H": float("nan")})
