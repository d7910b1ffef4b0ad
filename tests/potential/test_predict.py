"""What users hold in their hands: predictions for anything, with words for what cannot be predicted."""

import copy
import itertools

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqpot.core.errors import ConfigError, EqpotError, StructureError
from eqpot.graph import Structure
from eqpot.graph.batching import bucket
from eqpot.potential import Potential
from eqpot.potential.passes import grouped, judged_prediction
from eqpot.testing import samples


@pytest.fixture(scope="module")
def ethanol():
    return molecule("CH3CH2OH")


def test_one_or_many_atoms_or_structures(potential, ethanol):
    one, same = potential.predict(ethanol), potential.predict(Structure.from_atoms(ethanol))
    many = potential.predict([ethanol, Structure.from_atoms(ethanol)])
    assert isinstance(many, list)
    assert one.energy == same.energy
    for r in (same, *many):
        np.testing.assert_allclose(r.forces, one.forces, atol=1e-5)
        assert r.energy == pytest.approx(one.energy, abs=1e-4)
    assert len(potential.predict(a for a in [ethanol] * 3)) == 3


def test_results_are_float64_and_of_the_right_shape(potential, structures):
    for s, r in zip(structures, potential.predict(structures), strict=True):
        assert r.forces.shape == r.forces_std.shape == (len(s), 3)
        assert r.forces.dtype == r.atom_energies.dtype == np.float64
        assert r.member_energies.shape == (2,)
        assert r.member_forces.shape == (2, len(s), 3)
        assert (r.stress is None) == (not s.pbc.all())
        assert isinstance(r.energy, float)
        assert isinstance(r.energy_std, float)


def test_the_input_is_never_changed(potential, ethanol):
    atoms = bulk("C") * 2
    for a in (ethanol, atoms):
        before, array = a.copy(), a.positions
        potential.predict(a)
        assert a == before
        assert a.positions is array
        assert a.calc is None
    params = copy.deepcopy(potential.params)
    potential.predict(ethanol)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, potential.params))


def test_energies_add_up(potential, structures):
    for r in potential.predict(structures):
        assert r.energy == pytest.approx(r.member_energies.mean(), abs=1e-9)
        assert r.energy == pytest.approx(r.atom_energies.sum(), abs=1e-6)


def test_the_spread_is_that_of_the_members_with_n_minus_one(potential, ethanol):
    r = potential.predict(ethanol)
    np.testing.assert_allclose(r.forces_std, r.member_forces.std(0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(r.atom_std, np.sqrt((r.member_forces.var(0, ddof=1)).sum(-1)), atol=1e-12)
    assert r.energy_std == pytest.approx(r.member_energies.std(ddof=1))
    single = potential.member(0).predict(ethanol)
    assert single.energy_std == 0
    assert not single.forces_std.any()


def test_members(potential, ethanol):
    r = potential.predict(ethanol)
    assert potential.member(1).predict(ethanol).energy == pytest.approx(r.member_energies[1], abs=1e-5)
    assert potential.member(-1).n_members == 1
    np.testing.assert_array_equal(jax.tree.leaves(potential.member(-1).params)[0], jax.tree.leaves(potential.member(1).params)[0])
    for wrong in (2, -3):
        with pytest.raises(EqpotError, match=f"member {wrong}: this potential has 2"):
            potential.member(wrong)


def test_an_atom_alone_has_its_reference_energy(potential):
    for element, energy in zip(potential.elements, potential.reference_energies, strict=True):
        assert potential.predict(Atoms(element)).energy == energy
        periodic = potential.predict(Atoms(element, cell=[20] * 3, pbc=True))
        assert periodic.energy == energy
        assert not periodic.stress.any()


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        ([], "no structures"),
        ([Atoms("H"), None], "structure 1: expected ase.Atoms or eqpot.Structure, found NoneType"),
        (None, "expected ase.Atoms or eqpot.Structure, found NoneType"),
        (3.0, "expected ase.Atoms or eqpot.Structure, found float"),
        (Atoms(), "no atoms: expected at least one"),
        (Atoms("X"), "atomic number 0 is no element"),
        (Atoms("FeNi", positions=[[0, 0, 0], [2, 0, 0]]), "element Fe, Ni is unknown to this potential; it was trained on H, C, O"),
        ([Atoms("H"), Atoms("H", positions=[[np.nan, 0, 0]])], "structure 1: atom 0: position .* is not finite"),
        (Atoms("H2", positions=[[0, 0, 0], [0, 0, 0]]), "atoms 0 and 1 are 0 Å apart"),
        (Atoms("H", pbc=True), "singular"),
    ],
)
def test_what_cannot_be_predicted(potential, atoms, message):
    with pytest.raises(StructureError, match=message):
        potential.predict(atoms)


def test_dummy_cells_of_molecules_are_ignored(potential, ethanol):
    expected = potential.predict(ethanol)
    for cell in (np.eye(3), 9 * np.eye(3)):
        boxed = ethanol.copy()
        boxed.set_cell(cell)
        assert potential.predict(boxed).energy == expected.energy


def test_hands_and_signs_of_the_cell_do_not_matter(potential, structures):
    crystal = structures[1]
    cells = [crystal.cell, -crystal.cell, crystal.cell[[1, 0, 2]], crystal.cell + np.array([[0], [1], [0]]) * crystal.cell[0]]
    results = potential.astype("float64").predict([samples.moved(crystal, crystal.positions, c) for c in cells])
    for r in results[1:]:
        assert r.energy == pytest.approx(results[0].energy, abs=1e-9)
        np.testing.assert_allclose(r.forces, results[0].forces, atol=1e-9)
        np.testing.assert_allclose(r.stress, results[0].stress, atol=1e-11)


