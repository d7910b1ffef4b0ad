"""A network whose charges attract each other: the laws of all models, what is refused, training without labels of charges, dynamics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from small_models import NETWORK

import eqpot
from eqpot.core.config import build
from eqpot.core.errors import ConfigError, StructureError
from eqpot.core.units import COULOMB
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure, collate, prepare
from eqpot.models import CoulombConfig, Normalization, SumConfig, ZBLConfig, model_config
from eqpot.physics import gaussian_kernel, plan_ewald, point_energies
from eqpot.potential import ModelSpec, Potential, predict
from eqpot.potential.archive import flatten
from eqpot.testing import check_model
from eqpot.training import FitConfig

ELEMENTS = ("H", "C", "O")
CRYSTAL = 4.2 * np.eye(3)
POINTS = np.array([[0, 0, 0], [1.6, 0.1, 0.2], [0.3, 1.5, 1.9]])


def spec_of(elements=ELEMENTS, network=None, others=None, kind="coulomb", **keys):
    wanted = {"charges": kind == "coulomb", "electronegativity": kind != "coulomb"}
    terms = {"network": {**NETWORK, **wanted, **(network or {})}, "electrostatics": {"kind": kind, **keys}, **(others or {})}
    return ModelSpec(build(SumConfig, {"kind": "sum", "terms": terms}), elements, Normalization(6.0, 1.0, (0.1,) * len(elements)))


run = jax.jit(predict, static_argnums=0)


def both(spec, params, structures, dtype="float64"):
    """What the sum says, and what its network says alone."""
    params = jax.tree.map(lambda x: np.asarray(x, dtype), params)
    network = ModelSpec(spec.config.network, spec.elements, spec.normalization)
    with jax.enable_x64(dtype == "float64"):
        graph = jax.tree.map(jnp.asarray, collate([prepare(s, spec.elements, spec.config.cutoff) for s in structures], dtype=dtype))
        return jax.device_get((run(spec, params, graph), run(network, params["terms"]["network"], graph)))


@pytest.mark.parametrize("kind", [pytest.param("coulomb", marks=pytest.mark.slow), "charge-equilibration"])
def test_it_obeys_the_laws_of_all_models(draw, kind):
    """But those of a range, which it does not have: 'fragments' and 'reach' are not asked of it."""
    spec = spec_of(background="uniform", kind=kind)
    report = check_model(spec, draw(spec, 0), skip=("hessian", "work", "cutoff_slope"))
    print(report)
    assert "reach" not in report and spec.config.receptive_field == np.inf and spec.config.cutoff == 3.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["coulomb", "charge-equilibration"])
def test_its_curvature_and_its_float32(draw, kind):
    spec = spec_of(background="uniform", kind=kind)
    print(check_model(spec, draw(spec, 0), only=("hessian", "work", "cutoff_slope")))
    print(check_model(spec, draw(spec, 0), dtype="float32", skip=("extensivity",)))


def test_it_adds_the_energy_of_the_charges(draw):
    """A crystal, a molecule and a dimer far beyond the cutoff in one batch; the charges of the crystal are points less their near pairs."""
    spec = spec_of(smearing=0.4, tolerance=1e-12)
    far = Structure([1, 8, 1, 8], [[0, 0, 0], [1, 0, 0], [30, 0, 0], [31, 0, 0]])
    crystal, molecule = Structure([1, 6, 8], POINTS, CRYSTAL, True), Structure([1, 6, 8], POINTS)
    found, network = both(spec, draw(spec, 0), [crystal, molecule, far])
    added = found.energy - network.energy
    np.testing.assert_allclose(found.charges, network.charges, rtol=1e-12)
    assert np.abs(added[:3]).min() > 1e-4
    with jax.enable_x64(True):
        for k, (structure, rows) in enumerate(((molecule, slice(3, 6)), (far, slice(6, 10)))):
            distance = np.linalg.norm(structure.positions[None] - structure.positions[:, None], axis=-1)
            q, apart = found.charges[rows], distance > 0
            kernel = np.where(apart, gaussian_kernel(jnp.asarray(np.where(apart, distance, 1)), 0.4), 0)
            assert added[k + 1] == pytest.approx(COULOMB / 2 * q @ kernel @ q, rel=1e-8)
        q, images = found.charges[:3], (np.array(list(np.ndindex(5, 5, 5))) - 2) @ CRYSTAL
        points = float(point_energies(jnp.asarray(POINTS), jnp.asarray(CRYSTAL), jnp.asarray(q), plan_ewald(CRYSTAL, 3, 1e-13)).sum())
        distance = np.linalg.norm(POINTS[None, :, None] - POINTS[:, None, None] + images, axis=-1)
        distance[distance == 0] = np.inf
        near = np.asarray(jax.lax.erfc(jnp.asarray(distance / (2**0.5 * 0.4)))) / distance
    assert added[0] == pytest.approx(points - COULOMB / 2 * np.einsum("i,ijl,j->", q, near, q), rel=1e-8)


def test_molecules_beyond_the_cutoff_attract_each_other(draw):
    """A network alone has no force there; charges give one, which falls as the fourth power of the distance for dipoles."""
    spec = spec_of()
    pairs = [Structure([1, 8, 1, 8], [[0, 0, 0], [1, 0, 0], [d, 0, 0], [d + 1, 0, 0]]) for d in (20.0, 40.0)]
    found, network = both(spec, draw(spec, 0), pairs)
    force = (found.forces - network.forces).reshape(-1, 2, 3)[[1, 3]].sum(1)[:, 0]  # on the second molecule of each
    np.testing.assert_allclose(network.forces.reshape(-1, 2, 3).sum(1), 0, atol=1e-12)
    assert force[0] < 0 and force[0] / force[1] == pytest.approx(16, rel=0.1)


def test_ions_without_neighbours_have_the_charge_of_their_element(draw):
    """Features of a lone atom are zero, and so is what the network says of it; E = k q₁ q₂/r with the mean taken off."""
    spec = spec_of(elements=("Na", "Cl"), smearing=0.4)
    params = draw(spec, 3)
    own = params["terms"]["network"]["outputs"]["element_charges"]
    found, _ = both(spec, params, [Structure([11, 17], [[0, 0, 0], [distance, 0, 0]]) for distance in (9, 18)])
    charge = float(own[0, 0] - own[1, 0]) / 2
    assert abs(charge) > 1e-3
    np.testing.assert_allclose(found.charges[:2], [charge, -charge], rtol=1e-6)
    np.testing.assert_allclose(found.energy[:2], [-COULOMB * charge**2 / r for r in (9, 18)], rtol=1e-6)


def test_a_potential_from_before_charges_of_elements_says_what_it_said(draw, tmp_path):
    spec = spec_of()
    params = jax.tree.map(lambda x: np.asarray(x, "float32")[None], draw(spec, 3))
    params["terms"]["network"]["outputs"]["element_charges"] *= 0
    whole = Potential(spec, params, (0.0,) * 3)
    old = jax.tree.map(lambda x: x, params)
    del old["terms"]["network"]["outputs"]["element_charges"]
    dataclasses.replace(whole, params=old).save(tmp_path / "old.safetensors")
    molecule = Structure([1, 6, 8], POINTS)
    assert Potential.load(tmp_path / "old.safetensors").predict(molecule).energy == whole.predict(molecule).energy


def test_what_it_reads_must_be_there():
    for network in ({**NETWORK, "charges": False}, NETWORK):  # off, and not said
        with pytest.raises(ConfigError, match=r"'far' \(coulomb\) needs charges; say charges: true for the network 'network'"):
            build(FitConfig, {"model": {"kind": "sum", "terms": {"network": network, "far": {"kind": "coulomb"}}}})
    with pytest.raises(ConfigError, match=r"needs electronegativity; say electronegativity: true for the network"):
        spec_of(kind="charge-equilibration", network={"electronegativity": False})
    with pytest.raises(ConfigError, match="'network' and 'electrostatics' both give charges"):
        spec_of(kind="charge-equilibration", network={"charges": True})
    with pytest.raises(ConfigError, match="'coulomb' is a term beside a network and no model alone"):
        model_config({"kind": "coulomb"})
    with pytest.raises(ConfigError, match="smearing"):
        build(CoulombConfig, {"smearing": 0.0})
    with pytest.raises(ConfigError, match="background"):
        build(CoulombConfig, {"background": "water"})


@pytest.mark.parametrize(
    ("pbc", "charge", "message"),
    [
        ((True, False, False), 0.0, "found one periodic direction, expected none, two or three"),
        ((True, True, False), 1.0, "found a slab with the charge 1 e, expected a neutral one"),
        (
            (True, True, True),
            -2.0,
            "found a crystal with the charge -2 e; a uniform background neutralises a charged crystal: say background: uniform",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["coulomb", "charge-equilibration"])
def test_structures_without_a_finite_energy_are_refused(draw, kind, pbc, charge, message):
    """On the host with a reason; and in a compiled program energy and forces are not numbers, those of others in the batch are."""
    spec = spec_of(kind=kind)
    structure = Structure([1, 6, 8], POINTS, CRYSTAL, pbc, charge)
    with pytest.raises(StructureError, match=f"{kind}: {message}"):
        spec.config.check(structure)
    found, _ = both(spec, draw(spec, 0), [structure, Structure([1, 6, 8], POINTS)], "float32")
    assert np.isnan(found.energy[0]) and np.isnan(found.forces[:3]).any()
    assert np.isfinite(found.energy[1]) and np.isfinite(found.forces[3:6]).all()


def test_structures_with_a_finite_energy_are_not():
    for pbc, charge in ((False, 3.0), (True, 0.0), ((True, False, True), 0.0)):
        spec_of().config.check(Structure([1, 6, 8], POINTS, CRYSTAL, pbc, charge))
    spec_of(background="uniform").config.check(Structure([1, 6, 8], POINTS, CRYSTAL, True, -1.0))


def frames():
    """Bent H-O-H with fixed charges of −0.6 and 0.3 e, every second one in a periodic cube; no charge is labelled."""
    rng, found, charges = np.random.default_rng(0), [], jnp.asarray([-0.6, 0.3, 0.3])

    def energy(x):
        distance = jnp.linalg.norm(x[None] - x[:, None] + 1e6 * jnp.eye(3)[..., None], axis=-1)
        bonds = jnp.sum((distance[0, 1:] - 1) ** 2)
        return COULOMB / 2 * jnp.sum(charges * (gaussian_kernel(distance, 1.0) @ charges)) + 5 * bonds

    slopes = jax.jit(jax.value_and_grad(energy))
    for k in range(24):
        positions = np.array([[0, 0, 0], [1.0, 0, 0], [-0.2, 0.95, 0]]) + rng.normal(0, 0.05, (3, 3))
        value, slope = slopes(jnp.asarray(positions, jnp.float32))
        cell = 9.0 * np.eye(3) * (k % 2)
        labels = Labels(energy=float(value), forces=-np.asarray(slope, float))
        found.append(Frame(Structure([8, 1, 1], positions, cell, k % 2 == 1), labels, origin=f"toy:frame {k}"))
    return Dataset(tuple(found))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "where"), [("coulomb", "outputs/charges"), ("charge-equilibration", "electr")])
def test_charges_are_learned_without_labels(tmp_path, kind, where):
    """Two epochs on energies and forces alone move the parameters of the charges, of molecules and crystals in one batch."""
    spec = spec_of(("H", "O"), kind=kind)
    settings = {
        "name": "charged",
        "data": {"valid": 6},
        "model": spec.config.archived(),
        "ensemble": {"members": 2},
        "training": {"epochs": 2, "batch_size": 6},
    }
    with jax.numpy_dtype_promotion("strict"):
        fitted = eqpot.fit(settings, frames(), folder=tmp_path)
    fresh, found = flatten(fitted.spec.init_members([0, 1])), flatten(fitted.params)
    moved = [np.abs(found[name] - value).max() for name, value in fresh.items() if where in name]
    assert moved and min(moved) > 1e-5
    again = Potential.load(fitted.save(tmp_path / "p.safetensors"))
    water = frames()[0].structure
    assert again.predict(water).energy == fitted.predict(water).energy
    assert abs(again.predict(water).charges.sum()) < 1e-5


def test_equilibrated_charges_go_where_they_are_drawn_to(draw):
    """Two equal ions far apart share a charge; a molecule that draws more takes more, beyond any range of the network."""
    spec = spec_of(kind="charge-equilibration")
    params = draw(spec, 0)
    far = Structure([1, 8, 1, 6], [[0, 0, 0], [1, 0, 0], [60, 0, 0], [61, 0, 0]], charge=1.0)
    found, _ = both(spec, params, [far])
    shares = found.charges[:2].sum(), found.charges[2:4].sum()
    assert sum(shares) == pytest.approx(1, abs=1e-9)
    params["terms"]["electrostatics"]["offset"] = np.asarray(params["terms"]["electrostatics"]["offset"]) + np.array([[0.0], [0.0], [3.0]])
    drawn, _ = both(spec, params, [far])  # oxygen pays more for a positive charge
    assert drawn.charges[:2].sum() < shares[0] - 0.05


def charged(spec, params, atoms):
    """A potential in float64 whose charges are up to 0.2 e: without biases they are in proportion to the last weights and those of the elements."""
    potential = Potential(spec, params, (0.0,) * len(spec.elements)).astype("float64")
    outputs, factor = params["terms"]["network"]["outputs"], 0.2 / np.abs(potential.predict(atoms).charges).max()
    for place, last in ((outputs["charges"]["weights"], max(outputs["charges"]["weights"])), (outputs, "element_charges")):
        place[last] = place[last] * factor
    return Potential(spec, params, potential.reference_energies).astype("float64")


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [False, True])
def test_dynamics_of_a_crystal_conserves_energy(mesh):
    """Ions in a small periodic cell, in float64: the error of the total energy is that of Verlet, of the square of the timestep."""
    spec = spec_of(("Na", "Cl"), others={"repulsion": ZBLConfig().archived()}, network={"cutoff": 4.0})
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_velocities(0.02 * np.random.default_rng(2).normal(size=(8, 3)))
    potential = charged(spec, spec.init_members([0]), atoms)
    potential = potential.using(mesh=atoms) if mesh else potential
    errors, charges = [], np.abs(potential.predict(atoms).charges).max()
    with jax.numpy_dtype_promotion("standard"):
        for timestep, n_steps in ((2.0, 50), (1.0, 100)):
            options = {"every": int(10 / timestep), "precision": "float64", "max_temperature_K": 1e6}
            found = eqpot.simulate(potential, atoms, eqpot.NVE(timestep_fs=timestep), n_steps, **options)
            errors.append(np.abs(found.total_energy - found.total_energy[0]).max())
    exchanged = np.ptp(found.kinetic_energy)
    print(f"charges up to {charges:.2f} e, errors {errors} eV, {exchanged:.3f} eV exchanged")
    assert charges > 0.15 and errors[1] < 0.02 * exchanged and errors[0] / errors[1] > 3


@pytest.mark.slow
def test_a_mesh_says_what_the_waves_say(draw):
    """For a crystal in a padded batch, its forces and its stress; other cells and molecules are refused, and are not numbers when compiled."""
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    spec = spec_of(("Na", "Cl"), tolerance=1e-6)
    plain = charged(spec, jax.tree.map(lambda x: x[None], draw(spec, 0)), atoms)
    meshed = plain.using(mesh=atoms)
    a, b = plain.predict(atoms), meshed.predict(atoms)
    network = Potential(
        ModelSpec(spec.config.network, spec.elements, spec.normalization), plain.params["terms"]["network"], (0.0, 0.0), dtype="float64"
    )
    electric = np.abs(a.forces - network.predict(atoms).forces).max()
    assert electric > 1e-3 and b.energy == pytest.approx(a.energy, abs=1e-5)
    np.testing.assert_allclose(b.forces, a.forces, atol=1e-4 * electric)
    np.testing.assert_allclose(b.stress, a.stress, atol=1e-4 * np.abs(a.stress).max())
    wide = atoms.copy()
    wide.set_cell(2.0 * wide.cell.array, scale_atoms=True)
    with pytest.raises(StructureError, match=r"too coarse here: found a spacing of .*using\(mesh=atoms\)"):
        meshed.predict(wide)
    with pytest.raises(StructureError, match="expected three directions, for the mesh of a crystal"):
        meshed.predict(Structure([11, 17], [[0, 0, 0], [2.5, 0, 0]]))
    params = jax.tree.map(lambda x: np.asarray(x[0]), meshed.params)
    found, _ = both(meshed.spec, params, [Structure.from_atoms(wide), Structure.from_atoms(atoms)])
    assert np.isnan(found.energy[0]) and found.energy[1] == pytest.approx(b.energy, rel=1e-9)
    with pytest.raises(ConfigError, match="expected a sum with a term of kind coulomb"):
        network.using(mesh=atoms)
