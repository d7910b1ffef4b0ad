"""Chemical symbols and standard atomic masses (IUPAC, through ASE's table)."""

from functools import lru_cache

import numpy as np

from eqpot.core.errors import StructureError, did_you_mean

MAX_ATOMIC_NUMBER = 118


@lru_cache(maxsize=1)
def _symbols() -> tuple[str, ...]:
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[: MAX_ATOMIC_NUMBER + 1])


def symbol(number: int | np.integer) -> str:
    """Chemical symbol of an atomic number: `symbol(8) == 'O'`."""
    return _symbols()[int(number)]


def atomic_number(name: str) -> int:
    """Atomic number of a chemical symbol.

    Raises:
        StructureError: when there is no such element; `X` (a dummy) is none.
    """
    known = _symbols()[1:]
    if name not in known:
        raise StructureError(f"'{name}' is not a chemical element ({did_you_mean(name, known)})")
    return known.index(name) + 1


def mass(numbers: np.ndarray) -> np.ndarray:
    """Standard atomic masses [amu] of atomic numbers."""
    from ase.data import atomic_masses

    return np.asarray(atomic_masses)[np.asarray(numbers)]
