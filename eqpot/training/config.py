"""What a user chooses about a fit. One YAML file maps to `FitConfig`, key by key; see `train/recipes/`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from eqpot.core.config import Config, build, load_yaml
from eqpot.core.errors import ConfigError
from eqpot.models import EquivariantConfig, LinearConfig, ModelConfig
from eqpot.nn import choose_backend
from eqpot.potential import Products
from eqpot.training.data_config import DataConfig
from eqpot.training.loss_config import LossConfig, StageTwoConfig, require_outputs


class EnsembleConfig(Config):
    """How many members, and how they differ besides their seed."""

    members: int = Field(default=1, ge=1, le=64)
    bootstrap: bool = Field(default=True, description="each member weights the training frames by its own exponential weights of mean one")
    last_layer: Literal["rigidity", "bootstrap"] | None = Field(
        default=None, description="for one member: uncertainty of its last linear layer, fitted after the training; see docs/uncertainty.md"
    )
    readouts: int = Field(default=16, ge=2, le=256, description="of a bootstrapped last layer, and of one with readout_forces")
    readout_forces: bool = Field(default=False, description="compute the spread of the forces of all readouts, at one reverse pass each")

    @model_validator(mode="after")
    def _last_layer_is_of_one(self) -> "EnsembleConfig":
        if self.last_layer and self.members > 1:
            raise ConfigError(f"last_layer is for one member: found {self.members}, whose spread is an uncertainty already")
        return self


class FinetuneConfig(Config):
    """A potential to start from instead of random parameters; its architecture is kept."""

    base: str = Field(description="the potential (.safetensors)")
    reference_energies: Literal["keep", "refit"] = Field(
        default="keep", description="'refit': for another level of theory, take new ones from what the base's predictions leave over"
    )
    head: str | None = Field(default=None, description="train the new frames on a head of this name, beside the base's")
    replay: str | tuple[str, ...] | None = Field(
        default=None, description="file(s) that the base was trained on, mixed in against forgetting"
    )
    replay_frames: int | None = Field(default=None, ge=1, description="use this many of them, chosen by the seed")
    replay_weight: float = Field(default=1.0, gt=0, description="their weight in the loss")
    allow_disagreement: bool = Field(default=False, description="go on although the base and the new data disagree")


class OptimizerConfig(Config):
    """How parameters move."""

    name: Literal["adam", "amsgrad", "adamw", "schedule-free", "muon", "lbfgs", "ridge"] = Field(
        default="muon",
        description="'muon' orthogonalises the momentum of matrices and lets Adam move the rest; 'lbfgs' is for tiny sets in one batch; "
        "'ridge' solves for a linear model in closed form, in one epoch without steps",
    )
    ridge: float | None = Field(
        default=None,
        ge=1e-14,
        description="strength of 'ridge' in units of the mean diagonal; by default the best on the validation frames",
    )
    learning_rate: float = Field(default=0.01, gt=0, le=1)
    schedule: Literal["cosine", "constant", "plateau"] = Field(
        default="cosine", description="'plateau' lowers the rate when validation stalls; 'schedule-free' is always constant"
    )
    warmup: float = Field(default=0.02, ge=0, lt=1, description="share of the epochs in which the rate rises from zero")
    final_rate: float = Field(default=0.01, ge=0, le=1, description="lowest rate, relative to the height")
    plateau_patience: int = Field(default=10, ge=1, description="epochs without a better validation loss before the rate is lowered")
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled, of matrices; embeddings, biases and scalars have none")
    clip_norm: float = Field(default=10.0, gt=0, description="largest norm of a member's gradient")
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients are averaged before a step")
    ema: float = Field(
        default=0.99, ge=0, lt=1, description="decay per step of the averaged parameters, which are those evaluated and kept"
    )
    rates: dict[str, float] = Field(
        default={}, description="factor of the rate by pattern of parameter names, such as {'embedding*': 0, 'layers/0/*': 0.1}; 0 freezes"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "OptimizerConfig":
        if self.name == "lbfgs" and (self.accumulate > 1 or self.rates or self.weight_decay):
            raise ConfigError("optimizer 'lbfgs' searches along a line of all parameters: accumulate, rates and weight_decay do not apply")
        if self.name == "ridge" and (self.accumulate > 1 or self.rates or self.weight_decay):
            raise ConfigError("optimizer 'ridge' solves for all parameters at once: accumulate, rates and weight_decay do not apply")
        if self.name != "ridge" and self.ridge is not None:
            raise ConfigError(f"optimizer.ridge is the strength of the optimizer 'ridge', found name: {self.name}; leave it out")
        if bad := [key for key, rate in self.rates.items() if rate < 0]:
            raise ConfigError(f"rates: found {self.rates[bad[0]]} for '{bad[0]}', expected a factor of at least 0")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class TrainingConfig(Config):
    """Length and rhythm of the run."""

    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=8, ge=1, description="structures per step")
    batch_atoms: int | None = Field(default=None, ge=1, description="fill steps up to this many atoms instead of counting structures")
    workers: int = Field(default=0, ge=0, le=64, description="processes that prepare batches; 0: the training process itself")
    patience: int | None = Field(default=None, ge=1, description="stop after this many epochs without a better validation loss")
    max_minutes: float | None = Field(
        default=None, gt=0, description="stop after the epoch in which this time is over; the schedule still counts epochs"
    )
    validate_every: int = Field(default=1, ge=1, description="epochs between validations, each of which is a line of the log")
    checkpoint_every: int = Field(default=10, ge=1, description="epochs between checkpoints")
    checkpoint_steps: int | None = Field(default=None, ge=1, description="steps between checkpoints within an epoch, for long epochs")
    dtype: Literal["float32", "float64"] = "float32"
    products: Products = Field(
        default="float32", description="precision of matrix products with parameters, where the device offers a choice"
    )
    backend: str = Field(default="auto", description="how layers are evaluated: auto, dense, blocked, cuequivariance or reference")

    @field_validator("backend")
    @classmethod
    def _backend_is_known(cls, name: str) -> str:
        if name != "auto":  # which one that is, JAX is not asked before it starts
            choose_backend(name)
        return name


def require_linear(model: Any, loss: LossConfig) -> None:
    """Refuse what has no closed form.

    Raises:
        ConfigError: for a model that is not linear, and for a loss that is no weighted sum of squares of energies, forces and stress.
    """
    if not isinstance(model.network, LinearConfig):
        raise ConfigError(
            f"optimizer.name: 'ridge' solves for a linear model, found the kind {model.network.kind}; take model.kind: linear, or another optimizer"
        )
    if loss.noise != "none" or loss.final or {loss.form_of(name) for name in ("energy", "forces", "stress")} != {"squared"}:
        raise ConfigError(
            "optimizer.name: 'ridge' has a closed form for squared errors only; leave loss.form, loss.huber, loss.final and loss.noise out"
        )


def require_batches(config: "FitConfig", per_epoch: int) -> None:
    """Refuse an optimiser that cannot work with so many batches per epoch.

    Raises:
        ConfigError: for L-BFGS with more than one, and for `accumulate` longer than the whole run.
    """
    choice, batches = config.optimizer, per_epoch * config.epochs
    if choice.name == "lbfgs" and per_epoch > 1:
        raise ConfigError(
            f"optimizer.name: 'lbfgs' searches along a line of one loss: found {per_epoch} batches per epoch, expected one; raise "
            "training.batch_size, for structures of several sizes set training.batch_atoms, or take another optimizer"
        )
    if choice.accumulate > batches:
        raise ConfigError(
            f"optimizer.accumulate: found {choice.accumulate}, expected at most the {batches} batches of the whole run ({per_epoch} per epoch); "
            "not one step would be taken"
        )


class FitConfig(Config):
    """Everything about a fit."""

    name: str = Field(
        default="run", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$", description="name of the run; its folder is runs/<name>"
    )
    seed: int = Field(default=0, ge=0)
    data: DataConfig = DataConfig()
    model: ModelConfig = EquivariantConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    stage_two: StageTwoConfig | None = Field(default=None, description="a second stage that favours energies; none by default")
    finetune: FinetuneConfig | None = Field(default=None, description="start from a potential; none by default")
    training: TrainingConfig = TrainingConfig()

    @property
    def epochs(self) -> int:
        """Length of the training: one where it is solved in closed form."""
        return 1 if self.optimizer.name == "ridge" else self.training.epochs

    @property
    def asked(self) -> frozenset[str]:
        """Quantities that were named with a weight above zero."""
        return (self.loss.asked & self.loss.counted) | (self.stage_two.asked if self.stage_two else frozenset())

    @property
    def counted(self) -> frozenset[str]:
        """Quantities that count at some time."""
        return self.loss.counted | self.asked

    @model_validator(mode="after")
    def _the_model_says_what_the_loss_trains(self) -> "FitConfig":
        if not self.finetune:  # else the base says what the model is
            require_outputs(self.model, self.loss, self.asked)
        return self

    @model_validator(mode="after")
    def _each_sigma_is_there_from_the_start(self) -> "FitConfig":
        if self.loss.noise != "none" and (late := self.asked - self.loss.counted):
            raise ConfigError(
                f"stage_two.{min(late)}: with loss.noise: {self.loss.noise} each quantity has its σ from the start, found loss.{min(late)}: 0; "
                "set it to 1, or leave it out here"
            )
        return self

    @model_validator(mode="after")
    def _a_closed_form_is_there(self) -> "FitConfig":
        if self.optimizer.name == "ridge":
            require_linear(self.model, self.loss)
            if self.finetune or self.stage_two:
                raise ConfigError("optimizer.name: 'ridge' starts from nothing and takes no steps; leave finetune and stage_two out")
        return self

    @model_validator(mode="after")
    def _there_is_a_sigma_to_calibrate(self) -> "FitConfig":
        sigma = self.ensemble.members > 1 or self.ensemble.last_layer or self.loss.noise != "none"
        if self.data.calibrate is not None and not sigma:
            raise ConfigError("data.calibrate: one member has no σ; set ensemble.members to 2 or more, ensemble.last_layer, or loss.noise")
        return self


def as_config(config: FitConfig | Mapping[str, Any] | str | Path | None) -> FitConfig:
    """A configuration from a mapping of its keys or a YAML file; defaults for None.

    Raises:
        ConfigError: naming the key.
    """
    if isinstance(config, FitConfig):
        return config
    if isinstance(config, str | Path):
        return build(FitConfig, load_yaml(config), where=str(config))
    return build(FitConfig, config or {})
