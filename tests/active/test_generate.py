"""Generated structures: amplitudes and energies of a classical crystal, geometry that is kept or changed by what was said, and a record of it all."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.io import read as read_ase

from eqpot import active
from eqpot.active.generate_config import generate_config
from eqpot.active.generate_molecules import rotatable_bonds
from eqpot.active.generate_rattle import THZ, amplitudes, hessian_of, normal_modes
from eqpot.active.generate_record import Screen, bonded, covalent_radii
from eqpot.core.errors import ConfigError, StructureError
from eqpot.core.units import KB
from eqpot.data import read
from eqpot.data.distances import pairs
from eqpot.graph.structure import Structure
from eqpot.oracles import ASEOracle

COPPER = Structure.from_atoms(bulk("Cu", cubic=True))
SALT = Structure.from_atoms(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
WATER, ETHANOL, BUTANE = (Structure.from_atoms(molecule(name)) for name in ("H2O", "CH3CH2OH", "trans-butane"))
EVERY_METHOD = [
    {"method": "rattle", "n": 4, "temperature_K": 600},
    {"method": "strain", "n": 3},
    {"method": "vacancy", "n": 3},
    {"method": "interstitial", "n": 2, "element": "H"},
    {"method": "surface", "miller": [[1, 1, 1], [1, 0, 0]], "layers": [3]},
    {"method": "dimer", "n": 5},
]


def springs_between(structure: Structure) -> np.ndarray:
    """Hessian of springs along the lines between all atoms, of various strengths [eV/Å²]; it knows neither place nor orientation."""
    n = len(structure)
    blocks = np.zeros((n, 3, n, 3))
    for i in range(n):
        for j in range(i):
            line = structure.positions[i] - structure.positions[j]
            block = (3.0 + i + 2 * j) * np.outer(line, line) / (line @ line)
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                blocks[a, :, b] += sign * block
    return blocks.reshape(3 * n, 3 * n)


def nearest(structure: Structure) -> float:
    """Least distance of two atoms in sums of their covalent radii."""
    i, j, _, distance = pairs(structure, 4.0)
    radii = covalent_radii(structure.numbers)
    return float((distance / (radii[i] + radii[j])).min(initial=np.inf))


def displacements(result, start: Structure) -> np.ndarray:
    return np.stack([m.structure.positions - start.positions for m in result])


# Rattle


@pytest.mark.parametrize("how", [{"spring": 8.0}, {"frequency_THz": 9.0}, {"debye_K": 320.0}, {}])
def test_variance_is_that_of_equipartition(how):
    """⟨u²⟩ = k_B·T/(m·ω²) per direction; Debye: 3ħ²T/(m·k_B·θ²), with ħ²/(amu·k_B·Å²) = 48.5 K."""
    shifts = displacements(active.rattled(SALT, 300, 800, **how, screen=Screen(nearest=0)), SALT)
    masses = np.where(SALT.numbers == 11, 22.98976928, 35.45)
    expected = {
        "spring": KB * 300 / how.get("spring", 5.0) + 0 * masses,
        "frequency_THz": 1.380649e-23 * 300 / (masses * 1.66053907e-27 * (2 * np.pi * 9e12) ** 2) * 1e20,
        "debye_K": 3 * 48.5088 * 300 / (masses * 320**2),
    }[next(iter(how), "spring")]
    for number in (11, 17):
        found, variance = shifts[:, SALT.numbers == number], expected[SALT.numbers == number][0]
        assert found.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / found.size))
        assert abs(found.mean()) < 5 * np.sqrt(variance / found.size)
        assert (found**4).mean() == pytest.approx(3 * variance**2, rel=0.12)  # Gaussian


def test_each_harmonic_mode_has_half_kT():
    """½ k_B·T of potential energy in each of the 3N − 6 modes of springs between atoms that are no crystal, none in the others."""
    hessian, kelvin = springs_between(ETHANOL), 250.0
    result = active.rattled(ETHANOL, kelvin, 1500, hessian=hessian, screen=Screen(nearest=0))
    shifts = displacements(result, ETHANOL).reshape(1500, -1)
    masses = np.repeat(ETHANOL.to_atoms().get_masses(), 3)
    squares, vectors = np.linalg.eigh(hessian / np.sqrt(np.outer(masses, masses)))
    energies = 0.5 * squares * (shifts * np.sqrt(masses) @ vectors) ** 2  # [draws, modes]
    assert np.all(energies.mean(0)[6:] == pytest.approx(0.5 * KB * kelvin, rel=5 * np.sqrt(2 / 1500)))
    total = 0.5 * np.einsum("ki,ij,kj->k", shifts, hessian, shifts)
    n = 3 * len(ETHANOL) - 6
    assert total.mean() == pytest.approx(n / 2 * KB * kelvin, rel=5 * np.sqrt(2 / n / 1500))
    assert np.abs((shifts * masses).reshape(1500, -1, 3).sum(1)).max() < 1e-10  # the centre of mass stays


def test_translations_rotations_and_imaginary_modes_are_left_out():
    linear = Structure.from_atoms(molecule("CO2"))
    bend = np.zeros((9, 9))  # a bending that costs energy, besides the springs
    for axis in (0, 1):
        row = np.zeros((3, 3))
        row[:, axis] = [2, -1, -1]
        bend += np.outer(row.ravel(), row.ravel())
    assert len(normal_modes(linear, springs_between(linear) + bend).frequencies_THz) == 4
    assert len(normal_modes(ETHANOL, springs_between(ETHANOL)).frequencies_THz) == 3 * 9 - 6
    assert len(normal_modes(COPPER, np.eye(12)).frequencies_THz) == 9
    modes = normal_modes(linear, springs_between(linear) - bend)
    assert modes.left_out == modes.imaginary == 2
    result = active.rattled(linear, 100, 2, hessian=springs_between(linear) - bend)
    assert "2 of them imaginary" in result.notes[0]


def test_hessian_is_the_second_derivative_of_a_potential(potential):
    atoms = ETHANOL.to_atoms()
    precise = potential.astype("float64")
    found, step = hessian_of(potential, ETHANOL), 1e-4
    for row in (0, 4, 26):
        forces = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.reshape(-1)[row] += sign * step
            forces.append(precise.predict(moved).forces.ravel())
        assert found[row] == pytest.approx((forces[1] - forces[0]) / (2 * step), abs=1e-6)
    assert found == pytest.approx(found.T, abs=1e-10) and np.abs(found.reshape(27, 9, 3).sum(1)).max() < 1e-9


def test_normal_modes_of_a_diatomic():
    """ω² = k/μ."""
    pair = Structure.from_atoms(Atoms("HCl", [[0, 0, 0], [0.3, 1.2, 0.1]]))
    (frequency,) = normal_modes(pair, springs_between(pair)).frequencies_THz
    reduced = 1.008 * 35.45 / (1.008 + 35.45)
    assert frequency * THZ == pytest.approx(np.sqrt(4.0 / reduced), rel=1e-10)


# Crystals


def test_strain_keeps_fractional_coordinates_and_gives_the_volume():
    start = Structure(SALT.numbers, SALT.positions + 0.3, SALT.cell, True)
    result = active.strained(start, 40, volumetric=(-0.1, 0.2), shear=0.05)
    fractions = start.positions @ np.linalg.inv(start.cell)
    for made in result:
        cell = made.structure.cell
        assert made.structure.positions @ np.linalg.inv(cell) == pytest.approx(fractions, abs=1e-12)
        assert made.structure.volume == pytest.approx(start.volume * (1 + made.drawn["volume_change"]), rel=1e-12)
        deformation = np.linalg.solve(start.cell, cell)
        assert deformation == pytest.approx(deformation.T, abs=1e-12) == np.array(made.drawn["deformation"])
    changes = [m.drawn["volume_change"] for m in result]
    assert -0.1 <= min(changes) < -0.06 and 0.15 < max(changes) <= 0.2
    assert max(np.abs(np.array(m.drawn["deformation"])[0, 1]) for m in result) > 0.03


@pytest.mark.parametrize("make", [active.strained, active.with_interstitials])
def test_what_is_for_crystals_refuses_a_molecule(make):
    with pytest.raises(StructureError, match="expected a crystal"):
        make(ETHANOL, 1)


def test_vacancies_are_counted_and_never_twice_the_same():
    result = active.with_vacancies(SALT, 6, element="Cl", count=2)
    assert len(result) == 6 == len({tuple(m.drawn["sites"]) for m in result})
    for made in result:
        assert len(made.structure) == 6 and (made.structure.numbers == 17).sum() == 2
    many = active.with_vacancies(SALT, 9, element="Na")
    assert (many.wanted, len(many)) == (9, 4) and "only 4 ways" in many.missing[0].reason
    with pytest.raises(StructureError, match="too few"):
        active.with_vacancies(SALT, 1, element="Na", count=5)


def test_interstitials_go_into_holes():
    result = active.with_interstitials(COPPER, 5, element="H", count=2, screen=Screen(nearest=0.8))
    assert len(result) == 5
    for made in result:
        assert made.structure.numbers.tolist() == [29] * 4 + [1, 1]
        assert made.structure.positions[:4] == pytest.approx(COPPER.positions)
    full = active.with_interstitials(COPPER, 2, element="Cs")
    assert not len(full) and full.wanted == 2 and "no hole" in full.missing[0].reason


def test_surfaces_have_layers_and_vacuum():
    (slab, thin) = active.surfaces(COPPER, [[1, 1, 1]], layers=[4, 2], vacuum_A=8).made
    assert slab.structure.pbc.all()
    reference = fcc111("Cu", (1, 1, 4), vacuum=8)
    heights = np.unique(slab.structure.positions[:, 2].round(4))
    assert np.diff(heights) == pytest.approx(np.diff(reference.positions[:, 2]), abs=1e-3)
    assert heights.max() - heights.min() + 16 == pytest.approx(slab.structure.cell[2, 2], abs=1e-3)
    assert len(thin.structure) == len(slab.structure) / 2
    assert len(slab.structure) / np.linalg.norm(np.cross(*slab.structure.cell[:2])) == pytest.approx(
        4 / np.linalg.norm(np.cross(*reference.cell[:2])), rel=1e-3
    )


# Molecules


def test_a_torsion_changes_its_dihedral_by_the_angle_and_no_bond_or_angle():
    for torsion in rotatable_bonds(BUTANE):
        for angle in (35.0, -80.0, 120.0):
            before, after = BUTANE.to_atoms(), BUTANE.to_atoms()
            after.positions = torsion.turned(BUTANE.positions, angle)
            change = after.get_dihedral(*torsion.atoms) - before.get_dihedral(*torsion.atoms)
            assert (change - angle + 180) % 360 - 180 == pytest.approx(0, abs=1e-8)
            assert internal(after) == pytest.approx(internal(before), abs=1e-9)


def internal(atoms: Atoms) -> np.ndarray:
    """All bond lengths [Å] and bond angles [degrees] of butane as it is drawn."""
    bonds = bonded(BUTANE).tolist()
    lengths = [atoms.get_distance(i, j) for i, j in bonds]
    joined = {k: sorted({x for b in bonds if k in b for x in b} - {k}) for k in range(len(atoms))}
    return np.array(lengths + [atoms.get_angle(a, k, b) for k, ends in joined.items() for a in ends for b in ends if a < b])


@pytest.mark.parametrize(
    ("name", "number"),
    [("trans-butane", 3), ("CH3CH2OH", 2), ("C2H4", 0), ("C6H6", 0), ("cyclobutane", 0), ("CH3COOH", 2), ("2-butyne", 0), ("butadiene", 1)],
)
def test_only_single_bonds_outside_of_rings_turn(name, number):
    assert len(rotatable_bonds(Structure.from_atoms(molecule(name)))) == number


def test_torsions_keep_the_bonds_and_a_scan_turns_one_at_a_time():
    result = active.torsions(BUTANE, 30)
    assert len(result) == 30
    for made in result:
        assert np.array_equal(bonded(made.structure), bonded(BUTANE)) and len(made.drawn["angles_deg"]) == 3
        assert internal(made.structure.to_atoms()) == pytest.approx(internal(BUTANE.to_atoms()), abs=1e-8)
    scan = active.torsions(BUTANE, step_deg=60)
    assert scan.wanted == 3 * 5
    turned = [(m.drawn["dihedrals"][0], m.drawn["angles_deg"]) for m in scan]
    assert turned[:2] == [(turned[0][0], [60.0]), (turned[0][0], [120.0])]
    with pytest.raises(StructureError, match="no single bond"):
        active.torsions(WATER, 3)


def test_a_turn_into_another_atom_is_refused():
    """An argon 1.3 Å beyond where a half turn puts ethanol's hydroxyl hydrogen; it is bonded to nothing at the start."""
    (torsion,) = [t for t in rotatable_bonds(ETHANOL) if ETHANOL.numbers[t.atoms[2]] == 8]
    oxygen, hydrogen = ETHANOL.positions[torsion.atoms[2]], torsion.turned(ETHANOL.positions, 180.0)[torsion.moving[0]]
    blocked = ETHANOL.to_atoms() + Atoms("Ar", [hydrogen + 1.3 * (hydrogen - oxygen) / np.linalg.norm(hydrogen - oxygen)])
    scan, free = (active.torsions(start, step_deg=180) for start in (blocked, ETHANOL))
    turns = [m.drawn["dihedrals"][0] for m in scan]
    assert len(free) == scan.wanted == 2 and list(torsion.atoms) not in turns and "came together" in scan.missing[0].reason


