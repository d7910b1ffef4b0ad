"""Calibration: what was planted is found, what holds is stated, and what does not is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from eqpot.core.errors import DataError, EqpotError
from eqpot.graph import Frame, Labels, Structure
from eqpot.potential import Calibration, Potential, SigmaMap
from eqpot.uncertainty import calibrate, calibration_factor, ence
from eqpot.uncertainty.calibrate import fit_calibration, fit_maps, remember
from eqpot.uncertainty.samples import Sample

ATOMS = 25


def sample(rng, count, sigma, factor=1.0, names=("H",)):
    """Gaussian force errors of size factor·σ for `count` structures, with σ(true) drawn and `sigma` the function that estimates it."""
    n = count * ATOMS
    true = np.exp(rng.normal(-3, 0.7, n))
    symbols = tuple(names[k % len(names)] for k in range(n))
    factors = np.array([factor[s] if isinstance(factor, dict) else factor for s in symbols])
    errors = rng.normal(size=(n, 3)) * (true * factors / np.sqrt(3))[:, None]
    return Sample(errors, sigma(true, rng), np.repeat(np.arange(count), ATOMS), symbols)


def exact(true, rng):
    del rng
    return true


def four_members(true, rng):
    """What the spread of four members says of a σ, each component by itself."""
    return true * np.sqrt(rng.chisquare(9, len(true)) / 9)


@pytest.mark.parametrize("method", ["scale", "isotonic"])
def test_planted_factors_of_elements_are_found(method):
    rng = np.random.default_rng(0)
    maps = fit_maps(sample(rng, 200, exact, {"H": 3.0, "C": 0.5}, ("H", "C")), method)
    for name, factor in (("H", 3.0), ("C", 0.5)):
        assert maps[name](np.array([0.03, 0.06])) / np.array([0.03, 0.06]) == pytest.approx(factor, rel=0.1)


def test_a_growing_function_mends_what_a_factor_cannot():
    """σ of four members is too small where it is small: the error in bins of σ stays with a factor and goes with isotonic regression."""
    rng = np.random.default_rng(0)
    known, new = sample(rng, 200, four_members), sample(rng, 400, four_members)
    off = {method: ence(new.lengths, fit_maps(known, method)["H"](new.sigma)) for method in ("scale", "isotonic")}
    assert off["scale"] > 2 * off["isotonic"]
    assert off["isotonic"] < 0.05


@pytest.mark.parametrize("method", ["scale", "isotonic"])
def test_intervals_hold_on_structures_that_were_not_seen(method):
    """Errors of Student's t, twice as large as σ says: intervals of every level hold their share of new errors, components and vectors."""
    rng = np.random.default_rng(0)

    def heavy(count):
        s = sample(rng, count, four_members, 2.0)
        return replace(s, errors=s.errors * np.sqrt(2 / rng.chisquare(4, (len(s), 1))))

    quantity, new = fit_calibration({"forces": heavy(150)}, method).quantities["forces"], heavy(400)
    sigma = quantity.sigma(new.sigma, list(new.symbols))
    for level in (0.5, 0.68, 0.9, 0.95):
        inside = np.abs(new.errors) <= (quantity.radius(level, list(new.symbols)) * sigma / np.sqrt(3))[:, None]
        assert inside.mean() == pytest.approx(level, abs=0.02)
        assert (new.lengths <= quantity.radius(level, list(new.symbols), vector=True) * sigma).mean() == pytest.approx(level, abs=0.02)


def test_a_potential_does_not_call_itself_calibrated_when_it_is_not():
    rng = np.random.default_rng(0)
    assert fit_calibration({"forces": sample(rng, 60, four_members)}, "isotonic").calibrated
    drifting = sample(rng, 60, lambda true, rng: true * np.exp(rng.normal(0, 1.2, len(true))))
    fitted = fit_calibration({"forces": drifting}, "scale")
    assert not fitted.calibrated
    assert "ENCE" in fitted.fault or "σ" in fitted.fault


