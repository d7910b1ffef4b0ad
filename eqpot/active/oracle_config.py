"""Oracles by name or from a file.

    kind: pyscf                   kind: espresso                    kind: ase
    functional: pbe-d3bj          pseudopotentials: {Si: Si.UPF}    calculator: ase.calculators.lj.LennardJones
    basis: def2-tzvp              cutoff_Ry: 60                     keywords: {epsilon: 0.01, sigma: 2.3}
    alternatives:                 alternatives:                     method: LJ
      - level_shift: 5            - mixing: 0.2

The keys of tblite, pyscf, espresso and gpaw are the fields of their oracles. `alternatives` are changes to the values above, each another oracle of
the same level of theory that is tried when a label fails; `keywords` are merged. They may change what helps to converge (`Oracle.aids`; for ASE the
keywords that `convergence` names), nothing else. A calculator is a class, one of its methods, or a function that makes one, by its dotted path, or one
of ASE's by its short name ('emt', 'vasp'). Naming one imports it: read only files that you would also run.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import Field, create_model

from eqpot.active.label_level import require_same_level
from eqpot.core.config import Config, build, load_yaml
from eqpot.core.errors import ConfigError, did_you_mean
from eqpot.oracles import ASEOracle, EspressoOracle, GPAWOracle, Limits, Oracle, PySCFOracle, TBLiteOracle
from eqpot.oracles.ase import checksums
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
        calculator: dotted path of a class, of one of its methods or of a function that makes a calculator, or ASE's short name.
        keywords: its arguments. Each worker computes in a folder of its own, so files are named by absolute paths; the settings hold
            what is in them (SHA-256), not where they are.
        convergence: the keywords that only help to converge, in which alternatives may differ; nested ones dotted.
        method: short name of the level of theory; by default the name of the class.
    """

    kind: Literal["ase"] = "ase"
    calculator: str
    keywords: dict[str, Any] = Field(default_factory=dict)
    convergence: tuple[str, ...] = ()
    method: str = ""

    def oracle(self) -> Oracle:
        """The oracle itself; a calculator is built once, so that what is wrong with it is found here.

        Raises:
            ConfigError: no such calculator, a package or program that is missing, wrong keywords.
        """
        function, name = find_calculator(self.calculator)
        factory = partial(function, **self.keywords)
        try:
            made, keywords = factory(), checksums(self.keywords)
        except Exception as error:
            text = " ".join(str(error).split())
            raise ConfigError(
                f"calculator: '{self.calculator}' cannot be built with these keywords: {type(error).__name__}: {text}"
            ) from error
        if not hasattr(made, "implemented_properties"):
            raise ConfigError(f"calculator: '{self.calculator}' makes a {type(made).__name__}, expected an ASE calculator")
        parameters = {"calculator": self.calculator, "keywords": keywords}
        convergence = tuple(f"keywords.{key}" for key in self.convergence)
        limits = Limits(**self.limits.model_dump())
        return ASEOracle(factory, method=self.method or name, parameters=parameters, convergence=convergence, limits=limits)


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
    oracle = config.oracle()
    base = {key: value for key, value in values.items() if key != "alternatives"}
    others = []
    for number, changes in enumerate(config.alternatives):
        place = f"{where}: alternatives.{number}"
        if taken := {"kind", "limits", "alternatives"} & changes.keys():
            raise ConfigError(f"{place}: found '{sorted(taken)[0]}', expected changes to the settings of the oracle")
        changed = {k: base.get(k, {}) | v if k == "keywords" and isinstance(v, Mapping) else v for k, v in changes.items()}
        other = build(KINDS[kind], base | changed, place).oracle()
        require_same_level(oracle, other, place)
        others.append(other)
    return oracle, tuple(others)


def find_calculator(name: str) -> tuple[Any, str]:
    """The class, method or function behind a dotted path or one of ASE's short names; and the name of the class or function.

    Raises:
        ConfigError: it is not there, or the package that holds it is not installed.
    """
    from ase.calculators.calculator import get_calculator_class
    from ase.calculators.names import names

    try:
        if name in names:
            return get_calculator_class(name), name
        found, words = _module(name)
    except ImportError as error:
        package = (error.name or name).split(".")[0]
        cure = f"install it, for instance with: pip install {package}" if package != "ase" else f"ASE has no {error.name}"
        raise ConfigError(f"calculator: '{name}' cannot be imported ({error}); {cure}") from None
    for word in words:
        known = names if found is None else [n for n in dir(found) if not n.startswith("_")]
        found = getattr(found, word, None)
        if found is None or (word == words[-1] and not callable(found)):
            hint = did_you_mean(word, known)
            raise ConfigError(f"calculator: found no '{name}', expected a dotted path or a short name of ASE ({hint:.200})")
    return found, words[0]


def _module(name: str) -> tuple[Any, list[str]]:
    """The longest part of a dotted path that is a module, or None; and the words after it, at least one."""
    words = name.split(".")
    for end in range(len(words) - 1 if all(words) else 0, 0, -1):
        module = ".".join(words[:end])
        try:
            return import_module(module), words[end:]
        except ModuleNotFoundError as error:
            if end == 1 or not f"{module}.".startswith(f"{error.name}."):  # it is there, and needs another package
                raise
    return None, words
