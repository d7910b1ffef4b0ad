"""What a user chooses about a fit. One YAML file maps to `FitConfig`, key by key; see `train/recipes/`."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from eqpot.core.config import Config
from eqpot.core.errors import ConfigError
from eqpot.data import LabelKeys, Units
from eqpot.models import ModelConfig
from eqpot.nn import choose_backend
from eqpot.potential import Products


class KeysConfig(Config):
    """Names of labels in the files; left out, the usual names are found by themselves; '' ignores a label."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    group: str | None = None

    def label_keys(self) -> LabelKeys:
        """As the readers take them."""
        return LabelKeys(**self.model_dump())


class UnitsConfig(Config):
    """Units of the files; everything is converted to eV, Å, eV/Å³ on reading."""

    energy: str = "eV"
    length: str = "Angstrom"
    stress: str = "eV/A^3"

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
    max_train: int | None = Field(default=None, ge=1, description="use this many training frames, chosen by the seed")
    keys: KeysConfig = KeysConfig()
    units: UnitsConfig = UnitsConfig()
    reference_energies: dict[str, float] | None = Field(
        default=None, description="energy of each element's atom [eV]; else isolated atoms, else fitted"
    )
    allow: tuple[str, ...] = Field(default=(), description="codes of data checks to accept, such as 'large-forces'; see eqpot inspect")

    @field_validator("valid", "test")
    @classmethod
    def _share_is_sensible(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            raise ConfigError("expected a positive fraction or number of frames to hold out")
        if isinstance(value, float) and value >= 1:
            raise ConfigError("expected a fraction below 1, a whole number of frames, or a file")
        return value


class EnsembleConfig(Config):
    """How many members, and how they differ besides their seed."""

    members: int = Field(default=1, ge=1, le=64)
    bootstrap: bool = Field(default=True, description="each member weights the training frames by its own exponential weights of mean one")


class LossConfig(Config):
    """Weights of the mean squared errors.

    loss = energy·⟨(ΔE/n)²⟩ + forces·⟨ΔF²⟩ + stress·⟨Δσ²⟩, in eV per atom, eV/Å per component, eV/Å³ per component.
    A frame without a label takes no part in that mean.
    """

    energy: float = Field(default=100.0, ge=0)
    forces: float = Field(default=10.0, ge=0)
    stress: float = Field(default=1000.0, ge=0)
    huber: float | None = Field(default=None, gt=0, description="size of an error, in the units above, from which on it counts linearly")

    @model_validator(mode="after")
    def _something_is_learned(self) -> "LossConfig":
        if self.energy == self.forces == self.stress == 0:
            raise ConfigError("all weights are zero: nothing would be learned")
        return self


class OptimizerConfig(Config):
    """Adam and its schedule."""

    name: Literal["adamw", "amsgrad"] = "amsgrad"
    learning_rate: float = Field(default=0.01, gt=0, le=1)
    warmup: float = Field(default=0.02, ge=0, lt=1, description="share of all steps in which the rate rises from zero")
    final_rate: float = Field(default=0.01, ge=0, le=1, description="rate at the end of the cosine, relative to its height")
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=10.0, gt=0, description="largest norm of a member's gradient")
    ema: float = Field(
        default=0.99, ge=0, lt=1, description="decay per step of the averaged parameters, which are those evaluated and kept"
    )


class TrainingConfig(Config):
    """Length and rhythm of the run."""

    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=8, ge=1, description="structures per step")
    patience: int | None = Field(default=None, ge=1, description="stop after this many epochs without a better validation loss")
    max_minutes: float | None = Field(default=None, gt=0, description="stop after this time; the schedule still counts epochs")
    checkpoint_every: int = Field(default=10, ge=1, description="epochs between checkpoints")
    dtype: Literal["float32", "float64"] = "float32"
    products: Products = Field(
        default="float32", description="precision of matrix products with parameters, where the device offers a choice"
    )
    backend: str = Field(default="auto", description="how layers are evaluated: auto, dense, blocked, cuequivariance or reference")

    @field_validator("backend")
    @classmethod
    def _backend_is_known(cls, name: str) -> str:
        choose_backend(name)
        return name


class FitConfig(Config):
    """Everything about a fit."""

    name: str = Field(
        default="run", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$", description="name of the run; its folder is runs/<name>"
    )
    seed: int = Field(default=0, ge=0)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
