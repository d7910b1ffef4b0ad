"""`eqpot generate`: new structures from old ones."""

from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import columns, console, new_file, print_json, progress_bar
from eqpot.core.errors import ConfigError, DataError, EqpotError


def generate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CONFIG.yaml] STRUCTURES...",
            help="What to do (left out with --method), then start structures: extended XYZ, ASE database, .cif, .vasp, .pdb or POSCAR.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the structures here (.extxyz, .gz, .xz).", show_default=False)],
    method: Annotated[
        str | None,
        typer.Option(
            help="One method instead of a configuration: rattle, strain, vacancy, interstitial, surface, dimer, torsion or md.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="In K, of rattle and md.", show_default=False)] = None,
    number: Annotated[int | None, typer.Option("--number", "-n", help="Structures made of each one.", show_default=False)] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another key of the method, such as frequency_THz=6.")
    ] = None,
    potential: Annotated[
        Path | None, typer.Option(help="Potential file (.safetensors), for md and rattle with hessian=true.", show_default=False)
    ] = None,
    oracle: Annotated[
        str | None, typer.Option(help="Drive md by an oracle: gfn2 (molecules), gfn1 (crystals), emt, or a YAML file.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the seed of the configuration, which is 0.", show_default=False)] = None,
    index: Annotated[str | None, typer.Option(help="Which start structures, as a Python slice such as ':10'.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make new structures to be labelled: displaced, strained, with defects, turned about bonds, or along dynamics.

    Every structure says how it was made (`made`, `config_type`), and its draw depends on the seed and its index alone.
    """
    from eqpot.active.generate_config import generate_config
    from eqpot.active.generate_structures import generate as make
    from eqpot.active.oracle_config import load_oracle
    from eqpot.data.io import EXTXYZ_SUFFIXES
    from eqpot.potential import Potential

    if not output.name.endswith(EXTXYZ_SUFFIXES):
        raise DataError(f"{output}: found suffix '{output.suffix}', expected one of {', '.join(EXTXYZ_SUFFIXES)}")
    target = new_file(output, overwrite)
    values, files = _plan(inputs, method, {"temperature_K": temperature, "n": number}, assignments or [])
    config = generate_config(values if seed is None else values | {"seed": seed})
    starts = _starts(files, index)
    model = None if potential is None else Potential.load(potential)
    teacher = None if oracle is None else load_oracle(oracle)[0]
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        made = make(config, starts, model, teacher, show)
    if not len(made):
        raise EqpotError(f"made none of {made.wanted} structures: {made.missing[0].method}: {made.missing[0].reason}")
    made.write(target, overwrite=True)
    if as_json:
        print_json({"output": target, "wanted": made.wanted, "made": len(made), "methods": made.summary(), "notes": made.notes})
    else:
        _print(made, target)


def _plan(inputs: list[Path], method: str | None, quick: dict[str, Any], assignments: list[str]) -> tuple[dict[str, Any], list[Path]]:
    """The configuration's values, and the files of start structures."""
    from eqpot.core.config import load_yaml, override

    given = {key: value for key, value in quick.items() if value is not None}
    if method is not None:
        return {"methods": [override({"method": method} | given, assignments)]}, inputs
    if given or assignments:
        raise ConfigError("--temperature, -n and --set belong to --method; with a configuration, write them into it")
    config, *files = inputs
    if config.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{config}: found no configuration (.yaml), expected one as the first argument, or --method")
    if not files:
        raise ConfigError(f"{config}: found no start structures after it, expected at least one file")
    return load_yaml(config), files


def _starts(files: list[Path], index: str | None) -> list[Any]:
    """Structures of all files, in order."""
    from eqpot.cli.md import _read
    from eqpot.cli.selection import as_slice
    from eqpot.data import read
    from eqpot.graph import Structure

    starts = []
    for file in files:
        if file.name.endswith((".cif", ".vasp", ".pdb")) or file.name in ("POSCAR", "CONTCAR"):
            starts.append(Structure.from_atoms(_read(file, 0)))
        else:
            starts += [frame.structure for frame in read(file).frames]
    chosen = starts[as_slice(index) or slice(None)]
    if not chosen:
        raise DataError(f"--index {index}: found no start structures among {len(starts)}, expected at least one")
    return chosen


def _print(made: Any, target: Path) -> None:
    rows = [
        [row["method"], row["wanted"], row["made"], "; ".join(f"{n}× {why}" for why, n in row["why"].items())] for row in made.summary()
    ]
    console.print(columns("Structures", ["", "wanted", "made", "why not"], rows))
    for note in made.notes:
        console.print(f"note  {note}")
    console.print(f"\nstructures  {target}")
