"""What pushes beside the potential: forces that belong to energies, atoms that are held, and a run that is drawn to doubt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.core.units import FS, KB
from eqpot.md import CSVR, NPT, NVE, NVT, HarmonicRestraint, Langevin, PlanarWall, SphericalWall, UncertaintyBias, simulate, simulate_many
from eqpot.md.bias import total_bias
from eqpot.md.state import Particles

SPREAD = np.random.default_rng(1).normal(size=(7, 3)) * 2
BIASES = {
    "restraint": HarmonicRestraint([1, 4], [[0.5, 0, 0], [0, -1.0, 2.0]], 3.0),
    "sphere": SphericalWall(1.5, (0.3, 0.2, 0.1), 2.0),
    "plane": PlanarWall((0.2, 0.1, 0), (1.0, 2.0, -1.0), 1.5),
}


@pytest.fixture
def double():
    """float64 on the device."""
    with jax.enable_x64(True):
        yield


def particles(n_atoms, n_real=None):
    """One system, the last of whose atoms may be padding."""
    real = np.arange(n_atoms) < (n_real or n_atoms)
    one = np.ones(1)
    return Particles(
        np.zeros((1, n_atoms), np.int32), np.ones((1, n_atoms)), real[None], real[None], 3.0 * one, np.zeros((1, 3), bool), one
    )


def slope(energy, positions, step=1e-5):
    """Central differences of an energy."""
    result = np.zeros_like(positions)
    for place in np.ndindex(*positions.shape):
        moved = [positions.copy(), positions.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        result[place] = (energy(moved[0]) - energy(moved[1])) / (2 * step)
    return result


@pytest.mark.parametrize("name", BIASES)
def test_forces_are_minus_the_slope(double, name):
    """Of atoms inside and outside; padding feels nothing, and a sum of biases is a sum."""
    system, none = particles(7, 6), jnp.zeros((1, 1))

    def apply(positions, *biases):
        cell, forces = jnp.eye(3)[None] * 9, jnp.zeros((1, 1, 7, 3))
        return jax.device_get(total_bias(biases, system, jnp.asarray(positions[None]), cell, none, forces))

    def energy(positions):
        return float(apply(positions, BIASES[name]).energy[0])

    found = apply(SPREAD, BIASES[name])
    assert energy(SPREAD) > 0.1
    np.testing.assert_allclose(found.forces[0], -slope(energy, SPREAD), atol=1e-7)
    assert not found.forces[0, 6].any()
    every = apply(SPREAD, *BIASES.values())
    assert every.energy[0] == pytest.approx(sum(float(apply(SPREAD, b).energy[0]) for b in BIASES.values()))
    assert not every.stress.any()


def test_energies_are_those_of_their_formulas(double):
    positions = np.array([[3.0, 0, 0], [0, 0.5, 0]])
    system, zeros = particles(2), jnp.zeros((1, 1, 2, 3))

    def energy(bias):
        return float(total_bias((bias,), system, jnp.asarray(positions[None]), jnp.eye(3)[None], jnp.zeros((1, 1)), zeros).energy[0])

    assert energy(SphericalWall(1.0, force_constant=2.0)) == pytest.approx(4.0)
    assert energy(PlanarWall((1.0, 0, 0), (2.0, 0, 0), 3.0)) == pytest.approx(1.5)
    assert energy(PlanarWall((1.0, 0, 0), (-2.0, 0, 0), 3.0)) == pytest.approx(6.0)
    assert energy(HarmonicRestraint([0], [[1.0, 1.0, 0]], 2.0)) == pytest.approx(5.0)


def doubt(potential, positions, height, width):
    """A·(exp(−σ²/(N·b²)) − 1) by the energies that each member predicts."""
    atoms = Atoms(f"Cu{len(positions)}", positions)
    energies = [potential.member(k).predict(atoms).energy for k in range(potential.n_members)]
    return height * (np.exp(-np.var(energies, ddof=1) / (len(positions) * width**2)) - 1)


@pytest.mark.slow
def test_uncertainty_bias_is_its_formula():
    """Energy, and force by finite differences of energies predicted one by one, far from zero and from saturation."""
    potential, (height, width) = morse(members=3).astype("float64"), (2.0, 0.05)
    atoms = cluster()
    atoms.positions += np.random.default_rng(2).normal(size=(6, 3)) * 0.1
    still = {"temperature_K": 0.0, "precision": "float64", "every": 1}
    step = NVE(timestep_fs=0.5)
    biased = simulate(potential, atoms, step, 1, biases=[UncertaintyBias(height, width)], **still)
    plain = simulate(potential, atoms, step, 1, **still)
    expected = doubt(potential, atoms.positions, height, width)
    assert -0.9 * height < expected < -0.1 * height
    assert biased.bias_energy[0] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(biased.forces[0], plain.forces[0], atol=1e-12)
    # From rest, positions after a step are r + F·dt²/2m: their difference is the push of the bias.
    push = (biased.positions[1] - plain.positions[1]) * 2 * atoms.get_masses()[:, None] / (0.5 * FS) ** 2
    np.testing.assert_allclose(push, -slope(lambda r: doubt(potential, r, height, width), atoms.positions, 1e-4), atol=2e-4)
    assert np.abs(push).max() > 0.1


@pytest.mark.slow
def test_uncertainty_bias_draws_to_doubt():
    """With the bias the same cluster at the same temperature is, on average, where members agree less."""
    ensemble = Langevin(300.0, timestep_fs=2.0)
    found = [
        np.mean([r.energy_std[20:].mean() for r in simulate_many(morse(members=3), [cluster()] * 4, ensemble, 2000, biases=biases)])
        for biases in ([], [UncertaintyBias(2.0, 0.05)])
    ]
    assert found[1] != pytest.approx(found[0], rel=0.01)
    assert found[1] > found[0]


@pytest.mark.parametrize(
    "biases",
    [
        [HarmonicRestraint([0], [[1.5, 0.3, 0]], 2.0), SphericalWall(1.8, force_constant=3.0)],
        [UncertaintyBias(1.0, 0.05)],
    ],
    ids=["restraint and wall", "doubt"],
)
def test_biases_are_part_of_what_is_conserved(biases):
    """The energy with the bias is constant, that without is not; an energy without its force, or the reverse, would be seen."""
    run = simulate(morse(members=3), cluster(), NVE(timestep_fs=1.0), 1000, biases=biases, temperature_K=300.0, precision="float64")
    assert run.bias_energy.std() > 0.003
    assert run.conserved_energy.std() < 0.02 * run.total_energy.std()
    np.testing.assert_allclose(run.conserved_energy, run.total_energy + run.bias_energy, atol=1e-12)


@pytest.mark.slow
def test_a_wall_keeps_a_hot_cluster_together():
    far = {}
    for name, biases in {"free": [], "walled": [SphericalWall(4.0)]}.items():
        run = simulate(morse(), cluster(), Langevin(6000.0, timestep_fs=2.0), 3000, biases=biases, max_temperature_K=1e5, seed=3)
        far[name] = np.linalg.norm(run.positions, axis=-1).max()
    assert far["walled"] < 7.0 < 12.0 < far["free"]


def test_a_wall_is_where_it_was_put():
    """Coordinates are the user's, wherever the cluster is."""
    moved = cluster()
    moved.positions += [100.0, -50.0, 25.0]
    wall, plane = SphericalWall(1.7, (100.0, -50.0, 25.0)), PlanarWall((101.0, 0, 0), (-1.0, 0, 0), 2.0)
    run = simulate(morse(), moved, NVE(), 1, every=1, temperature_K=0.0, biases=[wall, plane], precision="float64")
    assert run.bias_energy[0] == pytest.approx(6 * 0.5 * 0.25**2 + 0.95**2, rel=1e-6)


