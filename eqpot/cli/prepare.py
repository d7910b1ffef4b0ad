"""`eqpot prepare`: make a store, for data sets larger than memory."""

from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import console, facts, print_json, progress_bar
from eqpot.cli.selection import Keys, UnitsOf, as_keys, as_units


def prepare(
    data: Annotated[
        list[str], typer.Argument(metavar="DATA... OUT", help="Data files or patterns, then the new folder.", show_default=False)
    ],
    key: Keys = None,
    unit: UnitsOf = None,
    shard_mb: Annotated[float, typer.Option(help="Size of a shard [MB].", min=0.01)] = 64.0,
    allow: Annotated[list[str] | None, typer.Option(help="Code of a data check to accept; see eqpot inspect.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT; the old one is moved to OUT.previous-1.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check data files once and write them as a folder of shards that `eqpot fit` reads frame by frame (data.train: OUT).

    Needs memory for one shard, however large the files are.
    """
    from eqpot.data import FrameStream, prepare_store

    if len(data) < 2:
        raise typer.BadParameter("expected data files and then the folder to make", param_hint="DATA... OUT")
    *files, out = data
    stream = FrameStream(files, as_keys(key), as_units(unit))
    with progress_bar() as progress:
        task = progress.add_task("writing", total=len(stream))
        store = prepare_store(
            stream,
            out,
            shard_mb=shard_mb,
            allow=allow or (),
            overwrite=overwrite,
            on_frames=lambda n: progress.update(task, completed=n),
        )
        progress.update(task, completed=len(store))
    if as_json:
        print_json({"store": Path(out), **store.folder.header})
    else:
        _print(store, out)


def _print(store: Any, out: str) -> None:
    header = store.folder.header
    shards = header["shards"]
    rows = [
        ("frames", f"{header['frames']:,} with {header['atoms']:,} atoms ({int(store.sizes.min())}–{int(store.sizes.max())} each)"),
        ("elements", ", ".join(store.elements)),
        ("labels", ", ".join(f"{name} {n}" for name, n in header["label_counts"].items() if n) or "none"),
        ("groups", ", ".join(f"{name} {n}" for name, n in list(store.groups.items())[:10])),
        ("shards", f"{len(shards)}, {sum(s['bytes'] for s in shards) / 1e6:.1f} MB in all"),
        ("content hash", header["content_hash"][:16]),
        *[("note", warning) for warning in header["warnings"]],
    ]
    console.print(facts(out, rows))
    console.print(f"\nnext:  eqpot fit CONFIG data.train={out}")