def test_few_structures_promise_little():
    quantity = fit_calibration({"forces": sample(np.random.default_rng(0), 12, exact)}, "scale").quantities["forces"]
    quantity.radius(0.9)
    with pytest.raises(
        EqpotError, match=r"found level 0\.95, expected one above 0 and at most 0\.92, which is what 12 calibration structures"
    ):
        quantity.radius(0.95)


def test_a_map_grows_and_keeps_ratios_outside_of_its_knots():
    m = SigmaMap((0.1, 0.4, 1.0), (0.2, 0.2, 3.0))
    sigma = np.geomspace(1e-4, 100, 200)
    assert (np.diff(m(sigma)) > -1e-12).all()
    assert m(np.array([0.05, 0.1, 0.4, 1.0, 2.0, 0.0])) == pytest.approx([0.1, 0.2, 0.2, 3.0, 6.0, 0.0])


@pytest.fixture(scope="module")
def labelled(potential):
    """Molecules whose labels are the mean of the members plus three times their spread."""
    rng = np.random.default_rng(0)
    corner = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    structures = [Structure([8, 1, 1], corner + rng.normal(0, 0.15, (3, 3)), 6 * np.eye(3), True) for _ in range(40)]

    def label(result):
        noise = rng.normal(size=(3, 3)) * (result.atom_std / np.sqrt(3))[:, None]
        stress = result.stress + 4 * rng.normal(size=(3, 3)) * np.sqrt((result.stress_std**2).mean())
        return Labels(
            energy=result.energy + 3 * result.energy_std * rng.normal(), forces=result.forces + 3 * noise, stress=(stress + stress.T) / 2
        )

    return [Frame(s, label(r), origin=f"water {k}") for k, (s, r) in enumerate(zip(structures, potential.predict(structures), strict=True))]


def test_a_calibrated_potential_says_so_everywhere(potential, labelled, tmp_path):
    known = calibrate(potential, labelled[:30], "scale")
    before, after = potential.predict(labelled[35].structure), known.predict(labelled[35].structure)
    assert not before.calibrated and after.calibrated == known.trust.calibration.calibrated
    ratio = after.atom_std / before.atom_std
    assert ratio == pytest.approx(3, rel=0.4)
    assert after.forces_std / before.forces_std == pytest.approx(ratio[:, None] * np.ones((3, 3)))
    assert after.energy_std / before.energy_std == pytest.approx(3, rel=0.4)
    assert after.stress_std.mean() > before.stress_std.mean() > 0
    np.testing.assert_array_equal(after.forces, before.forces)
    np.testing.assert_array_equal(after.forces_spread, before.forces_spread)
    loaded = Potential.load(known.save(tmp_path / "p.safetensors"))
    np.testing.assert_array_equal(loaded.predict(labelled[35].structure).forces_std, after.forces_std)
    assert (
        loaded.trust.calibration
        == known.trust.calibration
        == Calibration.from_json(json.loads(json.dumps(known.trust.calibration.to_json())))
    )


def test_intervals_of_a_prediction(potential, labelled):
    result = calibrate(potential, labelled[:30]).predict(labelled[35].structure)
    narrow, wide = result.interval(0.5), result.interval(0.9)
    assert wide.energy[0] < narrow.energy[0] < result.energy < narrow.energy[1] < wide.energy[1]
    assert (wide.forces[0] < result.forces).all() and (result.forces < wide.forces[1]).all()
    assert (wide.force_radius > narrow.force_radius).all()
    assert (wide.stress[1] - wide.stress[0] > narrow.stress[1] - narrow.stress[0]).all()
    with pytest.raises(EqpotError, match="30 calibration structures can vouch for; calibrate with more than 99"):
        result.interval(0.99)
    with pytest.raises(EqpotError, match="this potential is not calibrated"):
        potential.predict(labelled[35].structure).interval(0.9)


def test_calibrating_again_forgets_the_first(potential, labelled):
    first, twice = calibrate(potential, labelled[:20]), calibrate(calibrate(potential, labelled[20:]), labelled[:20])
    assert first.trust.calibration == twice.trust.calibration


