"""`eqpot novelty`: which structures are unlike those that a potential was trained on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import columns, console, facts, new_file, print_json
from eqpot.cli.selection import Keys, UnitsOf, read_for


def novelty(
    potential: Annotated[Path, typer.Argument(help="Potential file (.safetensors).", show_default=False)],
    data: Annotated[
        list[str], typer.Argument(help="Structures, labelled or not: extended XYZ (.gz, .xz) or ASE database.", show_default=False)
    ],
    key: Keys = None,
    unit: UnitsOf = None,
    index: Annotated[str | None, typer.Option(help="Which frames, as a Python slice such as ':100' or '::10'.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the structures here (.extxyz), most doubtful first, with the scores of each atom.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[int, typer.Option(help="How many of the most doubtful structures to list.")] = 10,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all scores as JSON.")] = False,
) -> None:
    """Rank structures by how far the surroundings of their atoms are from what the potential has seen.

    Novelty is a distance in the space of the network's descriptors, one at the edge of what was trained on; doubt is its root mean square with σ in
    units of the largest σ usual there.
    """
    from eqpot.core.errors import EqpotError
    from eqpot.potential import Potential

    target = new_file(output, overwrite) if output else None
    model = Potential.load(potential)
    if model.trust.domain is None:
        raise EqpotError(f"{potential}: does not know what it was trained on; give it the training structures: eqpot calibrate --domain")
    frames = read_for(model, data, key, unit, index, labelled=False).frames
    results = model.predict_frames(frames)
    rows = sorted((_row(f, r) for f, r in zip(frames, results, strict=True)), key=lambda row: -row["doubt"])
    if target:
        order = sorted(range(len(frames)), key=lambda k: results[k].structure_doubt or 0.0, reverse=True)
        _write(target, [frames[k] for k in order], [results[k] for k in order], overwrite)
    outside = sum(row["largest_novelty"] > 1 for row in rows)
    if as_json:
        print_json({"structures": len(rows), "outside": outside, "ranking": rows})
        return
    table = [
        [r["structure"], f"{r['doubt']:.2f}", f"{r['largest_novelty']:.2f}", r["atom"], f"{1e3 * r['largest_std']:.0f}"]
        for r in rows[:show]
    ]
    console.print(columns("Most doubtful structures", ["", "doubt", "largest novelty", "atom", "largest σ meV/Å"], table))
    domain = model.trust.domain
    console.print(facts("", [("outside of the domain", f"{outside} of {len(rows)}"), ("domain", f"{domain.kind}, edge at {domain.rule}")]))
    if target:
        console.print(f"\nstructures  {target}")


def _row(frame: Any, result: Any) -> dict[str, Any]:
    worst = int(result.novelty.argmax())
    return {
        "structure": frame.origin,
        "doubt": result.structure_doubt,
        "largest_novelty": float(result.novelty[worst]),
        "atom": f"{result.symbols[worst]}{worst}",
        "largest_std": float(result.atom_std.max()),
    }


def _write(path: Path, frames: list[Any], results: list[Any], overwrite: bool) -> None:
    from eqpot.data.extxyz_write import write_extxyz

    info = [{"origin": f.origin, "doubt": r.structure_doubt} for f, r in zip(frames, results, strict=True)]
    arrays = [{name: getattr(r, name) for name in ("novelty", "doubt", "atom_std")} for r in results]
    write_extxyz(path, frames, info=info, arrays=arrays, overwrite=overwrite)
