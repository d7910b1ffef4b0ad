"""`eqpot neb`: a path of least energy from the command line."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from eqpot.cli.console import columns, console, facts, kernels, print_json
from eqpot.cli.md import FORMATS, Precision, _read
from eqpot.cli.relax import check_output, relax_progress, save, saving, shown
from eqpot.cli.selection import Head, at_head


class Interpolation(StrEnum):
    """Choices of --interpolation."""

    idpp = "idpp"
    linear = "linear"


def neb(
    potential: Annotated[Path, typer.Argument(help="Potential file (.safetensors).", show_default=False)],
    start: Annotated[Path, typer.Argument(help=f"Relaxed start, the last frame of: {', '.join(FORMATS)} or POSCAR.", show_default=False)],
    end: Annotated[Path, typer.Argument(help="Relaxed end: the same atoms in the same order and cell.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Path, an image after the other (.extxyz).")] = Path("path.extxyz"),
    images: Annotated[int, typer.Option(help="Images in all, both ends among them.")] = 7,
    climb: Annotated[bool, typer.Option(help="Let the highest image climb to the saddle.")] = True,
    spring: Annotated[float, typer.Option(help="Between neighbouring images, in eV/Å².")] = 0.1,
    force_tolerance: Annotated[float, typer.Option(help="Largest force on an atom that counts as none, in eV/Å.")] = 0.05,
    steps: Annotated[int, typer.Option(help="Most steps.")] = 500,
    interpolation: Annotated[Interpolation, typer.Option(help="First guess: idpp or linear.")] = Interpolation.idpp,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    precision: Annotated[
        Precision, typer.Option(help="mixed: network in float32, coordinates in float64; or all in one.")
    ] = Precision.mixed,
    head: Head = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find the path of least energy between two minima, its barrier and its saddle. Relax both ends first (`eqpot relax`)."""
    from eqpot.md.neb import neb as find_path
    from eqpot.potential import Potential

    first, last, model = _read(start, -1), _read(end, -1), at_head(Potential.load(potential), head)
    check_output(output, overwrite)
    options: dict[str, Any] = {"climb": climb, "spring": spring, "force_tolerance": force_tolerance, "max_steps": steps}
    options |= {"interpolation": interpolation.value, "precision": precision.value}
    with saving(output), relax_progress(steps) as progress:
        path = find_path(model, first, last, images, progress=progress, **options)
    save(output, path.images)
    summary = _summary(path)
    if as_json:
        print_json(summary | {"energies_eV": path.energies, "reaction_coordinate_A": path.reaction_coordinate, "output": output})
        return
    rows = [(name.replace("_", " "), shown(value)) for name, value in summary.items()]
    rows.append(("kernels", kernels(model.spec)))
    console.print(facts(f"{first.get_chemical_formula()}, {'path found' if path.converged else 'NOT converged'}", rows))
    console.print(columns("\npath", ["image", "length Å", "E − E(start) eV"], _table(path)))
    console.print(f"\nimages  {output}")


def _table(path: Any) -> list[tuple[str, str, str]]:
    marks = {path.highest: " highest"}
    energies = path.energies - path.energies[0]
    return [
        (f"{k}{marks.get(k, '')}", f"{x:.3f}", f"{e:.4f}") for k, (x, e) in enumerate(zip(path.reaction_coordinate, energies, strict=True))
    ]


def _summary(path: Any) -> dict[str, Any]:
    """The path in numbers; units in the names."""
    return {
        "converged": path.converged,
        "barrier_eV": path.barrier_eV,
        "reverse_barrier_eV": path.reverse_barrier_eV,
        "highest_image": path.highest,
        "energy_std_of_highest_eV": float(path.energy_std[path.highest]),
        "length_A": float(path.reaction_coordinate[-1]),
        "max_force_eV_per_A": path.max_force,
        "evaluations": path.n_evaluations,
    }
