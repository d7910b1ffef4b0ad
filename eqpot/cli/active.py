"""`eqpot active`: sample, doubt, ask, learn, until enough is known."""

from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import console, facts, print_json, progress_bar, status


def active(
    config: Annotated[Path, typer.Argument(help="YAML file; see docs/active.md.", show_default=False)],
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as query.n=10.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/<name>.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Learn actively: an ensemble samples structures, an oracle labels those that it doubts, until a rule says that enough is known.

    Writes *ledger.jsonl*, *potential.safetensors*, *train.extxyz*, *held_out.extxyz* and *report.html* into the folder of the run. The same command continues a
    run that was cut short, even by a crash, and pays for no label twice.
    """
    from eqpot.active.active_report import write_active_report
    from eqpot.active.loop import active as learn
    from eqpot.active.loop_config import ActiveConfig
    from eqpot.core.config import build, load_yaml, override

    settings = build(ActiveConfig, override(load_yaml(config), assignments or []), where=str(config))
    home = folder or Path("runs") / settings.name
    with LiveView() as view:
        outcome = learn(settings, home, view)
    report = write_active_report(home)
    made = home / "potential.safetensors"
    end = outcome.records[-1]
    if as_json:
        print_json({"folder": home, "potential": made, "report": report, **{k: v for k, v in end.items() if k != "kind"}})
        return
    bounds = [f"{radius:.3f} eV/Å ({float(level):.0%})" for level, radius in end["bounds_eV_A"].items() if radius is not None]
    rows = [
        ("stopped", outcome.why),
        ("uncertain", outcome.uncertain),
        ("error bound", ", ".join(bounds) or "too few structures were held out to state one"),
        ("labels", f"{end['calls']} structures were given to the oracle, {end['train']} of them are learned from"),
        ("potential", made),
        ("report", report),
    ]
    console.print(facts("", rows))
    console.print(f"\nnext:  eqpot md {made} STRUCTURE --temperature 300")


class LiveView:
    """What happens, on standard error: a bar for what is being done, and a line for each round."""

    def __enter__(self) -> "LiveView":
        self.bar = progress_bar("note")
        self.bar.start()
        self.task = self.bar.add_task("starting", total=1, note="")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, what: str, values: Any) -> None:
        """See `eqpot.active.loop.Observer`."""
        if what in ("round", "end"):
            status.print(round_line(values) if what == "round" else "")
            return
        name = f"round {values['round']}: " if values["round"] >= 0 else ""
        if what == "label":
            failed = f"{values['failed']} failed" if values["failed"] else ""
            self.bar.update(self.task, description=f"{name}labels", completed=values["done"], total=values["total"], note=failed)
        elif what == "epoch":
            report = values["report"]
            force = report.valid.get("forces")
            note = f"F {1e3 * force['rmse']:.0f} meV/Å held out" if force else ""
            self.bar.update(self.task, description=f"{name}training", completed=report.epoch, total=report.epochs, note=note)
        else:
            self.bar.update(self.task, description=f"{name}{values['what']}", completed=100 * values["done"], total=100, note="")


def round_line(record: Any) -> str:
    """A round in one line."""
    sampled, errors, band = record["sampled"], record["errors"], record["band_eV_A"]
    chosen = sum(row["role"] == "train" for row in record["asked"])
    failed = sum(row["status"] == "failed" for row in record["asked"])
    parts = [
        f"round {record['round']}: {record['train']} labels to learn from ({record['learner']['start']})",
        f"{sampled['structures']} sampled, {sampled['candidate']} doubtful ({band['low']:.2f} to {band['high']:.2f} eV/Å), {sampled['absurd']} absurd",
        f"{chosen} asked and {errors['audit']} for the audit" + (f", {failed} failed" if failed else ""),
    ]
    if errors.get("force_rmse_eV_A"):
        parts.append(f"force error {1e3 * errors['force_rmse_eV_A']:.0f} meV/Å")
    return "; ".join(parts)
