"""`eqpot evaluate`: errors of a potential on labelled structures."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import console, error_table, facts, new_file, print_json


def evaluate(
    potential: Annotated[Path, typer.Argument(help="Potential file (.safetensors).", show_default=False)],
    data: Annotated[list[str], typer.Argument(help="Labelled structures: extended XYZ (.gz, .xz) or ASE database.", show_default=False)],
    index: Annotated[str | None, typer.Option(help="Which frames, as a Python slice such as ':100' or '::10'.", show_default=False)] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the errors as JSON.")] = False,
) -> None:
    """Compare a potential with labelled structures: errors by group and element, and whether its uncertainty ranks them."""
    from eqpot.cli.reporting import write_run_report
    from eqpot.cli.selection import as_slice
    from eqpot.data import read
    from eqpot.potential import Potential
    from eqpot.training import evaluate as compare
    from eqpot.uncertainty import summarise

    target = new_file(report, overwrite) if report else None
    model = Potential.load(potential)
    evaluation = compare(model, read(data, index=as_slice(index)))
    groups = evaluation.by_group()
    errors, sigmas = evaluation.force_uncertainty()
    scores = summarise(errors, sigmas) if (sigmas > 0).any() else None
    if target:
        write_run_report(target, f"{potential.name} on {', '.join(data)}", model, None, {"data": evaluation})
    if as_json:
        print_json(
            {
                **evaluation.summary(),
                "groups": {name: group.summary() for name, group in groups.items()},
                "forces_by_element": {name: vars(e) for name, e in evaluation.forces_by_element().items()},
                "uncertainty": scores,
            }
        )
        return
    console.print(error_table("Errors", {"all": evaluation, **(groups if len(groups) > 1 else {})}))
    by_element = evaluation.forces_by_element()
    if by_element:
        console.print(facts("\nForce MAE by element", [(e, f"{1e3 * v.mae:.3g} meV/Å") for e, v in by_element.items()]))
    if scores:
        rows = [
            ("rank correlation of σ and error (Spearman)", f"{scores['spearman']:.2f}"),
            ("actual error / σ", f"{scores['factor']:.2f}"),
        ]
        console.print(facts("\nForce uncertainty", rows))
    if target:
        console.print(f"\nreport  {target}")
