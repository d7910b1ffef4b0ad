"""Closed form in place of steps: the weights of a linear model that minimise the trainer's loss.

Energies, forces and stress of a linear model are affine in its weights w, so that the loss is a weighted sum of squares over all labels,

    L(w) = Σ_rows (x·w − y)² + λ d ‖w‖²,      (XᵀX + λ d·1) w = Xᵀy,

with a row per energy (of an atom), force and stress component, each times the root of its weight in the loss, and d the mean diagonal of XᵀX (ridge
regression; A. E. Hoerl, R. W. Kennard, Technometrics 12, 55 (1970)). Rows are made in batches and never kept; sums are in float64. Normal equations square
the condition number, which λ ≥ 1e-12 bounds well within the 16 digits, at half the work of an orthogonal factorisation.

y is what the model leaves over at w = 0: shifts and terms without weights (repulsion, electrostatics) are taken off by themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import dsyrk  # type: ignore[attr-defined]

from eqpot.core.errors import ConfigError, TrainingError
from eqpot.graph import Graph
from eqpot.models import SumConfig, n_invariants, parameters_of
from eqpot.potential import ModelSpec, Params, predictor
from eqpot.potential.derivatives import volumes
from eqpot.training.batches import Batches, Targets
from eqpot.training.config import FitConfig, LossConfig, require_linear
from eqpot.training.losses import errors
from eqpot.training.samples import Sample
from eqpot.training.setup import Problem

STRENGTHS = tuple(10.0 ** -np.arange(2, 12))
"""λ that are tried when none is given."""
MOST_WEIGHTS = 30_000
"""The normal equations of so many take 7 GB."""
CHUNK = 2048
"""Rows that are added to the normal equations at a time."""
TOGETHER = 4
"""Directions of displacement that are followed at a time."""


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solution in closed form says.

    Attributes:
        params: of one member, float64.
        strength: the λ that was chosen.
        losses: λ → loss on the validation frames; empty where λ was given.
        loss: on the training frames, without the penalty.
    """

    params: Params
    strength: float
    losses: dict[float, float]
    loss: float


def solve_members(problem: Problem, config: FitConfig, weights: Float[np.ndarray, "K S"]) -> tuple[Params, list[float]]:
    """Parameters of all members (leading axis, float64) and their losses; members differ by the weights of their frames alone."""
    found = []
    with jax.enable_x64(True):
        for row in weights:
            many = {"strength": config.optimizer.ridge, "with_stress": problem.with_stress, "batch_size": config.training.batch_size}
            found.append(solve_ridge(problem.spec, problem.train, problem.valid, config.loss, row, **many))
            if (row == weights).all():  # members that see the same are the same
                found *= len(weights)
                break
    return jax.tree.map(lambda *leaves: np.stack(leaves), *[one.params for one in found]), [one.loss for one in found]


def solve_ridge(
    spec: ModelSpec,
    train: Sequence[Sample],
    valid: Sequence[Sample],
    loss: LossConfig,
    weights: Float[np.ndarray, " S"] | None = None,
    strength: float | None = None,
    with_stress: bool = False,
    batch_size: int = 8,
) -> Solution:
    """The weights of a linear model at the minimum of the loss; call it where float64 is on (`jax.enable_x64`).

    Args:
        spec: a linear model, or a sum with one.
        train, valid: prepared frames; those of validation choose the strength.
        loss: weights of the quantities; squared errors.
        weights: of the training frames, besides their own; by default one each.
        strength: λ; by default the one of `STRENGTHS` with the smallest loss on the validation frames.
        with_stress: whether stress labels count.
        batch_size: frames whose rows are made at a time.

    Raises:
        ConfigError: for a model that is not linear, or has too many weights.
        TrainingError: when no strength that is tried gives a solution.
    """
    require_linear(spec.config, loss)
    make = partial(_Rows, spec, loss=loss, with_stress=with_stress, batch_size=batch_size)
    rows = make(train, np.ones(len(train)) if weights is None else weights)
    if len(rows.seen) > MOST_WEIGHTS:
        raise ConfigError(
            f"optimizer.name: 'ridge' solves for up to {MOST_WEIGHTS:,} weights, found {len(rows.seen):,}; lower model.n_radial or model.l_max, or take adam"
        )
    matrix, vector, square = _normal_equations(rows)
    tried = (strength,) if strength is not None else STRENGTHS
    found = {s: w for s in tried if (w := _solution(matrix, vector, s)) is not None}
    if not found:
        raise TrainingError(f"ridge: the normal equations cannot be solved with a strength of {tried[0]:g}; set optimizer.ridge larger")
    groups = np.array([loss.groups.get(s.frame.group, 1.0) for s in valid])
    losses = {} if strength is not None else _losses(make(valid, groups, rows.seen), found)
    best = strength if strength is not None else min(losses, key=lambda s: losses[s])
    left = square - 2 * found[best] @ vector + found[best] @ _symmetric_product(matrix, found[best])
    every = np.zeros(np.prod(shape := _columns(spec)))
    every[rows.seen] = found[best]
    return Solution(_parameters(spec, every.reshape(shape)), best, losses, float(left))


