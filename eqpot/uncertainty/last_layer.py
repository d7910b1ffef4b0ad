"""Fit of a single member's last-layer uncertainty to the structures that it was trained on; see `eqpot.potential.last_layer` for what it is.

A linear readout w of the descriptors changes energies by w·G, G = Σ_i g_i, and forces by −w·∂G/∂r. Energies and forces that were trained on, with
errors of the size s_E (per atom) and s_F (per component), hold it with the precision

    Λ = Σ_structures [G Gᵀ/(n s_E)² + Σ_components (∂G/∂r)(∂G/∂r)ᵀ/s_F²] + λ·1.

The sum over 3n force components is estimated without bias by projections on random vectors v of unit variance (M. F. Hutchinson, Commun. Stat.
Simul. Comput. 18, 1059 (1989)): ⟨(∂G/∂r v)(∂G/∂r v)ᵀ⟩_v is that sum. 'rigidity' takes D Dᵀ = Λ⁻¹; 'bootstrap' fits readouts to what the member left over,
each with its own exponential weights of the structures (D. B. Rubin, Ann. Stat. 9, 130 (1981)).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eqpot.core.errors import DataError
from eqpot.graph import Frame, Graph
from eqpot.potential import LastLayer, ModelSpec, Params, Potential, Result
from eqpot.potential.domain import FAR

Kind = Literal["rigidity", "bootstrap"]
PROBES = 4
"""Random vectors per structure."""
MOST_FRAMES = 2000
RIDGE = 1e-4
"""λ in units of the mean diagonal of Λ."""


def fit_last_layer(
    potential: Potential, frames: Iterable[Frame], kind: Kind = "rigidity", readouts: int = 16, forces: bool = False, seed: int = 0
) -> Potential:
    """The same potential of one member, which from now on has a σ; calibrate it before it means anything.

    Args:
        frames: what the potential was trained on, with labels.
        kind: 'rigidity' in closed form, or 'bootstrap' of a shallow ensemble.
        readouts: of the bootstrap; and of rigidity with `forces`, for which as many are drawn from the normal distribution of covariance Λ⁻¹.
        forces: compute the spread of the forces of every readout, at one reverse pass each; otherwise the rigidity of an atom's share stands for it.
        seed: of all that is random.

    Raises:
        DataError: for an ensemble, which has a spread already, and without frames or labels.
        StructureError: naming a frame that the potential cannot judge.
    """
    frames = tuple(frames)
    if potential.n_members > 1:
        raise DataError(
            f"fit_last_layer: found {potential.n_members} members, whose spread is a σ already; expected one, see Potential.member"
        )
    if kind not in ("rigidity", "bootstrap") or readouts < 2:
        raise DataError(f"fit_last_layer: found kind '{kind}' and {readouts} readouts, expected 'rigidity' or 'bootstrap' and at least 2")
    if not potential.conservative:
        raise DataError("fit_last_layer: found direct forces, expected forces that are derivatives of the energy")
    if not any(f.labels.energy is not None or f.labels.forces is not None for f in frames):
        raise DataError("fit_last_layer: found no energies and forces, expected the labelled frames that the potential was trained on")
    frames = tuple(frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).astype(int)))
    rng = np.random.default_rng(seed)
    evidence = _gather(potential, frames, rng)
    if kind == "bootstrap":
        directions = _bootstrap(evidence, len(frames), readouts, rng)
    else:
        directions = _root_of_inverse(evidence.precision(np.ones(len(frames))))
        if forces:
            directions = directions @ rng.normal(size=(len(directions), readouts)) / np.sqrt(readouts)
    layer = LastLayer(directions.astype(np.float32), kind, forces)
    domain = potential.trust.domain and replace(potential.trust.domain, sigma_limit=np.full(len(potential.elements), FAR, np.float32))
    return replace(potential, trust=replace(potential.trust, last_layer=layer, calibration=None, domain=domain))


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Rows of the linear regression in units of their errors: design [rows, F], what was left over [rows], structure of each row."""

    design: Float[np.ndarray, "n f"]
    left: Float[np.ndarray, " n"]
    groups: Any

    def precision(self, weights: np.ndarray) -> Float[np.ndarray, "f f"]:
        """Λ for weights of the structures."""
        matrix = (self.design.T * weights[self.groups]) @ self.design
        return matrix + RIDGE * np.trace(matrix) / len(matrix) * np.eye(len(matrix))


