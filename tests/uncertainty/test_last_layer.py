"""Last-layer uncertainty: its sums are those of all force components, its σ that of its readouts."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from eqpot.core.errors import DataError
from eqpot.graph import Frame, Labels, Structure
from eqpot.potential import LastLayer, Potential, Trust
from eqpot.uncertainty import calibrate, fit_last_layer
from eqpot.uncertainty.last_layer import _Evidence, _projected


@pytest.fixture(scope="module")
def single(gate_potential):
    return gate_potential.member(0).astype("float64")


@pytest.fixture(scope="module")
def frames(single):
    """Molecules whose labels differ from the prediction by a fixed readout and a little noise."""
    rng = np.random.default_rng(0)
    corner = np.array([[0.0, 0, 0], [1.1, 0, 0], [0, 1.2, 0], [0, 0.2, 1.3]])
    structures = [Structure([8, 1, 6, 1], corner + rng.normal(0, 0.15, (4, 3))) for _ in range(30)]
    return [
        Frame(s, Labels(energy=r.energy + 0.1 * rng.normal(), forces=r.forces + 0.1 * rng.normal(size=(4, 3))))
        for s, r in zip(structures, single.predict(structures), strict=True)
    ]


def with_layer(potential: Potential, directions, forces):
    return replace(potential, trust=Trust(last_layer=LastLayer(np.asarray(directions, np.float32), "bootstrap", forces)))


def test_slopes_along_probes_are_derivatives(single, frames):
    """∂(Σg)/∂r·v by finite differences in float64."""
    host = single.prepare(frames[0].structure)
    ((_, graph),) = single.batches([host])
    probes = np.random.default_rng(0).normal(size=(2, *graph.positions.shape))
    params = jax.tree.map(lambda leaf: leaf[0], single.params)
    with jax.enable_x64(True):
        sums, along = _projected(single.spec, params, graph, probes)
        for probe, slope in zip(probes, along, strict=True):
            ends = [
                _projected(single.spec, params, graph.replace(positions=graph.positions + h * probe), probes[:1])[0] for h in (1e-5, -1e-5)
            ]
            np.testing.assert_allclose((ends[0] - ends[1]) / 2e-5, slope, atol=1e-6 * np.abs(slope).max())
    assert np.asarray(sums[0]) == pytest.approx(single.descriptors(frames[0].structure).sum(0), rel=1e-6)


def test_sigma_is_that_of_the_readouts(single, frames):
    """Each direction is a readout: σ of the energy is the root of the summed squares of its energies, that of forces of their gradients."""
    rng = np.random.default_rng(0)
    structure = frames[0].structure
    directions = rng.normal(size=(single.descriptors(structure).shape[1], 3)).astype(np.float32)
    exact, cheap = (with_layer(single, directions, forces).predict(structure) for forces in (True, False))
    energies = single.descriptors(structure) @ directions
    assert exact.energy_std == cheap.energy_std == pytest.approx(np.sqrt((energies.sum(0) ** 2).sum()), rel=1e-5)
    assert cheap.atom_std == pytest.approx(np.sqrt((energies**2).sum(1)), rel=1e-5)
    moved = np.array(structure.positions)
    for i, x in ((0, 0), (2, 1), (3, 2)):
        ends = []
        for h in (1e-4, -1e-4):
            moved[i, x] = structure.positions[i, x] + h
            ends.append((single.descriptors(replace(structure, positions=moved)) @ directions).sum(0))
            moved[i, x] = structure.positions[i, x]
        assert exact.forces_std[i, x] == pytest.approx(np.sqrt((((ends[0] - ends[1]) / 2e-4) ** 2).sum()), rel=1e-4)
    np.testing.assert_allclose(exact.forces, single.predict(structure).forces, rtol=1e-12)  # another program, which may round otherwise


def test_the_bootstrap_spreads_as_the_posterior_does():
    """A well-determined linear regression: the covariance of bootstrapped readouts is the inverse precision, for errors of unit size."""
    from eqpot.uncertainty.last_layer import _bootstrap, _root_of_inverse

    rng = np.random.default_rng(0)
    design = rng.normal(size=(4000, 3)) * [1, 2, 5]
    evidence = _Evidence(design, rng.normal(size=4000), np.arange(4000))
    root = _root_of_inverse(evidence.precision(np.ones(4000)))
    readouts = _bootstrap(evidence, 4000, 400, rng)
    np.testing.assert_allclose(np.diag(readouts @ readouts.T), np.diag(root @ root.T), rtol=0.2)
    np.testing.assert_allclose(np.linalg.inv(root @ root.T), design.T @ design, rtol=1e-3, atol=1e-3 * 4000)


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"forces": True, "readouts": 8}, marks=pytest.mark.slow), {"kind": "bootstrap", "readouts": 8}]
)
def test_it_grows_away_from_the_data(single, frames, options):
    model = fit_last_layer(single, frames, **options)
    near = np.mean([r.atom_std.max() for r in model.predict([f.structure for f in frames])])
    far = replace(frames[0].structure, numbers=[6, 8, 6, 8])
    assert model.predict(far).atom_std.max() > 1.5 * near
    assert model.predict(far).energy_std > 0


def test_more_data_leave_less_doubt(single, frames):
    few, many = (fit_last_layer(single, frames[:n]).predict(frames[0].structure) for n in (5, 30))
    assert many.energy_std < few.energy_std and (many.atom_std < few.atom_std).all()


@pytest.mark.slow
def test_it_can_be_calibrated_and_kept(single, frames, tmp_path):
    model = calibrate(fit_last_layer(single, frames[:15], "bootstrap", 8, forces=True), frames[15:])
    loaded = Potential.load(model.save(tmp_path / "p.safetensors"))
    np.testing.assert_array_equal(loaded.predict(frames[0].structure).forces_std, model.predict(frames[0].structure).forces_std)
    assert loaded.trust.last_layer.kind == "bootstrap"
    assert fit_last_layer(model, frames).trust.calibration is None  # of another σ


def test_what_has_no_last_layer_is_refused(gate_potential, single, frames, make_potential):
    with pytest.raises(DataError, match="found 2 members, whose spread is a σ already"):
        fit_last_layer(gate_potential, frames)
    with pytest.raises(DataError, match="found no energies and forces"):
        fit_last_layer(single, [f.replace(labels=Labels()) for f in frames])
    with pytest.raises(DataError, match="found direct forces"):
        fit_last_layer(make_potential(1, direct_forces=True), frames)
