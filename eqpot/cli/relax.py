"""`eqpot relax`: a minimum of energy from the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import console, facts, kernels, new_file, print_json, progress_bar, status
from eqpot.cli.md import FORMATS, Precision, _read
from eqpot.cli.selection import Head, at_head


class Cell(StrEnum):
    """Choices of --cell."""

    fixed = "fixed"
    isotropic = "isotropic"
    flexible = "flexible"


class MethodName(StrEnum):
    """Choices of --method."""

    lbfgs = "lbfgs"
    fire = "fire"


def relax(
    potential: Annotated[Path, typer.Argument(help="Potential file (.safetensors).", show_default=False)],
    structure: Annotated[Path, typer.Argument(help=f"What to relax: {', '.join(FORMATS)} or POSCAR.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Relaxed structure (.extxyz).")] = Path("relaxed.extxyz"),
    cell: Annotated[Cell, typer.Option(help="fixed; isotropic: size alone; flexible: size and shape.")] = Cell.fixed,
    pressure: Annotated[float, typer.Option(help="In GPa, positive under compression; with a cell that is not fixed.")] = 0.0,
    force_tolerance: Annotated[float, typer.Option(help="Largest force on an atom that counts as none, in eV/Å.")] = 0.01,
    stress_tolerance: Annotated[float, typer.Option(help="Largest stress that counts as none, in GPa.")] = 0.1,
    method: Annotated[MethodName, typer.Option(help="lbfgs: fewest steps; fire: from far away.")] = MethodName.lbfgs,
    steps: Annotated[int, typer.Option(help="Most steps.")] = 1000,
    trajectory: Annotated[Path | None, typer.Option(help="File for all steps (.extxyz).", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    precision: Annotated[
        Precision, typer.Option(help="mixed: network in float32, coordinates in float64; or all in one.")
    ] = Precision.mixed,
    head: Head = None,
    index: Annotated[int, typer.Option(help="Which frame of the structure file; -1 is the last.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Bring atoms, and the cell if wanted, to a minimum of the energy (under pressure, of the enthalpy)."""
    from eqpot.md import minimize
    from eqpot.potential import Potential

    atoms, model = _read(structure, index), at_head(Potential.load(potential), head)
    check_output(output, overwrite)
    options: dict[str, Any] = {"cell": cell.value, "method": method.value, "precision": precision.value, "max_steps": steps}
    options |= {"pressure_GPa": pressure, "force_tolerance": force_tolerance, "stress_tolerance_GPa": stress_tolerance}
    with saving(output), relax_progress(steps) as progress:
        relaxed = minimize.relax(model, atoms, trajectory=trajectory, overwrite=overwrite, progress=progress, **options)
    save(output, [relaxed.atoms])
    summary = _summary(relaxed)
    if as_json:
        print_json(summary | {"output": output})
        return
    rows = [(name.replace("_", " "), shown(value)) for name, value in summary.items() if value is not None]
    rows.append(("kernels", kernels(model.spec)))
    console.print(facts(f"{atoms.get_chemical_formula()}, {'relaxed' if relaxed.converged else 'NOT converged'}", rows))
    console.print(f"\nstructure  {output}")


def _summary(relaxed: Any) -> dict[str, Any]:
    """The relaxation in numbers; units in the names."""
    return {
        "converged": relaxed.converged,
        "steps": relaxed.n_steps,
        "evaluations": relaxed.n_evaluations,
        "energy_eV": relaxed.energy,
        "energy_std_eV": relaxed.energy_std,
        "energy_gained_eV": relaxed.energies[0] - relaxed.energy,
        "max_force_eV_per_A": relaxed.max_force,
        "max_force_std_eV_per_A": relaxed.atom_std.max(),
        "max_stress_GPa": relaxed.max_stress_GPa,
        "volume_A3": relaxed.atoms.get_volume() if relaxed.atoms.pbc.all() else None,
    }


@contextmanager
def relax_progress(steps: int) -> Iterator[Callable[[Any], None]]:
    """A bar for `relax(progress=...)` and `neb(progress=...)`."""
    with progress_bar("news") as bar:
        task = bar.add_task("compiling", total=steps, news="")

        def show(p: Any) -> None:
            news = f"largest force {p.max_force:.3g} eV/Å"
            bar.update(task, description="relaxing", completed=p.n_evaluations - 1, news=news)

        yield show


@contextmanager
def saving(output: Path) -> Iterator[None]:
    """Write what an interrupted search had come to, and say that it is not at its end."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if reached := getattr(stop, "reached", None):
            save(output, reached)
            status.print(f"not converged; where it stood is in {output}")
        raise


def shown(value: Any) -> str:
    """A number for people: energies keep their meV, truths are words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) and abs(value) >= 1 else f"{value:.4g}"


def check_output(path: Path, overwrite: bool) -> None:
    """Complain before the work is done, not after it.

    Raises:
        EqpotError: for a file that exists, another format than extended XYZ, or a folder that does not.
    """
    from eqpot.core.errors import DataError

    if path.suffix not in (".extxyz", ".xyz"):
        raise DataError(f"{path}: found suffix '{path.suffix}', expected .extxyz or .xyz")
    if not path.parent.is_dir():
        raise DataError(f"{path}: found no folder '{path.parent}', expected one to write into")
    new_file(path, overwrite)


def save(path: Path, images: list[Any]) -> None:
    """Write structures with their energies, forces and doubt."""
    from ase.io import write

    write(path, images, format="extxyz")
