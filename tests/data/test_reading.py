"""What a sound file means: encodings, names, units, signs, orders; and that what is written is what is read."""

import gzip
import string
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eqpot.core.errors import DataError
from eqpot.core.units import ENERGY_UNITS, LENGTH_UNITS
from eqpot.data import Dataset, LabelKeys, Units, format_frame, read, write, write_extxyz
from eqpot.data.extxyz_header import parse_header
from eqpot.graph.structure import Frame, Labels, Structure

ROWS = "O 0.0 0.0 0.119 0.0 0.0 0.1\nH 0.0 0.763 -0.477 0.0 0.1 -0.05\nH 0.0 -0.763 -0.477 0.0 -0.1 -0.05\n"
GOOD = f'3\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-14.2 pbc="F F F"\n{ROWS}'
CRYSTAL = '1\nLattice="3 0 0 0 4 0 1 0 5" Properties=species:S:1:pos:R:3 energy=-5 {}\nSi 0 0 0\n'


def read_text(tmp_path, text, name="a.xyz", **options):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, **options)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("O 0.0 0.0", "O\t0.0 \t 0.0").replace("\n", "  \n").encode(),
        GOOD.encode()[:-1],
        b"\n\n" + GOOD.encode() + b"\n \n",
    ],
    ids=["CRLF", "byte-order mark", "tabs and trailing spaces", "no final newline", "blank lines around"],
)
def test_spelling_that_carries_no_meaning_is_accepted(text, tmp_path):
    assert read_text(tmp_path, text).content_hash == read_text(tmp_path, GOOD, "b.xyz").content_hash


def test_frames_after_a_blank_line_are_read(tmp_path):
    assert len(read_text(tmp_path, GOOD + "\n" + GOOD + "\n\n" + GOOD)) == 3


def test_plain_xyz_with_free_text_is_a_structure_without_labels_or_periodicity(tmp_path):
    dataset = read_text(tmp_path, "2\nit's the energy minimum\nH 0 0 0\nH 0 0 0.74\n")
    assert dataset[0].labels.known == ()
    assert not dataset[0].structure.pbc.any()
    assert read_text(tmp_path, "1\n\nH 0 0 0\n").elements == ("H",)


def test_the_rows_of_the_lattice_are_its_vectors_and_make_it_periodic(tmp_path):
    frame = read_text(tmp_path, CRYSTAL.format(""))[0]
    np.testing.assert_array_equal(frame.structure.cell, [[3, 0, 0], [0, 4, 0], [1, 0, 5]])
    assert frame.structure.pbc.all()


def test_pbc_flags_rule_over_the_lattice(tmp_path):
    assert read_text(tmp_path, CRYSTAL.format('pbc="T T F"'))[0].structure.pbc.tolist() == [True, True, False]
    assert not read_text(tmp_path, CRYSTAL.format('pbc="F F F"'))[0].structure.pbc.any()


def test_six_stress_numbers_are_in_the_order_of_ase(tmp_path):
    from ase.stress import voigt_6_to_full_3x3_stress

    stress = read_text(tmp_path, CRYSTAL.format('stress="1 2 3 4 5 6"'))[0].labels.stress
    np.testing.assert_array_equal(stress, voigt_6_to_full_3x3_stress(np.arange(1.0, 7.0)))


def test_virial_is_minus_volume_times_stress(tmp_path):
    stress = read_text(tmp_path, CRYSTAL.format('virial="60 0 0 0 30 0 0 0 -6"'))[0].labels.stress
    np.testing.assert_allclose(stress, np.diag([-1.0, -0.5, 0.1]))
    both = 'virial="60 0 0 0 60 0 0 0 60" stress="-1 0 0 0 -1 0 0 0 -1"'
    np.testing.assert_array_equal(read_text(tmp_path, CRYSTAL.format(both))[0].labels.stress, -np.eye(3))


def test_labels_under_common_names_and_under_those_the_user_gives(tmp_path):
    reference = read_text(tmp_path, GOOD.replace("energy=", "REF_energy=").replace("forces", "REF_forces"))
    assert reference[0].labels.known == ("energy", "forces")
    own = GOOD.replace("energy=", "e_pbe=").replace("forces", "f_pbe") + GOOD
    dataset = read_text(tmp_path, own, keys=LabelKeys(energy="e_pbe", forces="f_pbe"))
    assert dataset.label_counts()["energy"] == dataset.label_counts()["forces"] == 1
    assert read_text(tmp_path, GOOD.replace("energy=", "Energy="), keys=LabelKeys.none())[0].labels.known == ()