def test_dimers_fill_the_range_evenly():
    result = active.dimers(["H", "O"], 50, distances_A=(0.5, 3.0))
    assert result.wanted == 150
    for kind in ("H2", "HO", "O2"):
        distances = np.sort([m.drawn["distance_A"] for m in result if m.structure.formula == kind])
        # pairs nearer than 0.6 of the sum of covalent radii are missing, and counted
        assert len(distances) + sum("two atoms" in m.reason for m in result.missing) >= 50 > 0
        assert np.diff(distances).max() < 3 * 2.5 / 50 and distances.max() > 2.9
    for made in result:
        assert np.linalg.norm(made.structure.positions[1] - made.structure.positions[0]) == pytest.approx(made.drawn["distance_A"])


# Dynamics


def test_dynamics_of_an_oracle_have_the_temperature():
    """EMT: the kinetic temperature of copper atoms after equilibration is that of the thermostat."""
    oracle, steps = ASEOracle(EMT, method="EMT"), []
    options = {"interval_fs": 20, "timestep_fs": 5, "friction_per_fs": 0.05, "equilibration_fs": 100}
    result = active.md_frames(COPPER, [300, 600], 40, oracle=oracle, progress=lambda done, total: steps.append((done, total)), **options)
    for kelvin in (300.0, 600.0):
        found = [m.drawn["temperature_K"] for m in result if m.recipe.parameters["temperature_K"] == kelvin]
        assert len(found) == 40 and np.mean(found) == pytest.approx(kelvin, rel=5 * np.sqrt(2 / 12 / 20))  # every second frame is new
    assert steps[-1] == (176, 176) and [m.drawn["time_fs"] for m in result][:2] == [100.0, 120.0]
    fewer = active.md_frames(COPPER, 600, 3, oracle=oracle, **options)
    assert np.array_equal(fewer[2].structure.positions, result[42].structure.positions)


