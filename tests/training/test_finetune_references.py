"""Fine-tuning settles the energies of new elements alone, from isolated atoms first, and judges the level of theory by what the base knows."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import eqpot
from eqpot.core.config import build
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import Dataset
from eqpot.graph import Frame, Labels, Structure
from eqpot.potential import Potential
from eqpot.training import FitConfig
from eqpot.training.finetune import start_from

ZERO = {1: -13.6, 8: -2040.0, 16: -1486.0}
"""Energy of an atom at some level of theory [eV]; sulphur is new to the base."""


def at_level(frames, zero=ZERO, **changes):
    """The frames with another zero of energy."""
    moved = [f.labels.energy + sum(zero[int(z)] for z in f.structure.numbers) for f in frames]
    return tuple(f.replace(labels=Labels(e, f.labels.forces), **changes) for f, e in zip(frames, moved, strict=True))


@pytest.fixture(scope="module")
def base(frames, settings, tmp_path_factory):
    """A potential of H and O whose reference energies are far from zero, with a part of what atoms gain by binding in its shifts."""
    config = {**settings, "ensemble": {"members": 1}, "training": {"epochs": 40, "batch_size": 8}, "optimizer": {"learning_rate": 0.03}}
    one = eqpot.fit(config, frames)
    spec = replace(one.spec, normalization=replace(one.spec.normalization, shift=(-2.0, -4.0)))
    references = tuple(e + ZERO[z] - s for e, z, s in zip(one.reference_energies, (1, 8), (-2.0, -4.0), strict=True))
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    Potential(spec, one.params, references, {}, one.dtype).save(path)
    return path


@pytest.fixture(scope="module")
def sulphur(toy):
    """Sixty trimers with sulphur in place of some or all oxygen."""
    chain, label = toy
    rng = np.random.default_rng(3)
    structures = [chain(rng, 3 + k % 2) for k in range(60)]
    swapped = [Structure(np.where((s.numbers == 8) & (np.arange(len(s)) == 0), 16, s.numbers), s.positions) for s in structures]
    return Dataset(at_level([Frame(s, label(s), origin=f"sulphur:{k}") for k, s in enumerate(swapped)]))


def start(base, frames, replay=None, data=None, **finetune):
    return start_from(build(FitConfig, {"data": data or {}, "finetune": {"base": str(base), **finetune}}), Dataset(tuple(frames)), replay)


def lone(symbol, energy):
    return Frame(Structure([symbol], [[0, 0, 0]]), Labels(energy=energy), origin="lone atom")


def error_at_start(begun, frames):
    """Mean absolute error of the energies per atom before any step [eV]."""
    potential = Potential(begun.spec, begun.params, tuple(begun.references.ravel()), {}, "float32")
    found = potential.predict_frames(frames)
    return np.mean([abs(r.energy - f.labels.energy) / len(f) for r, f in zip(found, frames, strict=True)])


@pytest.mark.parametrize("n_known", [40, 4, 0])
def test_a_new_element_has_its_own_energy_and_moves_no_other(base, frames, sulphur, n_known):
    """Also where most frames, or all, hold it: they say nothing about the level of theory of the others."""
    old = Potential.load(base)
    begun = start(base, (*at_level(list(frames)[:n_known]), *sulphur))
    values = dict(zip(begun.spec.elements, begun.own, strict=True))
    assert (values["H"], values["O"]) == old.reference_energies and begun.spec.normalization.shift[:2] == (-2.0, -4.0)
    assert values["S"] - 3.0 == pytest.approx(ZERO[16], abs=2)  # its shift is the mean of the others
    assert error_at_start(begun, list(sulphur)) < 0.3
    assert ("was not checked" in " ".join(begun.notes)) == (n_known == 0)


def test_the_isolated_atom_of_a_new_element_is_its_energy(base, frames, sulphur):
    """What bound atoms lie below it goes into the shift, so that training starts at the energies of the frames all the same."""
    begun = start(base, (*at_level(frames), *sulphur, lone(16, -1480.0), lone(8, 0.0)))
    values = dict(zip(begun.spec.elements, begun.own, strict=True))
    assert values["S"] == -1480.0 and values["O"] == Potential.load(base).reference_energies[1]  # known energies are kept
    assert error_at_start(begun, list(sulphur)) < 0.3 and all(len(f) > 1 for f in begun.train)
    assert "reference energy of S, new to the base: -1480.0000 eV (isolated atom)" in begun.notes
    given = start(base, (*sulphur, lone(16, -1480.0)), data={"reference_energies": {"S": -1470.0}})
    assert given.own[2] == -1470.0 and error_at_start(given, list(sulphur)) < 0.3
    alone = start(base, (*at_level(frames), lone(16, -1480.0)))
    assert alone.own[2] == -1480.0 and alone.spec.normalization.shift[2] == -3.0


def test_refitting_moves_the_known_elements_first(base, frames, sulphur):
    """Another level of theory, at which H lies 0.5 eV and O 2 eV higher; a new element does not hide it."""
    zero = {1: ZERO[1] + 0.5, 8: ZERO[8] + 2.0, 16: ZERO[16]}
    back = {z: zero[z] - ZERO[z] for z in zero}
    mixed = (*at_level(frames, zero), *at_level(sulphur, back))
    with pytest.raises(DataError, match=r"the new energies lie \+(0\.9|1\.0)\d+ eV/atom from the base's predictions"):
        start(base, mixed)
    begun = start(base, mixed, reference_energies="refit")
    assert error_at_start(begun, list(mixed)) < 0.3
    lower = start(base, (*mixed, lone(1, -12.0), lone(8, -2035.0), lone(16, -1480.0)), reference_energies="refit")
    assert lower.own.tolist() == [-12.0, -2035.0, -1480.0]
    assert error_at_start(lower, list(mixed)) == pytest.approx(error_at_start(begun, list(mixed)), abs=0.01)


def test_a_new_element_without_any_energy_is_refused(base, frames, toy):
    structure = Structure([16, 1], [[0, 0, 0], [1.3, 0, 0]])
    bare = Frame(structure, Labels(forces=toy[1](structure).forces), origin="bare")
    with pytest.raises(DataError, match="reference energy of S: found no frame with an energy that has this element"):
        start(base, (*at_level(frames), bare))
    assert start(base, [bare]).own[2] == 0  # no energies at all: forces have no zero


def test_replayed_frames_stay_at_their_own_level(base, frames, tmp_path):
    """A base of two levels: each replayed frame goes to its own, and is compared with that."""
    higher = {z: e + 5.0 for z, e in ZERO.items()}
    new = at_level(frames, higher, head="better")
    first = start(base, new, head="better", reference_energies="refit")
    two = tmp_path / "two.safetensors"
    params = jax.tree.map(np.ascontiguousarray, first.params)
    Potential(first.spec, params, tuple(first.references.ravel()), {}, "float32").save(two)
    replay = Dataset((*at_level(list(frames)[:10], head="base"), *at_level(list(frames)[10:20], higher, head="better")))
    best = at_level(list(frames)[20:], {z: e - 5.0 for z, e in ZERO.items()}, head="best")
    begun = start(two, best, replay, head="best", reference_energies="refit")
    assert begun.spec.config.heads == ("base", "better", "best")
    assert [f.head for f in begun.train] == ["best"] * 20 + ["base"] * 10 + ["better"] * 10
    assert "20 frames are replayed at the head 'base', 'better'; the new ones are at 'best'" in begun.notes
    unnamed = start(two, best, Dataset(at_level(list(frames)[:10])), head="best", reference_energies="refit")
    assert [f.head for f in unnamed.train] == ["best"] * 20 + ["base"] * 10
    with pytest.raises(ConfigError, match="give the new frames a head of their own"):
        start(two, new, replay, head="better", reference_energies="refit")