@pytest.mark.slow
def test_thermal_width_of_a_restrained_atom():
    """⟨x²⟩ = k_BT/k along each axis, which BAOAB samples without error of the timestep."""
    stiffness, kelvin = 2.0, 300.0
    alone = Atoms("Cu", [[5.0, 5.0, 5.0]])
    ensemble = Langevin(kelvin, timestep_fs=10.0, friction_per_fs=0.02)
    restraint = HarmonicRestraint([0], [[5.0, 5.0, 5.0]], stiffness)
    runs = simulate_many(morse(), [alone] * 16, ensemble, 20_000, every=20, biases=[restraint])
    squares = np.array([((run.positions[50:] - 5.0) ** 2).mean((0, 1)) for run in runs]).ravel() / (KB * kelvin / stiffness)
    error = squares.std(ddof=1) / np.sqrt(len(squares))
    assert error < 0.02
    assert abs(squares.mean() - 1) < 4 * error


def test_a_restraint_pulls_back_over_a_face_of_the_cell():
    """A restrained atom of a periodic crystal is held where it is in space, not at an image."""
    atoms = crystal()
    goal = atoms.positions[0] - [0.3, 0, 0]
    run = simulate(
        morse(), atoms, Langevin(50.0, timestep_fs=2.0, friction_per_fs=0.05), 1000, biases=[HarmonicRestraint([0], [goal], 100.0)]
    )
    assert np.abs(run.positions[-1, 0] - goal).max() < 0.1


