"""Derivatives through a relaxation are those of relaxing again with other parameters."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.md.implicit import relaxed_gradient, relaxed_structure
from eqpot.md.minimize import relax
from eqpot.md.systems import read_system
from eqpot.md.valley import rigid_modes

EXACT = {"force_tolerance": 1e-7, "stress_tolerance_GPa": 1e-5, "precision": "float64", "max_steps": 300}


def bond(params, positions, cell):
    """Nearest distance in the octahedron."""
    del params, cell
    return jnp.sqrt(jnp.sum((positions[0] - positions[2]) ** 2))


def lattice(params, positions, cell):
    """Lattice constant."""
    del params, positions
    return jnp.trace(cell) / 3


def weighted(params, positions, cell):
    """A quantity that knows the parameters also by itself."""
    return jnp.sum(params["depth"] ** 2) * bond(params, positions, cell)


def again(atoms, quantity, name, member, step, **options):
    """The quantity after a relaxation with one parameter changed by a step."""
    potential = morse(2).astype("float64")
    params = {k: v.copy() for k, v in potential.params.items()}
    params[name][member] += step
    relaxed = relax(replace(potential, params=params), atoms, **EXACT, **options)
    assert relaxed.converged
    with jax.enable_x64(True):
        return float(quantity(params, jnp.asarray(relaxed.atoms.positions), jnp.asarray(relaxed.atoms.cell.array)))


@pytest.mark.parametrize(
    ("atoms", "quantity", "options"),
    [
        (cluster(), weighted, {}),
        pytest.param(crystal(1, 0.03), lattice, {"cell": "isotropic"}, marks=pytest.mark.slow),
        pytest.param(crystal(1, 0.03), lattice, {"cell": "flexible", "pressure_GPa": 4.0}, marks=pytest.mark.slow),
    ],
    ids=["bond", "lattice constant", "lattice constant under pressure"],
)
def test_the_gradient_is_that_of_relaxing_again(atoms, quantity, options):
    start = relax(morse(2), atoms, **EXACT, **options).atoms
    found = relaxed_gradient(morse(2), start, quantity, **options)
    for name in ("depth", "width", "distance"):
        step = 1e-4
        numeric = (again(start, quantity, name, 1, step, **options) - again(start, quantity, name, 1, -step, **options)) / (2 * step)
        assert found.gradient[name][1] == pytest.approx(numeric, rel=1e-5, abs=1e-7)
    assert abs(found.gradient["distance"][1]) > 0.1


@pytest.mark.slow
def test_a_dimer_is_as_long_as_its_well():
    """Far below the cutoff a bond follows the well one to one, and two members share it as their depths."""
    dimer = Atoms("Cu2", [[0, 0, 0], [2.8, 0, 0]])
    found = relaxed_gradient(morse(2, cutoff=20.0), dimer, lambda p, x, c: jnp.sqrt(jnp.sum((x[1] - x[0]) ** 2)))
    assert found.value == pytest.approx(2.8, abs=1e-3)
    assert found.gradient["distance"] == pytest.approx(np.array([1.0, 1.02]) / 2.02, abs=2e-3)
    assert found.gradient["depth"] == pytest.approx([0, 0], abs=2e-3)
    # Where an atom is depends on where the molecule is, which costs no energy and stays as it was: each atom gives way by half.
    half = relaxed_gradient(morse(2, cutoff=20.0), dimer, lambda p, x, c: x[1, 0])
    assert half.gradient["distance"] == pytest.approx(found.gradient["distance"] / 2, abs=1e-8)


def test_the_energy_at_the_minimum_needs_no_implicit_part():
    """dE*/dp = ∂E/∂p: the envelope theorem."""
    dimer = Atoms("Cu2", [[0, 0, 0], [2.8, 0, 0]])
    potential = morse(1, cutoff=20.0)

    def energy(params, positions, cell):
        del cell
        distance = jnp.sqrt(jnp.sum((positions[1] - positions[0]) ** 2))
        return jnp.sum(params["depth"] * ((1 - jnp.exp(-params["width"] * (distance - params["distance"]))) ** 2 - 1))

    found = relaxed_gradient(potential, dimer, energy)
    assert found.gradient["depth"] == pytest.approx([-1], abs=2e-3)
    assert found.gradient["distance"] == pytest.approx([0], abs=2e-3)


@pytest.mark.slow
def test_the_relaxed_structure_is_a_function_that_can_be_compiled_and_moved_along():
    relaxed = relaxed_structure(morse(2), relax(morse(2), cluster()).atoms)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, morse(2).astype("float64").params)
        value, slope = jax.jit(jax.value_and_grad(lambda p: bond(p, *relaxed(p))))(params)
        other = {**params, "distance": params["distance"] + 1e-3}
        assert float(bond(other, *relaxed(other)) - value) == pytest.approx(1e-3 * float(slope["distance"].sum()), rel=1e-3)


@pytest.mark.slow
def test_a_network_is_derived_through(make_potential):
    """Second derivatives of every kernel: one parameter of a network changes where a crystal's atoms rest."""
    potential = make_potential(tiny=True, members=1, dtype="float64")
    start = Atoms("C2H2", [[0, 0, 0], [1.3, 0, 0], [-1.1, 0.2, 0], [2.4, -0.2, 0.3]])
    rest = relax(potential, start, **EXACT)
    assert rest.converged

    def length(params, positions, cell):
        del params, cell
        return jnp.sum((positions[1] - positions[0]) ** 2)

    found = relaxed_gradient(potential, rest.atoms, length)
    rng = np.random.default_rng(0)
    way = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * 0.1, potential.params)
    relaxed = relaxed_structure(potential, rest.atoms)
    with jax.enable_x64(True):

        def at(step):
            params = jax.tree.map(lambda leaf, w: jnp.asarray(leaf + step * w), potential.params, way)
            return float(length(params, *relaxed(params)))

        numeric = (at(1e-4) - at(-1e-4)) / 2e-4
    along = sum(np.vdot(g, w) for g, w in zip(jax.tree.leaves(found.gradient), jax.tree.leaves(way), strict=True))
    assert along == pytest.approx(numeric, rel=1e-4)
    assert abs(along) > 1e-3


