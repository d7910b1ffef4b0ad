"""Silicon of Stillinger and Weber as an ASE calculator: an oracle that costs milliseconds.

    E = Σ_{i<j} v₂(r_ij) + Σ_i Σ_{j<k} ε λ (cos θ_jik + 1/3)² exp(γσ/(r_ij − aσ)) exp(γσ/(r_ik − aσ))
    v₂(r) = ε A (B (σ/r)⁴ − 1) exp(σ/(r − aσ))

Reference: F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985).
"""

from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from eqpot.data.distances import pairs
from eqpot.graph import Structure

EPSILON, SIGMA, REACH = 2.1683, 2.0951, 1.8
"""ε [eV], σ [Å] and a."""
A, B, LAMBDA, GAMMA = 7.049556277, 0.6022245584, 21.0, 1.2


class StillingerWeber(Calculator):
    """Energy, forces and stress of silicon."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """See ASE."""
        super().calculate(atoms, properties, system_changes)
        energy, slopes, i, j, vectors = stillinger_weber(Structure.from_atoms(self.atoms))
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, slopes)
        np.add.at(forces, j, -slopes)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if self.atoms.pbc.all():
            virial = np.einsum("pa,pb->ab", vectors, slopes)
            self.results["stress"] = (0.5 * (virial + virial.T) / self.atoms.get_volume())[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def stillinger_weber(structure: Structure) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Energy [eV], its derivative by each pair's vector r_j − r_i [pairs, 3] in eV/Å, and the pairs: i, j, vectors."""
    reach = REACH * SIGMA
    i, j, vectors, r = pairs(structure, reach - 1e-9)
    unit = vectors / r[:, None]
    tail, power = np.exp(SIGMA / (r - reach)), B * (SIGMA / r) ** 4
    two = EPSILON * A * (power - 1) * tail / 2  # each pair is there twice
    d_two = EPSILON * A * tail / 2 * (-4 * power / r - (power - 1) * SIGMA / (r - reach) ** 2)
    gate = np.exp(GAMMA * SIGMA / (r - reach))
    d_gate = -GAMMA * SIGMA / (r - reach) ** 2 * gate
    p, q = _neighbour_pairs(i)
    cosine = np.sum(unit[p] * unit[q], -1)
    bend = cosine + 1 / 3
    three = EPSILON * LAMBDA * bend**2 * gate[p] * gate[q] / 2  # and each triple twice
    slopes = d_two[:, None] * unit
    by_p = (
        EPSILON
        * LAMBDA
        * (
            bend[:, None] * (gate[p] * gate[q] / r[p])[:, None] * 2 * (unit[q] - cosine[:, None] * unit[p])
            + (bend**2 * d_gate[p] * gate[q])[:, None] * unit[p]
        )
    )
    np.add.at(slopes, p, by_p)
    return float(two.sum() + three.sum()), slopes, i, j, vectors


def _neighbour_pairs(i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs of different pairs with the same first atom."""
    order = np.argsort(i, kind="stable")
    counts = np.bincount(i)
    starts = np.concatenate([[0], np.cumsum(counts)])
    p, q = [], []
    for first, count in zip(starts, counts, strict=False):
        mine = order[first : first + count]
        a, b = np.meshgrid(mine, mine, indexing="ij")
        apart = a != b
        p.append(a[apart])
        q.append(b[apart])
    return np.concatenate(p), np.concatenate(q)
