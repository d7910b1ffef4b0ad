"""Forces, stress and curvature against differences of what they are derivatives of; derivatives that must stay finite."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqpot.graph import Graph, Structure
from eqpot.potential.derivatives import predict
from eqpot.testing.samples import moved, primitive, symmetric
from eqpot.testing.subject import Subject, largest

STEP = 1e-4
"""Displacement of the five-point differences [Å]."""


def _five_point(values: Sequence[Any], step: float) -> Any:
    """f′ from f at −2h, −h, h, 2h, exact to h⁴."""
    far_left, left, right, far_right = values
    return (8 * (right - left) - (far_right - far_left)) / (12 * step)


def forces(subject: Subject, structures: Sequence[Structure], n: int = 4) -> float:
    """F·v = −dE/dh of r + h·v, along random directions and along each axis of one atom."""
    rng = np.random.default_rng(4)
    outputs = subject(structures)
    scale, worst = subject.scale(outputs).force, 0.0
    for structure, output in zip(structures, outputs, strict=True):
        directions = [rng.normal(size=structure.positions.shape) for _ in range(n)]
        directions += [np.eye(3)[k] * (np.arange(len(structure)) == 0)[:, None] for k in range(3)]
        for v in directions:
            v = v / np.linalg.norm(v)
            energies = [o.energy for o in subject([moved(structure, structure.positions + h * STEP * v) for h in (-2, -1, 1, 2)])]
            worst = largest(worst, (np.sum(output.forces * v) + _five_point(energies, STEP)) / scale)
    return subject.hold("forces", worst, "forces must be minus the gradient of the energy")


def stress(subject: Subject, structures: Sequence[Structure]) -> float:
    """V σ:ε = dE/dh of r(1 + h ε), for the six strains of each fully periodic structure."""
    outputs = subject(structures)
    scale, worst, step = subject.scale(outputs).stress, 0.0, STEP / subject.cutoff
    for structure, output in zip(structures, outputs, strict=True):
        if output.stress is None:
            continue
        for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
            strain = np.zeros((3, 3))
            strain[i, j] = strain[j, i] = 1.0
            deformed = [np.eye(3) + h * step * strain for h in (-2, -1, 1, 2)]
            energies = [o.energy for o in subject([moved(structure, structure.positions @ d, structure.cell @ d) for d in deformed])]
            difference = np.sum(output.stress * strain) - _five_point(energies, step) / structure.volume
            worst = largest(worst, difference / scale)
    return subject.hold("stress", worst, "stress must be (1/V) dE/dε with positions and cell strained together, tension positive")


def precision(subject: Subject, structures: Sequence[Structure]) -> float:
    """float32 against float64."""
    exact = subject.astype("float64")(structures)
    return subject.hold("precision", subject.mismatch(subject(structures), exact), "float32 loses more digits than rounding explains")


def hessian(subject: Subject, structures: Sequence[Structure]) -> float:
    """H·v against differences of forces."""
    graph = subject.graph(structures)
    vector = np.random.default_rng(5).normal(size=graph.positions.shape) * graph.atom_mask[:, None]
    shifted = [subject.run(graph.replace(positions=graph.positions + h * STEP * vector)).forces for h in (-2, -1, 1, 2)]
    found, expected = subject.curvature(graph, vector), -_five_point(shifted, STEP)
    worst = largest(found - expected) / float(np.sqrt(np.mean(expected[graph.atom_mask] ** 2)))
    return subject.hold("hessian", worst, "the second derivative must be that of the forces")


def special_sites(subject: Subject) -> float:
    """Perfect lattice sites, rows of atoms, atoms on the z axis and atoms alone: finite, and zero where symmetry says so."""
    elements = subject.spec.elements
    outputs = subject(primitive(elements, subject.cutoff)) + subject(symmetric(elements, subject.cutoff))
    lattice, rows = outputs[:2], outputs[2:4]
    forbidden = [o.forces for o in lattice] + [o.forces[1] for o in rows] + [rows[0].forces[:, :2], rows[1].forces[:, 1:]]
    finite = [0.0 * o.forces for o in outputs]  # NaN where a force is not finite
    worst = largest(*forbidden, outputs[4].forces, *finite) / subject.scale(outputs).force
    return subject.hold("special_sites", worst, "a force that symmetry forbids, or a derivative that is not finite")


def parameter_gradient(subject: Subject, structures: Sequence[Structure]) -> float:
    """Number of parameters whose gradient of a loss of all outputs is not finite, on structures that provoke it."""
    elements = subject.spec.elements
    batch = [*symmetric(elements, subject.cutoff), *primitive(elements, subject.cutoff)[:1]]
    with subject.x64():
        gradients = [jax.device_get(loss_gradient(subject.spec, subject.params, subject.graph(b))) for b in (list(structures), batch)]
    bad = sum(int(np.sum(~np.isfinite(leaf))) for leaf in jax.tree.leaves(gradients))
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients[0])), "parameter_gradient: no parameter has any influence"
    return subject.hold("parameter_gradient", float(bad), "mask before the root and before the division, not after it")


def _loss(spec: Any, params: Any, graph: Graph) -> jax.Array:
    p = predict(spec, params, graph, with_stress=True)
    squares = [jnp.sum(x**2) for x in (p.energy, p.forces, p.stress, p.charges, p.dipole) if x is not None]
    logarithms = [jnp.sum(jnp.log(x)) for x in (p.force_noise, p.energy_noise) if x is not None]
    return sum([*squares, *logarithms], jnp.zeros((), graph.positions.dtype))


loss_gradient = jax.jit(jax.grad(_loss, argnums=1), static_argnums=0)
