"""A network and a repulsion in one energy: short bonds, training, a file, a calculator, dynamics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_models
from ase import Atoms
from ase.build import bulk
from ase.geometry import find_mic

import eqpot
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.models import EquivariantConfig, Normalization, SumConfig, ZBLConfig
from eqpot.physics import pair_radii, zbl_pairs, zbl_switched
from eqpot.potential import ModelSpec, Potential
from eqpot.potential.archive import flatten

NETWORK = {**small_models.NETWORK, "n_radial": 4, "radial_hidden": (8,)}
TERMS = {"network": NETWORK, "repulsion": {"kind": "zbl"}, "wall": {"kind": "inverse-power", "trainable": True}}


def potential_of(elements, normalization=None, members=2, **terms):
    network = EquivariantConfig(**{**NETWORK, "cutoff": 4.0, "hidden": "8x0e"})
    spec = ModelSpec(SumConfig(terms={"network": network, **terms}), elements, normalization or Normalization(6.0))
    return Potential(spec, spec.init_members(list(range(members))), (-1.0,) * len(elements))


def frames():
    """Forty bent rows O-H-H under a Morse potential, some of them pressed together so that the wall is felt."""
    rng, found = np.random.default_rng(0), []
    for k in range(40):
        positions = np.array([[0, 0, 0], [1.2, 0, 0], [1.7, 1.1, 0]]) * (0.55 if k % 4 == 0 else 1.0) + rng.normal(0, 0.05, (3, 3))
        vectors = positions[None] - positions[:, None]
        distance = np.linalg.norm(vectors, axis=-1) + 10 * np.eye(3)
        well, off = 1 - np.exp(1.2 - distance), 1 - np.eye(3)
        slope = 2 * well * (1 - well) * off
        labels = Labels(energy=float(((well**2 - 1) * off).sum() / 2), forces=(slope[..., None] * vectors / distance[..., None]).sum(1))
        found.append(Frame(Structure([8, 1, 1], positions), labels, origin=f"toy:frame {k}"))
    return Dataset(tuple(found))


SETTINGS = {
    "data": {"valid": 8},
    "model": {"kind": "sum", "terms": TERMS},
    "ensemble": {"members": 2},
    "training": {"epochs": 2, "batch_size": 8},
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    with jax.numpy_dtype_promotion("strict"):
        return eqpot.fit({**SETTINGS, "name": "sum"}, frames(), folder=tmp_path_factory.mktemp("fit"))


def test_a_fit_moves_the_network_and_the_wall(fitted):
    fresh, found = flatten(fitted.spec.init_members([0, 1])), flatten(fitted.params)
    assert {name.split("/")[1] for name in found} == {"network", "wall"}
    assert np.abs(found["terms/wall/strength"]).max() > 1e-5  # it starts at zero
    assert all(np.abs(found[name] - value).max() > 1e-5 for name, value in fresh.items())
    assert set(fresh) == set(found)


def test_a_fitted_sum_survives_its_file_and_drives_ase(fitted, tmp_path):
    again = Potential.load(fitted.save(tmp_path / "sum.safetensors"))
    assert again.spec.config == fitted.spec.config and again.spec.config.kind == "sum"
    water = Atoms("OHH", [[0, 0, 0], [0.5, 0, 0], [1.7, 1.1, 0]])
    one, two = fitted.predict(water), again.predict(water)
    np.testing.assert_array_equal(one.forces, two.forces)
    water.calc = again.calculator()
    np.testing.assert_allclose(water.get_potential_energy(), one.energy, rtol=1e-6)
    np.testing.assert_allclose(water.get_forces(), one.forces, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_fine_tuning_a_sum_keeps_its_terms_and_learns_new_elements(fitted, tmp_path):
    base = fitted.save(tmp_path / "base.safetensors")
    more = frames() + Dataset(
        tuple(f.replace(structure=Structure([8, 1, 9], f.structure.positions), origin=f"new:{k}") for k, f in enumerate(frames()[:8]))
    )
    settings = {k: v for k, v in SETTINGS.items() if k != "model"} | {
        "name": "tuned",
        "finetune": {"base": str(base), "allow_disagreement": True},
    }
    settings["optimizer"] = {"rates": {"*": 0}}
    tuned = eqpot.fit(settings, more, folder=tmp_path)
    assert tuned.elements == ("H", "O", "F") and tuned.spec.config == fitted.spec.config
    old, new = flatten(fitted.params)["terms/wall/strength"], flatten(tuned.params)["terms/wall/strength"]
    np.testing.assert_array_equal(new[:, :2, :2], old)  # nothing moves: all rates are zero
    np.testing.assert_allclose(new[:, 2, :2], old.mean(1), rtol=1e-5)
    with pytest.raises(eqpot.EqpotError, match=r"model\.terms: fine-tuning keeps the architecture"):
        eqpot.fit({**settings, "model": SETTINGS["model"]}, more, folder=tmp_path)


@pytest.mark.parametrize("pair", ["HH", "CH", "HO", "CC", "CO", "OO"])
def test_short_bonds_are_repulsive_before_any_training(pair, data_dir):
    """Atoms of the dimer curves of BOTNet, down to 0.3 Å; H-H repels below 0.46 Å only, for its bond is 0.74 Å long."""
    curves = data_dir / "ethanol_botnet" / "test_dimers.extxyz.gz"
    if not curves.is_file():
        pytest.skip(f"not here: {curves}")
    forces = [f for f in eqpot.read(str(curves)) if sorted(f.group) == sorted(pair)]
    assert forces
    outer = pair_radii(forces[0].structure.numbers.tolist())[1][0, 1]
    distances = np.linspace(0.3, min(0.65, 0.95 * outer), 12)
    dimers = [Structure(forces[0].structure.numbers, [[0, 0, 0], [d, 0, 0]]) for d in distances]
    normalization = Normalization(8.0, 1.6, (-3.0, -4.0, -3.0))
    found = potential_of(("H", "C", "O"), normalization, members=3, repulsion=ZBLConfig()).predict(dimers)
    assert all((r.member_forces[:, 1, 0] > 0).all() for r in found)
    assert (np.diff([r.energy for r in found]) < 0).all()


@pytest.mark.parametrize("pair", ["CC", "CO", "OO"])
def test_zbl_has_the_size_of_quantum_mechanics(pair, data_dir):
    """The slope of the shortest PBE energies of a dimer against ZBL there: nuclei and cores decide, and no parameter was fitted."""
    curves = data_dir / "ethanol_botnet" / "test_dimers.extxyz.gz"
    if not curves.is_file():
        pytest.skip(f"not here: {curves}")
    found = [f for f in eqpot.read(str(curves)) if f.group == pair]
    points = sorted((float(np.linalg.norm(np.diff(f.structure.positions, axis=0))), f.labels.energy) for f in found)
    (near, high), (far, low) = points[:2]
    numbers = found[0].structure.numbers.tolist()
    pairs = jax.tree.map(lambda values: jnp.asarray(values[0, 1], jnp.float32), zbl_pairs(numbers, *pair_radii(numbers)))
    energy = zbl_switched(jnp.asarray([near, far], jnp.float32), pairs)
    ratio = float(energy[0] - energy[1]) / (high - low)
    print(f"{pair}: {(high - low) / (far - near):.0f} eV/Å at {near:.2f} Å, of which ZBL gives {ratio:.2f}")
    assert 0.3 < ratio < 1.0  # a network has the rest to learn, and nothing to take back


def test_dynamics_of_a_sum_conserves_energy():
    """Two copper atoms meet with 11 eV where a network has learned nothing: they turn round within the repulsion, and no energy is lost."""
    atoms = Atoms("Cu3", [[0, 0, 0], [2.6, 0.05, 0], [1.3, 2.6, 0.1]])
    atoms.set_velocities([[0.42, 0, 0], [-0.42, 0, 0], [0, 0, 0]])
    options = {"precision": "float64", "max_temperature_K": 1e6}
    potential = potential_of(("Cu",), members=1, repulsion=ZBLConfig())
    errors = []
    with jax.numpy_dtype_promotion("standard"):
        for timestep, n_steps in ((0.5, 120), (0.25, 240)):
            run = eqpot.simulate(potential, atoms, eqpot.NVE(timestep_fs=timestep), n_steps, every=int(2 / timestep), **options)
            errors.append(np.abs(run.total_energy - run.total_energy[0]).max())
    nearest = np.linalg.norm(run.positions[:, 0] - run.positions[:, 1], axis=-1).min()
    print(f"nearest {nearest:.2f} Å, errors {errors} eV of {run.kinetic_energy[0]:.1f} eV")
    assert 1.0 < nearest < 1.7  # the outer radius is 1.98 Å
    assert errors[1] < 0.005 * run.kinetic_energy[0] and errors[0] / errors[1] > 3  # Verlet: an error of the square of the timestep


def nearest(run):
    """Smallest distance of two atoms in a run [Å], periodic images included."""
    found = []
    for positions in run.positions:
        vectors = (positions[None] - positions[:, None])[np.triu_indices(len(positions), 1)]
        found.append(find_mic(vectors, run.cell[0], run.final.pbc)[1].min())
    return min(found)


def multiplied(potential, factor):
    """The potential with the last weights of its network times a factor."""
    params = jax.tree.map(np.copy, potential.params)
    last = params["terms"]["network"]["readouts"][0]["weights"]
    last[max(last)] *= factor
    return dataclasses.replace(potential, params=params)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["collision", "3000 K"])
def test_atoms_fuse_without_a_repulsion_and_not_with_it(case):
    """A network that has learned of no short distance may attract there: such a one, made so on purpose, with and without ZBL."""
    alone, both = potential_of(("Cu",), members=1), potential_of(("Cu",), members=1, repulsion=ZBLConfig())
    pairs = [Structure([29, 29], [[0, 0, 0], [d, 0, 0]]) for d in (0.4, 2.6)]
    near, far = (r.energy for r in alone.predict(pairs))
    stronger = np.float32(-15 / (near - far))  # the last weights set sign and size of the energy: 15 eV of attraction
    alone, both = (multiplied(potential, stronger) for potential in (alone, both))
    assert np.diff([r.energy for r in alone.predict(pairs)])[0] == pytest.approx(15, rel=1e-3)
    if case == "collision":
        atoms = Atoms("Cu2", [[0, 0, 0], [2.6, 0, 0]])
        atoms.set_velocities([[0.3, 0, 0], [-0.3, 0, 0]])
        dynamics = eqpot.NVE(timestep_fs=0.1)
    else:
        atoms = bulk("Cu", a=3.6, cubic=True) * (2, 2, 2)
        dynamics = eqpot.NVT(temperature_K=3000, timestep_fs=0.5)
    distances = []
    with jax.numpy_dtype_promotion("standard"):
        for potential in (alone, both):
            run = eqpot.simulate(potential, atoms, dynamics, 400, every=2, max_temperature_K=1e6, min_distance=1e-3, seed=1)
            distances.append(nearest(run))
    print(f"{case}: nearest {distances[0]:.2f} Å without, {distances[1]:.2f} Å with")
    assert distances[0] < 0.5 and distances[1] > 0.8