@pytest.mark.parametrize(
    "ensemble",
    [
        pytest.param(NVE(timestep_fs=2.0), marks=pytest.mark.slow),
        pytest.param(NVT(300.0, timestep_fs=2.0), marks=pytest.mark.slow),
        pytest.param(CSVR(300.0, timestep_fs=2.0, damping_fs=20.0), marks=pytest.mark.slow),
        Langevin(300.0, timestep_fs=2.0),
    ],
    ids=lambda e: type(e).__name__,
)
def test_fixed_atoms_do_not_move(ensemble):
    """Not in a single bit; forces on them are still reported, and temperature is spread over the 3·N_free of the others."""
    atoms, held = crystal(), np.arange(0, 32, 2)
    atoms.set_constraint(FixAtoms(held))
    run = simulate(morse(depth=1.0), atoms, ensemble, 2000, every=10, temperature_K=300.0, biases=[SphericalWall(30.0)])
    assert not np.ptp(run.positions[:, held], axis=0).any()
    assert not run.velocities[:, held].any()
    assert np.abs(run.forces[:, held]).min() > 0
    kinetic = run.kinetic_energy
    np.testing.assert_allclose(run.temperature_K, 2 * kinetic / (3 * 16 * KB), rtol=1e-5)
    assert np.ptp(run.positions[:, 1::2], axis=0).min() > 0.01
    if not isinstance(ensemble, NVE):
        assert run.temperature_K[20:].mean() == pytest.approx(300.0, rel=0.12)
        assert run.conserved_energy.std() < 0.2 * run.total_energy.std()


@pytest.mark.parametrize(
    ("bias", "reason"),
    [
        (HarmonicRestraint([6], [[0, 0, 0]], 1.0), "HarmonicRestraint.atoms: found .* expected indices from 0 to 5"),
        (HarmonicRestraint([0.5], [[0, 0, 0]], 1.0), "HarmonicRestraint.atoms"),
        (HarmonicRestraint([0], [0, 0, 0], 1.0), r"HarmonicRestraint.centers: found shape \(3,\), expected \(1, 3\)"),
        (HarmonicRestraint([0], [[0, 0, 0]], 0.0), "HarmonicRestraint.force_constant: found 0.0"),
        (SphericalWall(-1.0), "SphericalWall.radius: found -1.0"),
        (PlanarWall((0, 0, 0), (0, 0, 0)), "PlanarWall.normal"),
        (UncertaintyBias(float("nan"), 1.0), "UncertaintyBias.height"),
        (UncertaintyBias(1.0, 1.0), "found a potential with one member"),
    ],
)
def test_biases_that_cannot_be(bias, reason):
    with pytest.raises(SimulationError, match=reason):
        simulate(morse(), cluster(), NVE(), 1, temperature_K=0.0, biases=[bias])


def test_what_a_moving_cell_refuses():
    """Fixed atoms have no place in it; neither has a molecule."""
    held = crystal()
    held.set_constraint(FixAtoms([0]))
    for atoms in (held, cluster()):
        with pytest.raises(SimulationError, match="expected a cell that is periodic along all directions, no fixed atoms"):
            simulate(morse(), atoms, NPT(300.0), 1)


@pytest.mark.parametrize("kind", [CSVR, NVT])
def test_atoms_that_are_restrained_have_the_temperature_of_the_thermostat(kind):
    """A restraint takes up momentum, so no degree of freedom is lost: each component of three atoms has its ½k_BT, the centre of mass too."""
    atoms = Atoms("Cu3", [[0, 0, 0], [2.7, 0, 0], [1.35, 2.34, 0]])
    hold = HarmonicRestraint([0], [[0.0, 0, 0]], 2.0)
    runs = simulate_many(morse(), [atoms] * 16, kind(300.0, timestep_fs=4.0), 6000, every=20, seed=3, biases=[hold])
    masses = atoms.get_masses()[0] / FS**2
    kinetic = np.concatenate([run.velocities[60:] for run in runs]) ** 2 * masses / KB
    assert kinetic.mean() == pytest.approx(300, rel=0.05)
    assert np.concatenate([run.temperature_K[60:] for run in runs]).mean() == pytest.approx(kinetic.mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("biases", "reason"),
    [
        ([PlanarWall([0, 0], [0, 0, 1.0])], r"PlanarWall.point: found \[0, 0\], expected three numbers"),
        ([SphericalWall(5.0, [0, 0])], "SphericalWall.center"),
    ],
)
def test_a_wall_needs_three_numbers(biases, reason):
    with pytest.raises(SimulationError, match=reason):
        simulate(morse(), cluster(), NVT(300.0), 5, biases=biases)
