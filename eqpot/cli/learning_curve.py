"""`eqpot learning-curve`: how the error falls with the number of training frames."""

from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import columns, console, print_json, progress_bar
from eqpot.core.errors import ConfigError


def learning_curve(
    config: Annotated[Path, typer.Argument(help="YAML file, as for eqpot fit.", show_default=False)],
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as training.epochs=50.")] = None,
    sizes: Annotated[str, typer.Option(help="Numbers of training frames, such as 25,50,100,200.", show_default=False)] = "",
    models: Annotated[
        str | None, typer.Option(help="YAML files whose sections replace those of CONFIG: a.yaml,b.yaml.", show_default=False)
    ] = None,
    capacities: Annotated[str | None, typer.Option(help="Instead of models: channels, such as 16,32,64.", show_default=False)] = None,
    seeds: Annotated[int, typer.Option(help="Trainings for each size and model, with other subsets and initial parameters.")] = 3,
    same_epochs: Annotated[
        bool, typer.Option("--same-epochs", help="Train all sizes for the same epochs, not for the same steps.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the study; by default runs/<name>-learning-curve.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print points and laws as JSON.")] = False,
) -> None:
    """Train on growing subsets, for one or several models, and fit error = a·N^(−b).

    Writes *learning_curve.html*, *learning_curve.json* and *points.jsonl* into the folder; started again, it continues with the missing points.
    """
    from eqpot.core.config import build, load_yaml, override
    from eqpot.training import FitConfig
    from eqpot.training.learning_curve import learning_curve as study

    settings = build(FitConfig, override(load_yaml(config), assignments or []), where=str(config))
    home = folder or Path("runs") / f"{settings.name}-learning-curve"
    files = None if models is None else [name.strip() for name in models.split(",")]
    channels = None if capacities is None else whole_numbers("capacities", capacities)
    frames = whole_numbers("sizes", sizes)
    with progress_bar("last") as progress:
        task = progress.add_task("training", total=len(set(frames)) * seeds * len(files or channels or [""]), last="")

        def on_point(point: Any, done: int, total: int) -> None:
            error = point.error("held out", "forces")
            progress.update(task, completed=done, total=total, last=f"{point.model}, {point.size} frames: F {1e3 * error:.3g} meV/Å")

        kinds = {"models": files, "capacities": channels, "seeds": seeds, "same_steps": not same_epochs}
        curve = study(settings, frames, **kinds, folder=home, on_point=on_point)
    if as_json:
        print_json({"folder": home, **curve.as_dict()})
        return
    console.print(columns("Mean absolute error against frames N: a·N^(−b)", ("model", "quantity", "b", "95 % interval"), _rows(curve)))
    console.print(f"\npage  {home / 'learning_curve.html'}")


def _rows(curve: Any) -> list[tuple[str, ...]]:
    pairs = [(m, q, law) for m in curve.models for q in curve.quantities if (law := curve.law(m, q))]
    return [(m, q, f"{law.b:.2f} ± {law.b_error:.2f}", f"{law.b_low:.2f} to {law.b_high:.2f}") for m, q, law in pairs]


def whole_numbers(name: str, text: str) -> list[int]:
    """'25, 50' → [25, 50].

    Raises:
        ConfigError: for anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"{name}: found '{text}', expected whole numbers with commas between them, such as 25,50,100")
    return [int(part) for part in parts]
