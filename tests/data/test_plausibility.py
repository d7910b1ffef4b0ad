"""Sound data pass, whatever their kind; the same data in another unit or sign do not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eqpot.core.errors import DataError
from eqpot.data import (
    Dataset,
    LabelKeys,
    Units,
    check,
    inspect,
    is_isolated_atom,
    read,
    reference_energies,
    references_by_head,
    require_sane,
    statistics,
)
from eqpot.data.unit_checks import energy_forces
from eqpot.graph.structure import Frame, Labels, Structure

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SHIPPED = Path(__file__).parents[2] / "train" / "data" / "ethanol_gfn2.extxyz.xz"
SETS = sorted(p.relative_to(SHARED).as_posix() for p in SHARED.glob("*/*.extxyz.gz"))


SHORT = ("3bpa/proxytest_1200K", "mlearn/Cu_test", "mlearn/Mo_train", "monbtaw/test_unary", "ethanol_botnet/test_dimers", "spice_diverse/qmugs",
         "nacl_aq_revpbe0d3/val", "dipeptides_les/val", "lode_dimers/PP_train", "water_pbe0ts/val", "3bpa/isolated_atoms")  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
def test_real_sets_pass(name, shared_file):
    """Molecules hot and cold, liquids, crystals, slabs, dimers from 0.35 to 5 Å, lone atoms."""
    assert check(read(shared_file(f"{name}.extxyz.gz"))) == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_all_real_sets_pass(name):
    assert require_sane(read(SHARED / name)) == ()


def rescaled(dataset: Dataset, energy: float = 1.0, length: float = 1.0, stress: float = 1.0) -> Dataset:
    """The numbers as they would stand in a file of other units, read as eV and Å."""

    def frame(f: Frame) -> Frame:
        s, y = f.structure, f.labels
        tensor = None if y.stress is None else y.stress * stress
        forces = None if y.forces is None else y.forces * energy / length
        return f.replace(
            structure=Structure(s.numbers, s.positions * length, s.cell * length, s.pbc), labels=Labels(y.energy * energy, forces, tensor)
        )

    return Dataset(tuple(frame(f) for f in dataset))


@pytest.mark.parametrize(
    ("name", "change", "code", "suspect"),
    [
        ("3bpa/train_300K", {"energy": 23.06}, "force-unit", "kcal/mol/Å"),
        ("3bpa/train_300K", {"energy": 23.06}, "energy-unit", "kcal/mol"),
        ("rmd17/ethanol_train_01", {"energy": 1 / 27.2114}, "energy-unit", "Hartree"),
        ("rmd17/ethanol_train_01", {"energy": 1 / 23.06}, "energy-unit", "eV declared as kcal/mol"),
        ("rmd17/ethanol_train_01", {"energy": 1 / 23.06}, "force-unit", "eV/Å declared as kcal/mol/Å"),
        ("water_pbe0ts/train", {"length": 1 / 0.529177}, "length-unit", "Bohr"),
        ("mlearn/Si_train", {"length": 0.1}, "length-unit", "nm"),
        ("mlearn/Si_train", {"energy": 1000.0}, "force-unit", "meV/Å"),
        ("spice_diverse/pubchem", {"energy": 1 / 27.2114, "length": 1 / 0.529177}, "length-unit", "Bohr"),
        ("nacl_aq_revpbe0d3/val", {"energy": 96.485}, "force-unit", "kJ/mol/Å"),
        ("mlearn/Mo_train", {"stress": -1.0}, "stress-sign", "opposite sign"),
        ("monbtaw/test_unary", {"stress": -1.0}, "stress-sign", "opposite sign"),
    ],
)
def test_real_sets_in_undeclared_units_are_noticed(name, change, code, suspect, shared_file):
    findings = check(rescaled(read(shared_file(f"{name}.extxyz.gz"))[::3], **change))
    assert any(f.code == code and f.severity == "error" and suspect in f.message for f in findings)


def spring(n: int, factor: float = 1.0) -> Dataset:
    """A vibrating H2 with E = ½k(r − r0)², energies multiplied by `factor`."""
    frames = []
    for i in range(n):
        r = 0.74 + 0.05 * np.sin(0.4 * i)
        forces = np.array([[0, 0, 30 * (r - 0.74)], [0, 0, -30 * (r - 0.74)]])
        frames.append(Frame(Structure(np.array([1, 1]), np.array([[0, 0, 0], [0, 0, r]])), Labels(factor * 15 * (r - 0.74) ** 2, forces)))
    return Dataset(tuple(frames))


def test_forces_must_be_the_derivative_of_the_energy_along_a_trajectory():
    assert check(spring(60)) == ()
    assert [(f.code, f.severity) for f in check(spring(60, 23.06))] == [("energy-forces", "error")]
    assert "kcal/mol" in check(spring(60, 23.06))[0].message
    assert "sign" in check(spring(60, -1.0))[0].message
    assert [(f.code, f.severity) for f in check(spring(60, 1.6))] == [("energy-forces", "warning")]


@pytest.mark.parametrize(
    ("energy", "forces", "suspect"),
    [(1.0, 1.0, None), (23.06, 1.0, "kcal/mol"), (1 / 27.2114, 1.0, "Hartree"), (1.0, -1.0, "sign"), (1000.0, 1.0, "meV")],
)
def test_forces_must_be_the_derivative_of_the_energy_in_any_order(energy, forces, suspect):
    """Molecules of a shuffled set, turned at random, are compared with the ones most like them."""
    rng, frames = np.random.default_rng(0), []
    for f in read(SHIPPED).shuffle(3):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.linalg.det(turn)
        labels = Labels(energy * f.labels.energy, None if f.labels.forces is None else forces * f.labels.forces @ turn)
        frames.append(f.replace(structure=Structure(f.structure.numbers, f.structure.positions @ turn + rng.normal(size=3)), labels=labels))
    found = energy_forces(Dataset(tuple(frames)))
    assert len(found) == (suspect is not None) and all(f.severity == "error" and suspect in f.message for f in found)


def test_crystals_in_any_order_are_compared_in_their_cell():
    """A chain of atoms across the boundary of its cell under springs; without enough frames nothing is said."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(40):
        moved = 0.05 * rng.normal(size=(3, 3))
        structure = Structure(np.array([29, 29, 29]), np.eye(3) * [0.0, 2.5, 5.0] + moved, 7.5 * np.eye(3), np.ones(3, bool))
        frames.append(Frame(structure, Labels(23.06 * 5 * np.sum(moved**2), -10 * moved)))
    assert [f.code for f in energy_forces(Dataset(tuple(frames)))] == ["energy-forces"]
    assert energy_forces(Dataset(tuple(frames[:8]))) == []


