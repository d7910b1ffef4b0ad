"""How far σ can be trusted: coverage, ranking and detection of what is new, for every method on the same potential.

python -m benchmarks.uncertainty 3bpa ethanol_50 ethanol_950 si       trains what is missing in runs/uncertainty/, then scores

The ensemble is calibrated on structures held out of its training set. `global factors` is the baseline: one factor for all energies and one for all
forces, by maximum likelihood. `again` is the isotonic calibration fitted anew to 100 structures of the test's own distribution, and scored on the others.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.build import bulk

from benchmarks.common import table, write
from eqpot.core.config import build, load_yaml, override
from eqpot.data import Dataset, read
from eqpot.graph import Structure
from eqpot.potential import Calibration, Potential, QuantityCalibration, Trust
from eqpot.training import FitConfig, fit
from eqpot.training.setup import load_data
from eqpot.uncertainty import auroc, ause, calibrate, collect, ence, fit_domain, fit_last_layer, nll, spearman
from eqpot.uncertainty.calibrate import fit_calibration

DATA = "../shared/data"
SMALL = ["ensemble.members=4", "model.hidden=32x0e + 32x1o"]
ETHANOL = [f"data.train=[{DATA}/rmd17/ethanol_train_01.extxyz.gz, {DATA}/rmd17/isolated_atoms.extxyz.gz]"]
CASES = {  # recipe, changes, tests; the first test is of the distribution that was trained on
    "3bpa": (
        "3bpa",
        [*SMALL, "data.valid=40", "data.test=80", "training.epochs=60"],
        {t: f"3bpa/proxytest_{t}" for t in ("300K", "600K", "1200K")},
    ),
    "ethanol_50": ("rmd17_50", [*SMALL, "data.test=null", "training.epochs=500"], {"test": "rmd17/ethanol_test_01"}),
    "ethanol_950": ("rmd17", [*SMALL, *ETHANOL, "data.test=null", "training.epochs=32"], {"test": "rmd17/ethanol_test_01"}),
    "si": ("mlearn_si", ["ensemble.members=4", "data.test=40", "training.epochs=30"], {"test": "mlearn/Si_test"}),
}
HELD_OUT = 200
"""Structures of the first test to calibrate with, where the training set has none to spare."""


def main() -> None:
    """Train, calibrate, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--home", type=Path, default=Path("runs/uncertainty"), help="where the runs are")
    options = parser.parse_args()
    for name in options.cases:
        recipe, changes, tests = CASES[name]
        config = build(FitConfig, override(load_yaml(f"train/recipes/{recipe}.yaml"), [*changes, f"name=unc_{name}"]))
        potential = fit(config, folder=options.home / name)
        train, _, held_out, _ = load_data(config)
        sets = {key: read(f"{DATA}/{path}.extxyz.gz") for key, path in tests.items()}
        if held_out is None:
            first = next(iter(sets))
            held_out, sets[first] = sets[first][:HELD_OUT], sets[first][HELD_OUT:]
        rows = judge(replace(potential, trust=Trust()), train, held_out, sets)
        rows["foreign"] = strangers(calibrate(potential, held_out), train, next(iter(sets.values())), FOREIGN[name]())
        rows |= {
            "recipe": recipe,
            "changes": changes,
            "calibration_structures": len(held_out),
            "minutes": round(potential.metadata["seconds"] / 60, 1),
        }
        write(f"uncertainty_{name}", rows)


def judge(potential: Potential, train: Dataset, held_out: Dataset, sets: dict[str, Dataset]) -> dict:
    """Scores of all methods on all sets, and how well what is new is told from what is not."""
    single = potential.member(0)
    layers = {"rigidity": {}, "readouts": {"kind": "bootstrap"}, "readouts, forces": {"kind": "bootstrap", "forces": True}}
    methods = {
        "raw": potential,
        "global factors": replace(potential, trust=Trust(global_factors(potential, held_out))),
        "scale": calibrate(potential, held_out, "scale"),
        "isotonic": calibrate(potential, held_out),
        **{name: calibrate(fit_last_layer(single, train, **how), held_out) for name, how in layers.items()},
    }
    scores = {}
    for name, method in methods.items():
        scores[name] = {key: score(method, frames) for key, frames in sets.items()}
    scores["again"] = {}
    for key, frames in list(sets.items())[1:]:
        order = np.random.default_rng(0).permutation(len(frames))
        scores["again"][key] = score(calibrate(potential, frames[order[:100]]), frames[order[100:]])
    for key in sets:
        table(f"forces, {key}", [{"method": name, **found[key]} for name, found in scores.items() if key in found])
    return {"scores": scores, "detection": detection(methods, train, sets) if len(sets) > 1 else {}}


def curves() -> dict[str, list[Structure]]:
    """What an ethanol potential has not seen: pairs of atoms, a hydrogen pulled off, other molecules of the same elements."""
    files = {
        "pairs of atoms": "ethanol_botnet/test_dimers",
        "H pulled off": "ethanol_botnet/test_H_removal",
        "malonaldehyde": "rmd17/malonaldehyde_test_01",
        "ethanol with methanol": "ethanol_botnet/test_ethanol_methanol",
    }
    return {key: [f.structure for f in read(f"{DATA}/{path}.extxyz.gz", index=slice(0, 200))] for key, path in files.items()}


