"""Make the table of the dispersion term: what Grimme's D3 knows of the elements H to Pu, found from the answers of the library `dftd3`.

    pip install dftd3 scipy && python train/make_d3_table.py

D3 is evaluated on atoms whose coordination number is set by helium atoms near by ("sites"), far from each other. Without damping the energy of two
sites is −C6/r⁶ − C8/r⁸. C6 of two sites is a mean over reference compounds, with weights e^{−4 (CN − CN_ref)²} that add up to one:

1. CN_ref of an element is what makes C6 along its CN, with a few noble gases, a combination of such weights; found by a fit to 1e-9, and
   rounded to the four digits that were published, after which it must be as good;
2. C6 of all pairs of references is then the solution of linear equations, rounded likewise;
3. √Q of an element, with C8 = 3 C6 √(Q_a Q_b), comes from the energy of a pair of it.

The one table that is not found but given is that of the covalent radii; with other ones no fit would succeed. In the end random sites are compared.
References: S. Grimme et al., J. Chem. Phys. 132, 154104 (2010); P. Pyykkö, M. Atsumi, Chem. Eur. J. 15, 186 (2009): covalent radii, of metals less 10 %;
L. Wittmann et al., Phys. Chem. Chem. Phys. 26, 21379 (2024): references of Fr to Pu, as `dftd3` has them since 1.2.
"""

import argparse
from pathlib import Path

import numpy as np
from dftd3.interface import DispersionModel, RationalDampingParam  # pyright: ignore[reportMissingImports]
from scipy.optimize import least_squares

from eqpot.physics.d3_table import MOST, pack

BOHR = 0.529177210903
RADII = """
0.32 0.46 1.20 0.94 0.77 0.75 0.71 0.63 0.64 0.67 1.40 1.25 1.13 1.04 1.10 1.02 0.99 0.96 1.76 1.54 1.33 1.22 1.21 1.10 1.07 1.04 1.00 0.99 1.01 1.09 1.12
1.09 1.15 1.10 1.14 1.17 1.89 1.67 1.47 1.39 1.32 1.24 1.15 1.13 1.13 1.08 1.15 1.23 1.28 1.26 1.26 1.23 1.32 1.31 2.09 1.76 1.62 1.47 1.58 1.57 1.56 1.55
1.51 1.52 1.51 1.50 1.49 1.49 1.48 1.53 1.46 1.37 1.31 1.23 1.18 1.16 1.11 1.12 1.13 1.32 1.30 1.30 1.36 1.31 1.38 1.42 2.01 1.81 1.67 1.58 1.52 1.53 1.54
1.55
"""
"""Covalent radii [Å] of H to Pu."""
COVALENT = np.array(RADII.split(), float)
PROBES = [(number, 0.0) for number in (2, 10, 18, 36, 54, 1)]
GRID = np.arange(0, 12, 0.05)
"""Coordination numbers that an element is asked for."""
Site = tuple[int, float]