def test_one_structure_with_two_energies_is_a_warning(water):
    (finding,) = require_sane(Dataset((water(-14.2), water(-14.3))))
    assert (finding.severity, finding.code, finding.frame) == ("warning", "conflicting-labels", 1)


def test_levels_of_theory_are_checked_one_by_one(water):
    """Two heads a thousand eV apart with the same structures are sound; an outlier or a conflict within one of them is found at its place."""
    low, high = ([water(-14.2 - zero, 0.01 * k).replace(head=head) for k in range(12)] for head, zero in (("low", 0.0), ("high", 3000.0)))
    assert check(Dataset((*low, *high))) == ()
    assert {f.code for f in check(Dataset(tuple(f.replace(head="") for f in (*low, *high))))} >= {"conflicting-labels"}
    high[5] = high[5].replace(labels=Labels(energy=-14.2))
    (finding,) = check(Dataset((*low, *high)))
    assert (finding.code, finding.frame) == ("energy-outlier", 17) and finding.message.startswith(
        "head 'high': frame 17: energy: found +1000"
    )


def test_perfect_crystals_without_forces_by_symmetry_among_others_pass():
    cell = 3.2 * np.eye(3)
    frames = [Frame(Structure(np.array([26]), np.zeros((1, 3)), cell, np.ones(3, bool)), Labels(-8.0, np.zeros((1, 3)))) for _ in range(10)]
    assert check(Dataset(tuple(frames))) == ()


def test_a_slab_with_no_third_vector_has_distances():
    slab = Structure(np.array([29, 29]), np.array([[0, 0, 0], [0, 0, 2.0]]), np.diag([2.5, 2.5, 0.0]), np.array([True, True, False]))
    dataset = Dataset((Frame(slab),))
    assert statistics(dataset, references_by_head(dataset)).shortest == {"Cu-Cu": 2.0}


