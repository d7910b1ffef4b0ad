"""Averages under another potential, from frames of this one: exact where the answer is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from morse import crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.core.units import KB
from eqpot.md import CSVR, simulate
from eqpot.md.differentiable import Target, collect, effective_size, energies, fit_observables, pressures, reweighted, weights

from .harmonic import harmonic, thermal


def test_weights_are_boltzmann_factors():
    energy, reference = np.array([0.1, 0.3, 0.2]), np.array([0.1, 0.2, 0.4])
    found = weights(jnp.asarray(energy), jnp.asarray(reference), 0.1)
    factors = np.exp(-(energy - reference) / 0.1)
    assert np.allclose(found, factors / factors.sum(), rtol=1e-6)
    assert np.allclose(weights(jnp.asarray(energy + 1e3), jnp.asarray(reference), 0.1), found, rtol=1e-2)


def test_effective_size_counts_frames():
    assert float(effective_size(jnp.full(7, 1 / 7))) == pytest.approx(7, rel=1e-6)
    assert float(effective_size(jnp.array([0.5, 0, 0.5]))) == pytest.approx(2, rel=1e-6)
    assert float(effective_size(jnp.array([0, 1.0, 0]))) == pytest.approx(1, rel=1e-6)
    assert np.isfinite(jax.grad(effective_size)(jnp.array([0.5, 0, 0.5]))).all()


def test_average_and_its_derivative_in_a_harmonic_well():
    """⟨r²⟩ = 3k_BT/k for another stiffness k than that of the frames, and d⟨r²⟩/dk = −3k_BT/k²."""
    kelvin, made_with, wanted = 300.0, 1.0, 1.05
    samples = thermal(harmonic(made_with), kelvin, frames=20000, atoms=2)

    def mean_square(stiffness):
        energy = energies(harmonic(1.0).spec, {"stiffness": stiffness[None]}, samples)
        return reweighted(jnp.mean(jnp.sum(samples.positions**2, -1), -1), weights(energy, samples.energy, samples.kT))

    value, slope = jax.value_and_grad(mean_square)(jnp.float32(wanted))
    assert float(value) == pytest.approx(3 * KB * kelvin / wanted, rel=0.02)
    assert float(slope) == pytest.approx(-3 * KB * kelvin / wanted**2, rel=0.1)
    step = 1e-2
    numeric = (mean_square(jnp.float32(wanted + step)) - mean_square(jnp.float32(wanted - step))) / (2 * step)
    assert float(slope) == pytest.approx(float(numeric), rel=2e-3)


@pytest.mark.slow
def test_fit_finds_the_stiffness_and_makes_frames_when_they_are_needed():
    """The stiffness is wrong by a factor of two; the frames of the start say little about the end."""
    kelvin, calls = 300.0, []

    def sample(potential):
        calls.append(float(potential.params["stiffness"][0]))
        return thermal(potential, kelvin, frames=4000, atoms=2, seed=len(calls))

    square = Target("square", lambda _, samples: jnp.sum(samples.positions**2, (-1, -2)) / 2, 3 * KB * kelvin / 2.0, weight=1e4)
    fitted, steps = fit_observables(harmonic(1.0), [square], sample, optax.adam(0.03), 200)
    assert float(fitted.params["stiffness"][0]) == pytest.approx(2.0, rel=0.03)
    assert steps[-1].loss < 1e-3 * steps[0].loss and steps[-1].deviations["square"] < 0.05 * steps[0].deviations["square"]
    assert 2 <= len(calls) < 40 and sum(s.resampled for s in steps) == len(calls)
    assert all(s.effective >= 0.6 for s in steps)


def test_penalty_holds_the_parameters():
    sample = lambda potential: thermal(potential, 300.0, frames=500, atoms=2)  # noqa: E731
    square = Target("square", lambda _, samples: jnp.sum(samples.positions**2, (-1, -2)), 1.0)
    held = lambda params: 1e6 * jnp.sum((params["stiffness"] - 1) ** 2)  # noqa: E731
    fitted, _ = fit_observables(harmonic(1.0), [square], sample, optax.sgd(1e-8), 20, penalty=held)
    assert float(fitted.params["stiffness"][0]) == pytest.approx(1.0, abs=1e-3)


def test_frames_of_a_simulation_have_the_energies_and_pressures_of_the_potential():
    potential = morse(2).astype("float64")
    run = simulate(potential, crystal(1), CSVR(300.0, timestep_fs=2.0), 20, every=5, precision="float64")
    samples = collect(potential, run, 300.0, skip=1)
    assert len(samples) == 4
    with jax.enable_x64(True):
        assert np.allclose(samples.energy + 4 * -3.0, run.potential_energy[1:], rtol=0, atol=1e-9)
        found = pressures(potential.spec, potential.params, samples)
        kinetic = run.temperature_K[1:] - 300.0  # the ideal part is that of the ensemble, not of the frame
        volume = np.linalg.det(run.cell[1:])
        assert np.allclose(found + 9 * KB * kinetic / 3 / volume * 160.21766208, run.pressure_GPa[1:], atol=1e-6)
    with pytest.raises(SimulationError, match="no frames"):
        collect(potential, run, 300.0, skip=5)


def test_arguments_that_make_no_sense():
    with pytest.raises(SimulationError, match="found 0 targets"):
        fit_observables(harmonic(1.0), [], lambda p: None, optax.sgd(1.0), 1)
