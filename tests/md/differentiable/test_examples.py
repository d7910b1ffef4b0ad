"""The two examples of docs/differentiable.md: a pair potential from its g(r), and a network whose lattice constant is corrected."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ase.build import bulk
from morse import crystal, morse

from eqpot.graph import collate
from eqpot.md import NPT, simulate
from eqpot.md.differentiable import (
    Target,
    collect,
    effective_size,
    energies,
    fit_observables,
    radial_bins,
    radial_distribution,
    reweighted,
    weights,
)

from .conftest import ARGON, CUTOFF, fluid, lennard_jones, run_fluid, sampler
from .lattice import force_rmse, lattice_constant, made, mean_squares, minimised, pressure_at, reference, trained

KELVIN = 150.0
"""Near where it would condense: g(r) says twice as much about the depth of the well there as at 200 K (from 380 frames it is known to 1.5 %, σ to 0.07 %)."""
CENTRES, WIDTH = radial_bins(2.6, 7.2, 24, CUTOFF)


def distribution(params, samples):
    """g(r) of each frame; it does not depend on the parameters but through the weights."""
    del params
    return jax.vmap(lambda graph: radial_distribution(graph, CENTRES, WIDTH))(samples.graph)


def relative_adam(rate, n_steps):
    """Adam in units of each parameter (ε is 0.02 eV, σ 3.4 Å), with three times the rate for ε, of which g(r) says so much less."""
    far = {"epsilon": 3 * rate, "sigma": rate}
    relative = optax.stateless(lambda change, params: {name: -far[name] * change[name] * params[name] for name in far})
    return optax.chain(optax.scale_by_adam(0.7, 0.9), optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, n_steps, 0.1)), relative)


def ratios(potential):
    """ε and σ in units of those to be found."""
    return {name: float(potential.params[name][0]) / ARGON[name] for name in ARGON}


@pytest.mark.slow
def test_a_few_steps_towards_a_distribution():
    """Solid argon, 32 atoms: the loss falls, and the diameter goes to what it was."""
    sample = sampler(fluid(2, reduced_density=1.0), 60.0, 1500)
    target = Target("g(r)", distribution, np.asarray(distribution(None, sample(lennard_jones())).mean(0)))
    fitted, steps = fit_observables(lennard_jones(1.0, 1.02), [target], sample, relative_adam(0.008, 6), 6)
    print([s.loss for s in steps], [s.resampled for s in steps], ratios(fitted))
    assert steps[-1].loss < 0.3 * steps[0].loss and steps[0].resampled
    assert abs(ratios(fitted)["sigma"] - 1) < 0.01


@pytest.mark.slow
def test_pair_potential_from_its_radial_distribution():
    """Starting 15 % off in depth and 10 % in diameter, both are found within 2 %."""
    start = run_fluid(lennard_jones(), run_fluid(lennard_jones(), fluid(), KELVIN, 1000).final, KELVIN, 1000).final
    known = np.asarray(distribution(None, sampler(start, KELVIN, 100_000)(lennard_jones())).mean(0))
    scale = CENTRES / np.sqrt(known + 0.05)  # one over the noise of a bin, which counts pairs

    def scaled(params, samples):
        return distribution(params, samples) * scale.astype(np.float32)

    target = Target("g(r)", scaled, known * scale)
    coarse, first = fit_observables(lennard_jones(0.85, 1.1), [target], sampler(start, KELVIN, 6000), relative_adam(0.02, 25), 25)
    fitted, steps = fit_observables(coarse, [target], sampler(start, KELVIN, 60_000), relative_adam(0.02, 30), 30)
    print(ratios(coarse), ratios(fitted), first[0].loss, steps[-1].loss, sum(s.resampled for s in first + steps))
    assert steps[-1].loss < 0.01 * first[0].loss
    assert ratios(fitted) == pytest.approx({"epsilon": 1, "sigma": 1}, rel=0.02)


@pytest.mark.slow
def test_lattice_constant_is_corrected_and_forces_are_kept():
    """The 'experiment' is 1 % above what the network says: its static pressure there goes to zero, and forces on the reference set stay."""
    data, unseen = reference(80, 0), reference(40, 1)
    network = trained(data)
    before, wanted = lattice_constant(network), 1.01 * lattice_constant(network)
    crystal_there = jax.tree.map(jnp.asarray, collate([network.prepare(bulk("Cu", "fcc", a=wanted))]))

    def loss(params):
        forces = mean_squares(network.spec, params, data)[0]
        return forces / 0.02**2 + (pressure_at(network.spec, params, crystal_there) / 0.1) ** 2

    corrected = made(network.spec, minimised(loss, network.params, 0.002, 300))
    after, errors = lattice_constant(corrected), [force_rmse(p, unseen) for p in (network, corrected)]
    print(f"lattice constant {before:.4f} -> {after:.4f} Å, wanted {wanted:.4f} Å; forces {errors[0]:.1f} -> {errors[1]:.1f} meV/Å")
    assert abs(before / wanted - 1) > 0.009
    assert after == pytest.approx(wanted, rel=5e-4)
    assert errors[1] < 1.15 * errors[0] + 1


@pytest.mark.slow
def test_volume_at_constant_pressure_under_another_potential():
    """⟨V⟩ for a bond length 0.3 % longer, from frames of the shorter, is that of a simulation of its own; and so is the sign of its derivative."""
    atoms, kelvin = crystal(2, noise=0.0), 300.0
    ensemble = NPT(kelvin, timestep_fs=4.0, pressure_damping_fs=400.0, compressibility_per_GPa=0.01)
    potential = morse(cutoff=4.0)
    other = {**potential.params, "distance": potential.params["distance"] * np.float32(1.003)}
    runs = [simulate(p, atoms, ensemble, 24_000, every=40, precision="float32") for p in (potential, made(potential.spec, other))]
    samples = [collect(potential, run, kelvin, skip=50) for run in runs]
    volumes = [jnp.abs(jnp.linalg.det(s.cell)) for s in samples]

    def mean_volume(params):
        chosen = weights(energies(potential.spec, params, samples[0]), samples[0].energy, samples[0].kT)
        return reweighted(volumes[0], chosen), effective_size(chosen)

    (value, size), slope = jax.value_and_grad(mean_volume, has_aux=True)(jax.tree.map(jnp.asarray, other))
    plain, direct = float(volumes[0].mean()), float(volumes[1].mean())
    print(f"volume {plain:.2f}, reweighted {float(value):.2f}, simulated {direct:.2f}; {float(size):.0f} of {len(samples[0])} frames")
    assert size > 50 and direct / plain - 1 > 0.003
    assert float(value) / plain - 1 == pytest.approx(direct / plain - 1, rel=0.25)
    assert float(slope["distance"][0]) * 2.8 * 0.003 == pytest.approx(direct - plain, rel=0.3)
