"""Strict, streaming reader of extended XYZ, plain or compressed (.gz, .xz).

Every frame is checked as it is read: the count line, the keys, the number of columns, every number.
What does not fit is an error that names file, frame (from 0), line (from 1), what was found and what was
expected; nothing is skipped. Blank lines between frames, a byte-order mark, CRLF, tabs and
trailing spaces are accepted. Memory is only taken for what the file really holds.
"""

import contextlib
import gzip
import io
import lzma
import re
import warnings
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from eqpot.core.elements import atomic_number
from eqpot.core.errors import DataError, StructureError
from eqpot.data.extxyz_header import Column, Header, parse_header
from eqpot.data.raw import RawFrame
from eqpot.data.tokens import is_number, printable, reason
from eqpot.graph.structure import Structure

MAX_BYTES: Final = 8 * 2**30
"""Most decompressed bytes read from one file."""
MAX_ATOMS: Final = 10**6
"""Most atoms accepted in one frame."""
MAX_LINE: Final = 2**20
"""Longest line accepted [bytes]."""


class _Cut(DataError):
    """The file ends inside a frame; the frames before it are whole."""


def read_extxyz(path: str | Path, *, max_bytes: int = MAX_BYTES, salvage: bool = False) -> list[RawFrame]:
    """All frames of a file, as they stand there.

    Args:
        path: file; the suffix says whether it is compressed.
        max_bytes: most decompressed bytes to read.
        salvage: when the file is cut short, keep the whole frames before the cut and warn with their number.

    Raises:
        DataError: for anything that is not extended XYZ.
    """
    frames: list[RawFrame] = []
    try:
        for frame in iterate_extxyz(path, max_bytes=max_bytes):
            frames.append(frame)  # one by one: what is read before a cut is kept
    except _Cut as cut:
        if not salvage or not frames:
            raise DataError(str(cut)) from None
        warnings.warn(f"salvage kept {len(frames)} whole frames; {cut}", stacklevel=2)
    if not frames:
        raise DataError(f"{path}: found no frames, expected at least one; the file is empty")
    return frames


def iterate_extxyz(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Iterator[RawFrame]:
    """The frames of a file one by one, each as it stands there; see `read_extxyz`."""
    with _lines(path, max_bytes) as lines:
        while (text := _skip_blank(lines)) is not None:
            yield _frame(lines, _count(lines, text))
            lines.frame += 1


def scan_extxyz(path: str | Path, *, max_bytes: int = MAX_BYTES) -> tuple[int, set[str]]:
    """Number of frames of a file and the names of all its values, by a pass over counts and comment lines; the atoms are not looked at.

    Raises:
        DataError: for a count or comment line that is not extended XYZ.
    """
    names: set[str] = set()
    with _lines(path, max_bytes) as lines:
        while (text := _skip_blank(lines)) is not None:
            count, header = _count(lines, text), _header(lines)
            names |= header.info.keys() | {c.name for c in header.columns}
            for _ in range(count):
                lines.next()
            lines.frame += 1
        return lines.frame, names - {"pos", "species", "Z"}


@contextlib.contextmanager
def _lines(path: str | Path, max_bytes: int) -> Iterator["_Lines"]:
    """The lines of a file; what the system refuses is told with its name."""
    try:
        with _open(Path(path)) as stream:
            yield _Lines(stream, str(path), max_bytes)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _open(path: Path) -> io.BufferedReader:
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.open(path, "rb"), 2**18)  # type: ignore[arg-type]
    if path.suffix == ".xz":
        return io.BufferedReader(lzma.open(path, "rb"), 2**18)  # type: ignore[arg-type]
    return path.open("rb")


class _Lines:
    """Lines of a stream, with the place in it for messages."""

    def __init__(self, stream: io.BufferedReader, name: str, max_bytes: int):
        self.stream, self.name, self.max_bytes = stream, name, max_bytes
        self.frame = self.line = self.byte = 0

    def error(self, message: str, kind: type[DataError] = DataError, line: int | None = None) -> DataError:
        return kind(f"{self.name}:frame {self.frame} (line {line or self.line}): {printable(message)}")

    def next(self) -> bytes:
        """The next line with its end, or empty at the end of the file."""
        try:
            text = self.stream.readline(MAX_LINE + 1)
        except EOFError:
            raise self.error(
                f"found the end of the compressed stream after {self.byte} bytes, expected more; the file is cut", _Cut
            ) from None
        except (zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise self.error(f"found a damaged compressed stream after {self.byte} bytes ({error}), expected an intact file") from None
        self.line += bool(text)
        self.byte += len(text)
        if len(text) > MAX_LINE:
            raise self.error(f"found a line longer than {MAX_LINE} bytes, expected extended XYZ")
        if self.byte > self.max_bytes:
            raise self.error(f"found more data than allowed: exceeds max bytes = {self.max_bytes}; raise max_bytes if the file is right")
        return text.removeprefix(b"\xef\xbb\xbf") if self.line == 1 else text

    def decode(self, text: bytes) -> str:
        """Text of bytes just read."""
        start = self.byte - len(text)
        try:
            decoded = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"found byte 0x{text[error.start]:02x} at offset {start + error.start}, expected UTF-8 text") from None
        if "\0" in decoded:
            raise self.error(f"found a NUL byte at offset {start + text.index(0)}, expected text; is the file damaged or binary?")
        return decoded


def _skip_blank(lines: _Lines) -> str | None:
    while text := lines.next():
        if text.strip():
            return lines.decode(text).strip()
    return None


