"""What a user chooses about active learning. One YAML file maps to `ActiveConfig`, key by key; see `train/recipes/active_*.yaml`."""

from typing import Any

from pydantic import Field, model_validator

from eqpot.active.generate_config import generate_config
from eqpot.active.learner import LearnerConfig
from eqpot.active.query import QueryConfig
from eqpot.active.samplers import AnySampler, MDSampler
from eqpot.active.stopping import Bound, Candidates, Rule
from eqpot.core.config import Config
from eqpot.core.errors import ConfigError
from eqpot.training import FitConfig

ORACLES_DUTY = ("energy-unit", "force-unit", "length-unit", "large-force", "overlap")
"""Checks of data that are left to the oracle: it speaks eV and Å, and its limits have screened what it says."""
EXTENDABLE = ("name", "stop", "labelling")
"""Keys that may change when a run is continued."""


class StartConfig(Config):
    """What is labelled before the first training."""

    structures: str | tuple[str, ...] = Field(description="file(s); labels in them are not looked at")
    generate: tuple[dict[str, Any], ...] = Field(
        default=({"method": "rattle", "n": 14, "temperature_K": 300},),
        description="what is made of them, as for eqpot generate; without a potential",
    )
    n: int | None = Field(
        default=None,
        ge=1,
        description="how many of what is generated are labelled: those farthest from one another, in fixed descriptors; all by default",
    )
    hold_out: float = Field(default=0.25, gt=0, lt=1, description="share that is not trained on")
    data: str | tuple[str, ...] | None = Field(
        default=None, description="file(s) of frames that this oracle has labelled before (eqpot label), to learn from as well"
    )


class LabellingConfig(Config):
    """How labels are computed; see `eqpot label`."""

    workers: int = Field(default=2, ge=1)
    time_limit_s: float | None = Field(default=86_400.0, gt=0, description="for one label; a day, so that a loop ends when an oracle hangs")
    retries: int = Field(default=3, ge=1)
    max_energy_jump: float = Field(default=5.0, gt=0, description="from the median of the same composition [eV/atom]")
    window: int = Field(default=1000, ge=1, description="structures given to an executor at a time; see `eqpot.active.label`")


class ActiveConfig(Config):
    """Everything about a loop."""

    name: str = Field(
        default="active", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$", description="name of the run; its folder is runs/<name>"
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    oracle: str | dict[str, Any] = Field(description="a short name (gfn2, gfn1, emt), a YAML file, or what would be in one")
    start: StartConfig
    samplers: tuple[AnySampler, ...] = Field(default=(MDSampler(temperature_K=300.0),), min_length=1)
    query: QueryConfig = QueryConfig()
    fit: FitConfig = FitConfig.model_validate({"ensemble": {"members": 4}})
    learner: LearnerConfig = LearnerConfig()
    stop: tuple[Rule, ...] = Field(
        default=(Rule(rounds=20), Rule(candidates=Candidates(sigma_eV_A=0.2), bound=Bound(force_error_eV_A=0.3))),
        min_length=1,
        description="any of these ends the loop",
    )
    labelling: LabellingConfig = LabellingConfig()

    @model_validator(mode="after")
    def _doubts(self) -> "ActiveConfig":
        if self.fit.ensemble.members < 2 and not self.fit.ensemble.last_layer:
            raise ConfigError("fit.ensemble: one member has no doubt; set fit.ensemble.members to 2 or more, or fit.ensemble.last_layer")
        named = [k for k in ("train", "heads", "test", "calibrate") if self.fit.data.model_dump()[k]]
        if named:
            raise ConfigError(f"fit.data.{named[0]}: the loop brings its own data; leave it out (start.data takes labelled frames along)")
        if self.fit.finetune:
            raise ConfigError("fit.finetune: the loop decides what to start from; leave it out")
        if self.query.audit < 1 and any(rule.bound for rule in self.stop):
            raise ConfigError("stop.bound: needs structures that are never trained on; set query.audit to 1 or more")
        return self

    @model_validator(mode="after")
    def _can_be_generated(self) -> "ActiveConfig":
        if self.start.generate and any(method.needs for method in generate_config(self.start.generate).methods):
            raise ConfigError("start.generate: nothing is trained yet that could drive dynamics; use methods that need no potential")
        return self

    @property
    def fitting(self) -> FitConfig:
        """`fit`, with the checks of data that the loop leaves to the oracle."""
        data = self.fit.data
        return self.fit.model_copy(update={"data": data.model_copy(update={"allow": tuple(dict.fromkeys((*data.allow, *ORACLES_DUTY)))})})
