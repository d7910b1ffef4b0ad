"""Noise, charges and dipoles, direct forces, and levels of theory, as users meet them."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from scipy.spatial.transform import Rotation

from eqpot.core.errors import ArchiveError, EqpotError
from eqpot.graph import Structure, collate
from eqpot.models.config import OUTPUTS
from eqpot.potential import Potential, hessian_vector_product
from eqpot.potential.archive import read_archive
from eqpot.testing import samples

HEADS = ("pbe", "r2scan")


@pytest.fixture(scope="module")
def rich(make_potential):
    """Noise, charges and two heads; forces are derivatives."""
    return make_potential(tiny=True, noise=True, charges=True, heads=HEADS)


@pytest.fixture(scope="module")
def direct(make_potential):
    return make_potential(tiny=True, direct_forces=True)


@pytest.fixture(scope="module")
def ion():
    """Far from the origin, where the dipole of an ion depends on it."""
    rng = np.random.default_rng(3)
    molecule = samples.scattered(("H", "C", "O"), 5, 4.0, 1.2, rng)
    return replace(molecule, positions=molecule.positions + np.array([30.0, -20.0, 10.0]), charge=-1)


def test_what_is_off_leaves_no_trace_in_the_file(make_potential, tmp_path):
    """Spelt out or not, the file is the same to the bit, and its header knows none of these keys."""
    plain = make_potential(tiny=True).save(tmp_path / "plain.safetensors")
    spelt = make_potential(tiny=True, noise=False, charges=False, direct_forces=False, heads=()).save(tmp_path / "spelt.safetensors")
    assert plain.read_bytes() == spelt.read_bytes()
    header, tensors = read_archive(plain)
    assert not set(OUTPUTS) & set(header["model"])
    assert not any(name.startswith("outputs") for name in tensors)


def test_what_is_off_is_none(potential, structures):
    r = potential.predict(structures[0])
    assert (r.energy_noise, r.forces_noise, r.charges, r.dipole) == (None,) * 4


def test_all_of_it_survives_the_file(make_potential, structures, tmp_path):
    potential = make_potential(tiny=True, noise=True, charges=True, direct_forces=True, heads=HEADS)
    again = Potential.load(potential.save(tmp_path / "p.safetensors"))
    assert (again.spec, again.reference_energies, again.heads) == (potential.spec, potential.reference_energies, HEADS)
    for name in HEADS:
        a, b = again.predict(structures[0], name), potential.predict(structures[0], name)
        for key, value in vars(b).items():
            np.testing.assert_array_equal(getattr(a, key), value, err_msg=key) if value is not None else None


def test_reference_energies_of_every_head_are_needed(rich, tmp_path):
    lacking = replace(rich, reference_energies=rich.reference_energies[:3])
    with pytest.raises(ArchiveError, match=r"reference energies .* at 2 levels of theory"):
        Potential.load(lacking.save(tmp_path / "p.safetensors"))


def test_charges_sum_to_the_total_charge(rich, ion, structures):
    for structure in (ion, *structures):
        assert rich.predict(structure).charges.sum() == pytest.approx(structure.charge, abs=1e-5)


def test_the_dipole_is_that_of_the_charges_where_the_atoms_are(rich, ion, structures):
    r = rich.predict(ion)
    np.testing.assert_allclose(r.dipole, r.charges @ ion.positions, rtol=1e-5)
    for structure in structures:
        assert (rich.predict(structure).dipole is None) == structure.pbc.any()


def test_a_batch_of_charges_is_what_each_has_alone(rich, ion, structures):
    batch = [ion, replace(ion, charge=2), structures[0]]
    for together, structure in zip(rich.predict(batch), batch, strict=True):
        np.testing.assert_allclose(together.charges, rich.predict(structure).charges, atol=1e-5)


def test_noise_is_the_mean_variance_of_the_members(rich, ion):
    r, single = rich.predict(ion), [rich.member(k).predict(ion) for k in range(rich.n_members)]
    np.testing.assert_allclose(r.forces_noise, np.sqrt(np.mean([s.forces_noise**2 for s in single], 0)), rtol=1e-6)
    assert r.energy_noise == pytest.approx(np.sqrt(np.mean([s.energy_noise**2 for s in single])), rel=1e-6)
    assert r.forces_noise.shape == (5,)


def test_variances_of_the_energy_add(rich, ion):
    """Two copies out of reach of each other: the variance of the energy is twice that of one."""
    both = Structure(np.tile(ion.numbers, 2), np.concatenate([ion.positions, ion.positions + 100.0]))
    assert rich.predict(both).energy_noise == pytest.approx(np.sqrt(2) * rich.predict(ion).energy_noise, rel=1e-5)


def test_heads_by_name(rich, ion):
    first, other = rich.predict(ion), rich.predict(ion, head="r2scan")
    assert rich.predict(ion, "pbe").energy == first.energy == rich.predict(ion, "").energy
    assert abs(first.energy - other.energy) > 1
    np.testing.assert_array_equal(rich.descriptors(ion), rich.only("r2scan").descriptors(ion))  # what is shared is shared
    with pytest.raises(EqpotError, match=r"head: found 'r2scn', did you mean 'r2scan'\?"):
        rich.predict(ion, "r2scn")


def test_a_potential_of_one_level_knows_no_heads(potential, ion):
    assert potential.heads == ()
    for ask in (potential.predict, lambda _, head: potential.calculator(head=head), lambda _, head: potential.only(head)):
        with pytest.raises(EqpotError, match="head: found 'pbe', but this potential knows one level of theory only"):
            ask(ion, "pbe")


def test_reference_energies_are_those_of_the_head(rich):
    """H, C, O at the first level, then at the second."""
    for k, name in enumerate(HEADS):
        for j, element in enumerate(rich.elements):
            assert rich.predict(Atoms(element), name).energy == rich.reference_energies[3 * k + j]


@pytest.mark.parametrize("name", HEADS)
def test_one_head_alone_is_what_it_is_among_others(rich, ion, name):
    alone, among = rich.only(name), rich.predict(ion, name)
    r = alone.predict(ion)
    assert (alone.heads, alone.n_members, len(alone.reference_energies)) == ((), 2, 3)
    assert alone.n_parameters < rich.n_parameters
    assert r.energy == pytest.approx(among.energy, abs=1e-5)
    for key in ("forces", "charges", "dipole", "forces_noise"):
        np.testing.assert_allclose(getattr(r, key), getattr(among, key), atol=1e-4, err_msg=key)


def test_heads_in_one_batch(rich, ion):
    hosts = [rich.prepare(ion, name) for name in (*HEADS, "pbe")]
    for r, name in zip(rich.predict_hosts(hosts), (*HEADS, "pbe"), strict=True):
        assert r.energy == pytest.approx(rich.predict(ion, name).energy, abs=1e-5)


def test_direct_forces_between_two_atoms_lie_along_the_bond(direct):
    """The sharpest test of the order of axes: no other direction is there to point to."""
    bond = np.array([0.3, -0.8, 0.6])
    forces = direct.astype("float64").predict(Structure([6, 8], [np.zeros(3), bond])).forces
    np.testing.assert_allclose(np.cross(forces, bond), 0, atol=1e-12)
    assert np.linalg.norm(forces, axis=1).min() > 1e-3


def test_direct_forces_turn_with_the_structure(direct, structures):
    potential, turn = direct.astype("float64"), Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    for s in structures:
        turned = samples.moved(s, s.positions @ turn.T, s.cell @ turn.T)
        np.testing.assert_allclose(potential.predict(turned).forces, potential.predict(s).forces @ turn.T, atol=1e-11)


def test_for_direct_forces_nothing_is_differentiated(make_potential, structures, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a derivative was asked for")

    monkeypatch.setattr(jax, "grad", forbidden)
    monkeypatch.setattr(jax, "vjp", forbidden)
    results = make_potential(tiny=True, direct_forces=True, readout_hidden=5).predict(structures)
    assert all(r.stress is None for r in results)
    assert all(r.forces.any() for r in results)
    with pytest.raises(AssertionError, match="a derivative was asked for"):
        make_potential(tiny=True, readout_hidden=5).predict(structures)


def test_direct_forces_are_refused_where_derivatives_are_meant(direct, structures):
    assert not direct.conservative
    with pytest.raises(EqpotError, match=r"direct forces, which are no derivatives .* pass allow_direct_forces=True"):
        direct.calculator()
    crystal = structures[1].to_atoms()
    crystal.calc = direct.calculator(allow_direct_forces=True)
    np.testing.assert_allclose(crystal.get_forces(), direct.predict(crystal).forces, atol=1e-6)
    with pytest.raises(PropertyNotImplementedError):
        crystal.get_stress()
    graph = jax.device_put(collate([direct.prepare(crystal)]))
    with pytest.raises(EqpotError, match="a Hessian needs forces that are derivatives"):
        hessian_vector_product(direct.spec, direct.member(0).params, graph, graph.positions)


def test_the_calculator_has_charges_and_sees_the_total_charge_change(rich, ion):
    atoms = ion.to_atoms()
    atoms.calc = rich.calculator(head="r2scan")
    r = rich.predict(ion, "r2scan")
    assert atoms.get_potential_energy() == pytest.approx(r.energy, abs=1e-5)
    np.testing.assert_allclose(atoms.get_charges(), r.charges, atol=1e-6)
    np.testing.assert_allclose(atoms.get_dipole_moment(), r.dipole, atol=1e-5)
    np.testing.assert_allclose(atoms.calc.results["forces_noise"], r.forces_noise, atol=1e-6)
    atoms.info["total_charge"] = 0
    assert atoms.get_charges().sum() == pytest.approx(0, abs=1e-5)
    atoms.calc = rich.only("pbe").member(0).calculator()
    atoms.pbc, atoms.cell = True, 20 * np.eye(3)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_dipole_moment()


def test_descriptors_are_invariant_per_atom_and_in_order(potential, structures):
    """Batches are sorted by size; what comes back is not. Other members have other features."""
    turn = Rotation.from_rotvec([0.2, 0.5, -1.0]).as_matrix()
    found = potential.descriptors(structures)
    assert [len(d) for d in found] == [len(s) for s in structures]
    for s, d in zip(structures, found, strict=True):
        turned = potential.descriptors(samples.moved(s, s.positions @ turn.T, s.cell @ turn.T))
        np.testing.assert_allclose(turned, d, atol=1e-4)
        np.testing.assert_allclose(potential.descriptors(s), d, atol=1e-5)
        assert d.dtype == np.float64
    assert not np.allclose(potential.descriptors(structures[0], member=1), found[0])
    with pytest.raises(EqpotError, match="member 2: this potential has 2"):
        potential.descriptors(structures[0], member=2)
