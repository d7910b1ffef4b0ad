"""`eqpot fit`: train a potential from a configuration."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import console, error_table, facts, kernels, print_json, progress_bar, status
from eqpot.cli.reporting import calibration_line, write_run_report
from eqpot.cli.selection import unit_options, units_of_training

WASTE = 0.1
"""Share of atoms that may be padding before another way of making batches is looked for."""


def fit(
    config: Annotated[Path, typer.Argument(help="YAML file; every key is explained in docs/configuration.md.", show_default=False)],
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as training.epochs=50.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/<name>.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew; an earlier run is moved to previous/.")] = False,
    distributed: Annotated[bool, typer.Option("--distributed", help="This is one of several processes that train together.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a potential (or an ensemble of them) on labelled structures.

    Writes *potential.safetensors*, *report.html*, *log.jsonl* and checkpoints into the folder of the run. The same command continues a run that was
    cut short, even by a crash, and ends with the very numbers of an uninterrupted one.
    """
    from eqpot.core.config import build, load_yaml, override
    from eqpot.training import FitConfig
    from eqpot.training.parallel import is_first, join_processes

    if distributed:
        join_processes()

    settings = build(FitConfig, override(load_yaml(config), assignments or []), where=str(config))
    home = folder or Path("runs") / settings.name
    potential = run_fit(settings, home, overwrite=overwrite)
    if not is_first():
        return
    evaluations, made = evaluate_held_out(potential, settings), home / "potential.safetensors"
    report = write_run_report(home / "report.html", settings.name, potential, read_history(home), evaluations)
    if as_json:
        errors = {name: evaluation.summary() for name, evaluation in evaluations.items()}
        calibrated = bool(potential.trust.calibration and potential.trust.calibration.calibrated)
        print_json({"folder": home, "potential": made, "report": report, "errors": errors, "calibrated": calibrated})
        return
    console.print(error_table(f"Errors of the {potential.n_members}-member mean", evaluations))
    console.print(f"\npotential  {made}\nreport     {report}\nσ          {calibration_line(potential, made)}")
    units = unit_options(units_of_training(potential))
    console.print(f"\nnext:  eqpot evaluate {made} DATA{units and f' {units}'}\n       eqpot md {made} STRUCTURE --temperature 300")


def run_fit(settings: Any, home: Path, *, overwrite: bool = False) -> Any:
    """`eqpot.fit` with a progress bar."""
    from eqpot.training import fit as train

    with progress_bar("errors") as progress:
        task = progress.add_task("setting up", total=settings.training.epochs, errors="")

        def on_start(problem: Any, batches: Any) -> None:
            status.print(_problem(problem, batches))
            progress.update(task, description="compiling")

        def on_epoch(report: Any) -> None:
            progress.update(task, description="training", completed=report.epoch, errors=_errors(report.valid))

        return train(settings, folder=home, overwrite=overwrite, on_start=on_start, on_epoch=on_epoch)


def evaluate_held_out(potential: Any, settings: Any) -> dict[str, Any]:
    """Evaluations on the validation and, if there are any, the test frames of a configuration."""
    from eqpot.training import evaluate
    from eqpot.training.setup import load_data

    _, valid, test, _ = load_data(settings)
    evaluations = {"validation": evaluate(potential, valid)}
    if test is not None:
        evaluations["test"] = evaluate(potential, test)
    return evaluations


def read_history(home: Path) -> list[dict[str, Any]]:
    """One row per epoch from the log of a run."""
    return [json.loads(line) for line in (home / "log.jsonl").read_text().splitlines()]


def _problem(problem: Any, batches: Any) -> Any:
    spec = problem.spec
    shapes = "; ".join(f"{c.graphs} structures, {c.atoms} atoms, {c.slots} slots" for _, c in batches.classes)
    shapes += f" in each of {batches.shards} shards" if batches.shards > 1 else ""
    atoms, slots = batches.padding
    rows = [
        ("frames", f"{len(problem.train)} to train, {len(problem.valid)} to validate"),
        ("elements", ", ".join(spec.elements)),
        ("reference energies", f"{problem.reference.source}: " + ", ".join(f"{e} {v:.4f} eV" for e, v in problem.reference.values.items())),
        ("neighbours", f"{spec.normalization.average_neighbors:.1f} per atom within {spec.config.cutoff} Å"),
        ("batches", f"{batches.steps_per_epoch} per epoch ({shapes}); padding {atoms:.0%} of atoms, {slots:.0%} of neighbour slots"),
        ("kernels", kernels(spec)),
        *[("note", note) for note in (*problem.warnings, *packing_hint(batches))],
    ]
    return facts("Data", rows)


def packing_hint(batches: Any) -> list[str]:
    """A budget of atoms by which batches would waste far less, where there is one."""
    sizes, wasted = batches.sizes.atoms, batches.padding[0]
    if wasted <= WASTE or batches.batch_atoms is not None:
        return []
    budget = max(3 * int(sizes.max()), round(batches.batch_size * float(sizes.mean())))
    packed = replace(batches, batch_atoms=budget).padding[0]
    return [f"training.batch_atoms: {budget} would leave {packed:.0%} of atoms as padding, not {wasted:.0%}"] if packed < wasted / 2 else []


def _errors(valid: dict[str, Any]) -> str:
    """Validation errors in one short line."""
    parts = []
    if "energy_per_atom" in valid:
        parts.append(f"E {1e3 * valid['energy_per_atom']['mae']:.2f} meV/atom")
    if "forces" in valid:
        parts.append(f"F {1e3 * valid['forces']['mae']:.1f} meV/Å")
    return "  ".join(parts)
