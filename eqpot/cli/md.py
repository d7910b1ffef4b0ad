"""`eqpot md`: molecular dynamics from the command line."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.core.errors import ConfigError, DataError

STRUCTURE_FORMATS = {".xyz": "extxyz", ".extxyz": "extxyz", ".cif": "cif", ".vasp": "vasp", ".pdb": "proteindatabank", ".db": "db"}
"""Suffix of a structure file → ASE's name of its format; a format is never guessed from the content."""


class EnsembleName(StrEnum):
    nve = "nve"
    nvt = "nvt"
    langevin = "langevin"


class Precision(StrEnum):
    mixed = "mixed"
    float32 = "float32"
    float64 = "float64"


def md(
    potential: Annotated[Path, typer.Argument(help="Potential file (.safetensors), as made by `eqpot fit`.")],
    structure: Annotated[Path, typer.Argument(help=f"Where the atoms start ({', '.join(STRUCTURE_FORMATS)}); velocities in it are used.")],
    ensemble: Annotated[EnsembleName, typer.Option(help="nve: constant energy; nvt: Nosé-Hoover thermostat; langevin: random thermostat.")] = EnsembleName.nvt,
    temperature: Annotated[float | None, typer.Option(help="Temperature [K]: of the thermostat; with nve, of the first velocities. 300 unless given.")] = None,
    timestep: Annotated[float, typer.Option(help="Timestep [fs]; 0.5 with hydrogen, 1 to 2 without.")] = 0.5,
    steps: Annotated[int | None, typer.Option(help="Number of steps; 1000 unless --steps or --time-ps is given.")] = None,
    time_ps: Annotated[float | None, typer.Option("--time-ps", help="Simulated time [ps], instead of --steps.")] = None,
    every: Annotated[int, typer.Option(help="Write a frame every so many steps.")] = 10,
    output: Annotated[Path, typer.Option("--output", "-o", help="Trajectory: .extxyz or .xyz, or .h5/.h5md (H5MD).")] = Path("trajectory.extxyz"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the trajectory file if it exists.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of velocities and random forces; the same seed gives the same run.")] = 0,
    precision: Annotated[Precision, typer.Option(help="mixed: network in float32, motion in float64; or all in one.")] = Precision.mixed,
    index: Annotated[int, typer.Option(help="Which frame of the structure file; -1 is the last.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")] = False,
) -> None:
    """Run molecular dynamics with a potential, with the uncertainty of every force in the trajectory."""
    from eqpot.md import simulate
    from eqpot.potential import Potential

    atoms = _read(structure, index)
    kelvin = 300.0 if temperature is None else temperature
    how = _ensemble(ensemble, kelvin, timestep)
    draw = temperature if ensemble is not EnsembleName.nve or temperature is not None or atoms.get_velocities().any() else kelvin
    n_steps = _steps(steps, time_ps, timestep)
    with md_progress(n_steps, quiet=as_json) as progress:
        run = simulate(
            Potential.load(potential),
            atoms,
            how,
            n_steps,
            seed=seed,
            every=every,
            temperature_K=draw if ensemble is EnsembleName.nve else None,
            trajectory=output,
            overwrite=overwrite,
            progress=progress,
            precision=precision.value,
        )
    _print(_summary(run, output), as_json)


def _ensemble(name: EnsembleName, temperature: float, timestep: float) -> Any:
    from eqpot.md import NVE, NVT, Langevin

    if name is EnsembleName.nve:
        return NVE(timestep_fs=timestep)
    return {EnsembleName.nvt: NVT, EnsembleName.langevin: Langevin}[name](temperature_K=temperature, timestep_fs=timestep)


def _steps(steps: int | None, time_ps: float | None, timestep: float) -> int:
    if steps is not None and time_ps is not None:
        raise ConfigError("found both --steps and --time-ps, expected one of them")
    return round(time_ps * 1000 / timestep) if time_ps is not None else 1000 if steps is None else steps


def _read(path: Path, index: int) -> Any:
    """One frame of a structure file, with velocities if it has them."""
    from ase.io import read

    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected a structure")
    kind = "vasp" if path.name in ("POSCAR", "CONTCAR") else STRUCTURE_FORMATS.get(path.suffix)
    if kind is None:
        raise DataError(f"{path}: found suffix '{path.suffix}', expected one of {', '.join(STRUCTURE_FORMATS)}")
    try:
        return read(path, index=index, format=kind)
    except Exception as error:  # ASE's readers raise whatever their parser met
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: frame {index} cannot be read as {kind} ({reason})") from None


@contextmanager
def md_progress(n_steps: int, quiet: bool = False) -> Iterator[Callable[[Any], None] | None]:
    """A bar with what a user watches: temperature, largest uncertainty, speed, time to finish."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if quiet:
        yield None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[news]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("md", total=n_steps, news="compiling …")

        def show(p: Any) -> None:
            news = f"T {p.temperature_K:6.0f} K   max σ {1000 * p.max_atom_std:5.0f} meV/Å   {p.ns_per_day:.3g} ns/day"
            bar.update(task, completed=p.step, news=news)

        yield show


def _summary(run: Any, output: Path) -> dict[str, Any]:
    drift = None if run.conserved_energy is None or len(run) < 2 else run.drift()
    return {
        "trajectory": str(output),
        "frames": len(run),
        "steps": run.n_steps,
        "time_ps": run.n_steps * float(run.time_fs[-1] / max(int(run.step[-1]), 1)) / 1000,
        "mean_temperature_K": float(run.temperature_K.mean()),
        "mean_potential_energy_eV": float(run.potential_energy.mean()),
        "drift_meV_per_atom_per_ps": drift,
        "mean_atom_std_eV_per_A": float(run.atom_std.mean()),
        "max_atom_std_eV_per_A": float(run.atom_std.max()),
        "neighbor_list_rebuilds": run.rebuilds,
        "seconds": run.seconds,
        "ns_per_day": run.ns_per_day,
    }


def _print(summary: dict[str, Any], as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    if as_json:
        typer.echo(json.dumps(summary))
        return
    table = Table(show_header=False)
    for name, value in summary.items():
        table.add_row(name, "—" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value))
    Console().print(table)