def _columns(spec: ModelSpec) -> tuple[int, int, int]:
    """Heads, elements, invariants."""
    config, Z = spec.config.network, len(spec.elements)
    return config.n_heads, Z, n_invariants(config, Z)


def _parameters(spec: ModelSpec, weights: Float[np.ndarray, "H Z B"]) -> Params:
    """All parameters of the model; terms beside the linear one have none."""
    found = parameters_of(spec.config.network, weights)
    if not isinstance(spec.config, SumConfig):
        return found
    return {"terms": {**spec.shapes()["terms"], spec.config.network_name: found}}


def _normal_equations(rows: "_Rows") -> tuple[np.ndarray, np.ndarray, float]:
    """XᵀX (its upper triangle), Xᵀy and yᵀy."""
    count = len(rows.seen)
    matrix, vector, square = np.zeros((count, count), order="F"), np.zeros(count), 0.0
    for x, y in rows.chunks():
        matrix = dsyrk(1.0, x.T, beta=1.0, c=matrix, overwrite_c=1)
        vector, square = vector + y @ x, square + float(y @ y)
    return matrix, vector, square


def _solution(matrix: np.ndarray, vector: np.ndarray, strength: float) -> np.ndarray | None:
    """The weights at a strength; None where rounding has left the matrix without a root."""
    damped = matrix.copy(order="F")
    damped[np.diag_indices_from(damped)] += strength * np.trace(matrix) / len(matrix)
    try:
        return cho_solve(cho_factor(damped, overwrite_a=True, check_finite=False), vector)
    except LinAlgError:
        return None


