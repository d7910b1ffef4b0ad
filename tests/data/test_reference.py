"""Reference energies: exact where the data fix them, honest where they do not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eqpot.data import Dataset, read, reference_energies, subtract
from eqpot.graph.structure import Frame, Labels, Structure

E0 = {1: -13.0, 6: -1030.0, 8: -2040.0}


def molecule(*numbers: int, bond: float = 0.0, energy: float | None = None, pbc: bool = False, group: str = "default") -> Frame:
    structure = Structure(np.array(numbers), np.arange(3.0 * len(numbers)).reshape(-1, 3), 20 * np.eye(3), np.full(3, pbc))
    return Frame(structure, Labels(sum(E0[z] for z in numbers) + bond if energy is None else energy), group=group)


def test_isolated_atoms_give_their_energy():
    reference = reference_energies(Dataset((molecule(1), molecule(8), molecule(8, 1, 1, bond=-9.0))))
    assert reference.values == {"H": -13.0, "O": -2040.0}
    assert (reference.source, reference.rank, reference.n_elements) == ("isolated atoms", 2, 2)


def test_one_atom_in_a_box_is_isolated_only_when_it_is_called_so():
    assert reference_energies(Dataset((molecule(1, pbc=True, group="IsolatedAtom"),))).source == "isolated atoms"
    assert reference_energies(Dataset((molecule(1, pbc=True),))).source == "least squares"


def test_least_squares_recovers_energies_that_add_up():
    reference = reference_energies(Dataset((molecule(1, 1), molecule(8, 1, 1), molecule(6, 1, 1, 1, 1), molecule(6, 8))))
    np.testing.assert_allclose([reference.values[s] for s in ("H", "C", "O")], list(E0.values()), rtol=1e-10)
    assert (reference.source, reference.rank) == ("least squares", 3)


def test_elements_without_an_isolated_atom_are_fitted_to_the_rest():
    reference = reference_energies(Dataset((molecule(1), molecule(8, 1, 1, bond=-9.0), molecule(8, 8, bond=-6.0))), given={"C": -1.0})
    assert reference.source == "mixed"
    assert reference.values["H"] == -13.0
    assert reference.values["C"] == -1.0
    assert -2049 < reference.values["O"] < -2043


def test_a_fixed_ratio_of_elements_is_reported_and_leaves_sane_residuals():
    water = Dataset(tuple(molecule(*[8, 1, 1] * n, bond=-9.0 * n) for n in (1, 2, 3)))
    reference = reference_energies(water)
    assert (reference.rank, reference.n_elements) == (1, 2)
    assert "fix only 1 of 2 element energies" in reference.message
    assert "\n" not in reference.message
    np.testing.assert_allclose(subtract(water, reference), 0, atol=1e-6)
    mean = (-2040 - 26 - 9) / 3
    assert all(abs(e - mean) < 1e-6 for e in reference.values.values())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=3, max_size=3), st.integers(0, 2**31))
def test_residuals_do_not_depend_on_the_zero_of_energy(shifts, seed):
    rng = np.random.default_rng(seed)
    kinds = [rng.choice([1, 6, 8], rng.integers(2, 8)) for _ in range(8)]
    bonds = rng.normal(size=8)
    plain = Dataset(tuple(molecule(*map(int, k), bond=b) for k, b in zip(kinds, bonds, strict=True)))
    shift = dict(zip((1, 6, 8), shifts, strict=True))
    moved = Dataset(tuple(f.replace(labels=Labels(f.labels.energy + sum(shift[z] for z in f.structure.numbers.tolist()))) for f in plain))
    a, b = subtract(plain, reference_energies(plain)), subtract(moved, reference_energies(moved))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_frames_without_energy_do_not_count_and_no_energy_at_all_is_said():
    silent = Frame(molecule(1, 1).structure)
    assert reference_energies(Dataset((silent, molecule(1, 1)))).values == {"H": -13.0}
    reference = reference_energies(Dataset((silent,)))
    assert reference.values == {"H": 0.0}
    assert reference.message.startswith("no energies")


def test_an_element_seen_once_is_mentioned():
    assert "C occurs in a single frame" in reference_energies(Dataset((molecule(6, 1), molecule(1, 1), molecule(1, 1, 1)))).message


def test_two_isolated_energies_of_one_element_are_told():
    reference = reference_energies(Dataset((molecule(1), molecule(1, energy=-12.0))))
    assert reference.values["H"] == -13.0
    assert "isolated H occurs 2 times with energies 1 eV apart" in reference.message


def test_salt_water_has_two_ratios_and_four_elements(shared_file):
    dataset = read(shared_file("nacl_aq_revpbe0d3/train.extxyz.gz"))
    reference = reference_energies(dataset)
    assert (reference.rank, reference.n_elements) == (2, 4)
    per_atom = subtract(dataset, reference) / [len(f) for f in dataset]
    assert np.abs(per_atom).max() < 0.05