def test_header_values_in_quotes_brackets_and_braces():
    line = r"""a=[1, 2] b=[[1, 2], [3, 4]] c={x y} d='it is' smiles=[H]O=[H] note="say \"hi\"" flag e = -1.5 """
    assert parse_header(line).info == {
        "a": "[1, 2]",
        "b": "[[1, 2], [3, 4]]",
        "c": "x y",
        "d": "it is",
        "smiles": "[H]O=[H]",
        "note": 'say "hi"',
        "flag": "T",
        "e": "-1.5",
    }


def test_atomic_numbers_in_place_of_symbols(tmp_path):
    dataset = read_text(tmp_path, "2\nProperties=Z:I:1:pos:R:3\n1 0 0 0\n8 0 0 1\n")
    assert dataset.elements == ("H", "O")


def test_two_energies_need_a_choice_and_the_choice_is_kept(tmp_path):
    text = GOOD.replace("energy=-14.2", "energy=-14.2 free_energy=-14.5")
    assert read_text(tmp_path, text, keys=LabelKeys(energy="free_energy"))[0].labels.energy == -14.5
    assert read_text(tmp_path, text.replace("-14.5", "-14.2001"))[0].labels.energy == -14.2


def test_a_label_missing_in_some_frames_is_missing_there_only(tmp_path):
    text = CRYSTAL.format('stress="1 0 0 0 1 0 0 0 1"') + CRYSTAL.format("") + CRYSTAL.format('stress="2 0 0 0 2 0 0 0 2"')
    dataset = read_text(tmp_path, text)
    assert dataset.label_counts()["stress"] == 2
    assert dataset[1].labels.stress is None


def test_charges_dipole_group_and_weight(tmp_path):
    extra = 'dipole="0 0 1" charge=-1 config_weight=2 config_type="a b" energy'
    text = GOOD.replace("forces:R:3", "forces:R:3:charges:R:1").replace("energy", extra)
    lines = text.splitlines()
    lines[2:] = [line + f" {q}" for line, q in zip(lines[2:], (-1.0, 0.5, -0.5), strict=True)]
    frame = read_text(tmp_path, "\n".join(lines))[0]
    assert frame.group == "a b"
    assert frame.weight == 2
    assert frame.structure.charge == -1
    np.testing.assert_array_equal(frame.labels.charges, [-1, 0.5, -0.5])
    np.testing.assert_array_equal(frame.labels.dipole, [0, 0, 1])


def test_a_label_can_be_switched_off_in_a_frame(tmp_path):
    """As files written for MACE do it; half a label is refused, as frames have one weight."""
    text = GOOD.replace("energy=", "config_energy_weight=0.0 config_forces_weight=1 energy=")
    (frame,) = read_text(tmp_path, text)
    assert frame.labels.energy is None and frame.labels.forces is not None
    (frame,) = read_text(tmp_path, GOOD.replace("energy=", "config_forces_weight=0 energy="))
    assert frame.labels.energy == -14.2 and frame.labels.forces is None
    with pytest.raises(DataError, match=r"config_forces_weight: found 0.5, expected 0 .* or 1; .* \(config_weight\)"):
        read_text(tmp_path, text.replace("config_forces_weight=1", "config_forces_weight=0.5"))
    assert read_text(tmp_path, text.replace("config_forces_weight=1", "config_forces_weight=0.5"), keys=LabelKeys(forces=""))


@pytest.mark.parametrize("column", [True, False])
def test_charge_is_of_the_atoms_per_atom_and_of_the_structure_per_frame(column, tmp_path):
    """ASE writes partial charges of a calculator as a column 'charge', and a total charge as it was called in info."""
    header, atom = ("species:S:1:pos:R:3:charge:R:1 charge=1.0", " 0.5") if column else ("species:S:1:pos:R:3 charge=1.0", "")
    (frame,) = read_text(tmp_path, f"2\nProperties={header}\nH 0 0 0{atom}\nH 0 0 0.8{atom}\n")
    assert frame.structure.charge == 1.0
    assert frame.labels.charges is None if not column else np.array_equal(frame.labels.charges, [0.5, 0.5])


