"""Where structures come from: what each sampler brings, and that it depends on its seed alone."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from morse import morse

from eqpot.active import random_structures, sampler_md
from eqpot.active.query import Band, QueryConfig, band, bounds, force_size, judge, still_uncertain
from eqpot.active.sampler_base import Start
from eqpot.active.samplers import CrystalSampler, GenerateSampler, MDSampler, PoolSampler, RelaxSampler, SearchSampler
from eqpot.core.errors import ConfigError
from eqpot.data import Dataset, write_extxyz
from eqpot.data.distances import pairs
from eqpot.graph import Frame, Labels, Structure

WATER = Structure.from_atoms(molecule("H2O"))
SALT = Structure.from_atoms(bulk("NaCl", "rocksalt", a=5.6, cubic=True))


def start(*structures, seed=0, absurd=100.0, ends=()):
    return Start(structures or (WATER,), ends, seed, Band(0.0, absurd))


def quiet(*_):
    pass


@pytest.mark.parametrize("structure", [WATER, SALT], ids=["molecule", "crystal"])
def test_random_structures_have_the_composition_and_no_overlap(structure):
    made = random_structures(structure, 6, seed=3)
    assert len(made) == 6 and not made.missing
    for one in made:
        found = one.structure
        assert sorted(found.numbers) == sorted(structure.numbers) and (found.pbc == structure.pbc).all()
        distance = pairs(found, 3.0)[-1]
        assert distance.min() > 0.5
    if structure is SALT:
        ratios = [m.structure.volume / SALT.volume for m in made]
        assert min(ratios) >= 0.9 and max(ratios) <= 1.3 and np.ptp(ratios) > 0.05


def test_a_random_molecule_is_in_one_piece():
    for one in random_structures(molecule("CH3CH2OH"), 5, seed=1):
        positions = one.structure.positions
        away = np.linalg.norm(positions[:, None] - positions, axis=-1) + 10 * np.eye(len(positions))
        reached, edge = {0}, [0]
        while edge:
            near = {int(k) for k in np.flatnonzero(away[edge.pop()] < 2.0)} - reached
            reached |= near
            edge += near
        assert len(reached) == len(positions)


def test_draws_depend_on_the_seed_alone():
    a, b, c = (random_structures(SALT, n, seed=s) for n, s in ((2, 0), (4, 0), (2, 1)))
    np.testing.assert_array_equal(a[1].structure.positions, b[1].structure.positions)
    assert np.abs(a[1].structure.positions - c[1].structure.positions).max() > 0.1


def test_where_there_is_no_room_nothing_is_made():
    crowded = Structure(SALT.numbers, SALT.positions, 0.4 * SALT.cell, True)
    made = random_structures(crowded, 2, seed=0)
    assert not made.made and len(made.missing) == 2 and "no room" in made.missing[0].reason


def test_a_pool_is_read_without_its_labels(potential, tmp_path):
    frames = [Frame(Structure([8], [[k, 0, 0]]), Labels(energy=1.0), group="hot" if k % 2 else "") for k in range(10)]
    write_extxyz(tmp_path / "pool.extxyz", frames)
    sampler = PoolSampler(files=str(tmp_path / "pool.extxyz"), most=4)
    found = sampler.sample(potential, start(), quiet)
    assert len(found.frames) == 4 and all(f.labels.energy is None for f in found.frames)
    again, other = (sampler.sample(potential, start(seed=s), quiet) for s in (0, 1))
    places = [[f.structure.positions[0, 0] for f in r.frames] for r in (found, again, other)]
    assert places[0] == places[1] != places[2]
    assert {f.group for f in PoolSampler(files=str(tmp_path / "pool.extxyz")).sample(potential, start(), quiet).frames} == {"hot", "pool"}


def test_a_pool_with_an_element_that_nobody_knows_is_refused(tmp_path):
    """Before, such structures were passed over, and the loop could end with most of its pool unseen."""
    pool = PoolSampler(files=str(tmp_path / "pool.xyz"))
    write_extxyz(tmp_path / "pool.xyz", [Frame(WATER), Frame(Structure([79, 8], [[0, 0, 0], [2.0, 0, 0]]))])
    pool.check([], ["Au", "H", "O"])
    with pytest.raises(ConfigError, match=r"the pool has Au, expected only what the start has \(H, O\)"):
        pool.check([], ["H", "O"])


def test_generated_structures_are_others_in_each_round(potential):
    sampler = GenerateSampler(methods=({"method": "rattle", "n": 3, "temperature_K": 300},))
    one, two = (sampler.sample(potential, start(seed=s), quiet) for s in (0, 1))
    assert len(one.frames) == 3 and one.frames[0].group == "rattle"
    assert np.abs(one.frames[0].structure.positions - two.frames[0].structure.positions).max() > 1e-3


def test_a_search_may_do_without_relaxation(potential):
    found = SearchSampler(n=3, max_steps=0).sample(potential, start(SALT), quiet)
    assert len(found.frames) == 3 and {f.group for f in found.frames} == {"search"}


@pytest.fixture
def ensemble(make_potential):
    return make_potential(elements=("H", "O"), tiny=True)


def test_dynamics_stops_where_it_cannot_be_trusted_and_goes_on_from_before(ensemble):
    sampler = MDSampler(temperature_K=(300, 2000), time_ps=0.02, interval_fs=4)
    free = sampler.sample(ensemble, start(), quiet)
    assert {f.group for f in free.frames} == {"md 300 K", "md 2000 K"} and not free.broken and len(free.frames) == 10
    np.testing.assert_array_equal(free.ends[0].positions, free.frames[4].structure.positions)
    again = sampler.sample(ensemble, start(), quiet)
    np.testing.assert_array_equal(again.frames[-1].structure.positions, free.frames[-1].structure.positions)
    on = sampler.sample(ensemble, start(seed=1, ends=free.ends), quiet)
    first = np.linalg.norm(on.frames[0].structure.positions - free.ends[0].positions, axis=1)
    assert first.max() < 0.3, "4 fs from where it was"
    bound = float(judge(ensemble, [Frame(WATER)]).sigma[0]) * 1.02
    assert judge(ensemble, free.frames).sigma.max() > bound
    stopped = sampler.sample(ensemble, start(absurd=bound), quiet)
    assert stopped.broken and stopped.lost == len(free.frames) - len(stopped.frames) > 0 and "uncertainty of a force" in stopped.notes[0]
    np.testing.assert_array_equal(stopped.ends[1].positions, WATER.positions, err_msg="never below half of the edge: it begins anew")
    nowhere = sampler.sample(ensemble, start(absurd=0.5 * bound), quiet)
    assert nowhere.broken == 2 and nowhere.lost == 10 and not nowhere.frames and "not begun" in nowhere.notes[0]


def test_dynamics_leaves_out_what_it_cannot_move(ensemble):
    """Elements that nothing was learned of, and molecules under pressure; walkers of different structures are measured apart."""
    gold, dimer = Structure([79, 79], [[0, 0, 0], [2.6, 0, 0]]), Structure([8, 1], [[0, 0, 0], [1.0, 0, 0]])
    sampler = MDSampler(temperature_K=300, time_ps=0.04, interval_fs=2)
    found = sampler.sample(ensemble, start(gold, WATER, dimer), quiet)
    assert len(found.ends) == 2 and len(found.frames) == 40 and not found.lost
    assert list(found.observables) == ["g(r), md 300 K, 0 H2O", "g(r), md 300 K, 1 HO"]
    assert "unknown" in sampler.sample(ensemble, start(gold), quiet).notes[0]
    with pytest.raises(ConfigError, match="periodic in all directions"):
        MDSampler(temperature_K=300, pressure_GPa=1.0).check([WATER], "HO")
    MDSampler(temperature_K=300, pressure_GPa=1.0).check([WATER, SALT], "HO")
    with pytest.raises(ConfigError, match="search found no start structure of two atoms"):
        SearchSampler().check([], "HO")


def test_what_broke_off_is_taken_up_where_it_was_trusted(ensemble, monkeypatch):
    sampler = MDSampler(temperature_K=2000, time_ps=0.04, interval_fs=4)
    free = sampler.sample(ensemble, start(), quiet).frames
    high = 0.999 * float(judge(ensemble, free).sigma.max())
    monkeypatch.setattr(sampler_md, "TRUSTED", 0.7)
    stopped = sampler.sample(ensemble, start(absurd=high), quiet)
    safe = np.flatnonzero(judge(ensemble, stopped.frames).sigma <= 0.7 * high)
    assert stopped.broken == 1 and 0 <= safe[-1] < len(stopped.frames) - 1
    np.testing.assert_allclose(stopped.ends[0].positions, stopped.frames[safe[-1]].structure.positions, atol=1e-9)


@pytest.mark.slow
def test_paths_downhill(ensemble):
    found = RelaxSampler(n=1, max_steps=5).sample(ensemble, start(), quiet)
    energies = [r.energy for r in ensemble.predict_frames(found.frames)]
    assert len(energies) > 1 and energies[-1] < energies[0]


@pytest.mark.slow
def test_a_crystal_is_strained_and_measured():
    copper = Structure.from_atoms(bulk("Cu", "fcc", a=3.7))
    found = CrystalSampler().sample(morse(members=3), start(WATER, copper), quiet)
    assert len(found.frames) == 13 and not found.broken and found.frames[-1].origin == "crystal 1, Cu, -xy"
    rest, longer, shorter = (f.structure.cell for f in found.frames[:3])
    assert np.linalg.norm(longer[1]) > np.linalg.norm(rest[1]) > np.linalg.norm(shorter[1])
    lattice, constants = (found.observables[f"{what}, crystal 1, Cu"] for what in ("lattice", "elastic constants"))
    assert lattice["values"] == pytest.approx([np.linalg.norm(rest[0])] * 3, abs=1e-3) and lattice["labels"] == ["a", "b", "c"]
    measured = dict(zip(constants["labels"], constants["values"], strict=True))
    assert measured["C11"] > measured["C12"] > 0 and min(constants["errors"]) > 0
    alone = CrystalSampler().sample(morse(), start(copper), quiet)
    assert len(alone.frames) == 13 and not alone.observables, "one member has no standard error"
    lost = CrystalSampler(max_steps=1).sample(morse(), start(Structure.from_atoms(bulk("Cu", a=3.0))), quiet)
    assert lost.broken == 1 and "did not come to rest" in lost.notes[0]


def test_the_band_is_measured_on_errors_and_forces(ensemble):
    query = QueryConfig(absurd=10.0)
    rng = np.random.default_rng(0)
    frames = [Frame(Structure([8, 1, 1], WATER.positions + rng.normal(0, 0.05, (3, 3)))) for _ in range(12)]
    truth = [r.forces for r in ensemble.predict_frames(frames)]
    labelled = [f.replace(labels=Labels(energy=0.0, forces=y + 0.1 / np.sqrt(3))) for f, y in zip(frames, truth, strict=True)]
    found, chosen = band(ensemble, labelled, labelled, query), query.model_copy(update={"high_eV_A": 2.0})
    assert found.low == 0.0, "σ without a calibration has no scale"
    sigma = np.sqrt(np.mean(np.concatenate([r.atom_std for r in ensemble.predict_frames(frames)]) ** 2))
    assert found.high == pytest.approx(10 * force_size(labelled) / max(1, 0.1 / sigma), rel=1e-5), "errors of 0.1 eV/Å are more than σ says"
    hopeless = band(ensemble, labelled, labelled, query.model_copy(update={"absurd": 1e-6}))
    assert hopeless.high == pytest.approx(np.median(judge(ensemble, labelled).sigma), rel=1e-5), "it has to begin somewhere"
    assert band(ensemble, labelled, labelled, chosen).high == 2.0
    known = bounds(ensemble, labelled, (0.5, 0.9, 0.99))
    assert known["0.5"] == pytest.approx(0.1, rel=1e-3) and known["0.9"] == pytest.approx(0.1, rel=1e-3) and known["0.99"] is None


def test_the_size_of_forces_is_that_of_most_atoms():
    rng = np.random.default_rng(0)
    thermal = rng.normal(0, 1.5, (400, 3))
    forces = np.concatenate([thermal, np.zeros((300, 3)), 40 * rng.normal(size=(8, 3))])
    structure = Structure(np.ones(len(forces), int), 100.0 * np.arange(len(forces))[:, None] * np.eye(3)[0])
    assert force_size([Frame(structure, Labels(energy=0.0, forces=forces))]) == pytest.approx(1.5 * np.sqrt(3), rel=0.1)
    assert force_size([Frame(structure, Labels(energy=0.0, forces=0 * forces))]) == 0


def test_judging_says_what_is_foreign_and_who_is_worst(ensemble):
    frames = [Frame(WATER, group="a"), Frame(Structure([8, 1, 1], 1.1 * WATER.positions), group="b"), Frame(Structure([79], [[0, 0, 0]]))]
    frames.append(Frame(Structure([8, 1, 1], 0.05 * WATER.positions)))
    found = judge(ensemble, frames)
    expected = [r.atom_std.max() for r in ensemble.predict([f.structure for f in frames[:2]])]
    np.testing.assert_allclose(found.sigma, expected, rtol=1e-5)
    assert found.foreign == 2 and "Au" in found.fault and set(found.elements) == {"H", "O"}
    edge = Band(float(min(expected)) * 1.0001, float(max(expected)))
    summary = found.summary(edge)
    assert (summary["known"], summary["candidate"], summary["absurd"]) == (1, 0, 1) and set(summary["by_group"]) == {"a", "b"}
    text = still_uncertain({"sampled": summary | {"broken": 2}, "band_eV_A": {"low": edge.low}})
    assert "1 of 1 structures" in text and "2 runs broke off" in text
    assert Dataset(found.frames).elements == ("H", "O")
    assert [Band(0.0, 9.0, 2.0).kind(1.0, n) for n in (2.0, 2.1)] == ["candidate", "absurd"]
