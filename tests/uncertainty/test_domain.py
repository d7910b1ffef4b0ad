"""The domain: distances are what they are called, limits hold what they say, and what is new is told."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk, molecule

from eqpot.core.errors import DataError
from eqpot.graph import Frame, Structure
from eqpot.potential import Calibration, Potential, QuantityCalibration, SigmaMap
from eqpot.potential.domain import novelty
from eqpot.uncertainty import fit_domain
from eqpot.uncertainty.domain import _fit_element, farthest_points, shrunk_correlation


@pytest.fixture(scope="module")
def frames():
    """Rattled ethanol."""
    rng = np.random.default_rng(0)
    atoms = molecule("CH3CH2OH")
    return [Frame(Structure(atoms.numbers, atoms.positions + rng.normal(0, 0.06, (9, 3)))) for _ in range(80)]


@pytest.fixture(scope="module")
def known(potential, frames):
    return fit_domain(potential, frames[:60])


def rows(rng, n=4000, f=5):
    return rng.normal(size=(n, f)) * rng.uniform(0.7, 1.4, f) + rng.normal(size=f)


def test_the_distance_of_many_atoms_is_that_of_mahalanobis():
    """With many rows the shrinkage vanishes: (x − μ)ᵀ Σ⁻¹ (x − μ), which no linear map of the descriptors changes."""
    rng = np.random.default_rng(0)
    x = rows(rng, 100_000)
    for linear in (np.eye(5), np.linalg.qr(rng.normal(size=(5, 5)))[0] * rng.uniform(0.5, 2, 5)):
        y = x @ linear
        whitening, centers, _ = _fit_element(y, "mahalanobis", "quantile", 0.99, 1, rng)
        square = np.sum((y[:50] @ whitening[0] - centers[0, 0]) ** 2, -1)
        apart = y[:50] - y.mean(0)
        assert square == pytest.approx(np.einsum("ni,ij,nj->n", apart, np.linalg.inv(np.cov(y.T, bias=True)), apart), rel=2e-2)


def test_the_limit_holds_its_share():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 5))
    by_data = _fit_element(x, "mahalanobis", "quantile", 0.95, 1, rng)[2]
    by_law = _fit_element(x, "mahalanobis", "chi2", 0.95, 1, rng)[2]
    assert by_data == pytest.approx(by_law, rel=0.02)  # normal data follow χ²
    assert by_law == pytest.approx(np.sqrt(11.0705), rel=1e-4)  # χ²₅⁻¹(95 %), from tables


def test_shrinkage_vanishes_with_data_and_rules_without():
    rng = np.random.default_rng(0)
    true = np.array([[1, 0.8], [0.8, 1]])
    many = rng.multivariate_normal([0, 0], true, 100_000)
    assert shrunk_correlation(many / many.std(0)) == pytest.approx(true, abs=0.01)
    few = rng.normal(size=(6, 40))
    few = (few - few.mean(0)) / few.std(0)
    shrunk = shrunk_correlation(few)
    assert np.linalg.eigvalsh(shrunk).min() > 0.1  # the sample alone is singular
    assert np.abs(shrunk - np.eye(40)).mean() < 0.5 * np.abs(few.T @ few / 6 - np.eye(40)).mean()


def test_a_mixture_knows_a_gap_between_what_it_has_seen():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 0.1, (500, 3)) - 2, rng.normal(0, 0.1, (500, 3)) + 2])
    middle = np.zeros((1, 3))

    def of(kind, centers):
        whitening, middles, limit = _fit_element(x, kind, "quantile", 0.99, centers, np.random.default_rng(0))
        return min(np.sqrt(((middle @ w - m) ** 2).sum(-1).min()) for w, m in zip(whitening, middles, strict=True)) / limit

    assert of("mahalanobis", 1) < 0.1  # the mean, where nothing was seen
    assert of("landmarks", 20) > 0.5
    assert of("mixture", 2) > 3


def test_farthest_points_leave_no_hole():
    """The covering radius is at most twice the best possible: points chosen are apart by no less than it."""
    points = np.random.default_rng(0).random((500, 2))
    chosen = farthest_points(points, 20)
    apart = np.linalg.norm(points[chosen][:, None] - points[chosen], axis=-1) + 10 * np.eye(20)
    cover = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(1).max()
    assert cover <= apart.min() + 1e-12


def test_elements_have_domains_of_their_own(known, frames):
    features = known.descriptors([f.structure for f in frames[:60]])
    numbers = np.concatenate([f.structure.numbers for f in frames[:60]])
    found = np.concatenate([r.novelty for r in known.predict([f.structure for f in frames[:60]])])
    assert known.elements == ("H", "C", "O")
    for z in (1, 6, 8):
        assert (found[numbers == z] <= 1).mean() == pytest.approx(0.99, abs=0.02)
    wrong = novelty(known.trust.domain, jnp.asarray(features[0], jnp.float32), jnp.full(9, 2))  # all taken for oxygen
    assert (np.asarray(wrong)[numbers[:9] != 8] > 10).all()


def test_what_was_not_seen_is_told(known, frames):
    fresh = known.predict([f.structure for f in frames[60:]])
    assert np.mean([r.known for r in fresh]) > 0.5
    stretched = molecule("CH3CH2OH")
    stretched.positions[3] += 0.6 * (stretched.positions[3] - stretched.positions[2])  # a bond, by 60 %
    for strange in (stretched, molecule("CO2"), bulk("C")):
        result = known.predict(strange)
        assert not result.known
        assert result.novelty.max() > 1.5 * max(r.novelty.max() for r in fresh)


def test_calibration_moves_sigma_and_its_limit_alike(known, frames):
    """Doubt compares σ with σ of what was trained on: a factor for both changes nothing."""
    factor = {"*": SigmaMap.factor(5.0), "C": SigmaMap.factor(0.2)}
    trusted = replace(known.trust, calibration=Calibration("scale", {"forces": QuantityCalibration(factor, {"*": ()})}))
    before, after = (p.predict(frames[70].structure) for p in (known, replace(known, trust=trusted)))
    assert not np.allclose(before.atom_std, after.atom_std)
    np.testing.assert_allclose(after.doubt, before.doubt)


def test_doubt_is_one_at_both_edges(known, frames):
    result = known.predict(frames[0].structure)
    at_edge = replace(result, novelty=np.ones(9), forces_std=np.sqrt(result.sigma_limit**2 / 3)[:, None] * np.ones((9, 3)))
    assert at_edge.doubt == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(("kind", "centers"), [("mixture", 3), ("landmarks", 8)])
def test_all_kinds_survive_a_file(potential, frames, tmp_path, kind, centers):
    made = fit_domain(potential, frames[:20], kind, centers=centers)
    loaded = Potential.load(made.save(tmp_path / "p.safetensors"))
    found = made.predict(frames[30].structure).novelty
    assert np.isfinite(found).all() and (found > 0).all()
    np.testing.assert_array_equal(loaded.predict(frames[30].structure).novelty, found)
    assert (loaded.trust.domain.kind, loaded.trust.domain.rule) == (kind, "99 % of the atoms trained on")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": 1.5}, "found level 1.5"),
        ({"centers": 3}, "a mixture has several"),
        ({"kind": "landmarks", "centers": 9, "limit": "chi2"}, "χ² is the distribution of Mahalanobis distances"),
    ],
)
def test_options_that_do_not_fit_are_refused(potential, frames, options, words):
    with pytest.raises(DataError, match=words):
        fit_domain(potential, frames, **options)
    with pytest.raises(DataError, match="found no frames"):
        fit_domain(potential, [])
