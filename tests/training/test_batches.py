"""Batches hold every structure once, in shapes that do not waste, and are the same whoever makes them and however they are dealt out."""

import re
from dataclasses import replace

import jax
import numpy as np
import pytest

from eqpot.cli.fit import packing_hint
from eqpot.core.errors import DataError
from eqpot.data import Dataset, prepare_store
from eqpot.graph import Frame, Labels, Structure
from eqpot.training.batches import Batches, bootstrap_weights
from eqpot.training.packing import Packing
from eqpot.training.samples import StoredSamples, make_samples
from eqpot.training.sizes import SizeClasses, Sizes, deal_out, size_classes

ELEMENTS = ("H", "O")


def chains(sizes, seed=0):
    """Bent rows of atoms with every label; every third frame lacks all but its energy."""
    rng = np.random.default_rng(seed)
    frames = []
    for k, n in enumerate(sizes):
        positions = 1.2 * np.arange(n)[:, None] * [1, 0, 0] + rng.normal(0, 0.1, (n, 3))
        charges = rng.normal(size=n)
        rest = {"forces": rng.normal(size=(n, 3)), "charges": charges - charges.mean(), "dipole": rng.normal(size=3)}
        labels = Labels(energy=float(rng.normal()), **(rest if k % 3 else {}))
        frames.append(Frame(Structure(rng.choice([1, 8], n), positions), labels, f"toy:frame {k}", weight=1.0 + k % 2))
    return Dataset(tuple(frames))


def batches_of(frames, members=1, **options):
    weights = bootstrap_weights(members, len(frames), 0, True)
    return Batches(make_samples(frames, ELEMENTS, 3.5, np.zeros(2)), options.pop("batch_size", 4), weights, **options)


def random_sizes(n, largest, seed=0):
    """Sizes of structures with a broad distribution, without the structures."""
    rng = np.random.default_rng(seed)
    atoms = np.clip(rng.lognormal(np.log(largest) / 2, 0.6, n), 1, largest).astype(int)
    counts = [rng.integers(3, 25, a) for a in atoms]
    return Sizes.of((int(a), np.repeat(np.arange(a), c)) for a, c in zip(atoms, counts, strict=True))


def equal(a, b):
    """Two batches: the same samples, and the same arrays bit for bit."""
    return a[0] == b[0] and jax.tree.all(jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a[1:], b[1:]))


LAYOUTS = [{"batch_size": 6}, {"batch_atoms": 20}, {"batch_size": 6, "shards": 3}, {"batch_atoms": 40, "shards": 4}]


@pytest.mark.parametrize("options", LAYOUTS)
def test_an_epoch_holds_every_sample_once_with_its_labels(options):
    frames = chains([2, 3, 5, 9, 4, 4, 7, 2, 11, 3, 3, 8, 2, 2, 6, 5, 5, 10, 1])
    batches = batches_of(frames, members=2, **options)
    seen = []
    for chosen, graph, targets in batches.epoch(1, 2):
        seen += chosen
        assert len(graph.positions) == batches.shards
        parts = batches.layout.deal(np.array(chosen))[0]
        assert sorted(k for part in parts for k in part) == sorted(chosen)
        for shard, part in enumerate(parts):
            first = 0
            for g, k in enumerate(part):
                frame, rows = frames[int(k)], slice(first, first + len(frames[int(k)]))
                first = rows.stop
                assert targets.energy[shard, g] == np.float32(frame.labels.energy) and targets.has_energy[shard, g]
                assert (targets.weight[shard, :, g] == np.float32(batches.weights[:, k] * frame.weight)).all()
                assert (graph.graph_index[shard, rows] == g).all() and graph.atom_mask[shard, rows].all() and graph.graph_mask[shard, g]
                for name in ("forces", "charges", "dipole"):
                    place = (shard, g) if name == "dipole" else (shard, rows)
                    value = getattr(frame.labels, name)
                    assert (getattr(targets, f"has_{name}")[place] == (value is not None)).all()
                    np.testing.assert_array_equal(getattr(targets, name)[place], np.float32(0 if value is None else value))
            assert not graph.atom_mask[shard, first:].any() and not targets.has_forces[shard, first:].any()
            assert graph.graph_mask[shard].sum() == len(part) and not targets.has_energy[shard, len(part) :].any()
            assert graph.edge_mask[shard].sum() == batches.sizes.edges[part].sum()
    assert sorted(seen) == list(range(len(frames)))


