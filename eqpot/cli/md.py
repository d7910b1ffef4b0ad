"""`eqpot md`: molecular dynamics from the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import console, facts, kernels, print_json, progress_bar
from eqpot.cli.selection import Head, at_head
from eqpot.core.errors import ConfigError, DataError

FORMATS = {".xyz": "extxyz", ".extxyz": "extxyz", ".cif": "cif", ".vasp": "vasp", ".pdb": "proteindatabank", ".db": "db"}
"""Suffix of a structure file → ASE's name of its format; a format is never guessed from the content."""
DEFAULT_TEMPERATURE = 300.0


class EnsembleName(StrEnum):
    """Choices of --ensemble."""

    nve = "nve"
    nvt = "nvt"
    csvr = "csvr"
    langevin = "langevin"
    npt = "npt"


class CellShape(StrEnum):
    """Choices of --cell."""

    isotropic = "isotropic"
    anisotropic = "anisotropic"
    flexible = "flexible"


class Precision(StrEnum):
    """Choices of --precision."""

    mixed = "mixed"
    float32 = "float32"
    float64 = "float64"


def md(
    potential: Annotated[Path, typer.Argument(help="Potential file (.safetensors).", show_default=False)],
    structure: Annotated[Path, typer.Argument(help=f"Where the atoms start: {', '.join(FORMATS)} or POSCAR.", show_default=False)],
    ensemble: Annotated[
        EnsembleName,
        typer.Option(
            help="nve: constant energy; constant temperature by nvt: Nosé-Hoover thermostat, csvr: velocity rescaling, langevin: random thermostat; "
            "npt: constant temperature and pressure."
        ),
    ] = EnsembleName.nvt,
    temperature: Annotated[
        float | None,
        typer.Option(help="In K: of the thermostat, 300 unless given; with nve, of newly drawn velocities.", show_default=False),
    ] = None,
    final_temperature: Annotated[
        float | None, typer.Option(help="In K: go from --temperature to this, linearly over the run.", show_default=False)
    ] = None,
    pressure: Annotated[float, typer.Option(help="In GPa, with npt.")] = 0.0,
    cell: Annotated[CellShape, typer.Option(help="How the cell moves, with npt.")] = CellShape.isotropic,
    timestep: Annotated[float, typer.Option(help="Timestep in fs: 0.5 with hydrogen, 1 to 2 without.")] = 0.5,
    steps: Annotated[int | None, typer.Option(help="Number of steps; 1000 unless this or --time-ps is given.", show_default=False)] = None,
    time_ps: Annotated[
        float | None, typer.Option("--time-ps", help="Simulated time in ps, instead of --steps.", show_default=False)
    ] = None,
    every: Annotated[int, typer.Option(help="Steps between frames.")] = 10,
    output: Annotated[Path, typer.Option("--output", "-o", help="Trajectory: .extxyz, .xyz, or .h5, .h5md (H5MD).")] = Path("md.extxyz"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing trajectory.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run that was writing to the trajectory, exactly; --steps counts from its start."),
    ] = False,
    max_novelty: Annotated[
        float | None,
        typer.Option(help="Stop when an atom is this far from what the potential has seen; 1 is the edge.", show_default=False),
    ] = None,
    max_uncertainty: Annotated[
        float | None, typer.Option(help="In eV/Å: stop when the uncertainty of an atom's force is above this.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of velocities and random forces; the same seed gives the same run.")] = 0,
    precision: Annotated[Precision, typer.Option(help="mixed: network in float32, motion in float64; or all in one.")] = Precision.mixed,
    index: Annotated[int, typer.Option(help="Which frame of the structure file; -1 is the last.")] = 0,
    mesh: Annotated[
        bool, typer.Option("--mesh", help="Charges of a large crystal interact on a mesh: faster from some hundred atoms on.")
    ] = False,
    head: Head = None,
    allow_direct_forces: Annotated[
        bool, typer.Option("--allow-direct-forces", help="Run a potential whose forces do not conserve its energy.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run molecular dynamics, with the uncertainty of every force in the trajectory.

    Velocities in the structure file are used; where there are none, they are drawn at the temperature.
    """
    from eqpot.md import simulate
    from eqpot.potential import Potential

    atoms, model = _read(structure, index), at_head(Potential.load(potential), head)
    model = model.using(mesh=atoms) if mesh else model
    moving = bool(atoms.get_velocities().any())
    how, draw = _ensemble(ensemble, temperature, final_temperature, timestep, pressure, cell.value, moving)
    n_steps = _steps(steps, time_ps, timestep)
    options: dict[str, Any] = {"seed": seed, "every": every, "temperature_K": draw, "precision": precision.value}
    options |= {
        "allow_direct_forces": allow_direct_forces,
        "resume": resume,
        "max_atom_std": max_uncertainty,
        "max_novelty": max_novelty,
        "keep": False,
    }
    with md_progress(n_steps) as progress:
        run = simulate(model, atoms, how, n_steps, trajectory=output, overwrite=overwrite, progress=progress, **options)
    summary = _summary(run, timestep)
    if as_json:
        print_json(summary | {"trajectory": output})
        return
    rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in summary.items() if value is not None]
    rows.append(("kernels", kernels(model.spec)))
    console.print(facts(f"{atoms.get_chemical_formula()}, {type(how).__name__}", rows))
    console.print(f"\ntrajectory  {output}")


def _ensemble(
    name: EnsembleName, first: float | None, last: float | None, timestep: float, pressure: float, cell: str, moving: bool
) -> tuple[Any, float | None]:
    """The ensemble, and the temperature at which to draw velocities where that is not the ensemble's own affair."""
    from eqpot.md import CSVR, NPT, NVE, NVT, Langevin, Ramp

    if name is EnsembleName.nve:
        if last is not None:
            raise ConfigError("--final-temperature: found with nve, expected a thermostat")
        return NVE(timestep_fs=timestep), DEFAULT_TEMPERATURE if first is None and not moving else first
    if name is not EnsembleName.npt and (pressure or cell != "isotropic"):
        raise ConfigError(f"--pressure and --cell: found with {name.value}, expected npt")
    start = DEFAULT_TEMPERATURE if first is None else first
    temperature = start if last is None else Ramp(start, last)
    if name is EnsembleName.npt:
        return NPT(temperature, pressure, timestep_fs=timestep, cell=cell), None
    kinds = {EnsembleName.nvt: NVT, EnsembleName.csvr: CSVR, EnsembleName.langevin: Langevin}
    return kinds[name](temperature, timestep_fs=timestep), None


def _steps(steps: int | None, time_ps: float | None, timestep: float) -> int:
    if steps is not None and time_ps is not None:
        raise ConfigError("found both --steps and --time-ps, expected one of them")
    if time_ps is None:
        return 1000 if steps is None else steps
    if not 0 < time_ps < 1e9:
        raise ConfigError(f"--time-ps: found {time_ps:g}, expected a time above 0")
    return round(time_ps * 1000 / timestep)


def _read(path: Path, index: int) -> Any:
    """One frame of a structure file, with velocities if it has them."""
    from ase.io import read

    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected a structure")
    suffix = Path(path.stem).suffix if path.suffix in (".gz", ".xz") else path.suffix
    kind = "vasp" if path.name in ("POSCAR", "CONTCAR") else FORMATS.get(suffix)
    if kind is None:
        raise DataError(f"{path}: found suffix '{path.suffix}', expected one of {', '.join(FORMATS)}")
    try:
        return read(path, index=index, format=kind)
    except Exception as error:  # ASE's readers raise whatever their parser met
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: frame {index} cannot be read as {kind} ({reason})") from None


@contextmanager
def md_progress(n_steps: int) -> Iterator[Callable[[Any], None]]:
    """A bar for `simulate(progress=...)` with what a user watches: temperature, largest uncertainty, speed, time to finish."""
    with progress_bar("news") as bar:
        task = bar.add_task("compiling", total=n_steps, news="")

        def show(p: Any) -> None:
            news = f"T {p.temperature_K:.0f} K  max σ {1000 * p.max_atom_std:.0f} meV/Å  {p.ns_per_day:.3g} ns/day"
            bar.update(task, description="dynamics", completed=p.step, news=news)

        yield show


def _summary(run: Any, timestep: float) -> dict[str, Any]:
    """The run in numbers; units in the names. One that was taken up at its end has no new frames, and no means."""

    def mean(values: Any) -> Any:
        return None if values is None or not len(values) else values.mean()

    return {
        "steps": run.n_steps,
        "frames": len(run),
        "time_ps": run.n_steps * timestep / 1000,
        "mean_temperature_K": mean(run.temperature_K),
        "mean_potential_energy_eV": mean(run.potential_energy),
        "mean_pressure_GPa": mean(run.pressure_GPa),
        "final_volume_A3": run.final.get_volume() if run.final.cell.rank == 3 else None,
        "energy_drift_meV_per_atom_per_ps": run.drift() if run.conserved_energy is not None and len(run) > 1 else None,
        "mean_force_std_eV_per_A": mean(run.mean_atom_std),
        "max_force_std_eV_per_A": run.max_atom_std.max() if len(run) else None,
        "neighbor_list_rebuilds": run.rebuilds,
        "seconds": run.seconds,
        "ns_per_day": run.ns_per_day,
    }
