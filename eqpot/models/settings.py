"""What the configuration of every model answers, whatever its kind."""

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, model_validator

from eqpot.core.config import Config
from eqpot.core.errors import ConfigError
from eqpot.graph import Structure


def _names_that_differ(heads: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(heads)) < len(heads) or not all(name.strip() == name != "" for name in heads):
        raise ConfigError(f"heads: found {list(heads)}, expected names that differ, none of them empty")
    return heads


Heads = Annotated[tuple[str, ...], AfterValidator(_names_that_differ)]
"""Levels of theory, by name; none where there is only one."""


class ModelSettings(Config):
    """Base of the configurations of models.

    Each kind also answers `cutoff`, `receptive_field` [Å], `n_layers`, `heads`, `noise`, `charges`, `direct_forces`, `outputs` (names of the
    fields of `AtomOutputs` that the model fills besides the energy), and `summary`, one line for people.

    Attributes:
        reads: fields of `AtomOutputs` that the model, as a term of a sum, needs another term to fill.
    """

    reads: ClassVar[tuple[str, ...]] = ()

    def check(self, structure: Structure) -> None:
        """Refuse a structure that the model has no energy for; on the host, before anything is computed.

        Raises:
            StructureError: with what was found, and what to do.
        """

    def meshed(self, cell: np.ndarray) -> Any:
        """A copy whose charges interact on a mesh that is fine enough for a cell [Å].

        Raises:
            ConfigError: for a model without such a term.
            StructureError: for a cell without volume.
        """
        raise ConfigError(f"mesh: found {self.summary}, expected a sum with a term of kind coulomb")  # type: ignore[attr-defined]

    @property
    def n_heads(self) -> int:
        """Number of levels of theory, at least one."""
        return max(1, len(self.heads))  # type: ignore[attr-defined]

    @property
    def network(self) -> Any:
        """The configuration of the network: that of its own term in a sum, or itself."""
        return self

    def changed(self, **changes: Any) -> Any:
        """A copy with other values of keys of the network."""
        return self.model_copy(update=changes)

    def archived(self) -> dict[str, Any]:
        """All keys as JSON values, from which the same configuration is built again; of the mesh for a cell, which is no part of a potential, nothing."""
        return self.model_dump(mode="json", exclude={"mesh"})


class NamedSettings(ModelSettings):
    """Base of all kinds but the default one: `kind` counts as given, so that a copy of the keys that were set still says it."""

    @model_validator(mode="before")
    @classmethod
    def _kind_is_given(cls, values: Any) -> Any:
        return {"kind": cls.model_fields["kind"].default, **values} if isinstance(values, dict) else values

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # fields hold dicts, in an order that validation settles


class KnownTermSettings(NamedSettings):
    """Base of the terms of a sum that are known beforehand: nothing is learned of the features of an atom, and nothing is said but the energy."""

    n_layers: ClassVar[int] = 1
    heads: ClassVar[tuple[str, ...]] = ()
    noise: ClassVar[bool] = False
    charges: ClassVar[bool] = False
    direct_forces: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...]] = ()


class DescriptorSettings(NamedSettings):
    """Base of the networks and models on descriptors of fixed form: one layer, and nothing is said but energies and the descriptors."""

    n_layers: ClassVar[int] = 1
    noise: ClassVar[bool] = False
    charges: ClassVar[bool] = False
    direct_forces: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...]] = ("features",)

    kind: str
    cutoff: float

    def changed(self, **changes: Any) -> Any:
        """A copy with other values; keys of other networks may be given as long as they are switched off.

        Raises:
            ConfigError: for what this kind cannot do.
        """
        known = type(self).model_fields
        foreign = sorted(name for name, value in changes.items() if name not in known and value)
        if foreign:
            raise ConfigError(f"{foreign[0]}: a network of the kind {self.kind} does not have it; leave it out, or take kind: equivariant")
        return self.model_copy(update={name: value for name, value in changes.items() if name in known})

    @property
    def receptive_field(self) -> float:
        """Atoms see as far as the cutoff [Å]."""
        return self.cutoff
