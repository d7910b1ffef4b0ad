"""The second line of an extended-XYZ frame: `key=value` pairs and the columns of the atom rows."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from eqpot.core.errors import DataError
from eqpot.data.tokens import vector

_PAIR: Final = re.compile(
    r"""\s*(?P<key>"(?:[^"\\]|\\.)*"|[^\s="']+)            # a key, quoted or bare
        (?:\s*=(?P<gap>\s*)(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{[^}]*\}|\[\[.*?\]\s*\]|\[[^\]]*\]\S*|[^\s"'\[{]\S*))?(?=\s|$)""",
    re.VERBOSE,
)
_RESERVED: Final = ("Lattice", "Properties", "pbc")
_FLAGS: Final = {**dict.fromkeys(("T", "True", "TRUE", "true", "1"), True), **dict.fromkeys(("F", "False", "FALSE", "false", "0"), False)}


@dataclass(frozen=True)
class Column:
    """A property of the atom rows: `kind` is S text, R real, I integer, L logical; it takes columns start … start+count−1."""

    name: str
    kind: str
    start: int
    count: int


@dataclass(frozen=True, eq=False)
class Header:
    """What a comment line says: cell rows [file's unit], periodicity, columns, and every other key as text."""

    cell: np.ndarray
    pbc: np.ndarray
    columns: tuple[Column, ...]
    info: dict[str, str]


def parse_header(line: str) -> Header:
    """Read a comment line.

    A line without `Properties` is that of plain xyz: one symbol and three coordinates per row; a line without any '=' is free text.

    Raises:
        DataError: an unclosed quote, a key given twice, a malformed Lattice, pbc or Properties.
    """
    info = _pairs(line) if "=" in line else {}
    lattice, flags = info.pop("Lattice", None), info.pop("pbc", None)
    columns = parse_columns(info.pop("Properties", "species:S:1:pos:R:3"))
    cell = np.zeros((3, 3)) if lattice is None else _lattice(lattice)
    pbc = np.full(3, lattice is not None) if flags is None else np.array(_logicals(flags))
    return Header(cell, pbc, columns, info)


def _pairs(line: str) -> dict[str, str]:
    info: dict[str, str] = {}
    place, line = 0, line.strip()
    while place < len(line):
        match = _PAIR.match(line, place)
        if match is None:
            raise DataError(
                f"found '{line[place:].strip():.40}', expected key=value pairs with closed quotes and brackets in the comment line"
            )
        place = match.end()
        key, value = _unquote(match["key"]), match["value"]
        if value is not None and key in info:
            raise DataError(f"found key '{key}' twice in the comment line, expected once")
        if value is not None and match["gap"] and "=" in value and value[0] not in "\"'":
            raise DataError(f"found '{key}= {value:.40}', expected a value after '{key}='")
        for word in _RESERVED:
            if value is not None and key != word and key.lower() == word.lower():
                raise DataError(f"found key '{key}', expected '{word}' (names are case sensitive)")
        info[key] = "T" if value is None else _unquote(value)
    return info


def _unquote(text: str) -> str:
    if text[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", text[1:-1]) if "\\" in text else text[1:-1]
    return text[1:-1] if text[0] == "{" else text


def _lattice(text: str) -> np.ndarray:
    try:
        values = vector(text)
    except DataError as error:
        raise DataError(f"Lattice: {error}") from None
    if values.size != 9:
        raise DataError(f"Lattice: found {values.size} numbers, expected 9 (three lattice vectors one after the other)")
    if not np.isfinite(values).all():
        raise DataError(f"Lattice: found '{text:.60}', expected finite numbers")
    return values.reshape(3, 3)


def _logicals(text: str) -> list[bool]:
    words = re.split(r"[\s,\[\]]+", text.strip("[] \t"))
    if len(words) != 3 or any(w not in _FLAGS for w in words):
        raise DataError(f"pbc: found '{text:.40}', expected three flags such as \"T T F\"")
    return [_FLAGS[w] for w in words]


@lru_cache(maxsize=256)
def parse_columns(text: str) -> tuple[Column, ...]:
    """Columns from a `Properties` value such as 'species:S:1:pos:R:3:forces:R:3'.

    Raises:
        DataError: not name:type:count triples, a name given twice, or no symbol and position columns.
    """
    parts = text.split(":")
    columns: list[Column] = []
    if len(parts) % 3:
        raise DataError(f"Properties: found '{text:.60}', expected name:type:count triples")
    for name, kind, count in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if kind not in ("S", "R", "I", "L") or not re.fullmatch(r"[1-9]\d{0,5}", count):
            raise DataError(f"Properties: found '{name}:{kind}:{count}', expected a type of S, R, I, L and a count ≥ 1")
        if name in (c.name for c in columns):
            raise DataError(f"Properties: '{name}' is given twice, expected once")
        columns.append(Column(name, kind, sum(c.count for c in columns), int(count)))
    shapes = {c.name: (c.kind, c.count) for c in columns}
    if shapes.get("pos") != ("R", 3) or (shapes.get("species") != ("S", 1) and shapes.get("Z") != ("I", 1)):
        raise DataError(f"Properties: found '{text:.60}', expected species:S:1 (or Z:I:1) and pos:R:3 among them")
    return tuple(columns)
