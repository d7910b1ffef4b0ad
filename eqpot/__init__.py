"""eqpot: equivariant interatomic potentials with honest uncertainty.

    import eqpot

    data = eqpot.read("train.extxyz")
    potential = eqpot.fit({"ensemble": {"members": 4}}, data)
    result = potential.predict(atoms)          # energy, forces, stress, energy_std, forces_std
    run = eqpot.simulate(potential, atoms, eqpot.NVT(temperature_K=300), n_steps=1000)

Units: eV, Å, amu, e, K; time in fs, pressure in GPa at the door. Nothing heavy is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eqpot.core.version import VERSION

__version__ = VERSION

_HOME = {
    "Dataset": "eqpot.data",
    "read": "eqpot.data",
    "write": "eqpot.data",
    "Structure": "eqpot.graph",
    "Potential": "eqpot.potential",
    "FitConfig": "eqpot.training",
    "fit": "eqpot.training",
    "evaluate": "eqpot.training",
    "calibrate": "eqpot.uncertainty",
    "fit_domain": "eqpot.uncertainty",
    "fit_last_layer": "eqpot.uncertainty",
    "CSVR": "eqpot.md",
    "NPT": "eqpot.md",
    "NVE": "eqpot.md",
    "NVT": "eqpot.md",
    "Langevin": "eqpot.md",
    "neb": "eqpot.md",
    "relax": "eqpot.md",
    "simulate": "eqpot.md",
    "simulate_many": "eqpot.md",
    "EqpotError": "eqpot.core.errors",
    "use_compilation_cache": "eqpot.core.cache",
}

__all__ = [
    "CSVR",
    "NPT",
    "NVE",
    "NVT",
    "Dataset",
    "EqpotError",
    "FitConfig",
    "Langevin",
    "Potential",
    "Structure",
    "calibrate",
    "evaluate",
    "fit",
    "fit_domain",
    "fit_last_layer",
    "neb",
    "read",
    "relax",
    "simulate",
    "simulate_many",
    "use_compilation_cache",
    "write",
]

if TYPE_CHECKING:
    from eqpot.core.cache import use_compilation_cache
    from eqpot.core.errors import EqpotError
    from eqpot.data import Dataset, read, write
    from eqpot.graph import Structure
    from eqpot.md import CSVR, NPT, NVE, NVT, Langevin, neb, relax, simulate, simulate_many
    from eqpot.potential import Potential
    from eqpot.training import FitConfig, evaluate, fit
    from eqpot.uncertainty import calibrate, fit_domain, fit_last_layer


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'eqpot' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