def test_what_ase_writes_of_a_calculator_with_charges_is_read(tmp_path, water):
    atoms = water().structure.to_atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, charges=np.array([-0.6, 0.3, 0.3]))
    atoms.write(tmp_path / "a.extxyz")
    (frame,) = read(tmp_path / "a.extxyz")
    assert frame.structure.charge == 0.0 and np.array_equal(frame.labels.charges, [-0.6, 0.3, 0.3])


def test_the_oracle_of_a_label_goes_with_it(tmp_path):
    (frame,) = read_text(tmp_path, GOOD.replace("energy=", "oracle_hash=0a1b energy="))
    write_extxyz(tmp_path / "again.xyz", [frame])
    assert frame.oracle == read(tmp_path / "again.xyz")[0].oracle == "0a1b"


def test_declared_atomic_units_give_the_same_set(tmp_path):
    """Bohr and Hartree, periodic: positions, cell, energy, forces and stress all follow."""
    rng = np.random.default_rng(0)
    cell, stress = rng.normal(size=(3, 3)) + 5 * np.eye(3), np.diag(rng.normal(size=3))
    positions, forces = rng.normal(size=(2, 2, 3))
    structure = Structure(np.array([3, 9]), positions, cell, np.ones(3, bool))
    write(tmp_path / "ev.xyz", [Frame(structure, Labels(-7.5, forces, stress))])
    hartree, bohr = ENERGY_UNITS["Hartree"], LENGTH_UNITS["Bohr"]
    scaled = Structure(np.array([3, 9]), positions / bohr, cell / bohr, np.ones(3, bool))
    labels = Labels(-7.5 / hartree, forces / hartree * bohr, stress / hartree * bohr**3)
    write(tmp_path / "au.xyz", [Frame(scaled, labels)])
    a, b = read(tmp_path / "ev.xyz")[0], read(tmp_path / "au.xyz", units=Units(energy="Hartree", length="Bohr"))[0]
    for name in ("positions", "cell"):
        np.testing.assert_allclose(getattr(b.structure, name), getattr(a.structure, name), rtol=1e-12)
    for name in ("energy", "forces", "stress"):
        np.testing.assert_allclose(getattr(b.labels, name), getattr(a.labels, name), rtol=1e-12)


def test_several_files_globs_and_indices(tmp_path):
    for name in ("b.xyz", "a.xyz"):
        (tmp_path / name).write_text(GOOD * 2)
    dataset = read(str(tmp_path / "*.xyz"))
    assert [f.origin.rpartition("/")[2] for f in dataset] == ["a.xyz:frame 0", "a.xyz:frame 1", "b.xyz:frame 0", "b.xyz:frame 1"]
    assert len(read([tmp_path / "a.xyz", tmp_path / "b.xyz"], index=slice(None, None, 3))) == 2
    assert read(tmp_path / "a.xyz", index=-1)[0].origin.endswith("frame 1")


FLOATS = st.floats(-1e6, 1e6)
SIZES = st.integers(1, 5)


@st.composite
def frames(draw) -> Frame:
    """Any frame that can be meant, with any set of labels."""
    n = draw(SIZES)
    periodic = draw(st.booleans())
    cell = np.diag(draw(arrays(float, 3, elements=st.floats(1, 50)))) if periodic else np.zeros((3, 3))
    numbers, positions = draw(arrays(np.int64, n, elements=st.integers(1, 118))), draw(arrays(float, (n, 3), elements=FLOATS))
    structure = Structure(numbers, positions, cell, np.full(3, periodic), draw(FLOATS))
    tensor = draw(arrays(float, (3, 3), elements=st.floats(-10, 10)))
    optional = lambda strategy: draw(st.none() | strategy)  # noqa: E731
    labels = Labels(
        energy=optional(FLOATS),
        forces=optional(arrays(float, (n, 3), elements=FLOATS)),
        stress=tensor + tensor.T if periodic and draw(st.booleans()) else None,
        charges=optional(arrays(float, n, elements=FLOATS)),
        dipole=optional(arrays(float, 3, elements=FLOATS)),
    )
    group = draw(st.text(string.ascii_letters + string.digits + " \"'\\=[]{},é_T", min_size=1, max_size=8))
    return Frame(structure, labels, group=group, weight=draw(st.floats(0, 100)), head=draw(st.sampled_from(["", "pbe", "revised level 2"])))