def _count(lines: _Lines, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:20]) > 0):
        hint = "; does the frame before it have more rows than its count says?" if lines.frame and len(text.split()) > 1 else ""
        raise lines.error(f"found '{text:.40}', expected the number of atoms (a whole number ≥ 1){hint}")
    count = int(text[:20])
    if count > MAX_ATOMS:
        raise lines.error(f"found {count} atoms, expected at most {MAX_ATOMS} in a frame")
    return count


def _header(lines: _Lines) -> Header:
    comment = lines.next()
    if not comment:
        raise lines.error(f"found the end of the file at byte {lines.byte}, expected a comment line; the file is cut", _Cut)
    comment = lines.decode(comment)
    try:
        return parse_header(comment)
    except DataError as error:
        raise (lines.error(f"{error}", DataError if comment.endswith("\n") else _Cut)) from None


def _frame(lines: _Lines, count: int) -> RawFrame:
    header = _header(lines)
    rows, text = _rows(lines, count, header)
    arrays = {c.name: _column(lines, rows, c, "_" in text) for c in header.columns}
    numbers = _numbers(lines, arrays, len(rows))
    structure = Structure(numbers, arrays.pop("pos"), header.cell, header.pbc)
    return RawFrame(structure, dict(header.info), arrays, f"{lines.name}:frame {lines.frame}")


def _rows(lines: _Lines, count: int, header: Header) -> tuple[list[list[str]], str]:
    raw: list[bytes] = []
    while len(raw) < count and (line := lines.next()):
        raw.append(line)
    text = lines.decode(b"".join(raw))
    rows = [line.split() for line in text.split("\n")][: len(raw)]
    width = sum(c.count for c in header.columns)
    cut = not text.endswith("\n")
    for i, row in enumerate(rows):
        if len(row) != width:
            _refuse_row(lines, row, i, lines.line - len(raw) + i + 1, width, count, header, cut and i == len(rows) - 1)
    if len(rows) < count:
        raise lines.error(
            f"found {len(rows)} atom rows and the end of the file at byte {lines.byte}, expected {count} rows; the file is cut", _Cut
        )
    if cut and _shorter_than_the_others(rows):
        raise lines.error(
            f"found a last row that ends inside a number at byte {lines.byte} ('{rows[-1][-1]}'), expected as many digits as in the other rows; "
            "the file is cut", _Cut,
        )  # fmt: skip
    return rows, text


def _refuse_row(lines: _Lines, row: list[str], atom: int, line: int, width: int, count: int, header: Header, cut: bool) -> None:
    names = ":".join(f"{c.name}:{c.kind}:{c.count}" for c in header.columns)
    why = "; the file is cut" if cut else ""
    if len(row) == 1 and row[0].isdigit():
        why = f"; is this the next frame's count, and are there only {atom} of the {count} atoms?"
    message = f"atom {atom}: found {len(row)} columns ('{' '.join(row):.40}'), expected {width} by Properties={names}{why}"
    raise lines.error(message + (f" at byte {lines.byte}" if cut else ""), _Cut if cut else DataError, line)


def _shorter_than_the_others(rows: list[list[str]]) -> bool:
    """Whether the last number of a file without a final newline has fewer decimals than all others of its column."""
    decimals = [len(row[-1].rpartition(".")[2]) for row in rows]
    return len(rows) > 3 and len(set(decimals[:-1])) == 1 and decimals[-1] < decimals[0]


def _column(lines: _Lines, rows: list[list[str]], column: Column, underscores: bool) -> np.ndarray:
    """One property of all atoms, [atoms] or [atoms, count]."""
    span = slice(column.start, column.start + column.count)
    if column.kind == "S" or column.kind == "L":
        values = np.array([row[span] for row in rows])
    else:
        convert, dtype = (float, np.float64) if column.kind == "R" else (int, np.int64)
        try:
            values = np.array([list(map(convert, row[span])) for row in rows], dtype)
        except (ValueError, OverflowError):
            underscores, values = True, np.empty(0)
        if underscores:
            _refuse_token(lines, rows, column, span)
    return values[:, 0] if column.count == 1 else values


def _refuse_token(lines: _Lines, rows: list[list[str]], column: Column, span: slice) -> None:
    """Raise for the first token of a numeric column that is none, if there is one."""
    wanted = "a number" if column.kind == "R" else "a whole number"
    for i, row in enumerate(rows):
        for token in row[span]:
            if not is_number(token) or (column.kind == "I" and not re.fullmatch(r"[+-]?[0-9]{1,18}", token)):
                line = lines.line - len(rows) + i + 1
                raise lines.error(f"atom {i}: {column.name}: found '{token:.40}', expected {wanted}{reason(token)}", line=line)


def _numbers(lines: _Lines, arrays: dict[str, np.ndarray], count: int) -> np.ndarray:
    if "species" not in arrays:
        return arrays.pop("Z")
    symbols = arrays.pop("species").tolist()
    try:
        return np.array([_atomic_number(s) for s in symbols])
    except StructureError as error:
        wrong = next(i for i, s in enumerate(symbols) if not _is_element(s))
        raise lines.error(f"atom {wrong}: found {error}; expected a symbol such as 'Si'", line=lines.line - count + wrong + 1) from None


@lru_cache(maxsize=1024)
def _atomic_number(symbol: str) -> int:
    return atomic_number(symbol)


def _is_element(symbol: str) -> bool:
    try:
        return bool(_atomic_number(symbol))
    except StructureError:
        return False
