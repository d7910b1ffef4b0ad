"""What a user chooses about the data of a fit: files, names of labels, units, and what is held out."""

import dataclasses
from typing import Any

from pydantic import Field, create_model, field_validator, model_validator

from eqpot.core.config import Config
from eqpot.core.errors import ConfigError, did_you_mean
from eqpot.data import LabelKeys, Units


def _like(kind: type[LabelKeys | Units]) -> type[Config]:
    """A section with the fields and defaults of what the readers take."""
    fields: dict[str, Any] = {f.name: (f.type, f.default) for f in dataclasses.fields(kind)}
    return create_model(kind.__name__, __base__=Config, **fields)


class KeysConfig(_like(LabelKeys)):
    """Names of labels in the files; left out, the usual names are found by themselves; '' ignores a label."""

    def label_keys(self) -> LabelKeys:
        """As the readers take them."""
        return LabelKeys(**self.model_dump())


class UnitsConfig(_like(Units)):
    """Units of the files; everything is converted to eV, Å, eV/Å³ on reading."""

    stress: str | None = Field(default=None, description="left out, it is energy/length³")

    def units(self) -> Units:
        """As the readers take them."""
        return Units(**self.model_dump())


class DataConfig(Config):
    """Where the structures come from."""

    train: str | tuple[str, ...] | None = Field(default=None, description="file, list of files or glob")
    valid: str | tuple[str, ...] | float | int = Field(
        default=0.1, description="file(s), or a fraction or number of training frames to hold out"
    )
    test: str | tuple[str, ...] | float | int | None = Field(
        default=None, description="file(s) to evaluate after the fit, or a share of the training frames"
    )
    calibrate: str | tuple[str, ...] | float | int | None = Field(
        default=None, description="file(s), or a share of the training frames, never trained on, that the uncertainty is calibrated with"
    )
    heads: dict[str, str | tuple[str, ...]] = Field(
        default={}, description="in place of train: files by level of theory, each of which gets a head of its own"
    )
    max_train: int | None = Field(default=None, ge=1, description="use this many training frames, chosen by the seed")
    keys: KeysConfig = KeysConfig()
    units: UnitsConfig = UnitsConfig()
    reference_energies: dict[str, float] | dict[str, dict[str, float]] | None = Field(
        default=None,
        description="energy of each element's atom [eV], with heads by head: {pbe: {H: -13.6}}; else isolated atoms, else fitted",
    )
    hygiene: bool = Field(
        default=False, description="after the fit, look for training frames with wrong labels and write them to suspicious.extxyz"
    )
    allow: tuple[str, ...] = Field(default=(), description="codes of data checks to accept, such as 'large-force'; see eqpot inspect")

    @field_validator("valid", "test", "calibrate")
    @classmethod
    def _share_is_sensible(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            raise ConfigError("expected a positive fraction or number of frames to hold out")
        if isinstance(value, float) and value >= 1:
            raise ConfigError("expected a fraction below 1, a whole number of frames, or a file")
        return value

    @model_validator(mode="after")
    def _reference_energies_are_of_a_level(self) -> "DataConfig":
        for name, value in (self.reference_energies or {}).items():
            if isinstance(value, dict) and name not in self.heads:
                raise ConfigError(
                    f"reference_energies: found energies by element for '{name}', expected that of a head ({did_you_mean(name, self.heads)})"
                )
            if self.heads and not isinstance(value, dict):
                raise ConfigError(
                    f"reference_energies: found one energy of {name} for {len(self.heads)} levels of theory, each of which has its own; expected them by "
                    f"head, such as {{{min(self.heads)}: {{{name}: {value:g}}}}}"
                )
        return self
