"""`eqpot config`: every key of a configuration, its default and its meaning."""

import inspect
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from eqpot.cli.console import print_json
from eqpot.core.config import sections_in


def config(as_json: Annotated[bool, typer.Option("--json", help="Print the defaults as JSON.")] = False) -> None:
    """List every key of `eqpot fit`'s configuration with its default and meaning, as Markdown."""
    from eqpot.training import FitConfig

    if as_json:
        print_json(FitConfig().model_dump(mode="json"))
    else:
        typer.echo(reference(FitConfig), nl=False)


def reference(root: type[BaseModel]) -> str:
    """The configuration reference, one table per section."""
    lines = [
        "# Configuration",
        "",
        "Every key of the YAML file that `eqpot fit` reads; all are optional but `data.train` (or `data.heads`).",
        "",
    ]
    for path, section in _sections(root):
        purpose = " ".join((inspect.getdoc(section) or "").split())
        lines += [f"## {path or 'top level'}", "", purpose, "", "| key | default | meaning |", "| --- | --- | --- |"]
        lines += [_row(name, field) for name, field in section.model_fields.items() if not _is_section(field)]
        lines.append("")
    return "\n".join(lines)


def _sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Heading and class of each section, those of other kinds after the default one; a kind that may stand in two places is listed where it comes first."""
    yield path, model
    listed: list[type[BaseModel]] = []
    for name, field in model.model_fields.items():
        options = sections_in(field.annotation)
        for section in options:
            inner = f"{path}.{name}".lstrip(".")
            kind = f" (kind: {section.model_fields['kind'].default})" if section is not options[0] else ""
            for heading, found in _sections(section, inner):
                if found not in listed:
                    listed.append(found)
                    yield (heading + kind if found is section else heading), found


def _is_section(field: Any) -> bool:
    return isinstance(field.get_default(call_default_factory=True), BaseModel)


def _row(name: str, field: Any) -> str:
    limits = [f"{sign} {getattr(m, word)}" for m in field.metadata for word, sign in SIGNS.items() if getattr(m, word, None) is not None]
    choices = getattr(field.annotation, "__args__", ())
    options = [f"`{c}`" for c in choices if isinstance(c, str)]
    notes = "; ".join(filter(None, [field.description, " or ".join(options) if len(options) > 1 else "", ", ".join(limits)]))
    default = field.get_default(call_default_factory=True)
    default = list(default) if isinstance(default, tuple) else default
    return f"| `{name}` | {'–' if default is None or field.is_required() else f'`{default}`'} | {notes or ' '.join(name.split('_'))} |"


SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
