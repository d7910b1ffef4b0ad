"""Wrong labels are found and called by their name; sound sets stay unsuspected."""

import numpy as np
import pytest

from eqpot.data import Dataset, inspect, read
from eqpot.data.duplicates import displacement, near_duplicates
from eqpot.data.force_faults import force_faults
from eqpot.data.hygiene import examine_labels, pair_opinion, write_suspects
from eqpot.data.pair_model import CENTRES, near
from eqpot.graph import Frame, Labels, Structure

POSITIONS = np.array([[0, 0, 0], [1.3, 0, 0], [0, 1.4, 0], [0, 0, 1.35], [1.2, 1.2, 1.1]])
NUMBERS = np.array([6, 8, 1, 1, 6])
LENGTHS = {(1, 1): 1.9, (1, 6): 1.5, (1, 8): 1.9, (6, 6): 2.0, (6, 8): 1.4}


def labelled(structure: Structure, rng: np.random.Generator) -> Labels:
    """A Morse spring [eV] between all pairs, the square of the sum of all distances, which no pair potential has, and a little noise."""
    x, n = structure.positions, structure.numbers
    length = np.array([[LENGTHS.get((min(a, b), max(a, b)), 1.0) for b in n] for a in n])
    vector = x[:, None] - x[None]
    distance = np.linalg.norm(vector, axis=-1) + np.eye(len(x))
    off = 1 - np.eye(len(x))
    decay = np.exp(-1.2 * (distance - length))
    stretch = np.sum(off * (distance - length)) / 2
    slope = off * (7.2 * (1 - decay) * decay + 0.1 * stretch)
    energy = np.sum(off * 3 * (1 - decay) ** 2) / 2 + 0.05 * stretch**2 - 100.0 * np.sum(n == 6)
    forces = -np.sum(slope[..., None] * vector / distance[..., None], 1)
    return Labels(float(energy + 0.01 * rng.normal()), forces + 0.03 * rng.normal(size=forces.shape))


def molecule(rng: np.random.Generator, size: float = 0.08) -> Frame:
    structure = Structure(NUMBERS, POSITIONS + rng.normal(0, size, POSITIONS.shape))
    return Frame(structure, labelled(structure, rng))


@pytest.fixture(scope="module")
def sound() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(tuple(molecule(rng) for _ in range(240)))


def changed(dataset: Dataset, k: int, **labels) -> Dataset:
    """The set with other labels of frame k."""
    frames = list(dataset)
    old = frames[k].labels
    frames[k] = frames[k].replace(labels=Labels(labels.get("energy", old.energy), labels.get("forces", old.forces)))
    return Dataset(tuple(frames))


def codes(dataset: Dataset) -> dict[int, set[str]]:
    return {s.frame: {r.code for r in s.reasons} for s in examine_labels(dataset).suspects}


def test_a_sound_set_has_no_suspects(sound):
    found = examine_labels(sound)
    assert found.suspects == () and found.steps == () and found.duplicates == () and found.near_duplicates == ()


TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        (lambda f, other: f * 23.06, "force-unit", "kcal/mol/Å read as eV/Å"),
        (lambda f, other: f / 51.42, "force-unit", "Hartree/Bohr read as eV/Å"),
        (lambda f, other: f * 1000, "force-unit", "meV/Å read as eV/Å"),
        (lambda f, other: -f, "force-sign", "opposite"),
        (lambda f, other: other, "force-pairing", "frame 4"),
        (lambda f, other: f[[1, 0, 2, 3, 4]], "force-order", "C 0, O 1"),
        (lambda f, other: f @ TURN, "force-orientation", "90°"),
        (lambda f, other: 0 * f, "force-zero", "not calculated"),
    ],
)
def test_a_force_fault_is_found_and_named(sound, change, code, word):
    label = change(sound[7].labels.forces, sound[4].labels.forces)
    found = examine_labels(changed(sound, 7, forces=label))
    assert [s.frame for s in found.suspects] == [7]
    assert found.suspects[0].reasons[0].code == code and word in found.suspects[0].reasons[0].text


def test_forces_of_another_model_are_named_without_explanation_and_by_atom(sound):
    label = sound[7].labels.forces.copy()
    label[2] += [4.0, -3.0, 2.0]
    (suspect,) = examine_labels(changed(sound, 7, forces=label)).suspects
    assert suspect.reasons[0].code == "forces" and "H 2" in suspect.reasons[0].text


def test_an_energy_is_found_from_a_few_times_the_error_of_the_fit(sound):
    scatter = np.median(np.abs(examine_labels(sound).residuals)) * 1.4826 * len(NUMBERS)
    assert codes(changed(sound, 11, energy=sound[11].labels.energy + 12 * scatter)) == {11: {"energy"}}
    assert codes(changed(sound, 11, energy=sound[11].labels.energy + scatter)) == {}
    assert codes(changed(sound, 11, energy=sound[11].labels.energy / 27.2114)) == {11: {"energy-unit"}}


def test_the_residual_is_the_shift_and_the_numbers_say_so(sound):
    found = examine_labels(changed(sound, 11, energy=sound[11].labels.energy + 5.0))
    (reason,) = found.suspects[0].reasons
    assert reason.numbers["residual"] == pytest.approx(5.0, rel=0.1)
    assert found.residuals[11] == pytest.approx(1.0, rel=0.1) and 0 < found.leverage[11] < 1


