"""A trained potential: what users hold in their hands.

`Potential` = static spec + parameters with a member axis + reference energies. It predicts energies, forces, stress and their spread over the
members, saves itself to one file, and becomes an ASE calculator. It cannot be changed; training makes a new one.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqpot.core.errors import EqpotError, StructureError
from eqpot.graph import Frame, Graph, Host, Structure, collate, prepare
from eqpot.graph.batching import Capacity, bucket, needed, species_index
from eqpot.nn import choose_backend
from eqpot.potential.files import read_potential, write_potential
from eqpot.potential.heads import head_index, only_head
from eqpot.potential.members import place_members
from eqpot.potential.passes import features_of, grouped, judged_prediction
from eqpot.potential.result import Result, split
from eqpot.potential.spec import ModelSpec, Params
from eqpot.potential.trust import Judge, Trust

DIRECT_FORCES = "this potential has direct forces, which are no derivatives of its energy and do not conserve it: it is for pretraining"


@dataclass(frozen=True, eq=False)
class Potential:
    """An ensemble of one or more members of the same architecture.

    Attributes:
        spec: the model without parameters.
        params: parameters, every leaf with a leading member axis.
        reference_energies: energy of each element's atom [eV], in the order of `elements`; float64. With several heads one list after the other.
        metadata: what is worth knowing: data hash, versions, errors, calibration; JSON-able.
        dtype: 'float32' or 'float64', the precision of the network.
        trust: what the potential knows about its own errors; see `eqpot.uncertainty`.
    """

    spec: ModelSpec
    params: Params
    reference_energies: tuple[float, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    trust: Trust = field(default_factory=Trust)

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
        return self.spec.config.receptive_field

    @property
    def heads(self) -> tuple[str, ...]:
        """Levels of theory that the potential was trained on, by name; empty when it knows only one. The first is the default."""
        return self.spec.config.heads

    @property
    def conservative(self) -> bool:
        """Whether forces are derivatives of the energy; a potential with direct forces is for pretraining, and has no stress."""
        return self.spec.conservative

    @property
    def n_members(self) -> int:
        """Number of ensemble members."""
        return len(jax.tree.leaves(self.params)[0])

    @property
    def n_parameters(self) -> int:
        """Number of parameters of one member."""
        return sum(leaf[0].size for leaf in jax.tree.leaves(self.params))

    def member(self, index: int) -> "Potential":
        """One member as a potential of its own, which has no spread and hence nothing that was calibrated; negative indices count from the end.

        Raises:
            EqpotError: when there is no such member.
        """
        if not -self.n_members <= index < self.n_members:
            raise EqpotError(f"member {index}: this potential has {self.n_members} (0 to {self.n_members - 1})")
        index %= self.n_members
        params = jax.tree.map(lambda leaf: leaf[index : index + 1], self.params)
        return dataclasses.replace(self, params=params, trust=Trust(domain=self.trust.domain if index == 0 else None))

    def astype(self, dtype: str) -> "Potential":
        """The same potential computing in 'float32' or 'float64'."""
        if dtype not in ("float32", "float64"):
            raise EqpotError(f"dtype: found '{dtype}', expected 'float32' or 'float64'")
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), self.params)
        return dataclasses.replace(self, params=params, dtype=dtype)

    def using(self, backend: str | None = None, products: str | None = None, mesh: Any = None) -> "Potential":
        """The same potential, evaluated in another way; None leaves a choice as it is.

        Args:
            backend: 'auto', or one of `eqpot.nn.kernels.Backend`.
            products: precision of matrix products with parameters: 'float32', 'tensorfloat32' or 'bfloat16'; a CPU computes in float32 whatever is chosen.
            mesh: a large crystal; a term of charges (`coulomb`) then works on a mesh for its cell, in N log N and not N², see docs/physics.md.

        Raises:
            ConfigError: for a name that is none of these, and a mesh without a term of charges.
            StructureError: for a mesh without three lattice vectors.
        """
        choose_backend(backend or "auto")
        if mesh is not None:
            config = self.spec.config.meshed(Structure.from_atoms(mesh).cell)
            return dataclasses.replace(self, spec=dataclasses.replace(self.spec, config=config)).using(backend, products)
        spec = dataclasses.replace(self.spec, backend=backend or self.spec.backend, products=products or self.spec.products)
        return dataclasses.replace(self, spec=spec)

    @cached_property
    def _placed(self) -> Params:
        """The parameters on their devices; first asked for in the precision of the potential."""
        return place_members(self.params)

    @cached_property
    def judge(self) -> Judge:
        """What judges a prediction inside of a compiled program."""
        return self.trust.judge(self.elements, self.label_noise)

    @property
    def label_noise(self) -> dict[str, float]:
        """Standard deviation of labels, the same everywhere, as it was learned with the loss: energy [eV/atom], forces [eV/Å], …; else empty."""
        return self.metadata.get("noise", {})

    @property
    def has_sigma(self) -> bool:
        """Whether anything gives a standard deviation: several members, a last layer, or noise that was learned."""
        return bool(self.n_members > 1 or self.trust.last_layer or self.label_noise or self.spec.config.noise)

    def head_index(self, head: str | None) -> int:
        """Index of a level of theory; None and the empty name mean the first.

        Raises:
            EqpotError: when the potential does not know it.
        """
        return head_index(self.heads, head)

    def only(self, head: str) -> "Potential":
        """The potential of one level of theory alone, with the weights of the others left out.

        Raises:
            EqpotError: when the potential does not know it.
        """
        spec, params, references = only_head(self.spec, self.params, self.reference_energies, head)
        return dataclasses.replace(self, spec=spec, params=params, reference_energies=references)

    def prepare(self, atoms: Any, head: str | None = None) -> Host:
        """Check a structure against this potential and find its neighbours; `head` names the level of theory to predict it at.

        Raises:
            StructureError: for a structure without meaning, or an element that the potential has not seen.
            EqpotError: for a head that the potential does not know.
        """
        structure = Structure.from_atoms(atoms)
        self.spec.config.check(structure)
        return prepare(structure, self.elements, self.cutoff, self.head_index(head))

    def references(self, host: Host) -> np.ndarray:
        """Reference energy of each atom of a structure [eV], in float64."""
        return np.asarray(self.reference_energies)[host.head * len(self.elements) + host.species]

    def offset(self, host: Host) -> float:
        """Sum of the reference energies of a structure [eV], in float64."""
        return float(self.references(host).sum())

    def offset_of(self, structure: Structure) -> float:
        """`offset` of a structure at the first level of theory, without its neighbours [eV].

        Raises:
            StructureError: for an element that the potential has not seen, or a structure that its model has no energy for.
        """
        self.spec.config.check(structure)
        return float(np.asarray(self.reference_energies)[species_index(structure, self.elements)].sum())

    def predict(self, atoms: Any, head: str | None = None) -> Any:
        """Energies, forces, stress and their spread, and whatever else the model was configured to say.

        Args:
            atoms: an `ase.Atoms` or a `Structure`, or a sequence of them.
            head: level of theory; by default the first of `heads`.

        Returns:
            a `Result` for one structure, a list of them for a sequence.

        Raises:
            StructureError: naming the structure's index, its fault and what to do; also for an empty sequence.
            EqpotError: for a head that the potential does not know.
        """
        hosts, single = self._prepare_all(atoms, head)
        results = self.predict_hosts(hosts)
        return results[0] if single else results

    def descriptors(self, atoms: Any, member: int = 0) -> Any:
        """The invariant descriptors that a member makes of each atom, [atoms, features]; float64.

        Args:
            atoms: an `ase.Atoms` or a `Structure`, or a sequence of them.
            member: of the ensemble; their features have nothing to do with each other.

        Returns:
            an array for one structure, a list of them for a sequence.

        Raises:
            StructureError: as `predict`.
            EqpotError: when there is no such member.
        """
        hosts, single = self._prepare_all(atoms, None)
        found = self.describe_hosts(hosts, member)
        return found[0] if single else found

    def describe_hosts(self, hosts: Sequence[Host], member: int = 0) -> list[np.ndarray]:
        """`descriptors` of structures that `prepare` or `prepare_frames` made."""
        found: dict[int, np.ndarray] = {}
        params = jax.tree.map(lambda leaf: leaf[0], self.member(member).params)
        for batch, graph in self.batches(hosts):
            with jax.enable_x64(self.dtype == "float64"):
                features = np.asarray(features_of(self.spec, params, graph), np.float64)
            ends = np.cumsum([len(hosts[k]) for k in batch])
            found.update(zip(batch, np.split(features[: ends[-1]], ends[:-1]), strict=True))
        return [found[k] for k in range(len(hosts))]

    def _prepare_all(self, atoms: Any, head: str | None) -> tuple[list[Host], bool]:
        """Prepared structures, and whether there was one that was no sequence."""
        single = not isinstance(atoms, Iterable) or isinstance(atoms, Structure) or hasattr(atoms, "get_atomic_numbers")
        items = [atoms] if single else list(atoms)
        if not items:
            raise StructureError("no structures: expected at least one ase.Atoms or eqpot.Structure")
        hosts = []
        for index, item in enumerate(items):
            try:
                hosts.append(self.prepare(item, head))
            except StructureError as error:
                raise StructureError(str(error) if single else f"structure {index}: {error}") from None
        return hosts, single

    def predict_frames(self, frames: Iterable[Frame]) -> list[Result]:
        """`predict` for labelled frames, each at its own level of theory.

        Raises:
            StructureError, EqpotError: naming the origin of a frame that the potential cannot judge, or whose level of theory it does not know.
        """
        return self.predict_hosts(self.prepare_frames(frames))

    def prepare_frames(self, frames: Iterable[Frame]) -> list[Host]:
        """`prepare` for labelled frames; errors as `predict_frames`."""
        hosts = []
        for frame in frames:
            try:
                hosts.append(self.prepare(frame.structure, frame.head if self.heads else None))
            except EqpotError as error:
                raise type(error)(f"{frame.origin}: {error}") from None
        return hosts

    def predict_hosts(self, hosts: Sequence[Host], capacity: Capacity | None = None) -> list[Result]:
        """`predict` for prepared structures, batched by size; `capacity` forces the padded size of every batch."""
        results: dict[int, Result] = {}
        for batch, graph in self.batches(hosts, capacity):
            chosen = [hosts[k] for k in batch]
            with jax.enable_x64(self.dtype == "float64"):
                stress = any(h.structure.pbc.all() for h in chosen)
                arrays, judgement = jax.device_get(judged_prediction(self.spec, self._placed, self.judge, graph, stress))
            references = [self.references(h) for h in chosen]
            results.update(zip(batch, split(chosen, arrays, judgement, references, self.label_noise, self.trust), strict=True))
        return [results[k] for k in range(len(hosts))]

    def batches(self, hosts: Sequence[Host], capacity: Capacity | None = None) -> Iterator[tuple[list[int], Graph]]:
        """Indices and padded graph of each batch of prepared structures; `capacity` forces the padded size. A batch that fits takes that of the one before."""
        usual = capacity
        for batch in grouped(hosts):
            chosen = [hosts[k] for k in batch]
            if capacity is None and not (usual and usual.fits(needed(chosen, usual))):
                usual = bucket(chosen)
            yield batch, collate(chosen, usual, self.dtype)

    def calculator(self, allow_direct_forces: bool = False, head: str | None = None) -> Any:
        """The potential as an ASE calculator (energy, forces, stress, and `energy_std`, `forces_std` in its results).

        Args:
            allow_direct_forces: accept forces that are no derivatives of the energy; what relies on that (relaxation, dynamics) goes astray.
            head: level of theory; by default the first of `heads`.

        Raises:
            EqpotError: for direct forces that are not allowed, or a head that the potential does not know.
        """
        from eqpot.potential.calculator import EqpotCalculator

        if not (self.conservative or allow_direct_forces):
            raise EqpotError(f"{DIRECT_FORCES}; pass allow_direct_forces=True to use it all the same")
        self.head_index(head)
        return EqpotCalculator(self, head)

    def save(self, path: str | Path) -> Path:
        """Write the potential to one safetensors file; see `eqpot.potential.archive`."""
        write_potential(path, self.spec, self.params, self.reference_energies, self.metadata, self.dtype, self.trust)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Potential":
        """Read a potential written by `save`; needs no training code.

        Raises:
            ArchiveError: see `read_archive`; also when tensors do not fit the architecture in the header.
        """
        return cls(*read_potential(path))