def test_one_member_of_a_calibrated_ensemble_is_not_calibrated(potential, labelled):
    assert calibrate(potential, labelled).member(0).trust.calibration is None


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_one_sigma_for_all_becomes_the_root_mean_square_error(order, rounding):
    """Learned noise is the same everywhere: whatever the order of the errors, its map has one value."""
    rng = np.random.default_rng(0)
    s = sample(rng, 60, lambda true, rng: np.full(len(true), 0.1) * (1 + rounding * rng.normal(size=len(true))))
    rows = np.argsort(s.lengths)[::order]
    s = replace(s, errors=s.errors[rows], groups=s.groups[rows])
    assert fit_maps(s, "isotonic")["*"](np.array([0.1, 0.1 * (1 + rounding)])) == pytest.approx(np.sqrt((s.lengths**2).mean()), rel=1e-3)


@pytest.mark.parametrize(("count", "testable"), [(10, False), (11, False), (12, True), (23, True)])
def test_what_too_few_structures_cannot_test_is_not_said(count, testable):
    """Folds of 10 structures leave 8, which can vouch for 8/9 and not for 0.9."""
    found = fit_calibration({"forces": sample(np.random.default_rng(1), count, exact)}, "scale")
    coverage = found.checks["forces"]["coverage"]
    assert ("90" in coverage) == testable and "95" not in coverage
    assert testable or found.fault == f"{count} structures are too few to test 90 % intervals of the forces"
    assert all(abs(held - int(level) / 100) < 0.15 for level, held in coverage.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: Labels(23.06 * r.energy, 23.06 * r.forces), r"forces of the labels are 23\.1 times those predicted"),
        (lambda r: Labels(r.energy - 1000, r.forces), "energies of the labels are typically 333 eV/atom off"),
    ],
    ids=["kcal/mol", "another zero"],
)
def test_labels_of_other_units_or_zeros_are_refused(potential, labelled, change, words):
    with pytest.raises(DataError, match=words):
        calibrate(potential, [f.replace(labels=change(potential.predict(f.structure))) for f in labelled])


def test_a_structure_is_known_by_all_bits_of_its_key_but_in_old_files(potential, labelled):
    """32 bits take one in 4,000 new structures for one of a million: files that have no more are compared by those."""
    from eqpot.data import Dataset, key_numbers

    keys = key_numbers(Dataset(tuple(labelled[:1]))).view(np.int64)
    for seen, known in ((keys, True), (keys ^ (1 << 40), False), (keys.astype(np.int32), True)):
        one = replace(potential, trust=replace(potential.trust, seen=seen))
        if known:
            with pytest.raises(DataError, match="1 of 20 structures were trained on"):
                calibrate(one, labelled[:20])
        else:
            assert calibrate(one, labelled[:20]).trust.calibration


def test_what_the_base_was_trained_on_is_remembered(potential, labelled, tmp_path):
    from eqpot.data import Dataset

    base = remember(potential, Dataset(tuple(labelled[:1])))
    for before in (base.trust.seen, base.trust.seen.astype(np.int32)):
        again = Potential.load(remember(potential, Dataset(tuple(labelled[1:2])), before).save(tmp_path / "p.safetensors"))
        with pytest.raises(DataError, match="2 of 20 structures were trained on"):
            calibrate(again, labelled[:20])


def test_frames_that_were_trained_on_are_refused(potential, labelled):
    from eqpot.data import Dataset

    with pytest.raises(DataError, match=r"2 of 20 structures were trained on, the first is water 18"):
        calibrate(remember(potential, Dataset(tuple(labelled[18:]))), labelled[:20])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, f: (p, f[:5]), "found 5 structures, expected at least 10"),
        (lambda p, f: (p.member(0), f), "found no σ above zero beside a label"),
        (lambda p, f: (p, [x.replace(labels=Labels()) for x in f]), "found no σ above zero beside a label"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(potential, labelled, change, words):
    with pytest.raises(DataError, match=words):
        calibrate(*change(potential, labelled))


def test_the_factor_is_that_of_the_largest_likelihood():
    rng = np.random.default_rng(0)
    s = sample(rng, 50, exact, 2.5)
    assert fit_maps(s, "scale")["*"](np.array([1.0]))[0] == pytest.approx(calibration_factor(s.lengths, s.sigma), rel=1e-5)
