"""How much of a batch is padding, on real sets, in size classes and packed by atoms.

python -m benchmarks.padding
"""

import numpy as np

from benchmarks.common import SHARED, write
from eqpot.data import Dataset, is_isolated_atom, read
from eqpot.training.batches import Batches
from eqpot.training.samples import make_samples

SETS = {
    "rMD17 ethanol + aspirin": ("rmd17/ethanol_train_01", "rmd17/aspirin_train_01"),
    "3BPA": ("3bpa/train_300K",),
    "monbtaw": ("monbtaw/train_unary", "monbtaw/train_binary"),
    "spice_diverse": tuple(
        f"spice_diverse/{name}"
        for name in ("des370k_dimers", "des370k_monomers", "dipeptides", "pubchem", "qmugs", "solvated_amino_acids", "water")
    ),
}
CUTOFF = 5.0
MODES = {
    "size classes of 8": {"batch_size": 8},
    "packed, 256 atoms": {"batch_size": 1, "batch_atoms": 256},
    "packed, 512 atoms": {"batch_size": 1, "batch_atoms": 512},
}


def main() -> None:
    """Print a table of padded atoms and neighbour slots in per cent."""
    rows = {}
    print(f"{'set':26s}" + "".join(f"{mode:>24s}" for mode in MODES))
    for name, files in SETS.items():
        frames = read([str(SHARED / f"{file}.extxyz.gz") for file in files])
        frames = Dataset(tuple(f for f in frames if not is_isolated_atom(f)))
        samples = make_samples(frames, frames.elements, CUTOFF, np.zeros(len(frames.elements)))
        rows[name] = {
            mode: dict(zip(("atoms", "slots"), Batches(samples, weights=np.ones((1, len(samples))), **how).padding, strict=True))
            for mode, how in MODES.items()
        }
        print(f"{name:26s}" + "".join(f"{100 * r['atoms']:15.1f} / {100 * r['slots']:4.1f} %" for r in rows[name].values()), flush=True)
    write("padding", rows)


if __name__ == "__main__":
    main()
