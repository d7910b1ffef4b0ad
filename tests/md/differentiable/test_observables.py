"""Observables are normalised, smooth, and the same for whatever describes the same system."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from eqpot.core.errors import SimulationError
from eqpot.graph import Structure, collate, prepare
from eqpot.graph.batching import Capacity
from eqpot.md.differentiable import density, kinetic_temperature, pair_distance, radial_bins, radial_distribution

SKEWED = np.array([[7.0, 0, 0], [2.5, 6.0, 0], [-1.5, 2.0, 8.0]])


def graph_of(atoms, cutoff, dtype="float32", slots=64):
    host = prepare(Structure.from_atoms(atoms), ("Ar", "Cu"), cutoff)
    return jax.tree.map(jnp.asarray, collate([host], Capacity(1, len(atoms), slots), dtype))


@pytest.mark.parametrize("cell", [SKEWED, np.diag([4.0, 9.0, 5.0])], ids=["skewed", "thinner than the cutoff"])
def test_random_points_have_no_structure(cell):
    """g = 1 at all distances, also beyond the cell, for as few as six atoms."""
    rng, (centres, width) = np.random.default_rng(0), radial_bins(1.0, 4.5, 9, 6.0)
    found, distribution = [], jax.jit(lambda graph: radial_distribution(graph, centres, width))
    for _ in range(300):
        atoms = Atoms("Ar6", rng.uniform(size=(6, 3)) @ cell, cell=cell, pbc=True)
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(6, 1)]
        if distances.min() > 0.11:
            found.append(distribution(graph_of(atoms, 6.0)))
    found = np.array(found)
    error = found.std(0) / np.sqrt(len(found))
    assert error.max() < 0.1 and (np.abs(found.mean(0) - 1) < 4.5 * error).all()
    assert abs(found[:, -3:].mean() - 1) < 0.03


def test_first_shell_of_copper_has_twelve_neighbours():
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * 3
    centres, width = radial_bins(1.5, 3.3, 37, 4.0)
    found = np.asarray(radial_distribution(graph_of(atoms, 4.0), centres, width))
    n, volume = len(atoms), atoms.get_volume()
    shell = np.sum(found * 4 * np.pi * (centres**2 + width**2)) * (centres[1] - centres[0]) * (n - 1) / volume
    assert shell == pytest.approx(12, rel=2e-3)
    assert centres[found.argmax()] == pytest.approx(3.6 / np.sqrt(2), abs=0.05)


def test_pairs_of_elements_add_up_to_all_pairs():
    """N(N−1)·g = Σ_ab n_ab·g_ab."""
    rng, (centres, width) = np.random.default_rng(1), radial_bins(1.0, 3.5, 7, 5.0)
    atoms = Atoms("Ar3Cu5", rng.uniform(size=(8, 3)) @ SKEWED, cell=SKEWED, pbc=True)
    graph = graph_of(atoms, 5.0)
    part = jax.jit(lambda a, b: radial_distribution(graph, centres, width, (a, b)), static_argnums=(0, 1))
    total = 3 * 2 * part(0, 0) + 5 * 4 * part(1, 1) + 3 * 5 * (part(0, 1) + part(1, 0))
    assert np.allclose(part(0, 1), part(1, 0), rtol=1e-5)
    assert np.allclose(total, 8 * 7 * radial_distribution(graph, centres, width), rtol=1e-5)


def test_derivative_of_the_distribution_is_that_of_differences():
    rng, (centres, width) = np.random.default_rng(2), radial_bins(1.0, 3.5, 7, 5.0)
    atoms = Atoms("Ar8", rng.uniform(size=(8, 3)) @ SKEWED, cell=SKEWED, pbc=True)
    with jax.enable_x64(True):
        graph, direction = graph_of(atoms, 5.0, "float64"), jnp.asarray(rng.normal(size=(8, 3)))
        moved = jax.jit(lambda h: radial_distribution(graph.replace(positions=graph.positions + h * direction), centres, width))
        exact = jax.jacfwd(moved)(0.0)
        assert np.allclose(exact, (moved(1e-5) - moved(-1e-5)) / 2e-5, atol=1e-7) and np.abs(exact).max() > 0.1


def test_numbers_of_a_frame():
    positions = jnp.asarray([[0.0, 0, 0], [3.0, 4.0, 0], [100.0, 0, 0]])
    assert np.allclose(pair_distance(positions, [0, 0], [1, 2]), [5, 100])
    water = density(jnp.full(33, 18.01528), jnp.eye(3) * (33 / 0.033456) ** (1 / 3))
    assert float(water) == pytest.approx(1.0008, rel=1e-3)  # 33.456 molecules in a cubic nanometre
    momenta, masses = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32), jnp.full(5, 2.0)
    assert float(kinetic_temperature(momenta, masses, 12.0)) == pytest.approx(float((momenta**2).sum()) / 2 / 12 / 8.617330e-5, rel=1e-5)


def test_bins_that_reach_beyond_the_pairs():
    with pytest.raises(SimulationError, match=r"reaches to 6\.28 Å, expected at most the cutoff of 6 Å"):
        radial_bins(1.0, 6.0, 51, 6.0)
    with pytest.raises(SimulationError, match="expected at least two"):
        radial_bins(2.0, 1.0, 5, 6.0)
