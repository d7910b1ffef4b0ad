"""Configuration of the models: what a user may choose, with the ranges in which it makes sense."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from eqpot.core.errors import ConfigError, did_you_mean
from eqpot.models.settings import Heads, ModelSettings


def parse_hidden(text: str) -> tuple[int, int]:
    """Channels and largest degree of irreps such as '64x0e + 64x1o + 64x2e'.

    Raises:
        ConfigError: unless the degrees run from 0 without a gap, with natural parity and the same multiplicity, which the kernels need.
    """
    terms = [t.strip().split("x") for t in text.split("+")]
    if any(len(t) != 2 or not t[0].strip().isdigit() for t in terms):
        raise ConfigError(f"hidden: found '{text}', expected irreps such as '64x0e + 64x1o'")
    expected = [f"{l}{'eo'[l % 2]}" for l in range(len(terms))]
    if [t[1].strip() for t in terms] != expected or len({t[0].strip() for t in terms}) != 1 or int(terms[0][0]) < 1:
        raise ConfigError(f"hidden: found '{text}', expected equal multiplicities of {' + '.join(expected)} (natural parity, no gap)")
    return int(terms[0][0]), len(terms) - 1


def _mace(channels: int, degree: int, **rest: Any) -> dict[str, Any]:
    return {"hidden": hidden(channels, degree), "update": "contraction", **rest}


def _nequip(channels: int, degree: int, **rest: Any) -> dict[str, Any]:
    return {"hidden": hidden(channels, degree), "l_max": degree, "update": "gate", "correlation": 1, **rest}


def hidden(channels: int, degree: int) -> str:
    """Irreps of equal multiplicity up to a degree: hidden(64, 1) is '64x0e + 64x1o'."""
    return " + ".join(f"{channels}x{l}{'eo'[l % 2]}" for l in range(degree + 1))


PRESETS: dict[str, dict[str, Any]] = {
    "mace-small": _mace(32, 1, l_max=2, correlation=2, radial_hidden=(32, 32)),
    "mace-medium": _mace(64, 1, l_max=3, correlation=3),
    "mace-large": _mace(128, 2, l_max=3, correlation=3),
    "mace-fast": _mace(64, 1, l_max=3, correlation=3, radial="degree"),
    "nequip-small": _nequip(32, 1, n_layers=3, radial_hidden=(32, 32)),
    "nequip-medium": _nequip(64, 2, n_layers=3),
    "nequip-large": _nequip(64, 3, n_layers=4),
}
"""Named architectures, of which any key can still be given; docs/models.md says what each costs."""

OUTPUTS = ("noise", "charges", "electronegativity", "direct_forces", "heads")
"""Keys of what a model says besides energies; off by default, and then without any trace in parameters and archives."""


class EquivariantConfig(ModelSettings):
    """SE(3)-equivariant message passing; the defaults are a mid-sized model of the MACE kind."""

    kind: Literal["equivariant"] = "equivariant"
    preset: str | None = Field(default=None, description=f"start from {', '.join(PRESETS)}; other keys change it")
    cutoff: float = Field(default=5.0, gt=0.5, le=20.0, description="radius of a message [Å]")
    hidden: str = Field(default="64x0e + 64x1o", description="features between layers, equal multiplicities: '64x0e + 64x1o'")
    l_max: int = Field(default=3, ge=0, le=6, description="largest degree of the spherical harmonics of an edge")
    n_layers: int = Field(default=2, ge=1, le=6, description="message passing layers; the range is n_layers × cutoff")
    radial: Literal["path", "degree"] = Field(
        default="path", description="radial functions per tensor-product path, or per incoming degree (faster)"
    )
    update: Literal["contraction", "grid", "gate"] = Field(
        default="contraction", description="'contraction' (exact, MACE kind), 'grid' (faster product) or 'gate' (NequIP kind)"
    )
    correlation: int = Field(default=3, ge=1, le=4, description="factors in a product; body order minus one")
    n_radial: int = Field(default=8, ge=1, le=64, description="Bessel functions")
    envelope_order: int = Field(default=5, ge=3, le=12, description="order of the polynomial envelope")
    radial_hidden: tuple[PositiveInt, ...] = Field(default=(64, 64), description="hidden widths of the radial network")
    readout_hidden: int = Field(default=16, ge=1, description="hidden width of the last readout")
    noise: bool = Field(default=False, description="also predict how noisy the labels are: σ of a force component and of an atom's energy")
    charges: bool = Field(default=False, description="also predict partial charges, which sum to the total charge, and the dipole moment")
    electronegativity: bool = Field(
        default=False, description="also predict electronegativities, for a term charge-equilibration in a sum with the network"
    )
    direct_forces: bool = Field(
        default=False, description="read forces from vector features instead of differentiating: fast, for pretraining; not conservative"
    )
    heads: Heads = Field(default=(), description="levels of theory, by name, that share all but the readouts")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        name = values.get("preset") if isinstance(values, dict) else None
        if name is None:
            return values
        if name not in PRESETS:
            raise ConfigError(f"preset: found '{name}', {did_you_mean(str(name), PRESETS)}")
        return {**PRESETS[name], **values}

    @field_validator("hidden")
    @classmethod
    def _hidden_is_supported(cls, text: str) -> str:
        parse_hidden(text)
        return text

    @model_validator(mode="after")
    def _gate_has_no_product(self) -> "EquivariantConfig":
        if self.update == "gate" and self.correlation != 1:
            raise ConfigError(f"update 'gate' makes no products: found correlation {self.correlation}, expected 1")
        return self

    @model_validator(mode="after")
    def _edges_reach_hidden(self) -> "EquivariantConfig":
        if self.hidden_l_max > self.l_max:
            raise ConfigError(f"hidden goes to degree {self.hidden_l_max} but l_max is {self.l_max}; expected l_max of at least that")
        return self

    @model_validator(mode="after")
    def _direct_forces_have_vectors(self) -> "EquivariantConfig":
        if self.direct_forces and self.l_max < 1:
            raise ConfigError("direct_forces are read from features of degree 1: found l_max 0, expected at least 1")
        return self

    @property
    def receptive_field(self) -> float:
        """Distance beyond which atoms do not influence each other [Å]."""
        return self.cutoff * self.n_layers

    @property
    def outputs(self) -> tuple[str, ...]:
        """Fields of `AtomOutputs` that the network fills besides the energy."""
        given = {"force_noise": self.noise, "energy_noise": self.noise, "charges": self.charges, "forces": self.direct_forces}
        given["electronegativity"] = self.electronegativity
        return ("features", *(name for name, on in given.items() if on))

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"{self.kind}: hidden {self.hidden}, l_max {self.l_max}, {self.update}, correlation {self.correlation}"

    def archived(self) -> dict[str, Any]:
        """All keys as JSON values but the outputs that are off, which older files do not have either."""
        off = {name for name in OUTPUTS if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=off)

    @property
    def channels(self) -> int:
        """Multiplicity of every degree."""
        return parse_hidden(self.hidden)[0]

    @property
    def hidden_l_max(self) -> int:
        """Largest degree of the features between layers."""
        return parse_hidden(self.hidden)[1]
