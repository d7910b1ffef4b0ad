"""`eqpot inspect`: what is in a data set or a potential file, and what looks wrong."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from eqpot.cli.console import columns, console, facts, print_json
from eqpot.core.units import EV_PER_A3_TO_GPA


def inspect(
    target: Annotated[list[str], typer.Argument(help="Data files, or one potential file (.safetensors).", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what a data set or a potential contains: counts, elements, distances, forces, labels, and suspicious entries.

    Ends with exit code 1 when a data set has entries that `eqpot fit` would refuse.
    """
    if len(target) == 1 and Path(target[0]).suffix == ".safetensors":
        _inspect_potential(Path(target[0]), as_json)
    else:
        _inspect_data(target, as_json)


def _inspect_potential(path: Path, as_json: bool) -> None:
    from eqpot.potential import Potential

    potential = Potential.load(path)
    config = potential.spec.config
    if as_json:
        rows = {
            "elements": potential.elements,
            "members": potential.n_members,
            "parameters": potential.n_parameters,
            "dtype": potential.dtype,
        }
        print_json(
            {**rows, "reference_energies": potential.reference_energies, "model": config.model_dump(), "metadata": potential.metadata}
        )
        return
    meta = potential.metadata
    references = ", ".join(f"{e} {v:.4f}" for e, v in zip(potential.elements, potential.reference_energies, strict=True))
    rows = [
        ("elements", ", ".join(potential.elements)),
        ("members", f"{potential.n_members} × {potential.n_parameters:,} parameters, {potential.dtype}"),
        ("model", f"{config.kind}: hidden {config.hidden}, l_max {config.l_max}, {config.update}, correlation {config.correlation}"),
        ("range", f"cutoff {potential.cutoff} Å, {config.n_layers} layers: sees {potential.receptive_field:g} Å"),
        ("reference energies [eV]", f"{references} ({meta.get('reference_energies', {}).get('source', 'unknown source')})"),
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


def _inspect_data(paths: list[str], as_json: bool) -> None:
    from eqpot.data import inspect as look
    from eqpot.data import read

    inspection = look(read(paths))
    if as_json:
        print_json(inspection.as_dict())
    else:
        _print_inspection(", ".join(paths), inspection)
    if any(f.severity == "error" for f in inspection.findings):
        raise typer.Exit(1)


def _print_inspection(title: str, inspection: Any) -> None:
    stats = inspection.statistics
    rows = [
        ("frames", f"{stats.n_frames} with {stats.atoms_min}–{stats.atoms_max} atoms (mean {stats.atoms_mean:.1f})"),
        ("elements", _counts(inspection.elements)),
        ("formulas", _counts(inspection.formulas) + (f" … {inspection.n_formulas} in all" if inspection.n_formulas > 10 else "")),
        ("periodicity", _counts(inspection.periodicity)),
        ("groups", _counts(inspection.groups)),
        ("labels", ", ".join(f"{name} {n}/{stats.n_frames}" for name, n in inspection.label_counts.items() if n) or "none"),
        ("duplicates", inspection.n_duplicates),
        (
            "reference energies [eV]",
            ", ".join(f"{e} {v:.4f}" for e, v in inspection.reference.values.items()) + f" ({inspection.reference.source})",
        ),
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
        console.print("\nnothing suspicious was found")
    for finding in inspection.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        console.print(f"\n[{colour}]{finding.severity}[/] {escape(finding.message)} [dim]({finding.code})[/]")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())
