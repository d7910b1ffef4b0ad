"""Configuration: YAML that means what it says, and one clear error for what does not (reliability corpus D)."""

import contextlib
import random

import pytest
from pydantic import Field

from eqpot.core.config import MAX_BYTES, Config, build, load_yaml, override, parse_yaml
from eqpot.core.errors import ConfigError, EqpotError


class Inner(Config):
    lr: float = Field(1e-2, gt=0, le=1)
    n_epochs: int = Field(10, ge=1)


class Outer(Config):
    elements: tuple[str, ...] = ()
    inner: Inner = Inner()
    name: str = "run"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("010", 10),
        ("08", 8),
        ("[No, Y, N, On, off, yes]", ["No", "Y", "N", "On", "off", "yes"]),
        ("[true, False]", [True, False]),
        ("~", None),
        ("", None),
        ("null", None),
        ("12:30:45", "12:30:45"),
        ("2020-01-01", "2020-01-01"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ("64x0e + 64x1o", "64x0e + 64x1o"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, expected):
    found = parse_yaml(f"key: {text}")["key"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "line 2: the key 'a' is given twice"),
        ("x: {b: 1, b: 2}", "the key 'b' is given twice"),
        ("a: &x [1]\nb: *x", "line 2: aliases are not allowed"),
        ("a: &a [l]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]", "aliases are not allowed"),
        ("a: !!python/object/apply:os.system ['touch /tmp/eqpot-was-here']", "tags such as .*python.* are not allowed"),
        ("a: !!int '0x10'", "tags"),
        ("a: !!timestamp x", "tags"),
        ("!!map [1]", "tags"),
        ("a: " + "[" * 10_000, "nested deeper than 32"),
        ("a: " + "9" * 5000, "line 1: a number of 5000 digits"),
        ("- 1\n- 2", "found a list, expected a mapping"),
        ("just text", "found a str, expected a mapping"),
        ("a: {b: c", "line 1, column 9: expected"),
        ("1: a", "the key 1 is not a word"),
        ("No: a", None),
        ("---\na: 1\n---\nb: 2", "another document"),
        ("a:\t- 1", "line 1"),
    ],
)
def test_text_that_is_refused(text, message):
    if message is None:
        parse_yaml(text)
        return
    with pytest.raises(ConfigError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_random_text_is_read_or_refused():
    rng, alphabet = random.Random(0), "ab:-[]{}&*!?|>'\"%#,\n\t 01.eE+~<=\\@`é\x00"
    for _ in range(3000):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 14)))
        with contextlib.suppress(ConfigError):
            assert isinstance(parse_yaml(text), dict)


def test_files(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("inner: {lr: 1e-3}\nelements: [No, Y]\n")
    config = build(Outer, load_yaml(path))
    assert (config.inner.lr, config.elements) == (1e-3, ("No", "Y"))
    path.write_text("")
    assert load_yaml(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff", "byte 3 is not UTF-8"),
        (b"a: 1\n" * (MAX_BYTES // 4), "bytes; a configuration has at most"),
        (b"a: 1\na: 2", "given twice"),
    ],
)
def test_files_that_are_refused_are_named(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"config.yaml: .*{message}"):
        load_yaml(path)


@pytest.mark.parametrize("name", ["", "missing.yaml", "a\0b"])
def test_paths_that_cannot_be_read(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path / name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"n_epohcs": 3}}, "^c.yaml: unknown key 'inner.n_epohcs': did you mean 'n_epochs'"),
        ({"iner": {}}, "unknown key 'iner': did you mean 'inner'"),
        ({"zzz": 1}, "unknown key 'zzz': known: elements, inner, name"),
        ({"inner": {"lr": 0}}, "inner.lr: found 0, but input should be greater than 0"),
        ({"inner": {"lr": float("nan")}}, "inner.lr: found nan"),
        ({"inner": {"lr": "fast"}}, "inner.lr: found 'fast'"),
        ({"inner": {"n_epochs": 1.5}}, "inner.n_epochs: found 1.5"),
        ({"inner": 3}, "inner: found 3"),
        ({"elements": "Si"}, "elements: found 'Si'"),
        ({"name": None}, "name: found None"),
    ],
)
def test_faults_name_key_value_and_cure(values, message):
    with pytest.raises(ConfigError, match=message):
        build(Outer, values, "c.yaml")


def test_configurations_are_frozen():
    config = build(Outer, {})
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"


def test_overrides():
    values = {"inner": {"lr": 0.1, "deep": {"x": 1}}}
    changed = override(values, ["inner.lr=1e-3", "name=No", "new.a.b=[1, 2]", "inner.deep.x=2"])
    assert changed == {"inner": {"lr": 1e-3, "deep": {"x": 2}}, "name": "No", "new": {"a": {"b": [1, 2]}}}
    assert values == {"inner": {"lr": 0.1, "deep": {"x": 1}}}


@pytest.mark.parametrize("assignment", ["lr", "=3", "name.x=1", "inner.lr={"])
def test_overrides_that_are_refused(assignment):
    with pytest.raises(ConfigError):
        override({"name": "run", "inner": {}}, [assignment])


def test_all_errors_are_one_family():
    assert issubclass(ConfigError, EqpotError)
    assert issubclass(EqpotError, ValueError)
