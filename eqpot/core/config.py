"""Configuration: frozen pydantic records, read from YAML that means what it says.

YAML is read by the safe loader with YAML 1.2 scalars: `1e-3` is a number, `No` and `Y` are strings (elements!), `010` is ten; duplicate keys,
aliases and tags are refused. Unknown keys are refused with the nearest known one.
"""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from eqpot.core.errors import ConfigError, did_you_mean

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_DIGITS = 400

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of all configurations: frozen, unknown keys refused, defaults checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """Safe loader with YAML 1.2 core scalars; no aliases, no duplicate keys, no deep nesting."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (the attribute's name in PyYAML)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ConfigError(f"line {self.peek_event().start_mark.line + 1}: aliases are not allowed")
        if tag := getattr(self.peek_event(), "tag", None):
            raise ConfigError(f"line {self.peek_event().start_mark.line + 1}: tags such as {tag!r} are not allowed")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen: set = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConfigError(f"line {key_node.start_mark.line + 1}: the key {key!r} is not a word; quote it")
            if key in seen:
                raise ConfigError(f"line {key_node.start_mark.line + 1}: the key '{key}' is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_SCALARS = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:null": (r"null|Null|NULL|~|", "nN~\0"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
for _tag in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _pattern, _first = _SCALARS[_tag]
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), [c if c != "\0" else "" for c in _first])


def _integer(loader: _Loader, node: Any) -> int:
    text = loader.construct_scalar(node)
    if len(text) > MAX_DIGITS:
        raise ConfigError(f"line {node.start_mark.line + 1}: a number of {len(text)} digits")
    return int(text, 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: unreadable, too large, malformed, not a mapping, duplicate keys, aliases or tags.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise ConfigError(f"{str(path)!r}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(raw)} bytes; a configuration has at most {MAX_BYTES}")
    try:
        return parse_yaml(raw.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8 text") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_yaml(text: str) -> dict[str, Any]:
    """Parse a YAML mapping from text; see `load_yaml`."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{place}{getattr(error, 'problem', None) or str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"found a {type(value).__name__}, expected a mapping 'key: value'")
    return value


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Apply `section.key=value` assignments, the value read as YAML.

    Raises:
        ConfigError: when an assignment has no '='.
    """
    result = deepcopy(dict(values))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"found '{assignment}', expected section.key=value")
        *sections, name = key.strip().split(".")
        target = result
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ConfigError(f"'{key}': '{section}' is a value, not a section")
        target[name] = parse_yaml(f"value: {text}")["value"]
    return result


def build(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Validate values as a configuration of `cls`.

    Raises:
        ConfigError: for the first fault, naming the key, what was found, and the nearest known key when it is unknown.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        prefix = f"{where}: " if where else ""
        raise ConfigError(prefix + _explain(cls, error.errors()[0], values)) from None


def _explain(cls: type[Config], fault: Any, values: Any) -> str:
    path = [str(p) for p in fault["loc"]]
    name = ".".join(path)
    if fault["type"] == "extra_forbidden":
        known = _fields_at(cls, path[:-1], values)
        return f"unknown key '{name}': {did_you_mean(path[-1], known)}"
    if fault["type"] == "missing":
        return f"the key '{name}' is missing"
    reason = fault["msg"].removeprefix("Value error, ")
    if not path:  # a rule about several keys: the reason names them
        return reason
    return f"{name}: found {fault['input']!r:.80}, but {reason[0].lower()}{reason[1:]}"


def _fields_at(cls: type[BaseModel], path: list[str], values: Any) -> list[str]:
    """Keys of a section; where it may be of several kinds, those of the kind that was given."""
    options = [cls]
    for name in path:
        values = values.get(name) if isinstance(values, Mapping) else None
        inner = [s for option in options if name in option.model_fields for s in sections_in(option.model_fields[name].annotation)]
        options = inner or options  # a name that is no field is a key of a mapping of sections
        kind = values.get("kind") if isinstance(values, Mapping) else None
        options = [o for o in options if kind and o.model_fields["kind"].default == kind] or options
    return list(options[0].model_fields)


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Configurations that an annotation allows, also as values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in sections_in(inner)]