def _root_of_inverse(precision: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(precision)
    return vectors / np.sqrt(values)


def _bootstrap(evidence: _Evidence, structures: int, readouts: int, rng: np.random.Generator) -> np.ndarray:
    """Readouts less their mean, so that D Dᵀ is their covariance."""
    fits = []
    for _ in range(readouts):
        weights = rng.exponential(size=structures)
        right = evidence.design.T @ (weights[evidence.groups] * evidence.left)
        fits.append(np.linalg.solve(evidence.precision(weights), right))
    columns = np.array(fits).T
    return (columns - columns.mean(1, keepdims=True)) / np.sqrt(readouts - 1)


def _gather(potential: Potential, frames: tuple[Frame, ...], rng: np.random.Generator) -> _Evidence:
    """Rows of all frames, energies first."""
    hosts = potential.prepare_frames(frames)
    results = potential.predict_hosts(hosts)
    params = jax.tree.map(lambda leaf: leaf[0], potential.params)
    sums, slopes, errors, groups = [], [], [], []
    for batch, graph in potential.batches(hosts):
        probes = rng.normal(size=(PROBES, *graph.positions.shape)).astype(graph.positions.dtype)
        with jax.enable_x64(potential.dtype == "float64"):
            total, along = jax.device_get(_projected(potential.spec, params, graph, probes))
        first = 0
        for g, k in enumerate(batch):
            rows = slice(first, first + len(hosts[k]))
            first += len(hosts[k])
            sums.append(total[g])
            slopes.append(along[:, g])
            errors.append(_left_over(frames[k], results[k], probes[:, rows]))
            groups.append(k)
    return _in_units_of_errors(frames, np.array(sums, float), np.array(slopes, float), errors, np.array(groups))


def _left_over(frame: Frame, result: Result, probes: np.ndarray) -> tuple[float, np.ndarray, float]:
    """What a frame's labels exceed the prediction by: energy per atom, forces along the probes, mean squared force component; NaN without label."""
    labels = frame.labels
    energy = np.nan if labels.energy is None else (labels.energy - result.energy) / len(frame.structure)
    if labels.forces is None:
        return energy, np.full(len(probes), np.nan), np.nan
    apart = labels.forces - result.forces
    return energy, (probes * apart).sum((1, 2)), float((apart**2).mean())


def _in_units_of_errors(frames: tuple[Frame, ...], sums: np.ndarray, slopes: np.ndarray, errors: list, groups: np.ndarray) -> _Evidence:
    energy, along, square = (np.array(x) for x in zip(*errors, strict=True))
    sizes = np.array([len(frames[k].structure) for k in groups])[:, None]
    design, left, group = [], [], []
    if (has := np.isfinite(energy)).any():
        size = max(float(np.sqrt((energy[has] ** 2).mean())), 1e-12)
        design.append((sums / sizes)[has] / size)
        left.append(energy[has] / size)
        group.append(groups[has])
    if (has := np.isfinite(square)).any():
        size = max(float(np.sqrt(square[has].mean())), 1e-12) * np.sqrt(PROBES)
        design.append(-slopes[has].reshape(-1, sums.shape[1]) / size)
        left.append(along[has].ravel() / size)
        group.append(np.repeat(groups[has], PROBES))
    return _Evidence(np.concatenate(design), np.concatenate(left), np.concatenate(group))


@partial(jax.jit, static_argnames="spec")
def _projected(
    spec: ModelSpec, params: Params, graph: Graph, probes: Float[Array, "P N 3"]
) -> tuple[Float[Array, "G F"], Float[Array, "P G F"]]:
    """Σ_i g_i of each structure, and its derivatives along the probes: the transpose of a reverse pass, which is linear."""

    def total(positions: Array) -> Array:
        moved = graph.replace(positions=positions)
        return graph.sum_atoms(spec.evaluate(params, moved, spec.describe(moved)).features)

    sums, pull_back = jax.vjp(total, graph.positions)
    transpose = jax.vjp(lambda weights: pull_back(weights)[0], jnp.zeros_like(sums))[1]
    return sums, jax.lax.map(lambda probe: transpose(probe)[0], probes)
