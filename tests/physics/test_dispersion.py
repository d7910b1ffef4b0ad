"""Dispersion against the library `dftd3`, limits of long distance, images, and what a cutoff leaves out."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.core.errors import ConfigError
from eqpot.core.units import ENERGY_UNITS, LENGTH_UNITS
from eqpot.physics import Damping, Range, d3_elements, d3_energies, damping_of, effective_cutoff, tail_energy, tail_pressure
from eqpot.physics.d3_functionals import FUNCTIONALS
from eqpot.physics.d3_table import load_table
from eqpot.physics.dispersion_tail import fade

REFERENCE = json.loads(Path(__file__).with_name("d3_reference.json").read_text())
SHARP = Range(REFERENCE["reach"], REFERENCE["cn_reach"], 0.0)
PBE = damping_of("pbe")
NUMBERS = sorted({number for case in REFERENCE["cases"].values() for number in case["numbers"]})
ELEMENTS = d3_elements(NUMBERS)
FCC = 2.65 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
"""Of argon [Å]."""


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def _total(moving, cell, species, index, mask, damping, within):
    positions, strain = moving
    deformation = jnp.eye(3, dtype=positions.dtype) + (strain + jnp.swapaxes(strain, 1, 2)) / 2
    positions = jnp.einsum("na,nab->nb", positions, deformation[index])
    atoms = d3_energies(positions, cell @ deformation, species, index, mask, ELEMENTS, damping, within)
    return jnp.sum(atoms), atoms


_energies = jax.jit(lambda *arguments: _total(*arguments)[1], static_argnums=(5, 6))
_slopes = jax.jit(jax.value_and_grad(_total, has_aux=True), static_argnums=(5, 6))


def arrays(structures, dtype="float64"):
    """A batch, padded to one of few sizes, and how many atoms of it are real; each structure is numbers, positions and a cell or None."""
    numbers = np.concatenate([np.asarray(numbers) for numbers, *_ in structures])
    atoms, graphs = 32 * (len(numbers) // 32 + 1), 4 * (len(structures) // 4 + 1)
    positions, cells, species = np.zeros((atoms, 3)), np.zeros((graphs, 3, 3)), np.zeros(atoms, np.int32)
    index = np.full(atoms, graphs - 1, np.int32)
    positions[: len(numbers)] = np.concatenate([np.asarray(x, float) for _, x, _ in structures])
    species[: len(numbers)] = np.searchsorted(NUMBERS, numbers)
    index[: len(numbers)] = np.repeat(np.arange(len(structures)), [len(n) for n, *_ in structures])
    cells[: len(structures)] = [np.zeros((3, 3)) if cell is None else cell for *_, cell in structures]
    moving = jnp.asarray(positions, dtype), jnp.zeros((graphs, 3, 3), dtype)
    return (moving, jnp.asarray(cells, dtype), *map(jnp.asarray, (species, index, np.arange(atoms) < len(numbers)))), len(numbers)


def energies_of(structures, damping=PBE, within=SHARP):
    """Energies of the atoms of a batch."""
    batch, n = arrays(structures)
    found = np.asarray(_energies(*batch, damping, within))
    assert not found[n:].any()
    return found[:n]


def evaluate(structures, damping=PBE, within=SHARP, dtype="float64"):
    """Energies of the atoms, forces, and ∂E/∂ε of each structure of a batch."""
    batch, n = arrays(structures, dtype)
    (_, atoms), (slope, strain) = jax.device_get(_slopes(*batch, damping, within))
    assert not atoms[n:].any() and not slope[n:].any()
    return atoms[:n], -slope[:n], strain[: len(structures)]


def structure_of(case):
    cell = np.where(np.array(case["pbc"])[:, None], case["cell"], 0.0)
    return np.array(case["numbers"]), np.array(case["positions"]), cell


@pytest.fixture(scope="module")
def found():
    """The batch of all structures of the reference, in float64 and float32: molecules, crystals of few and many images, slabs, a wire; padded."""
    structures = [structure_of(case) for case in REFERENCE["cases"].values()]
    ends = np.cumsum([len(numbers) for numbers, *_ in structures])[:-1]
    results = {}
    for dtype in ("float64", "float32"):
        with jax.enable_x64(dtype == "float64"):
            energies, forces, strains = evaluate(structures, dtype=dtype)
        results[dtype] = dict(
            zip(REFERENCE["cases"], zip(np.split(energies, ends), np.split(forces, ends), strains, strict=True), strict=True)
        )
    return results


@pytest.mark.parametrize("name", REFERENCE["cases"])
@pytest.mark.parametrize(("dtype", "error"), [("float64", 2e-7), ("float32", 3e-5)])
def test_it_is_that_of_the_library(found, name, dtype, error):
    """Energy, forces and ∂E/∂ε, relative to the largest component."""
    case, (energies, forces, strain) = REFERENCE["cases"][name], found[dtype][name]
    assert energies.sum() == pytest.approx(case["energy"], rel=error / 10)
    for some, expected in ((forces, case["forces"]), (strain, case["strain_derivative"])):
        np.testing.assert_allclose(some, expected, rtol=0, atol=error * max(np.abs(expected).max(), 1e-3))


@pytest.mark.parametrize(("name", "functional"), [(name, f) for name, others in REFERENCE["functionals"].items() for f in others])
def test_functionals_are_those_of_the_library(name, functional):
    energies = energies_of([structure_of(REFERENCE["cases"][name])], damping_of(functional))
    assert energies.sum() == pytest.approx(REFERENCE["functionals"][name][functional], rel=1e-8)


def test_an_atom_alone_has_none():
    energies, forces, _ = evaluate([([18], np.ones((1, 3)), None), structure_of(REFERENCE["cases"]["ethanol"])])
    assert energies[0] == 0 and not forces[0].any() and (energies[1:] < 0).all()


def test_all_directions_of_periodicity_are_images_of_one_molecule():
    """A wire along any vector, slabs and a crystal agree with their copies, written out."""
    rng, within = np.random.default_rng(5), Range(5.5, 5.0, 1.0)
    numbers, points = np.array([8, 1, 6]), rng.normal(size=(3, 3))
    vectors = np.array([[3.0, 0.4, 0.1], [-0.7, 3.3, 0.2], [0.5, 0.3, 3.6]])
    choices, structures, written = ([0], [1], [0, 2], [0, 1, 2]), [], []
    for rows in choices:
        cell = np.zeros((3, 3))
        cell[rows] = vectors[rows]
        steps = np.array(list(np.ndindex(*(7 if k in rows else 1 for k in range(3))))) - [3 if k in rows else 0 for k in range(3)]
        copies = (points + (steps @ vectors)[:, None]).reshape(-1, 3)
        reached = np.min(np.linalg.norm(copies[:, None] - points, axis=-1), 1) < 2 * 5.5
        middle = 3 * int(np.flatnonzero(~steps.any(1))[0])
        written.append(energies_of([(np.tile(numbers, len(steps))[reached], copies[reached], None)], within=within))
        structures.append((numbers, points + [[7.3, -21, 4]] @ cell, cell))
        start = int(reached[:middle].sum())
        written[-1] = written[-1][start : start + 3]
    found = energies_of(structures, within=within).reshape(4, 3)
    np.testing.assert_allclose(found, written, rtol=1e-10)


def test_supercells_have_the_same_energy():
    numbers, positions, cell = structure_of(REFERENCE["cases"]["triclinic"])
    copies = np.array(list(np.ndindex(2, 1, 3)))
    many = (positions + (copies @ cell)[:, None]).reshape(-1, 3)
    energies, forces, strain = evaluate([(numbers, positions, cell), (np.tile(numbers, 6), many, cell * [[2], [1], [3]])])
    np.testing.assert_allclose(energies[7:], np.tile(energies[:7], 6), rtol=1e-10)
    np.testing.assert_allclose(forces[7:], np.tile(forces[:7], (6, 1)), atol=1e-12)
    np.testing.assert_allclose(strain[1], 6 * strain[0], rtol=1e-9)


def test_forces_and_stress_are_differences():
    """With all that moves: coordination, fading at both reaches, and the tail."""
    numbers, positions, cell = structure_of(REFERENCE["cases"]["triclinic"])
    within, rng = Range(8.0, 6.0, 3.0, True), np.random.default_rng(1)
    move, strain = rng.normal(size=positions.shape), rng.normal(size=(3, 3))
    strain = (strain + strain.T) / 2
    _, forces, slope = evaluate([(numbers, positions, cell)], within=within)
    step, ends = 1e-4, []
    for sign in (1, -1):
        deformation = np.eye(3) + sign * step * strain
        pair = (numbers, positions + sign * step * move, cell), (numbers, positions @ deformation, cell @ deformation)
        ends.append(evaluate(pair, within=within)[0].reshape(2, -1).sum(1))
    found = np.subtract(*ends) / (2 * step)
    np.testing.assert_allclose(found, [-np.sum(forces * move), np.sum(slope[0] * strain)], rtol=2e-7)


def test_a_far_pair_has_its_reference_coefficient():
    """−(s6 C6/r⁶ + s8 C8/r⁸): argon, whose C6 is 64.6462 Hartree bohr⁶, and the first correction falls as r⁻⁸."""
    table, within = load_table(), Range(90.0, 12.0, 1.0)
    c6 = table.c6[17, 17, 0, 0] * ENERGY_UNITS["Hartree"] * LENGTH_UNITS["Bohr"] ** 6
    ratio = 3 * (table.sizes[17] * LENGTH_UNITS["Bohr"]) ** 2
    distances = np.array([30.0, 60.0])
    energies = energies_of([([18, 18], [[0, 0, 0], [d, 0, 0]], None) for d in distances], within=within)
    for distance, found in zip(distances, energies.reshape(2, 2).sum(1) * distances**6 / -c6, strict=True):
        assert found - 1 == pytest.approx(PBE.s8 * ratio / distance**2, rel=0.01)
    assert table.c6[17, 17, 0, 0] == 64.6462


def test_everything_fades_out_smoothly():
    """Energy, slope and curvature of a pair near both reaches change by no more than the steps allow, and are zero beyond."""
    r = np.linspace(6.5, 8.5, 4001)
    slopes = jax.vmap(jax.grad(lambda x: fade(x, 8.0, 1.0)))
    values = [fade(r, 8.0, 1.0), *map(np.asarray, (slopes(r), jax.vmap(jax.grad(jax.grad(lambda x: fade(x, 8.0, 1.0))))(r)))]
    assert all(np.abs(np.diff(v)).max() < 0.05 for v in values)
    assert all(v[-1] == 0 for v in values) and values[0][0] == 1
    pairs = [([18, 18], [[0, 0, 0], [d, 0, 0]], None) for d in (6.9, 7.5, 7.999, 8.0, 9.0)]
    energies, forces, _ = evaluate(pairs, within=Range(8.0, 8.0, 1.0))
    assert (energies[:5] < 0).all()
    np.testing.assert_allclose(energies[6:], 0, atol=1e-15)
    np.testing.assert_allclose(forces[6:], 0, atol=1e-15)
    assert 0 < abs(forces[4, 0]) < 1e-3 * abs(forces[2, 0])


def test_atoms_at_one_place_have_finite_slopes():
    energies, forces, strain = evaluate([([6, 6, 1], [[1, 1, 1], [1, 1, 1], [1, 1, 2.0]], 5 * np.eye(3))])
    assert all(np.isfinite(x).all() for x in (energies, forces, strain)) and (energies < 0).all()


def argon(scale=1.0):
    """Energy of an atom in a crystal, whose lattice vectors are scaled: a sum as far as 110 Å, and a tail."""
    bohr, hartree, table = LENGTH_UNITS["Bohr"], ENERGY_UNITS["Hartree"], load_table()
    steps = np.arange(-62, 63)
    steps = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    square = np.sum((steps @ (FCC * scale)) ** 2, -1) / bohr**2
    square = square[(square > 0) & (square < (110 / bohr) ** 2)]
    c6, ratio = table.c6[17, 17, 0, 0], 3 * table.sizes[17] ** 2
    damped = (PBE.a1 * ratio**0.5 + PBE.a2) ** 2
    near = -c6 / 2 * np.sum(1 / (square**3 + damped**3) + PBE.s8 * ratio / (square**4 + damped**4))
    volume = np.linalg.det(FCC * scale) / bohr**3
    return (near - 2 * np.pi / 3 * c6 / volume / (110 / bohr) ** 3) * hartree


@pytest.mark.slow
def test_a_tail_is_what_is_missing():
    """Energy and pressure of argon are that of a sum as far as 110 Å: to r⁻³ without a tail, a hundred times better with one; pressure, which feels
    each shell of neighbours that fades out, ten times."""
    crystal, exact = [([18], np.zeros((1, 3)), FCC)], (argon(), (argon(1.001) - argon(0.999)) / 0.002)
    for reach in (14.0, 24.0):
        errors = []
        for tail in (False, True):
            energies, _, strain = evaluate(crystal, within=Range(reach, 10.0, 4.0, tail))
            errors.append(np.abs(np.array([energies[0], np.trace(strain[0])]) / exact - 1))
        print(reach, errors)
        assert (errors[1] * [100, 10] < errors[0]).all() and (errors[0] > 0.005 * (14 / reach) ** 3).all()


def test_tails_of_a_lattice():
    """Σ −C/r⁶ over a simple cubic lattice, cut at r: energy and the virial's pressure are completed; an effective cutoff is its integral."""
    n = np.arange(-40, 41)
    square = (n[:, None, None] ** 2 + n[:, None] ** 2 + n**2).ravel().astype(float)
    square = square[square > 0]
    exact = 8.401923974827540  # Σ' 1/r⁶ (Jones and Ingham 1925)
    for cutoff in (12.3, 24.3):
        near = np.sum(square[square < cutoff**2] ** -3)
        tail = float(tail_energy(jnp.asarray(1.0), jnp.asarray(1.0), cutoff))
        assert tail == pytest.approx(-2 * np.pi / 3 / cutoff**3, rel=1e-12)
        assert abs(-near / 2 + tail + exact / 2) < 0.1 * abs(tail)
        pressure = float(tail_pressure(jnp.asarray(1.0), jnp.asarray(1.0), cutoff))  # the virial: P V = −⅓ Σ r v'(r)/2 = 2 E
        assert abs(-near + pressure + exact) < 0.1 * abs(pressure) and pressure == pytest.approx(2 * tail, rel=1e-12)
    r = np.linspace(8, 10, 2001)
    for order in (6, 8):
        lost = np.trapezoid((1 - fade(r, 10.0, 2.0)) * r ** (2.0 - order), r) + 10 ** (3.0 - order) / (order - 3)
        assert effective_cutoff(10.0, 2.0, order) ** (3 - order) / (order - 3) == pytest.approx(lost, rel=1e-6)
    assert effective_cutoff(10.0, 0.0) == pytest.approx(10)


