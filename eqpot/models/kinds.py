"""Kinds of models, told apart by the key `kind`: a network alone, or a sum of terms of which one is a network."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, WrapValidator, field_validator, model_validator

from eqpot.core.config import build
from eqpot.core.errors import ConfigError, did_you_mean
from eqpot.graph import Structure
from eqpot.models.behler import BehlerParrinelloConfig
from eqpot.models.config import EquivariantConfig
from eqpot.models.dispersion import D3Config
from eqpot.models.electrostatics import CoulombConfig, EquilibrationConfig
from eqpot.models.linear import LinearConfig
from eqpot.models.pairs import InversePowerConfig, ZBLConfig
from eqpot.models.settings import ModelSettings, NamedSettings

NETWORKS: dict[str, type[ModelSettings]] = {
    "equivariant": EquivariantConfig,
    "behler-parrinello": BehlerParrinelloConfig,
    "linear": LinearConfig,
}
"""What may stand alone, and once in a sum."""

TERMS: dict[str, type[ModelSettings]] = {
    **NETWORKS,
    "zbl": ZBLConfig,
    "inverse-power": InversePowerConfig,
    "coulomb": CoulombConfig,
    "charge-equilibration": EquilibrationConfig,
    "d3": D3Config,
}
"""What a sum may consist of. A new kind is a configuration here and in `TermConfig`, and a line in `eqpot.models.build_term`."""


def _class_of(kinds: Mapping[str, type[ModelSettings]], values: Any) -> type[ModelSettings]:
    """The class that values mean by their `kind`, a network when there is none."""
    kind = values.get("kind", "equivariant") if isinstance(values, Mapping) else "equivariant"
    if kind in kinds:
        return kinds[kind]
    if kind in TERMS:
        raise ConfigError(f"'{kind}' is a term beside a network and no model alone; expected kind: sum with both among its terms")
    if kind == "sum":
        raise ConfigError(f"the kind 'sum' cannot be a term of a sum; name its terms here, {', '.join(TERMS)}")
    raise ConfigError(f"the kind '{kind}' is unknown, {did_you_mean(str(kind), kinds)}")


def _by_kind(kinds: Mapping[str, type[ModelSettings]]) -> WrapValidator:
    """Validation as the class of the values' kind, so that a message is about that kind and not about all of them."""

    def validate(values: Any, handler: Callable[[Any], Any]) -> Any:
        del handler
        if isinstance(values, ModelSettings):
            _class_of(kinds, {"kind": values.kind})  # type: ignore[attr-defined]
            return values
        return _class_of(kinds, values).model_validate(values)

    return WrapValidator(validate)


TermConfig = Annotated[
    EquivariantConfig
    | BehlerParrinelloConfig
    | LinearConfig
    | ZBLConfig
    | InversePowerConfig
    | CoulombConfig
    | EquilibrationConfig
    | D3Config,
    _by_kind(TERMS),
]
"""Union of the configurations of all terms of a sum."""


