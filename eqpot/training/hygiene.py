"""Hygiene with a trained potential: its forces, energies and descriptors judge the labels, also those it was trained on.

A network that has seen a wrong label has bent towards it less than towards the many right ones; with a robust loss (`loss.huber`) hardly at all.
What remains of the bending in the energies is undone by a ridge fit of the residuals on the descriptors with the suspicious frames left out.
See `eqpot.data.hygiene` and docs/hygiene.md.
"""

import numpy as np

from eqpot.data import Dataset
from eqpot.data.hygiene import Examination, Opinion, examine_labels
from eqpot.potential import Potential
from eqpot.training.metrics import evaluate


def examine(dataset: Dataset, potential: Potential | None = None) -> Examination:
    """Find frames whose labels or structures are worth a look by a human.

    Args:
        dataset: labelled frames, in training or not.
        potential: judges the labels; without one, the best pair potential of the set does.

    Returns:
        the suspects with their reasons, steps between sources, duplicates, leverages and leave-one-out residuals of the energies.

    Raises:
        StructureError: naming the origin of a frame that the potential cannot judge, such as one with an element that it does not know.
    """
    return examine_labels(dataset, opinion_of(potential, dataset) if potential is not None and len(dataset) else None)


def opinion_of(potential: Potential, dataset: Dataset) -> Opinion:
    """Energies, forces and descriptors by a potential; the descriptors are those of the first member, summed over the atoms of each element."""
    results = evaluate(potential, dataset).results
    numbers = np.unique(np.concatenate([f.structure.numbers for f in dataset]))
    features = potential.descriptors([f.structure for f in dataset])
    sums = [np.concatenate([rows[f.structure.numbers == z].sum(0) for z in numbers]) for f, rows in zip(dataset, features, strict=True)]
    return Opinion(np.array([r.energy for r in results]), [r.forces for r in results], np.array(sums))