class FailingEMT(EMT):
    """Effective medium theory whose forces are nonsense once an atom has moved by 0.1 Å."""

    def calculate(self, *arguments, **keywords):
        super().calculate(*arguments, **keywords)
        if np.abs(self.atoms.positions - COPPER.positions).max() > 0.1:
            self.results["forces"] = self.results["forces"] + 0.1


def test_dynamics_of_an_oracle_end_at_the_first_label_that_cannot_be_believed():
    oracle = ASEOracle(FailingEMT, method="EMT")
    result = active.md_frames(COPPER, 600, 20, oracle=oracle, timestep_fs=4, interval_fs=8, equilibration_fs=0)
    assert 0 < len(result) < result.wanted == 20
    assert all(np.abs(m.structure.positions - COPPER.positions).max() < 0.2 for m in result)
    assert "forces sum to" in result.missing[-1].reason


def test_dynamics_of_a_potential_are_reproducible_and_say_when_they_break(potential):
    options = {"potential": potential, "interval_fs": 1.0, "equilibration_fs": 2.0, "timestep_fs": 0.25}
    result, fewer = active.md_frames(WATER, 50, 4, **options), active.md_frames(WATER, 50, 2, **options)
    assert result.wanted == 4
    for a, b in zip(result, fewer, strict=False):
        assert a.record == b.record and np.array_equal(a.structure.positions, b.structure.positions)
    broken = active.md_frames(WATER, 9_900, 40, **options)  # simulate stops above 10,000 K
    assert broken.wanted == 40 > len(broken) and "broke" in broken.missing[-1].reason
    (row,) = active.generate([{"method": "md", "n": 3, "temperature_K": [50_000]}], [WATER], potential).summary()
    assert (row["wanted"], row["made"]) == (3, 0) and "cannot be run" in str(row["why"])