def test_statistics_of_a_set_made_by_hand(water):
    forces = np.array([[3.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    dataset = Dataset((water(-14.0, forces=forces), water(-11.0, 0.1), Frame(water().structure)))
    s = statistics(dataset, {"": reference_energies(dataset, given={"H": -1.0, "O": -6.0})})
    assert (s.n_frames, s.n_atoms, s.atoms_min, s.atoms_mean, s.atoms_max) == (3, 9, 3, 3.0, 3)
    assert s.energy_mean == pytest.approx(-1.5)
    assert s.energy_std == pytest.approx(0.5)
    assert s.force_rms == pytest.approx(np.sqrt(11 / 9))
    assert s.force_max == 3.0
    assert s.force_rms_by_element == pytest.approx({"H": np.sqrt(1 / 3), "O": np.sqrt(3)})
    assert s.stress_rms is None
    assert s.shortest["H-O"] == pytest.approx(np.hypot(0.763, 0.596))


def test_inspection_tells_everything_and_never_stops(water):
    absurd = water(-14.2, forces=np.full((3, 3), 1e6))
    unlabelled = Frame(Structure(np.array([6]), np.zeros((1, 3))))
    found = inspect(Dataset((water(), water(), absurd, unlabelled)))
    assert found.elements == {"H": 6, "C": 1, "O": 3}
    assert found.formulas == {"H2O": 3, "C": 1}
    assert found.n_duplicates == 2
    assert found.periodicity == {"FFF": 4}
    assert found.label_counts["energy"] == 3
    assert {f.code for f in found.findings} == {"large-force", "reference-energies"}
    assert json.loads(json.dumps(found.as_dict()))["statistics"]["force_max"] > 1e6
    assert inspect(Dataset(())).statistics.n_frames == 0


def test_declared_units_pass_the_checks(tmp_path, shared_file):
    from eqpot.data import write

    path = tmp_path / "kcal.xyz"
    write(path, rescaled(read(shared_file("rmd17/ethanol_train_01.extxyz.gz"))[::10], energy=1 / 0.04336410390059322))
    assert check(read(path, units=Units(energy="kcal/mol"))) == ()
    assert "energy-unit" in {f.code for f in check(read(path))}


def test_valence_only_energies_are_not_taken_for_another_unit():
    """GFN2-xTB counts valence electrons only; for ethanol that happens to be 1/13.6 of all electrons, which isolated atoms disprove."""
    assert not [f for f in check(read(SHIPPED)) if f.severity == "error"]


def test_valence_only_energies_without_isolated_atoms_are_told_by_forces_and_bonds():
    """The stiffness of C–H bonds says that forces are in eV/Å, and the energies are their potential; without forces nobody can know."""
    molecules = Dataset(tuple(f for f in read(SHIPPED) if not is_isolated_atom(f)))
    assert not [f for f in check(molecules) if f.severity == "error"]
    for change, code in (({"energy": 1 / 13.6057}, "force-unit"), ({"energy": 23.06}, "force-unit")):
        assert code in {f.code for f in check(rescaled(molecules, **change))}
    without = Dataset(tuple(f.replace(labels=Labels(energy=f.labels.energy)) for f in molecules))
    assert [f.code for f in check(without) if f.severity == "error"] == ["energy-unit"]


def test_a_stress_without_a_volume_is_said_not_to_be_used():
    slab = Structure([29, 29], [[0, 0, 0], [2.5, 0, 0]], np.diag([5.0, 3.0, 12.0]), (True, True, False))
    crystal = replace(slab, pbc=np.ones(3, bool))
    findings = check(Dataset(tuple(Frame(s, Labels(stress=0.01 * np.eye(3)), origin=f"f{k}") for k, s in enumerate((crystal, slab)))))
    (found,) = [f for f in findings if f.code == "stress-without-volume"]
    assert found.severity == "warning" and "on 1 frames" in found.message and "f1" in found.message


def test_levels_of_theory_have_reference_energies_of_their_own(water):
    """Two levels 1,000 eV apart: each describes its own frames, and neither is an outlier of the other."""
    frames = [water(zero - 14.2, 0.01 * k).replace(head=head) for head, zero in (("a", -1000.0), ("b", 0.0)) for k in range(5)]
    found = inspect(Dataset(tuple(frames)))
    totals = {head: found.references[head].total(frames[0].structure) for head in ("a", "b")}
    assert totals["b"] - totals["a"] == pytest.approx(1000, abs=0.1)
    assert found.statistics.energy_std < 0.1


def test_charges_sum_to_the_total_charge():
    """Of an ion whose charge was not said, atoms' charges do not; partitioned charges that are rounded do."""

    def ion(total, charges):
        return Frame(
            Structure([8, 1], [[0, 0, 0], [0.97, 0, 0]], charge=total), Labels(energy=-1.0, charges=np.array(charges)), origin="ion"
        )

    assert check(Dataset((ion(-1.0, [-1.2, 0.19]),))) == ()
    with pytest.raises(
        DataError, match=r"ion: charges: found a sum of -1 e, expected the total charge, \+0 e; set total_charge; .* 'total-charge'"
    ):
        require_sane(Dataset((ion(0.0, [-1.2, 0.2]),)))


def test_published_charges_sum_to_the_total_charge(shared_file):
    frames = read(shared_file("dipeptides_les/val.extxyz.gz"), keys=LabelKeys(charges="mbis_charges"))
    assert frames[0].labels.charges is not None and check(frames) == ()
