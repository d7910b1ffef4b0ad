"""What a user chooses about a fit. One YAML file maps to `FitConfig`, key by key; see `train/recipes/`."""

from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from eqpot.core.config import Config
from eqpot.core.errors import ConfigError
from eqpot.data import LabelKeys, Units
from eqpot.models import EquivariantConfig, LinearConfig, ModelConfig
from eqpot.nn import choose_backend
from eqpot.potential import Products


class KeysConfig(Config):
    """Names of labels in the files; left out, the usual names are found by themselves; '' ignores a label."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    charges: str | None = None
    dipole: str | None = None
    total_charge: str | None = None
    group: str | None = None
    weight: str | None = None
    head: str | None = None

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
    calibrate: str | tuple[str, ...] | float | int | None = Field(
        default=None, description="file(s), or a share of the training frames, never trained on, that the uncertainty is calibrated with"
    )
    heads: dict[str, str | tuple[str, ...]] = Field(
        default={}, description="in place of train: files by level of theory, each of which gets a head of its own"
    )
    max_train: int | None = Field(default=None, ge=1, description="use this many training frames, chosen by the seed")
    keys: KeysConfig = KeysConfig()
    units: UnitsConfig = UnitsConfig()
    reference_energies: dict[str, float] | None = Field(
        default=None, description="energy of each element's atom [eV]; else isolated atoms, else fitted"
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


Quantity = Literal["energy", "forces", "stress", "charges", "dipole"]
"""What can be labelled."""
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
Form = Literal["squared", "huber", "norm"]


class LossConfig(Config):
    """What is made small: weighted means of errors over the labels that exist.

    loss = energy·⟨(ΔE/n)²⟩ + forces·⟨ΔF²⟩ + stress·⟨Δσ²⟩ + charges·⟨Δq²⟩ + dipole·⟨(Δd/n)²⟩, in eV per atom, eV/Å per component, eV/Å³ per
    component, e, e·Å per atom. A frame without a label takes no part in that mean.
    """

    energy: float = Field(default=100.0, ge=0)
    forces: float = Field(default=10.0, ge=0)
    stress: float = Field(default=1000.0, ge=0)
    charges: float = Field(default=10.0, ge=0, description="for a model with charges")
    dipole: float = Field(default=10.0, ge=0, description="for a model with charges")
    form: Form | None = Field(
        default=None,
        description="'squared'; 'huber': linear beyond the size `huber`; 'norm': length of the error vector of an atom or structure; "
        "default 'huber' where `huber` is given, else 'squared'",
    )
    forms: dict[Quantity, Form] = Field(default={}, description="forms that differ, such as {forces: norm}")
    huber: float | None = Field(default=None, gt=0, description="size of an error, in the units above, from which on it counts linearly")
    noise: Literal["none", "learned", "atoms"] = Field(
        default="none",
        description="weights by maximum likelihood: 'learned' trains a noise σ per quantity, 'atoms' one per atom (needs model.noise); "
        "the weights above then only say what counts (0 or not)",
    )
    beta: float = Field(default=0.5, ge=0, le=1, description="for noise 'atoms': each term is weighted by its σ to the power 2·beta")
    net_force: float = Field(default=0.0, ge=0, description="weight of ⟨(ΣF/n)²⟩ of each structure, for a model with direct forces")
    net_torque: float = Field(default=0.0, ge=0, description="weight of ⟨(Σ r×F/n)²⟩ of each molecule, for a model with direct forces")

    @model_validator(mode="after")
    def _something_is_learned(self) -> "LossConfig":
        if not any(getattr(self, name) for name in {"energy", "forces", "stress", *self.model_fields_set}.intersection(QUANTITIES)):
            raise ConfigError("all weights are zero: nothing would be learned")
        if "huber" in (self.form, *self.forms.values()) and self.huber is None:
            raise ConfigError("form 'huber' needs the size 'huber' from which on an error counts linearly")
        if self.noise != "none" and (self.huber is not None or {self.form, *self.forms.values()} - {None, "squared"}):
            raise ConfigError(f"noise '{self.noise}' is the likelihood of a normal distribution: form must be 'squared'")
        return self

    def form_of(self, name: str) -> Form:
        """How errors of a quantity count."""
        chosen: dict[str, Form] = {**self.forms}
        return chosen.get(name) or self.form or ("huber" if self.huber is not None else "squared")

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each quantity; with a likelihood, one for those that count."""
        weights = {name: getattr(self, name) for name in QUANTITIES}
        return weights if self.noise == "none" else {name: float(w > 0) for name, w in weights.items()}


class StageTwoConfig(Config):
    """The end of the training, in which energies count more and parameters are averaged at a constant rate."""

    start: float = Field(default=0.75, gt=0, lt=1, description="share of the epochs after which it begins")
    energy: float = Field(default=1000.0, ge=0)
    forces: float = Field(default=10.0, ge=0)
    stress: float = Field(default=1000.0, ge=0)
    charges: float = Field(default=10.0, ge=0)
    dipole: float = Field(default=10.0, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    average: Literal["swa", "ema"] = Field(default="swa", description="equal average over the stage, or the exponential one goes on")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each quantity."""
        return {name: getattr(self, name) for name in QUANTITIES}


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
    max_minutes: float | None = Field(default=None, gt=0, description="stop after this time; the schedule still counts epochs")
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
    if loss.noise != "none" or {loss.form_of(name) for name in ("energy", "forces", "stress")} != {"squared"}:
        raise ConfigError(
            "optimizer.name: 'ridge' has a closed form for squared errors only; leave loss.form, loss.huber and loss.noise out"
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