@settings(max_examples=25, deadline=None)
@given(st.lists(frames(), min_size=1, max_size=3), st.sampled_from(["xyz", "extxyz.gz", "xyz.xz"]))
def test_what_is_written_is_read_back_bit_for_bit(tmp_path_factory, written, suffix):
    path = tmp_path_factory.mktemp("trip") / f"a.{suffix}"
    write(path, written)
    dataset = read(path)
    assert dataset.content_hash == Dataset(tuple(written)).content_hash
    assert [(f.group, f.weight) for f in dataset] == [(f.group, f.weight) for f in written]


def test_extra_values_go_with_the_frames_and_ase_reads_them(tmp_path, water):
    from ase.io import read as ase_read

    path = tmp_path / "a.extxyz"
    spread = np.array([0.1, 0.2, 0.3])
    write_extxyz(path, [water(forces=np.eye(3))], info=[{"step": 7, "note": "hot run"}], arrays=[{"forces_std": spread}])
    atoms = ase_read(path)
    assert atoms.info["step"] == 7
    assert atoms.info["note"] == "hot run"
    np.testing.assert_array_equal(atoms.arrays["forces_std"], spread)
    np.testing.assert_array_equal(atoms.get_forces(), np.eye(3))
    assert atoms.get_potential_energy() == -14.2
    assert read(path)[0].labels.known == ("energy", "forces")


def test_writing_replaces_nothing_unless_told_and_leaves_nothing_half_done(tmp_path, water):
    path = tmp_path / "a.xyz"
    write(path, [water()])
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"found an existing file.*overwrite=True"):
        write(path, [water(-1.0)])
    with pytest.raises(DataError, match="energy: found nan"):
        write(path, [water(-1.0), water(float("nan"))], overwrite=True)
    with pytest.raises(DataError, match="found a line break"):
        write(path, [replace(water(), group="a\nb")], overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.xyz"]
    write(path, [water(-1.0)], overwrite=True)
    assert read(path)[0].labels.energy == -1.0
    with pytest.raises(DataError, match="found no folder"):
        write(tmp_path / "no" / "a.xyz", [water()])
    with pytest.raises(DataError, match=r"found suffix '.txt', expected one of"):
        write(tmp_path / "a.txt", [water()])


def test_frames_appended_as_text_make_a_file(tmp_path, water):
    path = tmp_path / "a.xyz"
    with path.open("a") as file:
        for i in range(3):
            file.write(format_frame(water(float(i))))
    assert [f.labels.energy for f in read(path)] == [0.0, 1.0, 2.0]


def test_an_ase_database_gives_the_same_frames(tmp_path):
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.db import connect

    atoms = Atoms("SiC", [[0, 0, 0], [1, 1, 1.2]], cell=[4, 4, 4], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-12.0, forces=np.ones((2, 3)), stress=np.arange(6.0))
    with connect(tmp_path / "a.db") as db:
        db.write(atoms, config_type="zinc blende")
    frame = read(tmp_path / "a.db")[0]
    assert frame.labels.known == ("energy", "forces", "stress")
    assert frame.group == "zinc blende"
    assert frame.labels.stress[1, 2] == 3
    assert frame.origin.endswith("a.db:frame 0")
    assert Dataset((frame,)).content_hash == Dataset.from_atoms([atoms]).content_hash


@pytest.mark.parametrize(
    "name", ["3bpa/train_300K", "mlearn/Si_train", "monbtaw/test_binary", "spice_diverse/des370k_dimers", "lode_dimers/CP_train"]
)
def test_real_files_mean_the_same_as_in_ase(name, shared_file):
    import io

    from ase.io import read as ase_read

    path = shared_file(f"{name}.extxyz.gz")
    dataset = read(path)
    with gzip.open(path, "rt") as file:
        images = ase_read(io.StringIO(file.read()), ":6", format="extxyz")
    for frame, atoms in zip(dataset, images, strict=False):
        np.testing.assert_array_equal(frame.structure.numbers, atoms.numbers)
        np.testing.assert_array_equal(frame.structure.positions, atoms.positions)
        np.testing.assert_array_equal(frame.structure.cell, atoms.cell.array)
        np.testing.assert_array_equal(frame.structure.pbc, atoms.pbc)
        assert frame.labels.energy == atoms.get_potential_energy()
        assert frame.group == atoms.info["config_type"]
        np.testing.assert_array_equal(frame.labels.forces, atoms.get_forces())
        if frame.labels.stress is not None:
            np.testing.assert_allclose(frame.labels.stress, atoms.get_stress(voigt=False), atol=1e-12)
