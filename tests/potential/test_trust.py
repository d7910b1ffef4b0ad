"""What a potential carries to judge itself: on disk, in compiled programs, and what becomes of it when the potential changes."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.core.errors import ArchiveError
from eqpot.graph import Structure
from eqpot.potential import Calibration, Domain, Potential, QuantityCalibration, SigmaMap, Trust
from eqpot.potential.archive import read_archive, write_archive
from eqpot.potential.passes import judged_prediction

MAPS = {"*": SigmaMap((0.1, 0.5, 2.0), (0.1, 0.3, 4.0)), "H": SigmaMap.factor(2.5)}


@pytest.fixture(scope="module")
def known(potential):
    """With a calibration and a domain written by hand."""
    features = potential.descriptors(Structure([1], [[0.0, 0, 0]])).shape[1]
    domain = Domain(
        np.stack([np.eye(features, dtype=np.float32)] * 3)[:, None],
        np.zeros((3, 1, 1, features), np.float32),
        np.full(3, 2.0),
        np.full(3, 0.5),
    )
    forces = QuantityCalibration(MAPS, {"*": (0.1, 0.2)}, {"*": (0.1, 0.2)}, 12)
    energy = QuantityCalibration({"*": SigmaMap.factor(3.0)}, {"*": ()}, {}, 12)
    return replace(
        potential, trust=Trust(Calibration("isotonic", {"forces": forces, "energy": energy}), domain, seen=np.array([-5, 7], np.int32))
    )


def water():
    return Structure([8, 1, 1], [[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])


def test_arrays_and_numpy_apply_the_same_maps(known):
    """Energies and forces of every element, below, between and above the knots."""
    judge = known.judge
    sigma = np.geomspace(0.01, 10, 30)
    for index, element in enumerate(known.elements):
        found = judge.atom_std(jnp.asarray(sigma), jnp.full(30, index))
        np.testing.assert_allclose(found, MAPS.get(element, MAPS["*"])(sigma), rtol=1e-5)
    np.testing.assert_allclose(judge.energy_std(jnp.asarray(sigma), jnp.full(30, 4.0)), 3 * sigma, rtol=1e-5)
    assert judge.atom_std(jnp.zeros(2), jnp.zeros(2, int)).tolist() == [0, 0]


def test_another_calibration_needs_no_other_program(known):
    """Of more knots, as the next round of active learning has it."""
    known.predict(water()), replace(known, trust=Trust()).predict(water())
    before = judged_prediction._cache_size()
    finer = SigmaMap(*2 * (tuple(np.geomspace(0.1, 2, 7).tolist()),))
    quantities = known.trust.calibration.quantities
    forces = replace(quantities["forces"], maps={"*": finer})
    calibration = replace(known.trust.calibration, quantities={**quantities, "forces": forces})
    other = replace(known, trust=replace(known.trust, calibration=calibration))
    np.testing.assert_allclose(other.predict(water()).atom_std, replace(known, trust=Trust()).predict(water()).atom_std, rtol=1e-5)
    assert judged_prediction._cache_size() == before


def test_novelty_is_the_distance_in_units_of_the_limit(known, potential):
    distance = np.linalg.norm(potential.descriptors(water()), axis=1)
    assert known.predict(water()).novelty == pytest.approx(distance / 2, rel=1e-5)
    assert potential.predict(water()).novelty is None


def test_it_survives_a_file_to_the_bit(known, tmp_path):
    loaded = Potential.load(known.save(tmp_path / "p.safetensors"))
    assert loaded.trust.calibration == known.trust.calibration
    np.testing.assert_array_equal(loaded.trust.seen, known.trust.seen)
    a, b = (p.predict(water()) for p in (known, loaded))
    for name in ("forces_std", "novelty", "energy_std", "doubt"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_file_without_it_still_loads(potential, tmp_path):
    loaded = Potential.load(potential.save(tmp_path / "p.safetensors"))
    assert loaded.trust.calibration is loaded.trust.domain is loaded.trust.seen is None


def test_another_precision_keeps_it_and_one_member_loses_what_was_of_all(known):
    assert known.astype("float64").trust is known.trust
    assert known.member(0).trust.domain is known.trust.domain
    assert known.member(1).trust.domain is None  # its descriptors are others
    assert known.member(0).trust.calibration is None


@pytest.mark.parametrize(
    ("header", "tensor", "words"),
    [
        (lambda h: h["calibration"].pop("method"), None, "KeyError"),
        (lambda h: h.update(domain={"kind": "mahalanobis", "magic": 1}), None, "TypeError"),
        (None, lambda t: t.pop("trust/domain/limit"), "KeyError"),
        (None, lambda t: t.update({"trust/domain/limit": np.ones(2, np.float32)}), "of 2 elements, expected 3"),
    ],
)
def test_a_file_that_misstates_it_is_refused(known, tmp_path, header, tensor, words):
    path = known.save(tmp_path / "p.safetensors")
    found, tensors = read_archive(path)
    for change, what in ((header, found["trust"]), (tensor, tensors)):
        if change:
            change(what)
    write_archive(path, {k: v for k, v in found.items() if k not in ("format", "units")}, tensors)
    with pytest.raises(ArchiveError, match=rf"p\.safetensors: .*{words}"):
        Potential.load(path)


def test_spread_and_noise_add_as_variances(make_potential):
    noisy = make_potential(noise=True)
    r = noisy.predict(water())
    np.testing.assert_allclose(r.forces_std, np.hypot(r.forces_spread, r.forces_noise[:, None]))
    assert r.energy_std == pytest.approx(np.hypot(r.energy_spread, r.energy_noise))
    assert r.forces_spread == pytest.approx(r.member_forces.std(0, ddof=1))


def test_noise_that_was_learned_with_the_loss_is_everywhere_the_same(potential):
    learned = replace(potential, metadata={"noise": {"energy": 0.01, "forces": 0.2}})
    r = learned.predict(water())
    assert r.forces_noise == pytest.approx(0.2) and r.energy_noise == pytest.approx(0.03)
    np.testing.assert_allclose(r.forces_std, np.hypot(r.forces_spread, 0.2))