class SumConfig(NamedSettings):
    """A model whose energy is a sum: one network, and terms that are known. Each output besides the energy comes from one term."""

    kind: Literal["sum"] = "sum"
    terms: dict[str, TermConfig] = Field(
        description="terms by name, such as {network: {kind: equivariant}, repulsion: {kind: zbl}}; parameters are called 'terms/NAME/…'"
    )

    @field_validator("terms")
    @classmethod
    def _network_comes_first(cls, terms: dict[str, Any]) -> dict[str, Any]:
        """Sorts the terms, so that equal sums add in the same order, and what a term says is known to those that read it."""
        for name in terms:
            if not name.replace("_", "").replace("-", "").isalnum():
                raise ConfigError(f"the term '{name}': expected a name of letters, digits, '-' and '_'")
        return dict(sorted(terms.items(), key=lambda item: ("features" not in item[1].outputs, not item[1].outputs, item[0])))

    @model_validator(mode="after")
    def _each_output_has_one_source(self) -> "SumConfig":
        sources: dict[str, str] = {}
        for name, term in self.terms.items():
            for output in term.outputs:
                if output in sources:
                    raise ConfigError(f"terms: '{sources[output]}' and '{name}' both give {output}; expected one network in a sum")
                sources[output] = name
        if "features" not in sources:
            found = ", ".join(f"{name} ({term.kind})" for name, term in self.terms.items()) or "none"
            raise ConfigError(f"terms: found {found}, expected one network among them, such as network: {{kind: equivariant}}")
        if "forces" in sources:
            raise ConfigError(
                f"terms: '{sources['forces']}' has direct_forces, which would leave out the forces of the other terms; switch them off"
            )
        return self

    @model_validator(mode="after")
    def _each_term_is_given_what_it_reads(self) -> "SumConfig":
        for name, term in self.terms.items():
            for missing in sorted({*term.reads} - {*self.outputs}):
                raise ConfigError(
                    f"terms: '{name}' ({term.kind}) needs {missing}; say {missing}: true for the network '{self.network_name}'"
                )
        return self

    def check(self, structure: Structure) -> None:
        """See `ModelSettings.check`: all terms must have an energy for the structure."""
        for term in self.terms.values():
            term.check(structure)

    def meshed(self, cell: np.ndarray) -> "SumConfig":
        """See `ModelSettings.meshed`."""
        if not any(hasattr(term, "mesh") for term in self.terms.values()):
            super().meshed(cell)
        return SumConfig(terms={name: term.meshed(cell) if hasattr(term, "mesh") else term for name, term in self.terms.items()})

    @property
    def network_name(self) -> str:
        """Name of the term that is the network: the only one with features."""
        return next(name for name, term in self.terms.items() if "features" in term.outputs)

    @property
    def network(self) -> Any:
        """Configuration of the network."""
        return self.terms[self.network_name]

    def changed(self, **changes: Any) -> "SumConfig":
        """A copy with other values of keys of the network."""
        return SumConfig(terms={**self.terms, self.network_name: self.network.changed(**changes)})

    def archived(self) -> dict[str, Any]:
        """Each term as it would be archived alone."""
        return {"kind": self.kind, "terms": {name: term.archived() for name, term in self.terms.items()}}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Fields of `AtomOutputs` that any term fills besides the energy."""
        return tuple(output for term in self.terms.values() for output in term.outputs)

    @property
    def cutoff(self) -> float:
        """The largest of the terms [Å]; those with a shorter one do not see what is beyond theirs."""
        return max(term.cutoff for term in self.terms.values())

    @property
    def receptive_field(self) -> float:
        """The largest of the terms [Å]."""
        return max(term.receptive_field for term in self.terms.values())

    @property
    def n_layers(self) -> int:
        """Layers of the network."""
        return self.network.n_layers

    @property
    def heads(self) -> tuple[str, ...]:
        """Levels of theory of the network; the other terms are the same in all of them."""
        return self.network.heads

    @property
    def noise(self) -> bool:
        """Whether the network predicts the noise of the labels."""
        return self.network.noise

    @property
    def charges(self) -> bool:
        """Whether any term predicts charges."""
        return "charges" in self.outputs

    @property
    def direct_forces(self) -> bool:
        """Never: forces of the other terms are derivatives."""
        return False

    @property
    def summary(self) -> str:
        """One line for people."""
        return "sum of " + "; ".join(term.summary for term in self.terms.values())


MODELS: dict[str, type[ModelSettings]] = {**NETWORKS, "sum": SumConfig}
"""What stands alone."""

ModelConfig = Annotated[EquivariantConfig | BehlerParrinelloConfig | LinearConfig | SumConfig, _by_kind(MODELS)]
"""Union of the configurations of models that stand alone; without `kind`, a network is meant."""


def model_config(values: Mapping[str, Any]) -> EquivariantConfig | BehlerParrinelloConfig | LinearConfig | SumConfig:
    """Validate values as the configuration of a model.

    Raises:
        ConfigError: for the first fault, see `eqpot.core.config.build`.
    """
    return build(_class_of(MODELS, values), values)  # type: ignore[return-value]
