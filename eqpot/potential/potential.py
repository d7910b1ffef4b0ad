"""A trained potential: what users hold in their hands.

`Potential` = static spec + parameters with a member axis + reference energies. It predicts energies, forces, stress and their spread over the
members, saves itself to one file, and becomes an ASE calculator. It cannot be changed; training makes a new one.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqpot.core.config import build
from eqpot.core.elements import atomic_number
from eqpot.core.errors import ArchiveError, EqpotError, StructureError
from eqpot.graph import Host, Structure, collate, prepare
from eqpot.graph.batching import Capacity, bucket
from eqpot.models import ModelConfig, Normalization
from eqpot.nn import choose_backend
from eqpot.potential.archive import flatten, read_archive, unflatten, write_archive
from eqpot.potential.derivatives import predict_members
from eqpot.potential.members import place_members
from eqpot.potential.result import Result
from eqpot.potential.spec import ModelSpec, Params

ATOMS_PER_BATCH = 256
"""Structures are predicted together until a batch holds this many atoms."""


@dataclass(frozen=True, eq=False)
class Potential:
    """An ensemble of one or more members of the same architecture.

    Attributes:
        spec: the model without parameters.
        params: parameters, every leaf with a leading member axis.
        reference_energies: energy of each element's atom [eV], in the order of `elements`; float64.
        metadata: what is worth knowing: data hash, versions, errors, calibration; JSON-able.
        dtype: 'float32' or 'float64', the precision of the network.
    """

    spec: ModelSpec
    params: Params
    reference_energies: tuple[float, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols that the potential knows."""
        return self.spec.elements

    @property
    def cutoff(self) -> float:
        """Radius of a message [Å]."""
        return self.spec.config.cutoff

    @property
    def receptive_field(self) -> float:
        """Distance beyond which atoms do not influence each other [Å]."""
        return self.spec.config.cutoff * self.spec.config.n_layers

    @property
    def n_members(self) -> int:
        """Number of ensemble members."""
        return len(jax.tree.leaves(self.params)[0])

    @property
    def n_parameters(self) -> int:
        """Number of parameters of one member."""
        return sum(leaf[0].size for leaf in jax.tree.leaves(self.params))

    def member(self, index: int) -> "Potential":
        """One member as a potential of its own; negative indices count from the end.

        Raises:
            EqpotError: when there is no such member.
        """
        if not -self.n_members <= index < self.n_members:
            raise EqpotError(f"member {index}: this potential has {self.n_members} (0 to {self.n_members - 1})")
        index %= self.n_members
        params = jax.tree.map(lambda leaf: leaf[index : index + 1], self.params)
        return Potential(self.spec, params, self.reference_energies, self.metadata, self.dtype)

    def astype(self, dtype: str) -> "Potential":
        """The same potential computing in 'float32' or 'float64'."""
        if dtype not in ("float32", "float64"):
            raise EqpotError(f"dtype: found '{dtype}', expected 'float32' or 'float64'")
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), self.params)
        return Potential(self.spec, params, self.reference_energies, self.metadata, dtype)

    def using(self, backend: str | None = None, products: str | None = None) -> "Potential":
        """The same potential, evaluated in another way; None leaves a choice as it is.

        Args:
            backend: 'auto', or one of `eqpot.nn.kernels.Backend`.
            products: precision of matrix products with parameters: 'float32', 'tensorfloat32' or 'bfloat16'; a CPU computes in float32 whatever is chosen.

        Raises:
            ConfigError: for a name that is none of these.
        """
        choose_backend(backend or "auto")
        spec = dataclasses.replace(self.spec, backend=backend or self.spec.backend, products=products or self.spec.products)
        return dataclasses.replace(self, spec=spec)

    @cached_property
    def _placed(self) -> Params:
        """The parameters on their devices; first asked for in the precision of the potential."""
        return place_members(self.params)

    def prepare(self, atoms: Any) -> Host:
        """Check a structure against this potential and find its neighbours.

        Raises:
            StructureError: for a structure without meaning, or an element that the potential has not seen.
        """
        return prepare(Structure.from_atoms(atoms), self.elements, self.cutoff)

    def offset(self, host: Host) -> float:
        """Sum of the reference energies of a structure [eV], in float64."""
        return float(np.asarray(self.reference_energies)[host.species].sum())

    def predict(self, atoms: Any) -> Any:
        """Energies, forces, stress and their spread.

        Args:
            atoms: an `ase.Atoms` or a `Structure`, or a sequence of them.

        Returns:
            a `Result` for one structure, a list of them for a sequence.

        Raises:
            StructureError: naming the structure's index, its fault and what to do; also for an empty sequence.
        """
        single = not isinstance(atoms, Iterable) or isinstance(atoms, Structure) or hasattr(atoms, "get_atomic_numbers")
        items = [atoms] if single else list(atoms)
        if not items:
            raise StructureError("no structures: expected at least one ase.Atoms or eqpot.Structure")
        hosts = []
        for index, item in enumerate(items):
            try:
                hosts.append(self.prepare(item))
            except StructureError as error:
                raise StructureError(str(error) if single else f"structure {index}: {error}") from None
        results = self.predict_hosts(hosts)
        return results[0] if single else results

    def predict_hosts(self, hosts: Sequence[Host], capacity: Capacity | None = None) -> list[Result]:
        """`predict` for prepared structures, batched by size; `capacity` forces the padded size of every batch."""
        results: dict[int, Result] = {}
        for batch in _batches(hosts):
            chosen = [hosts[k] for k in batch]
            with jax.enable_x64(self.dtype == "float64"):
                graph = collate(chosen, capacity or bucket(chosen), self.dtype)
                stress = any(h.structure.pbc.all() for h in chosen)
                arrays = jax.device_get(_predict(self.spec, self._placed, graph, stress))
            results.update(zip(batch, self._split(chosen, arrays), strict=True))
        return [results[k] for k in range(len(hosts))]

    def _split(self, hosts: list[Host], arrays: Any) -> list[Result]:
        """Cut a padded prediction into results per structure; sums in float64."""
        results, first = [], 0
        for g, host in enumerate(hosts):
            rows = slice(first, first + len(host))
            first += len(host)
            energies = arrays.atom_energy[:, rows].astype(np.float64).sum(1)
            forces = arrays.forces[:, rows].astype(np.float64)
            reference = np.asarray(self.reference_energies)[host.species]
            results.append(
                Result(
                    energy=float(energies.mean()) + float(reference.sum()),
                    forces=forces.mean(0),
                    stress=arrays.stress[:, g].astype(np.float64).mean(0) if host.structure.pbc.all() else None,
                    energy_std=_std(energies),
                    forces_std=_std(forces),
                    member_energies=energies + reference.sum(),
                    member_forces=forces,
                    atom_energies=arrays.atom_energy[:, rows].astype(np.float64).mean(0) + reference,
                )
            )
        return results

    def calculator(self) -> Any:
        """The potential as an ASE calculator (energy, forces, stress, and `energy_std`, `forces_std` in its results)."""
        from eqpot.potential.calculator import EqpotCalculator

        return EqpotCalculator(self)

    def save(self, path: str | Path) -> Path:
        """Write the potential to one safetensors file; see `eqpot.potential.archive`."""
        header = {
            "model": self.spec.config.model_dump(mode="json"),
            "elements": list(self.elements),
            "normalization": vars(self.spec.normalization) | {"shift": list(self.spec.normalization.shift)},
            "reference_energies": list(self.reference_energies),
            "members": self.n_members,
            "dtype": self.dtype,
            "metadata": self.metadata,
        }
        write_archive(path, header, flatten(jax.device_get(self.params)))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Potential":
        """Read a potential written by `save`; needs no training code.

        Raises:
            ArchiveError: see `read_archive`; also when tensors do not fit the architecture in the header.
        """
        header, tensors = read_archive(path)
        try:
            norm = header["normalization"]
            normalization = Normalization(norm["average_neighbors"], norm["scale"], tuple(norm["shift"]))
            spec = ModelSpec(build(ModelConfig, header["model"]), tuple(header["elements"]), normalization)
            shapes, members = spec.shapes(), int(header["members"])
            references, dtype, metadata = tuple(map(float, header["reference_energies"])), header["dtype"], dict(header["metadata"])
            _check_header(spec, members, references, dtype)
        except KeyError as error:
            raise ArchiveError(f"{path}: the header lacks {error}") from None
        except (TypeError, ValueError) as error:
            raise ArchiveError(f"{path}: the header misstates something ({error})") from None
        _check_tensors(path, tensors, {k: (members, *v.shape) for k, v in _shapes(shapes).items()}, dtype)
        return cls(spec, unflatten(tensors, shapes), references, metadata, dtype)