def atoms_of(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and positions [bohr] of an atom with a coordination number, and of the helium atoms that give it."""
    number, coordination = site
    count = int(np.ceil(coordination / 0.9))
    if not count:
        return np.array([number]), np.zeros((1, 3))
    radius = 4 / 3 * (COVALENT[number - 1] + COVALENT[1]) / BOHR
    distance = radius / (1 - np.log(count / coordination - 1) / 16)  # where each counts coordination/count
    steps = np.arange(count) + 0.5
    height, turn = 1 - 2 * steps / count, np.pi * (1 + 5**0.5) * steps
    width = np.sqrt(1 - height**2)
    around = distance * np.stack([width * np.cos(turn), width * np.sin(turn), height], -1)
    return np.array([number] + [2] * count), np.concatenate([np.zeros((1, 3)), around])


def coefficients(sites: list[Site], order: int = 6) -> np.ndarray:
    """C6 or C8 of all pairs of sites [Hartree bohr⁶ or ⁸]; the diagonal is zero."""
    edge = int(np.ceil(len(sites) ** (1 / 3)))
    corners = 100.0 * np.stack(np.unravel_index(np.arange(len(sites)), (edge,) * 3), -1)
    numbers, positions = zip(*(atoms_of(site) for site in sites), strict=True)
    first = np.cumsum([0, *map(len, numbers[:-1])])
    model = DispersionModel(np.concatenate(numbers), np.concatenate([p + c for p, c in zip(positions, corners, strict=True)]))
    model.set_realspace_cutoff(1e5, 10.0, 30.0)
    damping = RationalDampingParam(s6=float(order == 6), s8=float(order == 8), s9=0.0, a1=0.0, a2=0.0)
    energies = model.get_pairwise_dispersion(damping)["additive pairwise energy"][np.ix_(first, first)]  # half of each pair
    return -2 * energies * np.linalg.norm(corners[:, None] - corners, axis=-1) ** order


def weights(coordination: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Of the references, for each coordination number; rows add up to one."""
    exponent = -4 * (coordination[:, None] - references) ** 2
    found = np.exp(exponent - exponent.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def misfit(references: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """What remains of a curve after the best combination of the weights of these references."""
    basis = weights(GRID, references)
    return (basis @ np.linalg.lstsq(basis, curve, rcond=None)[0] - curve).ravel()


def fitted(start: np.ndarray, curve: np.ndarray) -> tuple[float, np.ndarray]:
    """Size of the misfit, and references that minimise it."""
    found = least_squares(misfit, start, args=(curve,), bounds=(-0.2, 14.5), x_scale=0.1, xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=200)
    return float(np.sqrt(2 * found.cost)), np.sort(found.x)


def references_of(number: int) -> np.ndarray:
    """Coordination numbers of the reference compounds of an element."""
    curve = coefficients([(number, c) for c in GRID.tolist()] + PROBES)[: len(GRID), len(GRID) :]
    curve = curve / curve.mean(0)
    change = np.append(np.linalg.norm(np.diff(curve, axis=0), axis=1), 0)
    start, rng = [0.0], np.random.default_rng(0)
    for k in range(1, len(change) - 1):  # C6 changes most half-way between two references
        if change[k] > 1e-9 and change[k - 1] < change[k] >= change[k + 1]:
            start.append(max(GRID[k] + GRID[k + 1] - start[-1], start[-1] + 0.1))
    best = fitted(np.array(start), curve)
    for trial in range(120):  # two references may lie too near each other to be seen
        if best[0] < 1e-9:
            break
        more = rng.choice(start, 1 + trial // 40) + rng.uniform(-0.6, 1.5, 1 + trial // 40)
        best = min(best, fitted(np.clip(np.append(start, more), 0, 12), curve), key=lambda found: found[0])
    rounded = np.abs(best[1].round(4))
    error = np.linalg.norm(misfit(rounded, curve))
    if error > 1e-9 or len(rounded) > MOST:
        raise SystemExit(f"element {number}: references {best[1]} leave {error:.1e}, expected at most 1e-9 and {MOST} references")
    print(f"{number:3d}: {rounded}, misfit {error:.0e}", flush=True)
    return rounded


def reference_coefficients(references: list[np.ndarray]) -> np.ndarray:
    """C6 of all pairs of references, [references, references] in order of the elements, rounded to four digits."""
    sites = [(number, c) for number, found in enumerate(references, 1) for c in found]
    twice = coefficients(sites * 2)  # each site meets itself as well
    measured = twice[: len(sites), len(sites) :]
    mixing, at = np.zeros(measured.shape), 0
    for found in references:
        mixing[at : at + len(found), at : at + len(found)] = weights(found, found)
        at += len(found)
    exact = np.linalg.solve(mixing, np.linalg.solve(mixing, measured).T)
    print(f"C6: rounding to four digits changes them by {np.abs(exact.round(4) - exact).max():.1e} at most")
    return exact.round(4)


def error_at_random_sites(references: list[np.ndarray], c6: np.ndarray) -> float:
    """Largest relative error of C6 between atoms of all elements at coordination numbers from 0 to 7."""
    rng, elements = np.random.default_rng(1), np.arange(1, len(references) + 1)
    sites = [(int(number), float(c)) for number, c in zip(np.tile(elements, 4), rng.uniform(0, 7, 4 * len(elements)), strict=True)]
    owner = np.repeat(elements, [len(found) for found in references])
    mixing = np.zeros((len(sites), len(owner)))
    for row, (number, c) in zip(mixing, sites, strict=True):
        row[owner == number] = weights(np.array([c]), references[number - 1])[0]
    others = ~np.eye(len(sites), dtype=bool)
    return float(np.max(np.abs((mixing @ c6 @ mixing.T)[others] / coefficients(sites)[others] - 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "eqpot" / "physics" / "d3_table.npz")
    out = parser.parse_args().out
    references = [references_of(number) for number in range(1, len(COVALENT) + 1)]
    c6 = reference_coefficients(references)
    pairs = [(number, 0.0) for number in range(1, len(COVALENT) + 1)] * 2
    ratio = coefficients(pairs, 8) / np.where(np.eye(len(pairs)), 1, coefficients(pairs))
    sizes = np.sqrt(np.diag(ratio[: len(COVALENT), len(COVALENT) :]) / 3)

    error = error_at_random_sites(references, c6)
    print(f"C6 of random sites: relative error {error:.1e}")
    if not error < 1e-8:
        raise SystemExit("the table does not give back what the library says; nothing was written")
    np.savez_compressed(out, allow_pickle=False, **pack(COVALENT, sizes, references, c6))
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
