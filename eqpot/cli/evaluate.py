"""`eqpot evaluate`: errors of a potential on labelled structures, and how far its σ can be trusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import console, error_table, facts, new_file, print_json
from eqpot.cli.selection import Keys, UnitsOf, read_for
from eqpot.core.errors import DataError


def evaluate(
    potential: Annotated[Path, typer.Argument(help="Potential file (.safetensors).", show_default=False)],
    data: Annotated[list[str], typer.Argument(help="Labelled structures: extended XYZ (.gz, .xz) or ASE database.", show_default=False)],
    key: Keys = None,
    unit: UnitsOf = None,
    index: Annotated[str | None, typer.Option(help="Which frames, as a Python slice such as ':100' or '::10'.", show_default=False)] = None,
    head: Annotated[
        str | None, typer.Option(help="Level of theory to compare at; by default that which each frame names.", show_default=False)
    ] = None,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="All scores of σ, with ranges, and by element.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the errors as JSON.")] = False,
) -> None:
    """Compare a potential with labelled structures: errors by group and element, and whether its uncertainty ranks them."""
    from eqpot.cli.reporting import write_run_report
    from eqpot.cli.uncertainty_tables import scores_of, uncertainty_tables
    from eqpot.data import Dataset
    from eqpot.potential import Potential
    from eqpot.training import evaluate as compare

    target = new_file(report, overwrite) if report else None
    model = Potential.load(potential)
    frames = read_for(model, data, key, unit, index)
    if not any(frames.label_counts().values()):
        raise DataError(
            f"{', '.join(data)}: found no labels to compare with, expected energies or forces; --key names them, eqpot inspect lists what there is"
        )
    if head is not None:
        model.head_index(head)
        frames = Dataset(tuple(f.replace(head=head) for f in frames))
    evaluation = compare(model, frames)
    scores = scores_of(evaluation, str(potential), uncertainty)
    if target:
        write_run_report(target, f"{potential.name} on {', '.join(data)}", model, None, {"data": evaluation})
    if as_json:
        print_json(_document(evaluation, scores))
        return
    groups, by_element = evaluation.by_group(), evaluation.forces_by_element()
    console.print(error_table("Errors", {"all": evaluation, **(groups if len(groups) > 1 else {})}))
    if by_element:
        console.print(facts("\nForce MAE by element", [(e, f"{1e3 * v.mae:.3g} meV/Å") for e, v in by_element.items()]))
    for part in uncertainty_tables(scores) if uncertainty else _in_short(scores.get("forces")):
        console.print(part)
    if target:
        console.print(f"\nreport  {target}")


def _document(evaluation: Any, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Everything as JSON; `uncertainty` maps each quantity to its scores, and is null without a σ."""
    return {
        **evaluation.summary(),
        "groups": {name: group.summary() for name, group in evaluation.by_group().items()},
        "forces_by_element": {name: vars(e) for name, e in evaluation.forces_by_element().items()},
        "uncertainty": scores or None,
    }


def _in_short(forces: Mapping[str, Any] | None) -> list[Any]:
    """The two scores to look at first, if there are forces with a σ."""
    if not forces:
        return []
    rows = [
        ("rank correlation of σ and error (Spearman)", f"{forces['spearman']:.2f}"),
        ("actual error / σ", f"{forces['factor']:.2f}"),
    ]
    return [facts("\nForce uncertainty", rows)]