def _std(values: np.ndarray) -> Any:
    """Standard deviation over members with n − 1, zero for a single member."""
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
    return float(spread) if spread.ndim == 0 else spread


def _shapes(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, value in tree.items() for k, v in _shapes(value, f"{prefix}/{key}" if prefix else str(key)).items()}


def _check_header(spec: ModelSpec, members: int, references: tuple[float, ...], dtype: Any) -> None:
    for element in spec.elements:
        atomic_number(element)
    if len(references) != len(spec.elements) or not np.isfinite(references).all():
        raise ArchiveError(f"reference energies {references} for the elements {spec.elements}")
    if members < 1:
        raise ArchiveError(f"{members} members")
    if dtype not in ("float32", "float64"):
        raise ArchiveError(f"dtype {dtype!r}")


def _check_tensors(path: str | Path, tensors: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or extra:
        word, name = ("is missing", missing[0]) if missing else ("does not belong to this architecture", extra[0])
        raise ArchiveError(f"{path}: the parameter {name} {word}")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ArchiveError(f"{path}: the parameter {name} has shape {tensors[name].shape}, expected {shape}")
        if tensors[name].dtype != dtype:
            raise ArchiveError(f"{path}: the parameter {name} is of type {tensors[name].dtype}, expected {dtype}")


def _batches(hosts: Sequence[Host]) -> list[list[int]]:
    """Indices grouped by size, each group with at most `ATOMS_PER_BATCH` atoms or one structure."""
    batches: list[list[int]] = []
    atoms = 0
    for k in sorted(range(len(hosts)), key=lambda k: (len(hosts[k]), k)):
        if not batches or atoms + len(hosts[k]) > ATOMS_PER_BATCH:
            batches.append([])
            atoms = 0
        batches[-1].append(k)
        atoms += len(hosts[k])
    return batches


@partial(jax.jit, static_argnames=("spec", "stress"))
def _predict(spec: ModelSpec, params: Params, graph: Any, stress: bool) -> Any:
    return predict_members(spec, params, graph, stress)
