"""Oracles by name or from a file.

    kind: pyscf                   kind: espresso                    kind: ase
    functional: pbe-d3bj          pseudopotentials: {Si: Si.UPF}    calculator: ase.calculators.lj.LennardJones
    basis: def2-tzvp              cutoff_Ry: 60                     keywords: {epsilon: 0.01, sigma: 2.3}
    alternatives:                 alternatives:                     method: LJ
      - level_shift: 5            - mixing: 0.2

The keys of tblite, pyscf, espresso and gpaw are the fields of their oracles. `alternatives` are changes to the values above, each another oracle of
the same level of theory that is tried when a label fails; `keywords` are merged. A calculator is a class, or a function that makes one, by its dotted
path, or one of ASE's by its short name ('emt', 'vasp'). Naming one imports it: read only files that you would also run.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import Field, create_model

from eqpot.core.config import Config, build, load_yaml
from eqpot.core.errors import ConfigError, did_you_mean
from eqpot.oracles import ASEOracle, EspressoOracle, GPAWOracle, Limits, Oracle, PySCFOracle, TBLiteOracle
from eqpot.oracles.tblite import METHODS

SHORT = {
    "gfn2": {"kind": "tblite", "method": "GFN2-xTB"},
    "gfn1": {"kind": "tblite", "method": "GFN1-xTB"},
    "emt": {"kind": "ase", "calculator": "ase.calculators.emt.EMT", "method": "EMT"},
}
"""Oracles that need no file."""
NAMES = SHORT | {method: {"kind": "tblite", "method": method} for method in METHODS}


class LimitsConfig(Config):
    """See `eqpot.oracles.Limits`; distances in Å, forces in eV/Å."""

    min_distance: float = Field(default=0.3, ge=0)
    max_force: float = Field(default=200.0, ge=0)
    max_net_force: float = Field(default=0.005, ge=0)


class OracleConfig(Config):
    """What all kinds have."""

    limits: LimitsConfig = LimitsConfig()
    alternatives: tuple[dict[str, Any], ...] = ()


class NamedConfig(OracleConfig):
    """Base of the configurations that `config_of` makes."""

    kind: str

    def oracle(self) -> Oracle:
        """The oracle itself."""
        values = self.model_dump(exclude={"kind", "limits", "alternatives"})
        return ORACLES[self.kind](**values, limits=Limits(**self.limits.model_dump()))


class ASEConfig(OracleConfig):
    """Any ASE calculator.

    Attributes:
        calculator: dotted path of a class or of a function that makes a calculator, or ASE's short name.
        keywords: its arguments. Each worker computes in a folder of its own, so files are named by absolute paths.
        method: short name of the level of theory; by default the name of the class.
    """

    kind: Literal["ase"] = "ase"
    calculator: str
    keywords: dict[str, Any] = Field(default_factory=dict)
    method: str = ""

    def oracle(self) -> Oracle:
        """The oracle itself; a calculator is built once, so that what is wrong with it is found here.

        Raises:
            ConfigError: no such calculator, a package or program that is missing, wrong keywords.
        """
        factory = partial(find_calculator(self.calculator), **self.keywords)
        try:
            made = factory()
        except Exception as error:
            text = " ".join(str(error).split())
            raise ConfigError(
                f"calculator: '{self.calculator}' cannot be built with these keywords: {type(error).__name__}: {text}"
            ) from error
        if not hasattr(made, "implemented_properties"):
            raise ConfigError(f"calculator: '{self.calculator}' makes a {type(made).__name__}, expected an ASE calculator")
        parameters = {"calculator": self.calculator, "keywords": self.keywords}
        method = self.method or self.calculator.rpartition(".")[2]
        return ASEOracle(factory, method=method, parameters=parameters, limits=Limits(**self.limits.model_dump()))


def config_of(kind: str, oracle: type[Oracle]) -> type[NamedConfig]:
    """The configuration whose keys are the arguments of an oracle."""
    hints, keys = get_type_hints(oracle), {}
    for entry in (f for f in fields(oracle) if f.init and f.name != "limits"):
        given = ... if entry.default is MISSING else entry.default
        keys[entry.name] = (hints[entry.name], given if entry.default_factory is MISSING else Field(default_factory=entry.default_factory))
    keys["kind"] = (Literal[kind], kind)
    return create_model(f"{oracle.__name__}Config", __base__=NamedConfig, **keys)


ORACLES: dict[str, type[Oracle]] = {"tblite": TBLiteOracle, "pyscf": PySCFOracle, "espresso": EspressoOracle, "gpaw": GPAWOracle}
KINDS: dict[str, type[NamedConfig] | type[ASEConfig]] = {k: config_of(k, o) for k, o in ORACLES.items()} | {"ase": ASEConfig}


def load_oracle(name: str) -> tuple[Oracle, tuple[Oracle, ...]]:
    """The oracle and its alternatives, from a short name of `SHORT`, a method of tblite, or a YAML file.

    Raises:
        ConfigError: naming the key that is wrong, or what is to be installed.
    """
    if name in NAMES:
        return build_oracle(NAMES[name], name)
    if not name.endswith((".yaml", ".yml")):
        raise ConfigError(f"oracle: found '{name}', expected the name of an oracle or a YAML file ({did_you_mean(name, NAMES)})")
    return build_oracle(load_yaml(Path(name)), name)


def build_oracle(values: Mapping[str, Any], where: str = "oracle") -> tuple[Oracle, tuple[Oracle, ...]]:
    """The oracle and its alternatives from the values of a configuration; see the module's text."""
    kind = values.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"{where}: kind: found {kind!r}, expected one of {', '.join(KINDS)}")
    config = build(KINDS[kind], values, where)
    base = {key: value for key, value in values.items() if key != "alternatives"}
    others = []
    for number, changes in enumerate(config.alternatives):
        level = ORACLES[kind].level if kind in ORACLES else ("method", "calculator")
        if taken := {"kind", "limits", "alternatives", *level} & changes.keys():
            raise ConfigError(
                f"{where}: alternatives.{number}: found '{sorted(taken)[0]}', expected other settings of the same level of theory"
            )
        changed = {k: base.get(k, {}) | v if k == "keywords" and isinstance(v, Mapping) else v for k, v in changes.items()}
        others.append(build(KINDS[kind], base | changed, f"{where}: alternatives.{number}").oracle())
    return config.oracle(), tuple(others)


def find_calculator(name: str) -> Any:
    """The class or function behind a dotted path or one of ASE's short names.

    Raises:
        ConfigError: it is not there, or the package that holds it is not installed.
    """
    from ase.calculators.calculator import get_calculator_class
    from ase.calculators.names import names

    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute, None) if module else get_calculator_class(name) if name in names else None
    except ImportError as error:
        package = (error.name or module or name).split(".")[0]
        cure = f"install it, for instance with: pip install {package}" if package != "ase" else f"ASE has no {error.name}"
        raise ConfigError(f"calculator: '{name}' cannot be imported ({error}); {cure}") from None
    if not callable(found):
        known = names if not module else [n for n in vars(import_module(module)) if not n.startswith("_")]
        raise ConfigError(
            f"calculator: found no '{name}', expected a dotted path or a short name of ASE ({did_you_mean(attribute, known):.200})"
        )
    return found
