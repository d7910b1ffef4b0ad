"""New structures from old ones, as a list of methods says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eqpot.active.generate_cells import strained, surfaces, with_interstitials, with_vacancies
from eqpot.active.generate_config import MD, Dimer, GenerateConfig, Method, generate_config
from eqpot.active.generate_md import md_frames
from eqpot.active.generate_molecules import dimers, torsions
from eqpot.active.generate_rattle import rattled
from eqpot.active.generate_record import Generated, Missing, Screen, content_hash
from eqpot.core.elements import symbol
from eqpot.core.errors import ConfigError, SimulationError, StructureError
from eqpot.graph.structure import Structure
from eqpot.oracles import Oracle
from eqpot.potential import Potential

FUNCTIONS: dict[str, Callable[..., Generated]] = {
    "rattle": rattled,
    "strain": strained,
    "vacancy": with_vacancies,
    "interstitial": with_interstitials,
    "surface": surfaces,
    "torsion": torsions,
    "md": md_frames,
}
"""What makes structures of a start structure, by method; `dimers` needs none."""


def generate(
    config: GenerateConfig | Mapping[str, Any] | Sequence[Any],
    structures: Sequence[Any],
    potential: Potential | None = None,
    oracle: Oracle | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Generated:
    """Apply every method to every start structure.

        generate([{"method": "rattle", "n": 20, "temperature_K": 300}], [atoms]).write("pool.extxyz")

    A start structure that a method cannot use (a molecule that is to be strained) is no error: what it was to give is missing, with the reason.

    Args:
        config: a `GenerateConfig`, or what it is made of; see `generate_config`.
        structures: `ase.Atoms` or `Structure`; one that is there twice is used once, as it would give the same again.
        potential: for rattling along normal modes and for dynamics.
        oracle: for dynamics, in place of a potential.
        progress: called during dynamics with a name, the steps taken and all steps.

    Raises:
        ConfigError: for a configuration with a fault, or one whose methods need what is not given or do not need what is.
        StructureError: for a start structure without meaning.
    """
    settings = config if isinstance(config, GenerateConfig) else generate_config(config)
    starts = {content_hash(s): s for s in (Structure.from_atoms(item).check() for item in structures)}
    if not starts:
        raise ConfigError("found no start structures, expected at least one")
    _check_givens(settings, potential, oracle)
    screen = Screen(settings.nearest, settings.min_distance, settings.tries)
    parts = []
    for entry in settings.methods:
        seed = {} if entry.method == "surface" else {"seed": settings.seed if entry.seed is None else entry.seed}
        givens: dict[str, Any] = _givens(entry, potential, oracle) | seed | {"screen": screen}
        if isinstance(entry, Dimer):
            givens["elements"] = entry.elements or tuple(sorted({symbol(z) for s in starts.values() for z in s.numbers}))
            parts.append(dimers(**(entry.keywords() | givens)))
            continue
        for number, (parent, structure) in enumerate(starts.items()):
            if entry.needs == "driver" and progress:
                givens["progress"] = _named(progress, f"md of structure {number}")
            parts.append(_apply(entry, structure, parent, givens))
    twice = len(structures) - len(starts)
    note = Generated(notes=(f"{twice} of {len(structures)} start structures are there twice and were used once",))
    return Generated.joined([*parts, note] if twice else parts)


def _named(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _apply(entry: Method, structure: Structure, parent: str, givens: dict[str, Any]) -> Generated:
    try:
        return FUNCTIONS[entry.method](structure, **entry.keywords(), **givens)
    except (StructureError, SimulationError) as error:
        count = (entry.n or 1) * (len(entry.temperature_K) if isinstance(entry, MD) and isinstance(entry.temperature_K, tuple) else 1)
        return Generated(missing=(Missing(entry.method, parent, None, str(error), count),))


def _givens(entry: Method, potential: Potential | None, oracle: Oracle | None) -> dict[str, Any]:
    return {"": {}, "potential": {"potential": potential}, "driver": {"potential": potential, "oracle": oracle}}[entry.needs]


def _check_givens(settings: GenerateConfig, potential: Potential | None, oracle: Oracle | None) -> None:
    needs = {entry.needs for entry in settings.methods}
    if "potential" in needs and potential is None:
        raise ConfigError("rattle with hessian needs a potential: found none")
    if "driver" in needs and potential is None and oracle is None:
        raise ConfigError("md needs a potential or an oracle that drives: found none")
    if potential is not None and not needs & {"potential", "driver"}:
        raise ConfigError("found a potential that no method uses, expected md, or rattle with hessian: true")
    if oracle is not None and ("driver" not in needs or potential is not None):
        raise ConfigError("found an oracle that no method uses, expected md, driven by the oracle and not by a potential")
