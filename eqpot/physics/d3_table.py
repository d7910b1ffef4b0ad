"""What D3 knows of the elements: covalent radii, sizes, and coefficients of reference compounds; `train/make_d3_table.py` makes the file."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

FILE = Path(__file__).with_name("d3_table.npz")
MOST = 7
"""Reference compounds of an element, at most."""
DIGITS = 1e4
"""C6 and coordination numbers of references are stored as integers, in units of 1/DIGITS: they were published that way."""


class Table(NamedTuple):
    """Of E elements, in atomic units; element k has the atomic number k + 1.

    Attributes:
        radii: covalent radii, those of metals less 10 % [Å].
        sizes: √Q with C8 = 3 C6 √(Q_a Q_b) [bohr].
        coordination: of the references, [E, MOST]; NaN where an element has fewer.
        c6: of two references, [E, E, MOST, MOST] [Hartree bohr⁶]; zero where there is none.
    """

    radii: np.ndarray
    sizes: np.ndarray
    coordination: np.ndarray
    c6: np.ndarray


def pack(radii: np.ndarray, sizes: np.ndarray, references: list[np.ndarray], c6: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of the file; C6 of all references [R, R] is stored as half a matrix of integers."""
    rows, columns = np.tril_indices(len(c6))
    return {
        "radii": radii,
        "sizes": sizes,
        "counts": np.array([len(r) for r in references], np.int8),
        "coordination": np.rint(np.concatenate(references) * DIGITS).astype(np.int32),
        "c6": np.rint(c6[rows, columns] * DIGITS).astype(np.int32),
    }


@lru_cache(maxsize=1)
def load_table(file: Path = FILE) -> Table:
    """Read the file, once."""
    with np.load(file, allow_pickle=False) as stored:
        radii, sizes, counts = stored["radii"], stored["sizes"], stored["counts"].astype(int)
        owner = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        coordination = np.full((len(counts), MOST), np.nan)
        coordination[owner, place] = stored["coordination"] / DIGITS
        rows, columns = np.tril_indices(len(owner))
        c6 = np.zeros((len(counts), len(counts), MOST, MOST))
        for a, b in ((rows, columns), (columns, rows)):
            c6[owner[a], owner[b], place[a], place[b]] = stored["c6"] / DIGITS
    return Table(radii, sizes, coordination, c6)