# All of them


def test_nothing_is_nearer_than_the_limit_and_everything_says_how_it_was_made():
    result = active.generate(EVERY_METHOD, [COPPER, SALT])
    assert result.wanted == 2 * (4 + 3 + 3 + 2 + 2) + 5 * 6
    methods = {m.recipe.method for m in result}
    assert methods == {e["method"] for e in EVERY_METHOD}
    for made in result:
        assert nearest(made.structure) >= 0.6
        record = json.loads(json.dumps(made.record))
        assert record["method"] == made.frame().group and set(record) >= {"parameters", "seed", "index", "parent", "drawn", "attempt"}
        assert record["parent"] or record["method"] == "dimer"


@pytest.mark.parametrize("entry", [*EVERY_METHOD, {"method": "torsion", "n": 4}])
def test_a_draw_depends_on_seed_and_index_alone(entry):
    start = BUTANE if entry["method"] == "torsion" else SALT
    first = active.generate([entry], [start])
    again = active.generate([entry | ({"n": 1} if "n" in entry else {})], [COPPER if start is SALT else ETHANOL, start])
    same = {json.dumps(m.record): m for m in first}
    shared = [m for m in again if json.dumps(m.record) in same]
    assert shared
    for made in shared:
        assert np.array_equal(made.structure.positions, same[json.dumps(made.record)].structure.positions)
    if entry["method"] != "surface":
        other = active.generate({"seed": 1, "methods": [entry]}, [start])
        assert all(a.drawn != b.drawn or np.any(a.structure.positions != b.structure.positions) for a, b in zip(first, other, strict=True))


