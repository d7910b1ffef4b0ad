"""A self-contained HTML page: its style, and the few elements that the report is made of. Every text that comes in is escaped here."""

import base64
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.errors import TrainingError

CSS = """
:root{color-scheme:light dark;--bg:#f5f6f8;--box:#fff;--ink:#1f2733;--soft:#5b6472;--line:#e1e5eb;--note:#fff7e6;--noteline:#e69f00}
@media(prefers-color-scheme:dark){
:root{--bg:#14181f;--box:#1d232d;--ink:#e6e9ee;--soft:#a0a9b8;--line:#313947;--note:#2e2818;--noteline:#b98a1d}
}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 56px}
header{margin-bottom:24px}header p{color:var(--soft);margin:0}
h1{font-size:32px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:21px;margin:44px 0 14px;padding-bottom:6px;border-bottom:1px solid var(--line)}h3{font-size:16px;margin:28px 0 8px}
p{margin:8px 0;max-width:80ch}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(155px,1fr));gap:14px;margin:0 0 18px}
.cards div{background:var(--box);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.cards h3{margin:0 0 4px;font-size:12px;font-weight:600;letter-spacing:.05em;text-transform:uppercase;color:var(--soft)}
.cards b{display:block;font-size:29px;line-height:1.2;font-weight:650;white-space:nowrap}.cards span{display:block}
.cards p{margin:6px 0 0;font-size:13px;line-height:1.4;color:var(--soft)}
.note{max-width:none;background:var(--note);border-left:4px solid var(--noteline);border-radius:6px;padding:9px 14px;font-size:15px}
.grid{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:18px;margin:14px 0}.wide{grid-column:1/-1}
figure{margin:0;background:#fff;color:#1f2733;border:1px solid var(--line);border-radius:10px;padding:14px 16px 12px;break-inside:avoid}
figure h4{margin:0 0 8px;font-size:15px}figure img{width:100%;height:auto;display:block}
figcaption{font-size:14px;line-height:1.45;color:#5b6472;margin-top:10px}
.scroll{overflow-x:auto;background:var(--box);border:1px solid var(--line);border-radius:10px;margin:12px 0}.narrow{max-width:560px}
table{border-collapse:collapse;width:100%;font-size:14.5px;font-variant-numeric:tabular-nums}
th,td{padding:7px 14px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
tr:last-child td{border-bottom:0}th{font-size:12.5px;font-weight:600;color:var(--soft)}
.text,.facts td{text-align:left}td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:9em}.narrow td:first-child{min-width:0}
.facts td{white-space:normal;overflow-wrap:anywhere}.facts td:first-child{color:var(--soft);width:12em;padding-right:22px}
@media(max-width:760px){.grid{grid-template-columns:minmax(0,1fr)}main{padding:24px 14px}h1{font-size:26px}}
@media print{body{background:#fff;font-size:12px}main{max-width:none;padding:0}h2,h3{break-after:avoid}.scroll,.cards div{break-inside:avoid}}
"""


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
    """A mapping as a phrase.

    >>> words({"l_max": 2, "radial_hidden": (64, 64), "huber": None, "rate": 0.010})
    'l_max 2, radial_hidden 64 × 64, rate 0.01'
    """
    shown = {k: " × ".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in values.items() if v is not None}
    return ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())


def duration(seconds: float) -> str:
    """A time for readers: '27 s', '45 min', '3 h 20 min'."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document, of parts that are HTML already."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(part for part in parts if part)
    head += f"<title>{escape(title)}</title><style>{CSS}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def section(title: str, *parts: str) -> str:
    """A heading and what belongs to it; nothing without content."""
    inner = "\n".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2>\n{inner}</section>" if inner else ""


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


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,), kind: str = "") -> str:
    """A table; the columns `text` are set to the left, numbers to the right. Kind 'narrow' keeps short rows together."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = [' class="text"' if k in text else "" for k in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"

    return f'<div class="scroll {kind}"><table>{line("th", heads)}{"".join(line("td", row) for row in rows)}</table></div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and what they are."""
    lines = (f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="scroll"><table class="facts">{"".join(lines)}</table></div>'


def gallery(panels: Iterable[Panel]) -> str:
    """Figures side by side, each with its caption."""
    return f'<div class="grid">{"".join(map(_figure, panels))}</div>'


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
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise TrainingError(f"{path}: the report cannot be written ({error.strerror})") from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