@pytest.mark.parametrize("options", LAYOUTS)
def test_batches_are_a_function_of_seed_and_epoch_and_start_anywhere(options):
    batches = batches_of(chains([2, 5, 3, 9, 4] * 8), **options)
    whole = list(batches.epoch(3, 5))
    assert all(equal(a, b) for a, b in zip(whole, batches.epoch(3, 5), strict=True))
    assert all(equal(a, b) for a, b in zip(whole[2:], batches.epoch(3, 5, start=2), strict=True))
    assert [b[0] for b in whole] != [b[0] for b in batches.epoch(3, 6)] and [b[0] for b in whole] != [b[0] for b in batches.epoch(4, 5)]
    assert not list(batches.epoch(3, 5, start=len(whole)))


@pytest.mark.parametrize("options", [{"batch_size": 6}, {"batch_atoms": 40}])
def test_the_composition_does_not_depend_on_the_shards(options):
    frames = chains([2, 5, 3, 9, 4] * 8)
    alone = [sorted(chosen) for chosen, *_ in batches_of(frames, **options).epoch(0, 1)]
    for shards in (2, 5):
        assert [sorted(chosen) for chosen, *_ in batches_of(frames, shards=shards, **options).epoch(0, 1)] == alone


def test_a_host_makes_its_own_shards_alone():
    batches = batches_of(chains([2, 5, 3, 9, 4] * 4), batch_size=3, shards=4)
    for (_, graph, targets), (_, mine, my_targets) in zip(batches.epoch(0, 0), batches.epoch(0, 0, local=range(2, 4)), strict=True):
        part = jax.tree.map(lambda x: x[2:4], (graph, targets))
        assert jax.tree.all(jax.tree.map(np.array_equal, part, (mine, my_targets)))
    assert not graph.graph_mask[3].any(), "three structures leave the fourth shard empty"


