"""What is tested: a model with the parameters of one member, in one precision, evaluated on structures of the host."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from eqpot.graph import Capacity, Graph, Host, Structure, collate, prepare
from eqpot.graph.batching import capacity_of, round_up
from eqpot.potential.derivatives import hessian_vector_product, predict
from eqpot.testing.tolerances import TOLERANCES

GRAPHS = 4
"""Structures per program: all checks share few padded shapes, because compiling is what a check costs."""

evaluate = partial(jax.jit, static_argnums=0)(partial(predict, with_stress=True))
curvature = partial(jax.jit, static_argnums=0)(hessian_vector_product)


@dataclass(frozen=True, eq=False)
class Output:
    """Prediction for one structure, on the host in float64; energies without reference energies [eV, Å, e]. What a model does not say is None."""

    atom_energy: np.ndarray
    forces: np.ndarray
    stress: np.ndarray | None
    force_noise: Any = None
    energy_noise: Any = None
    charges: Any = None
    dipole: Any = None

    @property
    def energy(self) -> float:
        """Energy of the structure [eV]."""
        return float(self.atom_energy.sum())


@dataclass(frozen=True)
class Scale:
    """What errors are relative to."""

    energy: float
    force: float
    stress: float

    @classmethod
    def of(cls, outputs: Sequence[Output], cutoff: float) -> "Scale":
        """RMS atomic energy, RMS force, largest stress; never below what the energies alone suggest, for structures of high symmetry."""
        energy = float(np.sqrt(np.mean(np.concatenate([o.atom_energy for o in outputs]) ** 2))) or 1.0
        force = float(np.sqrt(np.mean(np.concatenate([o.forces for o in outputs]) ** 2)))
        stress = max((float(np.abs(o.stress).max()) for o in outputs if o.stress is not None), default=0.0)
        return cls(energy, max(force, energy / cutoff), max(stress, energy / cutoff**3))


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under test.

    Attributes:
        spec: hashable by value, with `describe`, `evaluate`, `elements` and `config.cutoff`.
        params: parameters of one member.
        dtype: precision to test in.
    """

    spec: Any
    params: Any
    dtype: str = "float64"

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", jax.tree.map(lambda leaf: np.asarray(leaf, self.dtype), self.params))

    @property
    def cutoff(self) -> float:
        """Radius of the neighbour table [Å]."""
        return float(self.spec.config.cutoff)

    @property
    def reach(self) -> float:
        """Distance beyond which atoms cannot influence each other [Å]."""
        return float(getattr(self.spec, "receptive_field", self.cutoff * getattr(self.spec.config, "n_layers", 1)))

    def x64(self) -> Any:
        """Context in which arrays have the subject's precision."""
        return jax.enable_x64(self.dtype == "float64")

    def astype(self, dtype: str) -> "Subject":
        """The same model in another precision."""
        return dataclasses.replace(self, dtype=dtype)

    def hosts(self, structures: Sequence[Structure]) -> list[Host]:
        """Structures with their neighbours."""
        return [prepare(s, self.spec.elements, self.cutoff) for s in structures]

    def graph(self, structures: Sequence[Structure], capacity: Capacity | None = None) -> Graph:
        """A padded batch; by default of one of few shapes."""
        hosts = self.hosts(structures)
        need = capacity_of(hosts, exact=True)
        shared = Capacity(max(GRAPHS, need.graphs), round_up(need.atoms, 32, 2.0), round_up(need.neighbors, 64, 2.0))
        return collate(hosts, capacity or shared, self.dtype)

    def run(self, graph: Graph) -> Any:
        """The padded prediction with stress, as NumPy arrays."""
        with self.x64():
            return jax.device_get(evaluate(self.spec, self.params, graph))

    def curvature(self, graph: Graph, vector: np.ndarray) -> np.ndarray:
        """Hessian times a padded vector."""
        with self.x64():
            return np.asarray(curvature(self.spec, self.params, graph, vector.astype(self.dtype)), np.float64)

    def __call__(self, structures: Sequence[Structure], capacity: Capacity | None = None) -> list[Output]:
        """Predict structures, a few at a time."""
        if capacity is None and len(structures) > GRAPHS:
            return [o for k in range(0, len(structures), GRAPHS) for o in self(structures[k : k + GRAPHS])]
        return split(self.run(self.graph(structures, capacity)), structures)

    def scale(self, outputs: Sequence[Output]) -> Scale:
        """What errors of these outputs are relative to."""
        return Scale.of(outputs, self.cutoff)

    def mismatch(self, found: Sequence[Output], expected: Sequence[Output]) -> float:
        """Largest relative difference of energies per atom, forces and stresses, and of noise and charges where both have them."""
        scale, errors = self.scale(expected), []
        for a, b in zip(found, expected, strict=True):
            errors += [(a.energy - b.energy) / len(b.forces) / scale.energy, (a.forces - b.forces) / scale.force]
            if b.stress is not None:
                errors.append((a.stress - b.stress) / scale.stress)
            for name in ("force_noise", "energy_noise", "charges"):
                x, y = getattr(a, name), getattr(b, name)
                if x is not None and y is not None:
                    errors.append((x - y) / max(1.0, largest(y)))
        return largest(*errors)

    def hold(self, law: str, measured: float, hint: str) -> float:
        """Return what was measured, or raise when it exceeds the bound of the table (NaN does).

        Raises:
            AssertionError: with law, measured value, bound and what the likely cause is.
        """
        bound = TOLERANCES[law].bound(self.dtype)
        if bound is not None and not measured <= bound:
            raise AssertionError(f"{law}: measured {measured:.3g}, expected at most {bound:.3g} in {self.dtype}; {hint}")
        return float(measured)


def split(arrays: Any, structures: Sequence[Structure]) -> list[Output]:
    """Cut a padded prediction into outputs."""
    outputs, first = [], 0
    for g, structure in enumerate(structures):
        rows = slice(first, first + len(structure))
        first += len(structure)
        outputs.append(
            Output(
                atom_energy=_cut(arrays.atom_energy, rows),
                forces=_cut(arrays.forces, rows),
                stress=_cut(arrays.stress, g) if structure.pbc.all() else None,
                force_noise=_cut(arrays.force_noise, rows),
                energy_noise=_cut(arrays.energy_noise, g),
                charges=_cut(arrays.charges, rows),
                dipole=None if structure.pbc.any() else _cut(arrays.dipole, g),
            )
        )
    return outputs


def _cut(values: np.ndarray | None, at: int | slice) -> Any:
    return None if values is None else np.asarray(values[at], np.float64)


def largest(*values: Any) -> float:
    """Largest magnitude in some numbers and arrays; NaN if any is NaN, which Python's `max` would hide."""
    return float(np.max([np.max(np.abs(v), initial=0.0) for v in values], initial=0.0))