def test_what_is_no_minimum_is_refused():
    stretched = Atoms("Cu2", [[0, 0, 0], [3.6, 0, 0]])  # beyond the inflection of the well
    with pytest.raises(SimulationError, match="not near a minimum"):
        relaxed_gradient(morse(), stretched, lambda p, x, c: jnp.sum(x**2))
    with pytest.raises(SimulationError, match="periodic along all"):
        relaxed_structure(morse(), cluster(), cell="isotropic")


@pytest.mark.parametrize(
    ("atoms", "pbc", "fixed", "modes"),
    [
        (molecule("H2O"), False, [], 6),
        (molecule("CO2"), False, [], 5),
        (Atoms("Cu"), False, [], 3),
        (molecule("H2O"), True, [], 3),
        (molecule("H2O"), [False, False, True], [], 4),
        (molecule("H2O"), [True, True, False], [], 3),
        (molecule("H2O"), False, [0], 3),
        (molecule("H2O"), False, [0, 1], 1),
        (molecule("H2O"), True, [0], 0),
    ],
)
def test_rigid_motions_are_counted(atoms, pbc, fixed, modes):
    atoms.center(vacuum=3)
    atoms.pbc = pbc
    atoms.set_constraint(FixAtoms(fixed))
    found = rigid_modes(read_system(atoms))
    assert len(found) == modes
    flat = found.reshape(modes, 3 * len(atoms))
    assert flat @ flat.T == pytest.approx(np.eye(modes), abs=1e-12)
    # No distance changes, to first order, and nothing that is fixed moves.
    arms = atoms.positions[:, None] - atoms.positions[None]
    for mode in found:
        assert np.einsum("ijk,ijk->ij", arms, mode[:, None] - mode[None]) == pytest.approx(np.zeros(arms.shape[:2]), abs=1e-10)
        assert np.abs(mode[fixed]).max(initial=0) < 1e-12
