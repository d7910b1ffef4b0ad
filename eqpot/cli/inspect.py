"""`eqpot inspect`: what is in a data set or a potential file, and what looks wrong."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from eqpot.cli.console import columns, console, facts, new_file, print_json
from eqpot.cli.selection import Keys, UnitsOf, as_keys, as_units
from eqpot.core.errors import EqpotError
from eqpot.core.units import EV_PER_A3_TO_GPA

MAX_ROWS = 20
"""Suspicious frames listed on the terminal; --json and --write-suspicious give all."""
MAX_FRAMES = 20_000
"""Frames of a store that are looked at, drawn at random; as many as a fit checks."""


def inspect(
    target: Annotated[list[str], typer.Argument(help="Data files, one store, or one potential file (.safetensors).", show_default=False)],
    key: Keys = None,
    unit: UnitsOf = None,
    potential: Annotated[
        Path | None, typer.Option(help="Judge the labels of the data with this potential (.safetensors).", show_default=False)
    ] = None,
    write_suspicious: Annotated[
        Path | None, typer.Option(help="Write the suspicious frames with the reasons to this extended XYZ file.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file of suspicious frames.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what a data set or a potential contains: counts, elements, distances, forces, labels, and suspicious entries.

    Ends with exit code 1 when a data set has entries that `eqpot fit` would refuse; suspicious frames are warnings.
    """
    if len(target) > 1 or Path(target[0]).suffix != ".safetensors":
        written = new_file(write_suspicious, overwrite) if write_suspicious else None
        _inspect_data(target, key, unit, potential, written, as_json)
    elif potential or write_suspicious or key or unit:
        raise EqpotError(
            f"{target[0]} is a potential: --key, --unit, --potential and --write-suspicious are for data; give the data files first"
        )
    else:
        _inspect_potential(Path(target[0]), as_json)


def _inspect_potential(path: Path, as_json: bool) -> None:
    from eqpot.potential import Potential
    from eqpot.training.report_run import references

    potential = Potential.load(path)
    config = potential.spec.config
    if as_json:
        rows = {
            "elements": potential.elements,
            "members": potential.n_members,
            "parameters": potential.n_parameters,
            "dtype": potential.dtype,
            "heads": potential.heads,
        }
        print_json(
            {**rows, "reference_energies": potential.reference_energies, "model": config.model_dump(), "metadata": potential.metadata}
        )
        return
    meta = potential.metadata
    source = meta.get("reference_energies", {}).get("source", "unknown source")
    zeros = [(head, ", ".join(f"{e} {v:.4f}" for e, v in values.items())) for head, values in references(potential).items()]
    rows = [
        ("elements", ", ".join(potential.elements)),
        ("members", f"{potential.n_members} × {potential.n_parameters:,} parameters, {potential.dtype}"),
        ("model", config.summary),
        ("range", f"cutoff {potential.cutoff} Å, {config.n_layers} layers: sees {potential.receptive_field:g} Å"),
        *[("reference energies [eV]", f"{f'{head}: ' if head else ''}{values} ({source})") for head, values in zeros],
    ]
    if "data" in meta:
        rows.append(
            ("trained on", f"{meta['data']['train_frames']} frames (hash {meta['data']['train'][:12]}), best epoch {meta['best_epoch']}")
        )
    console.print(facts(str(path), rows))
    if meta.get("validation"):
        scale = {"energy_per_atom": (1e3, "meV/atom"), "forces": (1e3, "meV/Å"), "stress": (EV_PER_A3_TO_GPA, "GPa")}
        found = [(n, meta["validation"][n], *scale[n]) for n in scale if n in meta["validation"]]
        rows = [(name, f"{e['mae'] * s:.3g}", f"{e['rmse'] * s:.3g}", unit) for name, e, s, unit in found]
        console.print(columns("\nValidation errors", ["", "MAE", "RMSE", "unit"], rows))


def _inspect_data(
    paths: list[str], key: list[str] | None, unit: list[str] | None, potential: Path | None, suspicious: Path | None, as_json: bool
) -> None:
    from eqpot.data import inspect as look
    from eqpot.data.hygiene import write_suspects

    dataset, note = _read(paths, key, unit)
    inspection = look(dataset, _opinion(potential, dataset) if potential else None)
    if suspicious:
        write_suspects(suspicious, dataset.frames, inspection.hygiene.suspects, overwrite=True)
    if as_json:
        print_json(inspection.as_dict() | ({"note": note} if note else {}))
    else:
        _print_inspection(", ".join(paths), inspection)
        if note:
            console.print(f"\n[dim]{escape(note)}[/]", markup=True)
        _print_suspects(inspection.hygiene, f"{potential}" if potential else "the best pair potential of the set; --potential judges finer")
        if suspicious:
            console.print(f"\nsuspicious frames  {suspicious}")
    if any(f.severity == "error" for f in inspection.findings):
        raise typer.Exit(1)


