"""From files to datasets that can be trusted, and back.

The contract of this room:

- **In**: extended XYZ (plain, .gz, .xz), ASE databases, lists of `ase.Atoms`. A file becomes `Frame`s in eV, Å and e, or one
  error of one line that names file, frame, what was found and what was expected. Nothing is skipped, guessed from content or repaired in
  silence; frames, atoms and file indices count from 0, lines from 1.
- **Labels** are found under the names of `KNOWN` or those the user gives (`LabelKeys`); a label that seems to be there under
  another name is an error, and so are two names of one label that say different things. A label may be missing in some frames (a
  mask, counted by `label_counts`). Units are declared (`Units`) and converted at this door.
- **Stress** has ASE's sign (tension positive). Six numbers are in ASE's order xx, yy, zz, yz, xz, xy. A virial is −volume·stress.
- **`pbc` is the only authority on periodicity**; a file with `Lattice` and without `pbc` is periodic in all directions.
- **Checks of form** happen while reading (shapes, finite numbers, cells); **checks of sense** are `check` and `require_sane` (units, overlaps,
  absurd forces and energies), each finding with a code by which the user can allow it.
- **Datasets** are immutable; their `content_hash` depends on structures and labels alone.
- **Reference energies** come from the user, isolated atoms or least squares, and say when the data do not fix them.
- **Sets larger than memory** are written once to a `Store` and read frame by frame.
- **Out**: extended XYZ that reads back bit for bit; files appear whole or not at all, and replace others only when told.

The room knows no model and does not use JAX; ASE and vesin are imported where they are needed.
"""

from eqpot.data.dataset import Dataset, is_isolated_atom
from eqpot.data.extxyz import read_extxyz
from eqpot.data.extxyz_write import format_frame, write_extxyz
from eqpot.data.inspection import Inspection, inspect
from eqpot.data.io import FORMATS, read, write
from eqpot.data.keys import KNOWN, LabelKeys, Units
from eqpot.data.plausibility import Finding, check, require_sane
from eqpot.data.prepare import StoreWriter, prepare_store
from eqpot.data.reference import ReferenceEnergies, fit_unknown, isolated_energies, reference_energies, references_by_head, subtract
from eqpot.data.statistics import Statistics, statistics
from eqpot.data.store import Frames, Store, group_names, is_store, isolated_atoms, key_numbers, shared_structures
from eqpot.data.stream import FrameStream

__all__ = [
    "FORMATS",
    "KNOWN",
    "Dataset",
    "Finding",
    "FrameStream",
    "Frames",
    "Inspection",
    "LabelKeys",
    "ReferenceEnergies",
    "Statistics",
    "Store",
    "StoreWriter",
    "Units",
    "check",
    "fit_unknown",
    "format_frame",
    "group_names",
    "inspect",
    "is_isolated_atom",
    "is_store",
    "isolated_atoms",
    "isolated_energies",
    "key_numbers",
    "prepare_store",
    "read",
    "read_extxyz",
    "reference_energies",
    "references_by_head",
    "require_sane",
    "shared_structures",
    "statistics",
    "subtract",
    "write",
    "write_extxyz",
]