def test_shards_are_alike_in_atoms():
    """No shard is fuller than another by more than one structure, and none has more structures than allowed."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.integers(1, 30, 17)
        parts = deal_out(sizes, 4, 17)
        loads = [sizes[part].sum() for part in parts]
        assert sorted(np.concatenate(parts)) == list(range(17)) and max(loads) - min(loads) <= sizes.max()
        assert max(map(len, deal_out(sizes, 4, 5))) <= 5


def test_a_hint_says_how_to_waste_less():
    """Sizes all over: the budget that is named does what is said. Equal sizes, and batches that are packed already: nothing to say."""
    scattered = batches_of(chains(np.random.default_rng(1).integers(2, 60, 30).tolist()), batch_size=3)
    (hint,) = packing_hint(scattered)
    budget, packed, before = (int(n) for n in re.findall(r"\d+", hint))
    better = replace(scattered, batch_atoms=budget)
    assert before == round(100 * scattered.padding[0]) > 10 and packed == round(100 * better.padding[0]) < before / 2
    tight = batches_of(chains(np.random.default_rng(1).integers(2, 60, 40).tolist()), batch_atoms=62)
    equal_sizes = batches_of(chains([5] * 13), batch_size=3)
    assert min(tight.padding[0], equal_sizes.padding[0]) > 0.1, "there is waste in both"
    assert packing_hint(tight) == packing_hint(equal_sizes) == []


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("budget", [120, 400])
def test_packs_stay_within_the_budget_and_waste_little(budget, shards):
    """600 structures of 1 to 100 atoms: no batch is above the budget, one shape holds nearly all, less than 10 % of the atoms are padding."""
    sizes = random_sizes(600, 100)
    packing = Packing(sizes, budget * shards, shards)
    capacities, padded = [], 0
    for epoch in range(3):
        plan = packing.plan(0, epoch)
        assert sorted(np.concatenate(plan)) == list(range(600))
        assert max(sizes.atoms[chosen].sum() for chosen in plan) <= budget * shards
        for chosen in plan:
            parts, capacity = packing.deal(chosen)
            rows = capacity.atoms if capacity.rows is None else capacity.rows
            assert all(sizes.atoms[p].sum() <= capacity.atoms and sizes.rows_in(packing.slots)[p].sum() <= rows for p in parts)
            capacities.append(capacity)
            padded += shards * capacity.atoms
    assert 1 - 3 * sizes.atoms.sum() / padded < 0.1
    assert sum(c != packing.capacity for c in capacities) <= 0.05 * len(capacities)
    assert packing.capacity.slots < 2 * sizes.edges.sum() * 3 / len(capacities) / shards


def test_a_rare_giant_fits_a_budget_found_without_it(monkeypatch):
    """The budget is found on a part of a large set; a structure that is larger than all of the part still has a batch."""
    from eqpot.training import packing

    monkeypatch.setattr(packing, "PILOT", 40)
    for giant in range(0, 200, 23):
        atoms = np.where(np.arange(200) == giant, 100, 7)
        plan = Packing(Sizes(atoms, 5 * atoms, np.full(200, 5), np.stack([atoms, atoms], 1)), 104).plan(0, 0)
        assert sorted(np.concatenate(plan)) == list(range(200)) and max(atoms[chosen].sum() for chosen in plan) <= 104


def test_padding_is_what_the_graphs_show():
    for options in LAYOUTS:
        batches = batches_of(chains([2, 5, 3, 9, 4] * 8), **options)
        graphs = [graph for _, graph, _ in batches.epoch(0, 0)]
        atoms = 1 - sum(g.atom_mask.sum() for g in graphs) / sum(g.atom_mask.size for g in graphs)
        slots = 1 - sum(g.edge_mask.sum() for g in graphs) / sum(g.edge_mask.size for g in graphs)
        assert batches.padding == pytest.approx((atoms, slots)) and batches.steps_per_epoch == len(graphs)


def test_a_structure_above_the_budget_is_named():
    with pytest.raises(
        DataError, match=r"toy:frame 2: has 9 atoms, above training\.batch_atoms = 8 \(2 such frames\); set it to at least 11"
    ):
        batches_of(chains([2, 3, 9, 4, 11]), batch_atoms=8)
    assert batches_of(chains([2, 3, 9, 4, 11]), batch_atoms=11).steps_per_epoch == 3


def test_a_class_of_sizes_has_one_shape():
    sizes = random_sizes(200, 40)
    classes = SizeClasses(sizes, 8)
    shapes = {classes.deal(chosen)[1] for chosen in classes.plan(0, 0)}
    assert len(shapes) <= len(classes.groups) <= 6
    assert size_classes([2] * 40 + [100] * 40, 8) == [0, 40, 80] and size_classes([9] * 50, 8) == [0, 50]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_have_the_precision_asked_for(dtype):
    _, graph, targets = next(batches_of(chains([3, 4]), dtype=dtype).epoch(0, 0))
    assert graph.positions.dtype == targets.forces.dtype == targets.dipole.dtype == targets.weight.dtype == dtype


def test_reference_energies_are_those_of_the_head():
    structure = Structure([1, 8], [[0, 0, 0], [0, 0, 1.0]])
    frames = [Frame(structure, Labels(energy=-10.0), "toy:frame 0", head=head) for head in ("", "fine", "coarse")]
    reference = np.array([[-1.0, -2.0], [-3.0, -5.0]])
    samples = make_samples(frames, ELEMENTS, 3.5, reference, heads=("coarse", "fine"))
    assert [s.energy for s in samples] == [-7.0, -2.0, -7.0] and [s.host.head for s in samples] == [0, 1, 0]
    assert [s.energy for s in make_samples(frames, ELEMENTS, 3.5, reference[0])] == [-7.0] * 3
    with pytest.raises(DataError, match=r"toy:frame 0: found head 'fine', expected one of model\.heads, coarse"):
        make_samples(frames, ELEMENTS, 3.5, reference[:1], heads=("coarse",))


@pytest.fixture
def stored(tmp_path):
    """Samples of a store, and the same in memory."""
    frames = chains([2, 5, 3, 9, 4] * 8)
    store = prepare_store(frames, tmp_path / "set", shard_mb=0.01)
    return StoredSamples(store, ELEMENTS, 3.5, np.array([0.5, -1.0])), make_samples(frames, ELEMENTS, 3.5, np.array([0.5, -1.0]))


@pytest.mark.parametrize("options", LAYOUTS)
def test_a_store_gives_the_batches_of_its_frames(stored, options):
    on_disk, in_memory = (Batches(samples, options.get("batch_size", 1), np.ones((2, 40)), **{k: v for k, v in options.items() if k != "batch_size"})
                          for samples in stored)  # fmt: skip
    assert all(equal(a, b) for a, b in zip(on_disk.epoch(0, 3), in_memory.epoch(0, 3), strict=True))


def test_neighbours_are_counted_once_for_a_store_and_a_cutoff(stored, monkeypatch):
    from eqpot.training import samples

    on_disk, in_memory = stored
    for name, value in on_disk.sizes.as_arrays().items():
        np.testing.assert_array_equal(value, getattr(Batches(in_memory, 4, np.ones((1, 40))).sizes, name))
    calls = []
    count = samples._count
    monkeypatch.setattr(samples, "_count", lambda *a: calls.append(1) or count(*a))
    part = StoredSamples(on_disk.store[5:9], ELEMENTS, 3.5, np.zeros(2))
    assert part.sizes.edges.tolist() == on_disk.sizes.edges[5:9].tolist() and not calls
    assert StoredSamples(on_disk.store, ELEMENTS, 4.5, np.zeros(2)).sizes.edges.sum() > on_disk.sizes.edges.sum() and len(calls) == 1
    kept = on_disk.store.folder.path / "neighbors-3.5.npz"
    kept.write_bytes(kept.read_bytes()[:-50])
    assert StoredSamples(on_disk.store, ELEMENTS, 3.5, np.zeros(2)).sizes.edges.sum() == on_disk.sizes.edges.sum() and len(calls) == 2


@pytest.mark.slow
def test_worker_processes_make_the_same_batches(stored):
    """From any start, across epochs, for one or two processes; a fault in a worker arrives as it is."""
    samples, _ = stored
    alone = Batches(samples, 4, np.ones((1, 40)), batch_atoms=20, shards=2)
    for workers in (1, 2):
        batches = Batches(samples, 4, np.ones((1, 40)), batch_atoms=20, shards=2, workers=workers)
        try:
            for epoch, start in ((4, 2), (5, 0)):
                made = list(batches.epoch(0, epoch, start))
                assert all(equal(a, b) for a, b in zip(made, alone.epoch(0, epoch, start), strict=True))
                assert batches._streams[0].position == (0, epoch + 1, 0, None), "the processes go on to the next epoch"
            assert equal(next(batches.epoch(7, 1, 3)), next(alone.epoch(7, 1, 3)))
        finally:
            batches.close()
    strange = Batches(samples, 4, np.ones((1, 40)), workers=1)
    assert strange.steps_per_epoch == 10
    shard = samples.store.folder.path / "shard-00001.h5"
    shard.write_bytes(b"\0" * shard.stat().st_size)
    with pytest.raises(DataError, match=r"shard-00001\.h5: cannot be read as a shard"):
        list(strange.epoch(0, 0))
    strange.close()


def test_a_fit_on_a_store_is_the_fit_on_its_frames(frames, settings, tmp_path):
    """Held-out part, checks, constants, batches and therefore parameters are the same to the last bit."""
    import eqpot

    store = prepare_store(frames, tmp_path / "set", shard_mb=0.01)
    config = {**settings, "training": {"epochs": 2, "batch_size": 8}}
    stored = eqpot.fit({**config, "data": {"valid": 8, "train": str(tmp_path / "set")}})
    plain = eqpot.fit(config, frames)
    assert len(store) == 40 and jax.tree.all(jax.tree.map(np.array_equal, stored.params, plain.params))
    assert stored.reference_energies == plain.reference_energies and stored.metadata["validation"] == plain.metadata["validation"]


def test_a_large_store_is_known_by_a_sample(frames, settings, tmp_path, monkeypatch):
    """The problem says so, trains on all frames, and its constants are those of the sample."""
    from eqpot.core.config import build
    from eqpot.training import FitConfig, setup

    monkeypatch.setattr(setup, "KNOWN_FRAMES", 20)
    store = prepare_store(frames, tmp_path / "set")
    config = build(FitConfig, {**settings, "data": {"train": str(tmp_path / "set"), "valid": 5}})
    train, valid, *_ = setup.load_data(config)
    problem = setup.make_problem(config, train, valid)
    assert len(problem.train) == 35 and len(problem.valid) == 5 and sorted([*train.chosen, *valid.chosen]) == list(range(len(store)))
    assert "checks, reference energies and normalization use 20 of 35 frames of the store" in " ".join(problem.warnings)
    sampled = setup.make_problem(config, train.sample(20, config.seed), valid)
    assert problem.spec.normalization == sampled.spec.normalization and problem.reference == sampled.reference
