"""`eqpot label`: ask an oracle for energies and forces, and keep every answer."""

from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import columns, console, facts, new_file, print_json, progress_bar


def label(
    structures: Annotated[
        list[str], typer.Argument(help="Structures, labels are ignored: extended XYZ (.gz, .xz) or ASE database.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, extended XYZ (.xyz, .gz, .xz).", show_default=False)],
    oracle: Annotated[str, typer.Option(help="gfn2, gfn1, emt, or a YAML file (tblite, pyscf, espresso, gpaw, ase).", show_default=False)],
    store: Annotated[Path | None, typer.Option(help="Folder that keeps every result; by default OUT.labels.", show_default=False)] = None,
    workers: Annotated[int, typer.Option(help="Processes, one label at a time each.", min=1)] = 2,
    time_limit: Annotated[float | None, typer.Option(help="Wall time for one label [s].", show_default=False)] = None,
    retries: Annotated[int, typer.Option(help="Losses of its worker after which a structure has failed.", min=1)] = 3,
    retry_failures: Annotated[bool, typer.Option("--retry-failures", help="Try again what the store knows as failures.")] = False,
    max_energy_jump: Annotated[float, typer.Option(help="From the median of the same composition [eV/atom].")] = 5.0,
    index: Annotated[str | None, typer.Option(help="Which frames, as a Python slice such as ':100' or '::10'.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file; the store stays.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Label structures with an oracle in worker processes. No label is paid for twice: after an interruption run the same command again."""
    from eqpot.active.label_output import write_labels
    from eqpot.active.labelling import label as label_structures
    from eqpot.active.oracle_config import load_oracle
    from eqpot.cli.selection import as_slice
    from eqpot.data import LabelKeys, read

    target = new_file(output, overwrite)
    teacher, alternatives = load_oracle(oracle)
    frames = read(structures, keys=LabelKeys.none(), index=as_slice(index)).frames
    folder = store or output.with_name(f"{output.name}.labels")
    with progress_bar("failed") as progress:
        task = progress.add_task(teacher.name, total=len(frames), failed="")

        def show(done: int, total: int, failed: int) -> None:
            progress.update(task, completed=done, total=total, failed=f"{failed} failed" if failed else "")

        found = label_structures(
            teacher,
            frames,
            folder,
            workers=workers,
            time_limit_s=time_limit,
            retries=retries,
            alternatives=alternatives,
            retry_failures=retry_failures,
            max_energy_jump=max_energy_jump,
            on_progress=show,
        )
    failures = [_failure(frame, result) for frame, result in zip(frames, found.results, strict=True) if hasattr(result, "reason")]
    if len(found.frames) or not failures:
        write_labels(target, found, overwrite=overwrite)
    if as_json:
        print_json({"output": target, "store": folder, **found.counts, "seconds": found.seconds, "failures": failures})
    else:
        _print(found, failures, target, folder)
    if not len(found.frames):
        raise typer.Exit(1)


def _failure(frame: Any, result: Any) -> dict[str, str]:
    return {"structure": frame.origin, "reason": result.reason}


def _print(found: Any, failures: list[dict[str, str]], target: Path, folder: Path) -> None:
    if failures:
        title = "Failures, the first ten" if len(failures) > 10 else "Failures"
        console.print(columns(title, ["", "reason"], [[f["structure"], f["reason"]] for f in failures[:10]]))
    rows = [(name, f"{found.counts[name]:,}") for name in ("asked", "cached", "computed", "failed")]
    console.print(facts("", [*rows, ("wall time", f"{found.seconds:.1f} s"), ("store", folder)]))
    if len(found.frames):
        console.print(f"\nlabelled    {target}")
    else:
        console.print(f"\nno structure was labelled; the reasons are above, the logs in {folder}")