def test_draws_that_fail_are_drawn_again_and_then_counted():
    hot = active.rattled(WATER, 3000, 60, spring=3.0, screen=Screen(tries=50))
    assert len(hot) == 60 and any(m.attempt > 0 for m in hot) and min(nearest(m.structure) for m in hot) >= 0.6
    never = active.rattled(WATER, 300, 3, screen=Screen(min_distance=2.0, tries=4))
    assert (len(never), never.wanted) == (0, 3) and "nearer than 2.00 Å (4 tries)" in never.missing[0].reason
    assert never.summary() == [{"method": "rattle", "wanted": 3, "made": 0, "why": {never.missing[0].reason: 3}}]


def test_a_structure_that_a_method_cannot_use_is_counted_as_missing():
    result = active.generate([{"method": "strain", "n": 3}], [COPPER, WATER, COPPER])
    assert (len(result), result.wanted) == (3, 6) and "expected a crystal" in result.missing[0].reason and "twice" in result.notes[0]


def test_amplitudes_take_one_way():
    with pytest.raises(ConfigError, match="expected one of"):
        amplitudes(COPPER, 300, spring=1.0, debye_K=300)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"method": "ratle", "n": 1}, "did you mean 'rattle'"),
        ({"method": "rattle", "n": 1, "temperature_K": 300, "debye": 300}, "did you mean 'debye_K'"),
        ({"method": "strain"}, "the key 'n' is missing"),
        ({"method": "rattle", "n": 0, "temperature_K": 300}, "n: found 0"),
        ({"method": "torsion", "n": 3, "step_deg": 30}, "expected one of"),
        ({"method": "surface", "miller": [[1, 1]]}, "miller"),
        ("rattle", "expected a mapping"),
    ],
)
def test_faults_of_a_configuration_are_named(entry, reason):
    with pytest.raises(ConfigError, match=reason):
        generate_config([entry])


