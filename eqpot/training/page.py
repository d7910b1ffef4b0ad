"""A self-contained HTML page: the few elements that reports are made of. Every text that comes in is escaped here.

Style and script are the files `page.css` and `viewer.js` beside this one; they are copied into the page, which fetches nothing.
"""

import base64
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core import files as whole_files
from eqpot.core.errors import TrainingError
from eqpot.core.version import VERSION


@dataclass(frozen=True)
class Panel:
    """A figure of the report: title, SVG document, and a sentence in plain words; a `wide` one has a row of its own."""

    title: str
    svg: str
    caption: str
    wide: bool = False


def number(value: Any, digits: int = 3) -> str:
    """A number for readers: significant digits, thousands apart, a true minus.

    >>> number(65.234), number(-0.01234), number(1234567), number(float("nan")), number(None)
    ('65.2', '−0.0123', '1\\u202f234\\u202f567', 'not finite', '–')
    """
    if value is None:
        return "–"
    if not np.isfinite(value):
        return "not finite"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", "\u202f").replace("-", "−")
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    text = f"{value:.{digits - 1}e}" if value and not 1e-4 <= abs(value) < 1e7 else f"{value:,.{places}f}"
    return text.replace(",", "\u202f").replace("-", "−")


def words(values: Mapping[str, Any]) -> str:
    """A mapping as a phrase; what is None or empty is left out.

    >>> words({"l_max": 2, "radial_hidden": (64, 64), "huber": None, "rate": 0.010, "forms": {"forces": "norm"}})
    'l_max 2, radial_hidden 64 × 64, rate 0.01, forms (forces norm)'
    """
    return ", ".join(f"{name} {_word(value)}" for name, value in values.items() if value is not None and value not in ({}, (), [], ""))


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({words(value)})"
    if isinstance(value, list | tuple):
        return " × ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """A time for readers: '27 s', '45 min', '3 h 20 min'."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document, of parts that are HTML already."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(part for part in parts if part)
    head += f"<title>{escape(title)}</title><style>{resource('page.css')}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def resource(name: str) -> str:
    """Text of a file beside this one."""
    return files("eqpot.training").joinpath(name).read_text(encoding="utf-8")


def section(title: str, *parts: str) -> str:
    """A heading and what belongs to it; nothing without content."""
    inner = "\n".join(part for part in parts if part)
    return f'<section id="{anchor(title)}"><h2>{escape(title)}</h2>\n{inner}</section>' if inner else ""


def anchor(title: str) -> str:
    """The name by which a section is linked to: 'Worst structures' → 'worst-structures'."""
    return "-".join(title.lower().split())


def header(title: str, remarks: Iterable[str]) -> str:
    """The heading of the page, and a line below it."""
    line = " · ".join([*remarks, f"eqpot {VERSION}", time.strftime("%-d %B %Y, %H:%M")])
    return f"<header><h1>{escape(title)}</h1>{paragraph(line)}</header>"


def contents(titles: Iterable[str]) -> str:
    """Links to sections, which stay in view."""
    links = "".join(f'<a href="#{escape(anchor(title))}">{escape(title)}</a>' for title in titles)
    return f'<nav aria-label="Contents">{links}</nav>' if links else ""


def folded(title: str, text: str) -> str:
    """Text that opens on a click, in the type of a program."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def embedded(name: str, value: Any) -> str:
    """JSON inside the page, for a script in it; no text can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; kind 'note' sets it off, 'dim' tones it down."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def subheading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def cards(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Boxes of (name, figure, unit, remark)."""
    boxes = [f"<div><h3>{a}</h3><b>{b}</b> <span>{c}</span><p>{d}</p></div>" for a, b, c, d in (map(escape, row) for row in rows)]
    return f'<div class="cards">{"".join(boxes)}</div>' if boxes else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,), kind: str = "", bars: Sequence[int] = ()) -> str:
    """A table; the columns `text` are set to the left, numbers to the right. Kind 'narrow' keeps short rows together, 'wide' has room for many columns.

    Numbers of the columns `bars` are also shown as lengths, the largest of a column filling its cell.
    """
    rows = [tuple(row) for row in rows]
    tops = {k: max((_size(row[k]) for row in rows), default=0.0) for k in bars}

    heads = [head.replace("/", "/\u2060") for head in heads]  # units are not broken into lines

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = [' class="text"' if k in text else "" for k in range(len(cells))]
        if tag == "td":
            kinds = [f' style="--share:{_size(cells[k]) / tops[k]:.2f}"' if tops.get(k) else kind for k, kind in enumerate(kinds)]
        return "<tr>" + "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"

    return f'<div class="scroll {kind}"><table>{line("th", heads)}{"".join(line("td", row) for row in rows)}</table></div>'


def _size(cell: str) -> float:
    """The number that `number` wrote, or zero."""
    try:
        return abs(float(cell.replace("\u202f", "").replace("−", "-")))
    except ValueError:
        return 0.0


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and what they are."""
    lines = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="scroll"><table class="facts">{"".join(lines)}</table></div>'


def gallery(panels: Iterable[Panel], *beside: str) -> str:
    """Figures side by side, each with its caption, and after them HTML such as a table."""
    return f'<div class="grid">{"".join((*map(_figure, panels), *beside))}</div>'


def _figure(panel: Panel) -> str:
    """As an image, so that the names inside one drawing cannot meet those of another."""
    source = "data:image/svg+xml;base64," + base64.b64encode(panel.svg.encode()).decode()
    title, caption = escape(panel.title), escape(panel.caption)
    kind = ' class="wide"' if panel.wide else ""
    return f'<figure{kind}><h4>{title}</h4><img alt="{title}: {caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'


def replace_file(path: Path, text: str) -> None:
    """Write atomically: the file is complete or the old one stays.

    Raises:
        TrainingError: when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole_files.replace_file(path, text.encode())
    except OSError as error:
        raise TrainingError(f"{path}: the report cannot be written ({error.strerror})") from None
