"""What to generate, as configuration: a list of entries, each with a method and its keys."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from eqpot.core.config import Config, build
from eqpot.core.errors import ConfigError, did_you_mean

Range = tuple[float, float]


class Method(Config):
    """Base of all entries.

    Attributes:
        needs: what the entry must be given besides structures: 'potential', 'driver' (a potential or an oracle) or nothing.
    """

    method: str
    n: int | None = Field(default=None, ge=1, le=1_000_000, description="structures made of each start structure")
    seed: int | None = Field(default=None, ge=0, lt=2**32, description="in place of the seed of all entries")

    @property
    def needs(self) -> str:
        return ""

    def keywords(self) -> dict[str, Any]:
        """Arguments of the function that makes the structures, those that were left to their defaults not among them."""
        return {k: v for k, v in self.model_dump(exclude={"method", "seed"}).items() if v is not None}


class Counted(Method):
    """Base of entries that are told how many structures to make."""

    n: int = Field(ge=1, le=1_000_000, description="structures made of each start structure")


class Rattle(Counted):
    """Thermal displacements; see `rattled`."""

    method: Literal["rattle"] = "rattle"
    temperature_K: float = Field(gt=0, lt=1e5)
    spring: float | None = Field(default=None, gt=0, description="spring constant of each atom [eV/Å²]; 5 when nothing is said")
    frequency_THz: float | None = Field(default=None, gt=0, description="of Einstein's oscillators")
    debye_K: float | None = Field(default=None, gt=0, description="Debye temperature")
    hessian: bool = Field(default=False, description="along the normal modes of the potential")

    @model_validator(mode="after")
    def _one_way(self) -> "Rattle":
        ways = [k for k in ("spring", "frequency_THz", "debye_K", "hessian") if getattr(self, k)]
        if len(ways) > 1:
            raise ConfigError(f"found {' and '.join(ways)}, expected one of spring, frequency_THz, debye_K and hessian")
        return self

    @property
    def needs(self) -> str:
        return "potential" if self.hessian else ""

    def keywords(self) -> dict[str, Any]:
        return {k: v for k, v in super().keywords().items() if k != "hessian"}


class Strain(Counted):
    """Homogeneous strain; see `strained`."""

    method: Literal["strain"] = "strain"
    volumetric: Range = Field(default=(-0.06, 0.06), description="range of the relative change of the volume")
    shear: float = Field(default=0.03, ge=0, lt=1, description="largest component of the strain at constant volume")


class Vacancy(Counted):
    """Atoms taken out; see `with_vacancies`."""

    method: Literal["vacancy"] = "vacancy"
    count: int = Field(default=1, ge=1)
    element: str | None = None


class Interstitial(Counted):
    """Atoms put in; see `with_interstitials`."""

    method: Literal["interstitial"] = "interstitial"
    count: int = Field(default=1, ge=1)
    element: str | None = None


class Surface(Method):
    """Slabs; see `surfaces`."""

    method: Literal["surface"] = "surface"
    n: None = None
    seed: None = None
    miller: tuple[tuple[int, int, int], ...] = Field(min_length=1)
    layers: tuple[int, ...] = Field(default=(4,), min_length=1)
    vacuum_A: float = Field(default=10.0, gt=0, lt=1e3, description="on each side")
    periodic: bool = Field(default=True, description="also along the normal")


class Dimer(Counted):
    """Pairs of atoms; see `dimers`."""

    method: Literal["dimer"] = "dimer"
    n: int = Field(ge=1, le=1_000_000, description="distances for each pair of elements")
    elements: tuple[str, ...] | None = Field(default=None, min_length=1, description="by default those of the start structures")
    ratios: Range = Field(default=(0.7, 2.5), description="range of distances in sums of covalent radii")
    distances_A: Range | None = Field(default=None, description="range of distances, in place of ratios")


class TorsionMethod(Method):
    """Turns about single bonds; see `torsions`."""

    method: Literal["torsion"] = "torsion"
    step_deg: float | None = Field(default=None, gt=0, le=180, description="turn each bond by multiples of this, in place of n random ones")

    @model_validator(mode="after")
    def _one_way(self) -> "TorsionMethod":
        if (self.n is None) == (self.step_deg is None):
            raise ConfigError("torsion: expected one of n (random angles) and step_deg (a scan)")
        return self


class MD(Counted):
    """Frames of molecular dynamics; see `md_frames`."""

    method: Literal["md"] = "md"
    n: int = Field(ge=1, le=1_000_000, description="frames at each temperature")
    temperature_K: float | tuple[float, ...]
    timestep_fs: float = Field(default=0.5, gt=0, le=20)
    interval_fs: float = Field(default=50.0, gt=0)
    equilibration_fs: float = Field(default=500.0, ge=0)
    friction_per_fs: float = Field(default=0.01, gt=0, le=10)

    @property
    def needs(self) -> str:
        return "driver"


KINDS: dict[str, type[Method]] = {
    "rattle": Rattle,
    "strain": Strain,
    "vacancy": Vacancy,
    "interstitial": Interstitial,
    "surface": Surface,
    "dimer": Dimer,
    "torsion": TorsionMethod,
    "md": MD,
}
"""Methods by name."""


class GenerateConfig(Config):
    """What to generate."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    nearest: float = Field(default=0.6, ge=0, lt=1.2, description="least distance of two atoms in sums of their covalent radii")
    min_distance: float | None = Field(default=None, ge=0, lt=10, description="least distance [Å], in place of nearest")
    tries: int = Field(default=20, ge=1, le=10_000, description="draws of a structure before it is given up")
    methods: tuple[Method, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_entry_twice(self) -> "GenerateConfig":
        for k, entry in enumerate(self.methods):
            if entry in self.methods[:k]:
                raise ConfigError(f"methods[{k}] ({entry.method}) is there twice and would make the same structures; use a larger n")
        return self


def generate_config(values: Mapping[str, Any] | Sequence[Any]) -> GenerateConfig:
    """Check a configuration: a mapping with `methods`, or the list of methods alone.

        generate_config([{"method": "rattle", "n": 20, "temperature_K": 300}])

    Raises:
        ConfigError: naming the entry, the key, what was found, and the nearest known key.
    """
    if isinstance(values, Sequence):
        values = {"methods": values}
    entries = values.get("methods")
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return build(GenerateConfig, values)  # says what is wrong with it
    return build(GenerateConfig, {**values, "methods": tuple(_entry(k, entry) for k, entry in enumerate(entries))})


def _entry(k: int, values: Any) -> Method:
    if not isinstance(values, Mapping) or "method" not in values:
        raise ConfigError(f"methods[{k}]: found {values!r:.60}, expected a mapping such as {{method: rattle, n: 20, temperature_K: 300}}")
    name = values["method"]
    if name not in KINDS:
        raise ConfigError(f"methods[{k}]: unknown method {name!r}: {did_you_mean(str(name), KINDS)}")
    return build(KINDS[name], values, f"methods[{k}] ({name})")