def _read(paths: list[str], key: list[str] | None, unit: list[str] | None) -> tuple[Any, str]:
    """The frames of files, or of a store as many as are looked at; and what to say about it."""
    from eqpot.data import Store, is_store, read

    if len(paths) > 1 or not is_store(paths[0]):
        return read(paths, keys=as_keys(key), units=as_units(unit)), ""
    if key or unit:
        raise EqpotError(f"{paths[0]} is a store: its keys and units were settled when it was made; leave --key and --unit out")
    store = Store.open(paths[0])
    frames = store.sample(MAX_FRAMES)
    return frames, "" if len(frames) == len(store) else f"these are {len(frames):,} of the {len(store):,} frames, drawn at random"


def _opinion(path: Path, dataset: Any) -> Any:
    from eqpot.potential import Potential
    from eqpot.training.hygiene import opinion_of

    return opinion_of(Potential.load(path), dataset)


def _print_suspects(hygiene: Any, judge: str) -> None:
    """A row per suspicious frame: where it comes from, how far it stands out, and why."""
    for step in hygiene.steps:
        console.print(f"\n[yellow]warning[/] {escape(step.text)} [dim](source-step)[/]", markup=True)
    if not hygiene.suspects:
        console.print(f"\n[dim]no frame stands out; labels judged by {escape(judge)}[/]", markup=True)
        return
    rows = [(f"{s.score:8.1f}  {Path(s.origin).name}", "\n".join(r.text for r in s.reasons)) for s in hygiene.suspects[:MAX_ROWS]]
    count = len(hygiene.suspects)
    title = f"{count} suspicious {'frame' if count == 1 else 'frames'}{f', the first {MAX_ROWS}' if count > MAX_ROWS else ''}"
    console.print(f"\n[yellow]warning[/] {title} [dim](score in robust standard deviations; judged by {escape(judge)})[/]", markup=True)
    console.print(facts("", rows))


def _print_inspection(title: str, inspection: Any) -> None:
    stats = inspection.statistics
    rows = [
        ("frames", f"{stats.n_frames} with {stats.atoms_min}–{stats.atoms_max} atoms (mean {stats.atoms_mean:.1f})"),
        ("elements", _counts(inspection.elements)),
        ("formulas", _counts(inspection.formulas) + (f" … {inspection.n_formulas} in all" if inspection.n_formulas > 10 else "")),
        ("periodicity", _counts(inspection.periodicity)),
        ("groups", _counts(inspection.groups)),
        ("labels", ", ".join(f"{name} {n}/{stats.n_frames}" for name, n in inspection.label_counts.items() if n) or "none"),
        ("duplicates", f"{inspection.n_duplicates}, and {len(inspection.hygiene.near_duplicates)} nearly the same as an earlier frame"),
        *[
            (
                "reference energies [eV]",
                f"{f'{head}: ' if head else ''}{', '.join(f'{e} {v:.4f}' for e, v in r.values.items())} ({r.source})",
            )
            for head, r in inspection.references.items()
        ],
        ("content hash", inspection.content_hash[:16]),
    ]
    console.print(facts(title, rows))
    numbers = [
        ("energy above reference [eV/atom]", stats.energy_mean, stats.energy_std),
        ("force component, RMS [eV/Å]", stats.force_rms, None),
        ("largest force [eV/Å]", stats.force_max, None),
        ("stress component, RMS [GPa]", None if stats.stress_rms is None else stats.stress_rms * EV_PER_A3_TO_GPA, None),
    ]
    values = [
        (name, f"{value:.4g}" + (f" ± {spread:.3g}" if spread is not None else "")) for name, value, spread in numbers if value is not None
    ]
    values += [(f"force RMS of {e} [eV/Å]", f"{v:.4g}") for e, v in stats.force_rms_by_element.items()]
    console.print(facts("\nLabels", values))
    if stats.shortest:
        console.print(facts("\nShortest distances [Å]", [(pair, f"{d:.3f}") for pair, d in stats.shortest.items()]))
    if not inspection.findings:
        console.print("\nnothing suspicious about the set as a whole")
    for finding in inspection.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        console.print(f"\n[{colour}]{finding.severity}[/] {escape(finding.message)} [dim]({finding.code})[/]", markup=True)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())