def test_a_step_between_files_is_measured_with_its_error(sound):
    step = 0.05
    frames = [
        f.replace(origin=f"{'new' if k % 3 == 0 else 'old'}.xyz:frame {k}", labels=Labels(f.labels.energy + (k % 3 == 0) * step * len(f)))
        for k, f in enumerate(sound)
    ]
    (found,) = examine_labels(Dataset(tuple(frames))).steps
    assert (found.source, found.reference, found.frames) == ("new.xyz", "old.xyz", 80)
    assert abs(found.step - step) < 4 * found.error < step
    assert examine_labels(Dataset(tuple(frames))).suspects == ()
    same = [f.replace(labels=s.labels) for f, s in zip(frames, sound, strict=True)]
    assert examine_labels(Dataset(tuple(same))).steps == ()


def test_levels_of_theory_are_not_compared_with_each_other(sound):
    """Two heads with other energies of the elements: no step is reported, and a wrong energy of one stands out as it does alone."""
    fewer = [
        f.replace(structure=Structure(NUMBERS[:-1], f.structure.positions[:-1]), labels=Labels(f.labels.energy + 100)) for f in sound[:20]
    ]
    zero = {1: -3.0, 6: 450.0, 8: -80.0}
    low = [f.replace(head="low") for f in (*sound, *fewer)]
    high = [f.replace(head="high", labels=Labels(f.labels.energy + sum(zero[z] for z in f.structure.numbers.tolist()))) for f in low]
    high[30] = high[30].replace(labels=Labels(high[30].labels.energy + 3.0))
    found = examine_labels(Dataset((*low, *high)))
    assert found.steps == () and 260 + 30 in found.frames and 30 not in found.frames


def test_turned_renumbered_and_moved_copies_are_nearly_the_same(sound):
    original = sound[3].structure
    order = [0, 1, 3, 2, 4]
    copy = Structure(NUMBERS[order], original.positions[order] @ TURN + 5.0 + 1e-4 * np.sin(np.arange(15)).reshape(5, 3))
    frames = (*sound, Frame(copy, Labels(sound[3].labels.energy)))
    ((later, earlier, moved),) = examine_labels(Dataset(frames)).near_duplicates
    assert (later, earlier) == (240, 3) and moved == pytest.approx(1e-4, rel=0.6)
    assert displacement(original, sound[4].structure) > 0.01
    wrong = Dataset((*sound, Frame(copy, Labels(sound[3].labels.energy + 0.5))))
    assert "conflicting-labels" in codes(wrong)[240]


def test_exact_copies_are_duplicates_and_no_near_duplicates(sound):
    doubled = sound + sound[:2]
    found = examine_labels(doubled)
    assert found.duplicates == ((240, 0), (241, 1)) and found.suspects == ()
    assert near_duplicates(doubled, pair_opinion(doubled, False).descriptors, found.duplicates) == ()


def test_distances_are_judged_by_nature_and_by_the_set(sound):
    close, far = (sound[k].structure.positions.copy() for k in (5, 6))
    close[2] = close[3] + [0.25, 0, 0]
    far[4] += 3.5
    frames = list(sound)
    for k, positions in ((5, close), (6, far)):
        frames[k] = Frame(Structure(NUMBERS, positions), Labels())
    found = codes(Dataset(tuple(frames)))
    assert found[5] == {"distance"} and found[6] == {"detached"}


def test_the_pair_model_is_the_derivative_of_its_descriptors(sound):
    numbers, structure = np.array([1, 6, 8]), sound[0].structure
    c = np.random.default_rng(3).normal(size=6 * len(CENTRES))
    pairs = near(structure, numbers)
    np.testing.assert_allclose((pairs.design() @ c).reshape(-1, 3), pairs.forces(c), atol=1e-12)
    np.testing.assert_allclose(pairs.of_atoms().sum(0) / 2, pairs.descriptors(), atol=1e-12)
    for atom, axis in ((0, 0), (3, 2)):
        energies = []
        for sign in (1, -1):
            moved = structure.positions.copy()
            moved[atom, axis] += sign * 1e-5
            energies.append(near(Structure(NUMBERS, moved), numbers).descriptors() @ c)
        assert pairs.forces(c)[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / 2e-5, rel=1e-6)


def test_frames_without_labels_and_small_sets_are_not_judged(sound):
    assert codes(Dataset(tuple(f.replace(labels=Labels()) for f in sound))) == {}
    assert codes(sound[:4]) == {} and codes(Dataset(())) == {}
    assert force_faults([], [], []) == []


def test_suspects_are_written_with_their_reasons(sound, tmp_path):
    dirty = changed(sound, 7, forces=-sound[7].labels.forces)
    found = examine_labels(dirty)
    write_suspects(tmp_path / "look.extxyz", dirty.frames, found.suspects)
    text = (tmp_path / "look.extxyz").read_text()
    assert "opposite" in text and 'origin="frame 7"' in text
    assert len(read(tmp_path / "look.extxyz")) == 1


def test_inspect_tells_a_fault_of_a_frame_once(sound):
    twice = Dataset((*sound, sound[0].replace(labels=Labels(sound[0].labels.energy + 1.0))))
    seen = inspect(twice)
    assert "conflicting-labels" not in {f.code for f in seen.findings}
    assert {s.frame for s in seen.hygiene.suspects} == {240}


REAL = ("3bpa/train_300K", "mlearn/Si_train", "dipeptides_les/train", "nacl_aq_revpbe0d3/val", "rmd17/aspirin_test_01")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_sets_have_next_to_no_suspects(name, shared_file):
    data = read(shared_file(f"{name}.extxyz.gz"))
    assert len(examine_labels(data).suspects) <= 0.01 * len(data)
