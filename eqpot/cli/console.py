"""How the command line speaks: tables and numbers for people, JSON for machines."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from eqpot.core.errors import EqpotError
from eqpot.core.units import EV_PER_A3_TO_GPA

console = Console(highlight=False, markup=False)
"""Results go to standard output; units and names of files in brackets are no markup."""
status = Console(stderr=True, highlight=False, markup=False)
"""Progress and notes go to standard error, so that --json stays clean."""


def print_json(value: Any) -> None:
    """One JSON document on standard output; a number that is not finite, which JSON does not know, is null."""
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, "bold"), table)


def facts(title: str, rows: Iterable[tuple[str, Any]]) -> Group:
    """Two columns: what, and its value."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(str(value)))
    return _titled(title, table)


def columns(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Group:
    """A table whose first column names and whose others are right-aligned numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for k, name in enumerate(header):
        table.add_column(name, justify="left" if k == 0 else "right")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return _titled(title, table)


def error_table(title: str, evaluations: Mapping[str, Any]) -> Group:
    """MAE and RMSE of energy, forces and stress, one row per evaluation."""
    header = ["", "frames", "E MAE meV/atom", "E RMSE", "F MAE meV/Å", "F RMSE", "σ MAE GPa", "σ RMSE"]
    scales = {"energy_per_atom": 1e3, "forces": 1e3, "stress": EV_PER_A3_TO_GPA}
    rows = []
    for name, evaluation in evaluations.items():
        cells = [name, len(evaluation.frames)]
        for label, scale in scales.items():
            found = getattr(evaluation, label)
            cells += [f"{found.mae * scale:.3g}", f"{found.rmse * scale:.3g}"] if found else ["–", "–"]
        rows.append(cells)
    keep = [k for k in range(len(header)) if k < 2 or any(row[k] != "–" for row in rows)]
    return columns(title, [header[k] for k in keep], [[row[k] for k in keep] for row in rows])


def progress_bar(*fields: str) -> Progress:
    """A progress bar with time left and the named task fields at its end; a plain line per update where there is no terminal."""
    texts = [TextColumn(f"{{task.fields[{name}]}}") for name in fields]
    bar = [TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.completed:.0f}/{task.total:.0f}")]
    return Progress(*bar, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), *texts, console=status)


def new_file(path: Path, overwrite: bool) -> Path:
    """The path, or an error when a file is there that may not be replaced."""
    if path.exists() and not overwrite:
        raise EqpotError(f"{path}: exists; use --overwrite or another name")
    return path


def kernels(spec: Any) -> str:
    """How a model is evaluated here."""
    import jax

    from eqpot.nn import choose_backend

    return f"{choose_backend(spec.backend)} on {jax.default_backend()}, products in {spec.products}"