def _symmetric_product(upper: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return upper @ vector + upper.T @ vector - np.diag(upper) * vector


def _losses(rows: "_Rows", found: dict[float, np.ndarray]) -> dict[float, float]:
    """Loss of each solution."""
    stacked, total = np.stack(list(found.values()), 1), np.zeros(len(found))
    for x, y in rows.chunks():
        total += ((x @ stacked - y[:, None]) ** 2).sum(0)
    return dict(zip(found, total.tolist(), strict=True))


class _Rows:
    """X and y of a set of frames, each row times the root of its weight in the loss.

    Attributes:
        seen: the columns that are not zero for every frame, in order: elements that never meet have no weights to be found.
    """

    def __init__(
        self,
        spec: ModelSpec,
        samples: Sequence[Sample],
        weights: np.ndarray,
        seen: np.ndarray | None = None,
        *,
        loss: LossConfig,
        with_stress: bool,
        batch_size: int,
    ) -> None:
        self.spec, self.loss, self.with_stress = spec, loss, with_stress
        self.batches = Batches(samples, batch_size, np.reshape(weights, (1, -1)), "float64")
        self.counts = _label_counts(samples)
        self.seen = self._seen() if seen is None else seen

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some thousand rows at a time, for which products of matrices are fast."""
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        for x, y in self._by_batch():
            kept.append((x, y))
            if sum(len(y) for _, y in kept) >= CHUNK:
                yield np.concatenate([x for x, _ in kept]), np.concatenate([y for _, y in kept])
                kept = []
        if kept:
            yield np.concatenate([x for x, _ in kept]), np.concatenate([y for _, y in kept])

    def _graphs(self) -> Iterator[tuple[Graph, Targets]]:
        for _, graph, targets in self.batches.epoch(0, 0):
            yield jax.tree.map(lambda x: jnp.asarray(x[0]), (graph, targets))

    def _seen(self) -> np.ndarray:
        found = np.zeros(np.prod(_columns(self.spec)), bool)
        for graph, _ in self._graphs():
            found |= np.asarray(_are_there(self.spec, graph))
        return np.flatnonzero(found)

    def _by_batch(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        zero, seen = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float64), self.spec.shapes()), jnp.asarray(self.seen)
        for graph, targets in self._graphs():
            most = int(np.bincount(np.asarray(graph.graph_index)[np.asarray(graph.atom_mask)]).max())
            design, left = _design(self.spec, zero, graph, targets, seen, most, self.with_stress)
            parts = []
            for name, x in design.items():
                parts.append(_chosen(name, x, left[name], graph, targets, getattr(self.loss, name) / max(self.counts[name], 1)))
            yield np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _label_counts(samples: Sequence[Sample]) -> dict[str, int]:
    """Numbers that are labelled, of each quantity."""
    counts = {"energy": 0, "forces": 0, "stress": 0}
    for sample in samples:
        labels = sample.frame.labels
        counts["energy"] += sample.energy is not None
        counts["forces"] += 3 * len(sample.host) * (labels.forces is not None)
        counts["stress"] += 9 * (labels.stress is not None)
    return counts


def _chosen(name: str, x: Array, y: Array, graph: Graph, targets: Targets, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the labels that exist and count."""
    structure = np.asarray(targets.weight)[0]
    each = structure[np.asarray(graph.graph_index)] if name == "forces" else structure
    root = np.sqrt(np.where(np.asarray(getattr(targets, f"has_{name}")), each * weight, 0))
    kept = root > 0
    factor = root[kept].reshape(-1, *(1,) * (y.ndim - 1))
    right = np.asarray(y)[kept] * factor
    return (np.asarray(x)[kept] * factor[..., None]).reshape(right.size, x.shape[-1]), right.ravel()


@partial(jax.jit, static_argnames=("spec", "most", "with_stress"))
def _design(
    spec: ModelSpec, zero: Params, graph: Graph, targets: Targets, seen: Int[Array, " K"], most: int, with_stress: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Derivatives of energies per atom [G, K], forces [N, 3, K] and stress [G, 3, 3, K] by the weights, and the labels less the prediction at zero.

    An atom of every structure is displaced at a time, the k-th of each: derivatives cost as many passes as the largest structure has coordinates.
    """
    left = {name: -error for name, error in errors(predictor(spec, graph, with_stress)(zero), graph, targets).items()}
    value, along = jax.linearize(lambda *moved: _sums(spec, graph, *moved)[:, seen], graph.positions, jnp.zeros_like(graph.cell))
    size = jnp.maximum(graph.sum_atoms(jnp.ones_like(graph.positions[:, 0])), 1)
    design = {"energy": value / size[:, None]}
    index = graph.graph_index
    first = jnp.searchsorted(index, jnp.arange(len(graph.cell), dtype=index.dtype)).astype(index.dtype)
    place = jnp.arange(len(index), dtype=index.dtype) - first[index]  # of an atom in its structure

    def moved(which: Array) -> Array:
        here = (place == which // 3)[:, None] & (jnp.arange(3, dtype=place.dtype) == which % 3)
        return along(here.astype(value.dtype), jnp.zeros_like(graph.cell))

    slopes = jax.lax.map(moved, jnp.arange(3 * most, dtype=place.dtype), batch_size=TOGETHER)  # [3·most, G, K]
    rows = jnp.minimum(3 * place[:, None] + jnp.arange(3, dtype=place.dtype), 3 * most - 1)
    design["forces"] = -slopes[rows, index[:, None]]
    if with_stress:
        design["stress"] = _strained(along, graph) / volumes(graph)[:, None, None, None]
    return design, left


def _strained(along: Any, graph: Graph) -> Float[Array, "G 3 3 K"]:
    """Derivatives by each component of a strain."""

    def strain(which: Array) -> Array:
        here = (jnp.arange(9) == which).reshape(3, 3).astype(graph.cell.dtype)
        return along(jnp.zeros_like(graph.positions), jnp.broadcast_to(here, graph.cell.shape))

    slopes = jax.lax.map(strain, jnp.arange(9), batch_size=TOGETHER)
    return jnp.moveaxis(slopes, 0, 1).reshape(len(graph.cell), 3, 3, -1)


@partial(jax.jit, static_argnames="spec")
def _are_there(spec: ModelSpec, graph: Graph) -> Bool[Array, " K"]:
    """Which columns are not zero for every atom."""
    columns, group = _columns_of(spec, graph)
    own = jnp.arange(spec.config.n_heads * len(spec.elements), dtype=group.dtype)[:, None] == group
    return jnp.any(own[..., None] & (columns != 0), 1).ravel()


def _sums(spec: ModelSpec, graph: Graph, positions: Float[Array, "N 3"], strain: Float[Array, "G 3 3"]) -> Float[Array, "G K"]:
    """Energies of the structures by the weights: invariants summed over the atoms of each element, at the head of the structure."""
    columns, group = _columns_of(spec, graph.replace(positions=positions).strained((strain + strain.mT) / 2))
    count, graphs = spec.config.n_heads * len(spec.elements), len(graph.cell)
    place = jnp.where(graph.atom_mask, group + count * graph.graph_index, -1)
    own = jax.nn.one_hot(place, count * graphs, axis=0, dtype=columns.dtype)
    return (own @ columns).reshape(graphs, -1) * spec.normalization.scale


def _columns_of(spec: ModelSpec, graph: Graph) -> tuple[Float[Array, "N B"], Int[Array, " N"]]:
    """Invariants of each atom, and its head and element in one number, −1 for padding."""
    geometry = spec.describe(graph)
    if isinstance(spec.config, SumConfig):
        geometry = geometry[spec.config.network_name]
    group = graph.species + len(spec.elements) * graph.head[graph.graph_index]
    return geometry.columns(), jnp.where(graph.atom_mask, group, -1)