def test_slabs_far_along_their_normal(potential, structures):
    slab = structures[3]
    near, far = potential.predict([slab, samples.moved(slab, slab.positions + np.array([0, 0, 1e4]))])
    assert far.energy == pytest.approx(near.energy, abs=1e-5)
    np.testing.assert_allclose(far.forces, near.forces, atol=1e-5)


def test_single_and_double_precision_agree(potential, ethanol):
    single, double = potential.predict(ethanol), potential.astype("float64").predict(ethanol)
    assert single.energy == pytest.approx(double.energy, abs=1e-6 * len(ethanol))
    np.testing.assert_allclose(single.forces, double.forces, atol=1e-4 * np.sqrt((double.forces**2).mean()))
    assert single.energy != double.energy


def test_far_from_the_origin_nothing_is_lost(potential, ethanol):
    away = ethanol.copy()
    away.positions += [1e5, -3e5, 2e4]
    np.testing.assert_allclose(potential.predict(away).forces, potential.predict(ethanol).forces, atol=1e-5)


def test_large_reference_energies_cost_no_digits(potential, ethanol):
    """−10⁵ eV of all-electron energies would leave 8 meV in float32."""
    heavy = Potential(potential.spec, potential.params, (-1e5, -2e5, -3e5))
    offset = sum({1: -1e5, 6: -2e5, 8: -3e5}[z] for z in ethanol.numbers) - sum({1: -10, 6: -20, 8: -30}[z] for z in ethanol.numbers)
    assert heavy.predict(ethanol).energy - offset == pytest.approx(potential.predict(ethanol).energy, abs=1e-8)


def test_one_bad_structure_leaves_the_others_alone(potential, structures):
    good = potential.predict(structures)
    bad = samples.moved(structures[1], structures[1].positions * np.nan)
    with pytest.raises(StructureError, match="structure 1"):
        potential.predict([structures[0], bad, *structures[2:]])
    again = potential.predict(structures)
    assert [r.energy for r in again] == [r.energy for r in good]


def test_precisions_that_do_not_exist(potential):
    with pytest.raises(EqpotError, match="dtype: found 'float16', expected 'float32' or 'float64'"):
        potential.astype("float16")


def test_plain_facts(potential):
    assert potential.elements == ("H", "C", "O")
    assert (potential.cutoff, potential.receptive_field, potential.n_members) == (3.5, 3.5, 2)
    assert potential.n_parameters == sum(leaf.size for leaf in jax.tree.leaves(potential.params)) // 2


def random_chain(rng, n):
    positions = np.cumsum(rng.uniform(0.9, 1.2, (n, 1)) * [1.0, 0.05, 0], axis=0)
    return Atoms(rng.choice([1, 6, 8], n), positions)


def test_a_thousand_sizes_few_programs(potential):
    """At most twelve padded shapes, each of which is one compilation, for molecules and clusters of 1 to 512 atoms."""
    rng, grid = np.random.default_rng(0), np.array(list(np.ndindex(8, 8, 8))) * 1.6
    chains = [potential.prepare(random_chain(rng, n)) for n in rng.integers(1, 513, 1000)]
    cubes = [potential.prepare(Atoms(rng.choice([1, 6, 8], n), grid[:n])) for n in rng.integers(1, 513, 200)]
    for hosts in (chains, cubes):
        assert len({bucket([hosts[k] for k in batch]) for batch in grouped(hosts)}) <= 12


def test_batches_of_one_call_share_a_size_where_they_fit(potential):
    rng = np.random.default_rng(4)
    hosts = [potential.prepare(random_chain(rng, 20)) for _ in range(80)]
    shapes = [[x.shape for x in jax.tree.leaves(graph)] for _, graph in potential.batches(hosts)]
    alone = [bucket([hosts[k] for k in batch]) for batch in grouped(hosts)]
    assert len(shapes) == len(alone) > 4
    changes = sum(a != b for a, b in itertools.pairwise(shapes))
    assert changes < sum(a != b for a, b in itertools.pairwise(alone))


def test_shapes_compile_once(potential):
    rng = np.random.default_rng(1)
    potential.predict(random_chain(rng, 20))
    before = judged_prediction._cache_size()
    for n in (18, 20, 22, 24):
        potential.predict(random_chain(rng, n))
    potential.member(0).astype("float32")
    assert judged_prediction._cache_size() == before


def test_another_way_of_evaluating_gives_the_same(potential, structures):
    """Neither is part of what a potential is: the file does not know."""
    expected = potential.predict(structures[0])
    for changes in (
        {"backend": "dense"},
        {"backend": "reference"},
        {"products": "bfloat16"},
    ):  # a CPU computes in float32 whatever is chosen
        found = potential.using(**changes).predict(structures[0])
        assert found.energy == pytest.approx(expected.energy, abs=1e-5)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-4)
    assert potential.using("dense").using(products="tensorfloat32").spec.backend == "dense"
    assert potential.using().spec == potential.spec
    with pytest.raises(ConfigError, match="backend: found 'gpu'"):
        potential.using("gpu")
    with pytest.raises(ConfigError, match="products: found 'float16'"):
        potential.using(products="float16")