def test_functionals_are_found_however_they_are_written():
    assert damping_of("CAM-B3LYP") == FUNCTIONALS["camb3lyp"] and damping_of("ωB97M") == damping_of("wB97m") == FUNCTIONALS["wb97m"]
    with pytest.raises(ConfigError, match=r"no D3\(BJ\) parameters are known for 'rpbee', did you mean 'rpbe'\?; or give s8, a1 and a2"):
        damping_of("rpbee")


def test_the_library_itself_agrees():
    """Where it is installed: the parameters of all functionals, and random heaps of all elements that the table has."""
    library = pytest.importorskip("dftd3.interface")
    from dftd3.parameters import get_damping_param  # pyright: ignore[reportMissingImports]

    for name, damping in FUNCTIONALS.items():
        known = get_damping_param(name, ["bj"])
        assert damping == Damping(known["s6"], known["s8"], known["a1"], known["a2"]), name
    bohr, hartree, rng = LENGTH_UNITS["Bohr"], ENERGY_UNITS["Hartree"], np.random.default_rng(0)
    for heap in np.split(rng.permutation(np.arange(1, 95))[:90], 3):
        positions = 2.2 * np.array(list(np.ndindex(5, 3, 2))) + rng.uniform(-0.5, 0.5, (30, 3))
        model = library.DispersionModel(heap, positions / bohr)
        expected = model.get_dispersion(library.RationalDampingParam(**PBE._asdict(), s9=0.0), True)
        mask = jnp.ones(30, bool), d3_elements(heap.tolist()), PBE, Range(30.0, 21.0, 0.0)
        arguments = (jnp.asarray(positions), jnp.zeros((1, 3, 3)), jnp.arange(30, dtype=jnp.int32), jnp.zeros(30, jnp.int32))
        energy, slope = jax.jit(
            jax.value_and_grad(lambda x, others=(arguments[1:], mask): jnp.sum(d3_energies(x, *others[0], *others[1])))
        )(arguments[0])
        assert float(energy) == pytest.approx(float(expected["energy"]) * hartree, rel=1e-8)
        np.testing.assert_allclose(slope, expected["gradient"] * hartree / bohr, rtol=0, atol=1e-7 * np.abs(slope).max())