def test_what_is_needed_and_what_is_not_is_said(potential):
    rattle = {"method": "rattle", "n": 1, "temperature_K": 300}
    for entries, given, reason in (
        ([rattle | {"hessian": True}], {}, "needs a potential"),
        ([{"method": "md", "n": 1, "temperature_K": 300}], {}, "needs a potential or an oracle"),
        ([rattle], {"potential": potential}, "no method uses"),
        ([rattle, rattle], {}, "there twice"),
    ):
        with pytest.raises(ConfigError, match=reason):
            active.generate(entries, [WATER], **given)


def test_the_file_carries_the_records(tmp_path):
    result = active.generate(EVERY_METHOD[:2], [SALT])
    result.write(tmp_path / "pool.extxyz")
    frames = read(tmp_path / "pool.extxyz").frames
    images = read_ase(tmp_path / "pool.extxyz", ":")
    for made, frame, atoms in zip(result, frames, images, strict=True):
        assert frame.group == made.recipe.method == atoms.info["config_type"]
        assert np.array_equal(frame.structure.positions, made.structure.positions)
        found = atoms.info["made"]
        assert (json.loads(found) if isinstance(found, str) else found) == made.record


# The command


@pytest.fixture
def command(tmp_path, capsys):
    """`eqpot generate` in this process: (folder, function of keywords that returns the JSON)."""
    from eqpot.cli.generate import generate
    from eqpot.data import write
    from eqpot.graph import Frame

    write(tmp_path / "start.xyz", [Frame(COPPER), Frame(SALT)])

    def run(*inputs, output="out.extxyz", **options):
        generate([tmp_path / name for name in inputs], tmp_path / output, as_json=True, **options)
        return json.loads(capsys.readouterr().out)

    return tmp_path, run


def test_command_with_a_configuration(command):
    folder, run = command
    (folder / "plan.yaml").write_text("methods:\n- {method: rattle, n: 3, temperature_K: 500}\n- {method: vacancy, n: 5}\n")
    found = run("plan.yaml", "start.xyz")
    assert (found["wanted"], found["made"]) == (16, 15) and "only 4 ways" in str(found["methods"][1]["why"])
    assert len(read(folder / "out.extxyz").frames) == 15
    with pytest.raises(ValueError, match="--overwrite"):
        run("plan.yaml", "start.xyz")
    run("plan.yaml", "start.xyz", overwrite=True, seed=4)


def test_command_with_one_method(command):
    folder, run = command
    run("start.xyz", method="rattle", temperature=300.0, number=4, assignments=["debye_K=340"], index="0")
    record = json.loads(read_ase(folder / "out.extxyz", 0, format="extxyz").info["made"])
    assert record["parameters"] == {"temperature_K": 300.0, "debye_K": 340.0} and len(read(folder / "out.extxyz").frames) == 4
    with pytest.raises(ConfigError, match="did you mean 'debye_K'"):
        run("start.xyz", method="rattle", temperature=300.0, number=4, assignments=["debye=340"], output="b.extxyz")
    with pytest.raises(ValueError, match="made none of 2 structures: torsion"):
        run("start.xyz", method="torsion", number=1, output="b.extxyz")
    with pytest.raises(ConfigError, match="no configuration"):
        run("start.xyz", output="b.extxyz")
