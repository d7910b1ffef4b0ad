"""What a run needs to go on after it was stopped, in one file that is replaced as a whole.

The file (safetensors) holds the state of all systems, the room that neighbours had, how far trajectory and log reached, and what the run is: potential,
systems and settings. A run is only continued by the same run.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqpot.core.errors import SimulationError
from eqpot.core.files import replace_file
from eqpot.core.version import VERSION
from eqpot.graph.cell_list import Grid
from eqpot.md.bias import Bias
from eqpot.md.ensembles import Ensemble
from eqpot.md.forces import Sizes
from eqpot.md.systems import System
from eqpot.md.trajectory import guarded
from eqpot.potential import Potential

FORMAT = 1
EXTENDABLE = ("n_steps", "max_temperature_K", "min_distance", "max_atom_std", "max_novelty", "skin")
"""Settings that may change when a run is continued: they say when it ends and how fast it is, not what it computes."""


@dataclass(frozen=True, eq=False)
class Restart:
    """Where a run stood.

    Attributes:
        arrays: of the driver.
        sizes: room for neighbours.
        places: how far each file reached, in its own measure.
        identity: what the run is, flat and JSON-able.
    """

    arrays: dict[str, np.ndarray]
    sizes: Sizes
    places: list[int]
    identity: dict[str, Any]


def identity(
    potential: Potential,
    systems: list[System],
    velocities: list[np.ndarray],
    ensembles: list[Ensemble],
    biases: tuple[Bias, ...],
    **settings: Any,
) -> dict[str, Any]:
    """What a run is: equal for runs that compute the same thing."""
    how: dict[str, Any] = {}
    for number, ensemble in enumerate(ensembles):
        prefix = f"{number}." if len(ensembles) > 1 else ""
        how[f"{prefix}ensemble"] = type(ensemble).__name__
        how |= {f"{prefix}{key}": _plain(value) for key, value in vars(ensemble).items() if key != "_"}
    bias = [[type(b).__name__, *(_plain(v) for v in vars(b).values())] for b in biases]
    start = [a for s, v in zip(systems, velocities, strict=True) for a in (*vars(s.structure).values(), s.masses, s.fixed, v)]
    what = {
        "potential": fingerprint((potential.params, potential.judge), repr(potential.spec), potential.dtype),
        "atoms": fingerprint(start),
    }
    return json.loads(json.dumps(what | how | {"biases": bias} | settings))


def fingerprint(tree: Any, *texts: str) -> str:
    """Hash of arrays and texts."""
    digest = hashlib.sha256("\n".join(texts).encode())
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()[:16]


def save_restart(path: Path, restart: Restart) -> None:
    """Replace the file, all or nothing."""
    from safetensors.numpy import save

    header = {"format": FORMAT, "version": VERSION, "sizes": asdict(restart.sizes), "places": restart.places, "run": restart.identity}
    content = save({k: np.array(v, order="C") for k, v in restart.arrays.items()}, {"eqpot": json.dumps(header)})
    guarded(path, replace_file, path, content)


def load_restart(path: Path, now: dict[str, Any]) -> Restart:
    """Where the run stood, if it is the same run.

    Raises:
        SimulationError: for a file that is none, or that of another run, naming the difference.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "numpy") as file:
            header = json.loads((file.metadata() or {})["eqpot"])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        found, sizes, places = header["run"], header["sizes"], header["places"]
        grid = Grid(tuple(sizes["grid"]["bins"]), tuple(sizes["grid"]["reach"]), sizes["grid"]["per_bin"], sizes["grid"]["slots"])
    except Exception as error:  # safetensors has errors of its own
        raise SimulationError(f"{path}: cannot be read as a restart file ({str(error).splitlines()[0]})") from None
    for key in sorted(now.keys() | found.keys(), key=lambda key: (key in ("potential", "atoms"), key)):
        if now.get(key) != found.get(key) and key not in EXTENDABLE:
            raise SimulationError(
                f"{path}: belongs to another run: {key} was {found.get(key)!r}, now {now.get(key)!r}; "
                "restore it to go on, or write to another trajectory"
            )
    return Restart(arrays, Sizes(grid, sizes["slots"], sizes["stride"]), places, found)


def _plain(value: Any) -> Any:
    """A setting as JSON spells it."""
    if hasattr(value, "first") and hasattr(value, "last"):
        return {"first": _plain(value.first), "last": _plain(value.last)}
    return np.asarray(value).tolist() if not isinstance(value, str | int | float | bool) else value
