"""What a user chooses about the loss, and what the model must say for it."""

from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeFloat, model_validator

from eqpot.core.config import Config
from eqpot.core.errors import ConfigError
from eqpot.graph import Frame

Quantity = Literal["energy", "forces", "stress", "charges", "dipole"]
"""What can be labelled."""
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
Form = Literal["squared", "huber", "norm"]


def _named(config: Config) -> set[str]:
    """Quantities that were given a weight; in a record of all of them, as a run keeps it, those whose weight is not the default."""
    named = config.model_fields_set.intersection(QUANTITIES)
    whole = len(named) == len(QUANTITIES)
    return {name for name in named if not whole or getattr(config, name) != type(config).model_fields[name].default}


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
    final: dict[Quantity, NonNegativeFloat] = Field(
        default={},
        description="weights at the end of the training (or of its first stage), such as {energy: 1000}, towards which those above go "
        "linearly; validation counts with these from the start",
    )
    groups: dict[str, NonNegativeFloat] = Field(
        default={},
        description="factor of the weight of each frame by the name of its group, such as {liquid: 2, dimers: 0.1}; others have 1",
    )
    form: Form | None = Field(
        default=None,
        description="'squared'; 'huber': linear beyond the size `huber`; 'norm': length of the error vector of an atom or structure; "
        "default 'huber' where `huber` is given, else 'squared'",
    )
    forms: dict[Quantity, Form] = Field(default={}, description="forms that differ, such as {forces: norm}")
    huber: float | None = Field(default=None, gt=0, description="size of an error, in the units above, from which on it counts linearly")
    noise: Literal["none", "learned", "atoms"] = Field(
        default="none",
        description="weights by maximum likelihood: 'learned' trains a noise σ per quantity, 'atoms' one per atom for energies and forces (needs "
        "model.noise) and one per quantity for the others; the weights above, and those of stage_two, then only say what counts (0 or not)",
    )
    beta: float = Field(default=0.5, ge=0, le=1, description="for noise 'atoms': energies and forces are weighted by σ to the power 2·beta")
    net_force: float = Field(default=0.0, ge=0, description="weight of ⟨(ΣF/n)²⟩ of each structure, for a model with direct forces")
    net_torque: float = Field(default=0.0, ge=0, description="weight of ⟨(Σ r×F/n)²⟩ of each molecule, for a model with direct forces")

    @model_validator(mode="after")
    def _something_is_learned(self) -> "LossConfig":
        if not {"energy", "forces", "stress", *self.asked} & self.counted:
            raise ConfigError("all weights are zero: nothing would be learned")
        if "huber" in (self.form, *self.forms.values()) and self.huber is None:
            raise ConfigError("form 'huber' needs the size 'huber' from which on an error counts linearly")
        if self.noise != "none" and (self.huber is not None or {self.form, *self.forms.values()} - {None, "squared"}):
            raise ConfigError(f"noise '{self.noise}' is the likelihood of a normal distribution: form must be 'squared'")
        if self.noise != "none" and self.final:
            raise ConfigError(f"noise '{self.noise}' takes weights as switches, which do not change along the way: leave 'final' out")
        return self

    def form_of(self, name: str) -> Form:
        """How errors of a quantity count."""
        chosen: dict[str, Form] = {**self.forms}
        return chosen.get(name) or self.form or ("huber" if self.huber is not None else "squared")

    def weight_of(self, frame: Frame) -> float:
        """Weight of a frame: its own times that of its group."""
        return frame.weight * self.groups.get(frame.group, 1.0)

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def asked(self) -> frozenset[str]:
        """Quantities that were named, in whatever key."""
        return frozenset({*_named(self), *self.final})

    @property
    def counted(self) -> frozenset[str]:
        """Quantities that count at some time."""
        return frozenset(name for name in QUANTITIES if getattr(self, name) > 0 or self.final.get(name, 0) > 0)

    def weights(self, share: float) -> dict[str, float]:
        """Weight of each quantity after a share of the training; with a likelihood, one for those that count."""
        if self.noise != "none":
            return {name: float(name in self.counted) for name in QUANTITIES}
        first: dict[str, float] = {name: getattr(self, name) for name in QUANTITIES}
        last = {**first, **self.final}
        return {name: first[name] + share * (last[name] - first[name]) for name in first}


class StageTwoConfig(Config):
    """The end of the training, in which energies count more and parameters are averaged at a constant rate."""

    start: float = Field(default=0.75, gt=0, lt=1, description="share of the epochs after which it begins")
    energy: float = Field(default=1000.0, ge=0)
    forces: float = Field(default=10.0, ge=0)
    stress: float = Field(default=1000.0, ge=0)
    charges: float = Field(default=10.0, ge=0)
    dipole: float = Field(default=10.0, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    average: Literal["swa", "ema"] = Field(
        default="swa",
        description="equal average over the stage, or the exponential one goes on; 'schedule-free' has its own and takes neither",
    )

    def weights(self, loss: LossConfig) -> dict[str, float]:
        """Weight of each quantity; with a likelihood, one for those that count here and in the first stage.

        What the first stage leaves out, for which it says 0, comes in here only when it is named here, energies apart.
        """
        back = {"energy", *loss.counted, *self.asked}
        own = {name: getattr(self, name) if name in back else 0.0 for name in QUANTITIES}
        return own if loss.noise == "none" else {name: float(w > 0 and name in loss.counted) for name, w in own.items()}

    @property
    def asked(self) -> frozenset[str]:
        """Quantities that were given a weight above zero."""
        return frozenset(name for name in _named(self) if getattr(self, name) > 0)


def require_outputs(model: Any, loss: LossConfig, asked: frozenset[str]) -> None:
    """Refuse a loss on what the model does not predict, and an output that the loss does not train.

    Args:
        model: its configuration.
        loss: of the training.
        asked: quantities that were given a weight above zero.

    Raises:
        ConfigError: naming the key, and what to do.
    """
    if loss.noise == "atoms" and not model.noise:
        raise ConfigError(
            "loss.noise: 'atoms' trains the σ that the model predicts for each atom, found a model that predicts none; set model.noise: true, or take 'learned'"
        )
    if model.noise and loss.noise != "atoms":
        raise ConfigError(
            f"model.noise: the predicted σ is trained by loss.noise: atoms alone, found loss.noise: {loss.noise}, which would leave it as it is; "
            "set loss.noise: atoms, or model.noise: false"
        )
    if (missing := asked & {"charges", "dipole"}) and not model.charges:
        raise ConfigError(
            f"loss.{min(missing)}: found a weight, but the model predicts no charges; set model.charges: true, or leave it out"
        )
    if "stress" in asked and model.direct_forces:
        raise ConfigError(
            "loss.stress: found a weight, but a model with direct forces has no stress, which is a derivative of the energy; set "
            "model.direct_forces: false, or leave it out"
        )
    for name in ("net_force", "net_torque"):
        if getattr(loss, name) and not model.direct_forces:
            raise ConfigError(
                f"loss.{name}: found {getattr(loss, name):g}, but forces of this model are derivatives of its energy, which have none; "
                "set model.direct_forces: true, or leave it out"
            )