def phases() -> dict[str, list[Structure]]:
    """Rattled crystals of silicon that are not in its training set: the same volume per atom in other lattices."""
    rng, volume, found = np.random.default_rng(0), 20.02, {}
    for lattice, per_cell in (("sc", 1), ("bcc", 2), ("fcc", 4)):
        cubes = [bulk("Si", lattice, a=(volume * per_cell) ** (1 / 3), cubic=True) * 2 for _ in range(20)]
        for atoms in cubes:
            atoms.rattle(0.05, rng=rng)
        found[lattice] = [Structure.from_atoms(atoms) for atoms in cubes]
    return found


FOREIGN = {"3bpa": lambda: {}, "ethanol_50": curves, "ethanol_950": curves, "si": phases}


def strangers(potential: Potential, train: Dataset, test: Dataset, foreign: dict[str, list[Structure]]) -> dict:
    """Share of structures with an atom outside of the domain, and how well their doubt tells them from the test set."""
    model = fit_domain(potential, train)
    known, rows = model.predict([f.structure for f in test]), []
    inside = np.array([r.structure_doubt for r in known])
    for name, structures in {"test": [f.structure for f in test], **foreign}.items():
        results = [r for r in model.predict(structures) if len(r.numbers) > 1]
        row = {
            "set": name,
            "outside": np.mean([not r.known for r in results]),
            "largest novelty": np.median([r.novelty.max() for r in results]),
        }
        doubt = np.array([r.structure_doubt for r in results])
        rows.append(row | {"doubt": np.median(doubt), "auroc doubt": auroc(inside, doubt)})
    rows = [{k: v if isinstance(v, str) else round(float(v), 4) for k, v in row.items()} for row in rows]
    table("structures with an atom outside of the domain", rows)
    return {row["set"]: row for row in rows}


def global_factors(potential: Potential, held_out: Dataset) -> Calibration:
    """One factor for all energies and one for all forces by maximum likelihood; intervals are those of normal distributions."""
    samples = {name: replace(s, symbols=()) for name, s in collect(held_out.frames, potential.predict_frames(held_out)).items()}
    fitted = fit_calibration(samples, "scale")
    return Calibration("scale", {n: QuantityCalibration({"*": q.maps["*"]}, {"*": ()}) for n, q in fitted.quantities.items()})


def score(potential: Potential, frames: Dataset) -> dict:
    """Scores of the forces on a set: coverage of 90 % intervals of components, ENCE, Spearman's ρ per atom, AUSE, likelihood; ρ and ENCE of energies."""
    results = potential.predict_frames(frames)
    samples = collect(frames.frames, results)
    forces, labels = samples["forces"], [f.labels.forces for f in frames]
    found = {"F RMSE meV/Å": 1000 * np.sqrt((forces.errors**2).mean())}
    if potential.trust.calibration and potential.trust.calibration.quantities["forces"].radii["*"]:
        bounds = [r.interval(0.9).forces for r in results]
        inside = [(low <= f) & (f <= high) for (low, high), f in zip(bounds, labels, strict=True)]
        lengths = [np.linalg.norm(r.forces - f, axis=1) <= r.interval(0.9).force_radius for r, f in zip(results, labels, strict=True)]
        found |= {"cover 90": 100 * np.concatenate(inside).mean(), "vectors": 100 * np.concatenate(lengths).mean()}
    else:
        half = 1.6449 * forces.sigma[:, None] / np.sqrt(3)
        found |= {"cover 90": 100 * (np.abs(forces.errors) <= half).mean(), "vectors": float("nan")}
    pair = (forces.lengths, forces.sigma)
    found |= {"ENCE": ence(*pair), "rho": spearman(*pair), "AUSE": ause(*pair), "NLL": nll(*pair)}
    energy = samples["energy"]
    found |= {"rho E": spearman(energy.lengths, energy.sigma), "ENCE E": ence(energy.lengths, energy.sigma)}
    return {key: round(float(value), 4) for key, value in found.items()}


def detection(methods: dict[str, Potential], train: Dataset, sets: dict[str, Dataset]) -> dict:
    """AUROC of the structures of each other set against the first, by σ, by novelty of each kind, and by their composite."""
    rows = {}
    kinds = {"mahalanobis": {}, "mixture": {"centers": 3}, "landmarks": {"centers": 64}}
    for kind, how in kinds.items():
        model = fit_domain(methods["isotonic"], train, kind, **how)
        results = {key: model.predict_frames(frames) for key, frames in sets.items()}
        for name, one in {
            "sigma": lambda r: float(np.sqrt((r.atom_std**2).mean())),
            "novelty": lambda r: float(np.sqrt((r.novelty**2).mean())),
            "largest novelty": lambda r: float(r.novelty.max()),
            "composite": lambda r: float(r.structure_doubt),
        }.items():
            inside, *outside = (np.array([one(r) for r in found]) for found in results.values())
            rows[f"{kind}: {name}"] = {key: round(auroc(inside, o), 4) for key, o in zip(list(results)[1:], outside, strict=True)}
    table("AUROC against the first set", [{"score": name, **row} for name, row in rows.items()])
    return rows


if __name__ == "__main__":
    main()
