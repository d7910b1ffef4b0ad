"""How many planted faults `examine` finds: 5 % of the frames of real sets are mislabelled in mixed ways, then looked for.

python -m benchmarks.hygiene --sets ethanol 3bpa Si --seeds 0 1 2

Per set and seed: plant; look without a potential; leave out what was found; train a small potential on the rest, in which the finer faults
still are; look again with it, at all frames. A frame counts as found when any reason names it.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import SHARED, table, write
from eqpot.core.units import ENERGY_UNITS, LENGTH_UNITS
from eqpot.data import Dataset, is_isolated_atom, read
from eqpot.graph import Frame, Labels
from eqpot.training import FitConfig, evaluate, fit
from eqpot.training.hygiene import examine

HERE = Path(__file__).resolve().parents[1]
SETS = {
    "ethanol": (HERE / "train" / "data" / "ethanol_gfn2.extxyz.xz", 60, 8),
    "3bpa": (SHARED / "3bpa" / "train_300K.extxyz.gz", 80, 5),
    "Si": (SHARED / "mlearn" / "Si_train.extxyz.gz", 40, 4),
}
"""File, epochs of training, structures per step."""
EXPECTED = {
    "energy": {"energy"},
    "two atoms": {"force-order", "forces"},
    "two frames": {"force-pairing"},
    "units": {"force-unit", "energy-unit"},
    "force units": {"force-unit"},
    "sign": {"force-sign"},
}
"""Names by which a fault should be called."""
KINDS = ("energy", "two atoms", "two frames", "units", "force units", "sign")
LEAST = 0.2
"""Force faults are planted only where they change some force by at least this [eV/Å]: a crystal at rest has no sign."""
MODEL = {
    "cutoff": 5.0, "hidden": "16x0e + 16x1o", "l_max": 2, "correlation": 2, "n_layers": 2, "radial_hidden": [16, 16], "readout_hidden": 16,
}  # fmt: skip


def relabelled(frame: Frame, energy: float | None = None, forces: Any = None) -> Frame:
    """The frame with another energy or other forces."""
    old = frame.labels
    labels = Labels(old.energy if energy is None else energy, old.forces if forces is None else forces, old.stress)
    return frame.replace(labels=labels)


def fault(kind: str, frames: list[Frame], k: int, rng: np.random.Generator) -> dict[int, Frame]:
    """Frames to be replaced so that frame k has a fault of the kind; empty where it would change too little."""
    frame, forces = frames[k], frames[k].labels.forces
    if kind == "energy":
        shift = rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(0.05), np.log(2.0)))
        return {k: relabelled(frame, frame.labels.energy + shift)}
    factor = {"sign": -1.0}.get(kind, 1.0)
    made = {k: relabelled(frame, forces=factor * forces)}
    if kind in ("units", "force units"):
        unit, length = [("kcal/mol", 1.0), ("Hartree", LENGTH_UNITS["Bohr"])][rng.integers(2)]
        energy = ENERGY_UNITS[unit] ** rng.choice([-1, 1]) if unit == "kcal/mol" else 1 / ENERGY_UNITS[unit]
        made = {k: relabelled(frame, frame.labels.energy * energy if kind == "units" else None, forces * energy * length)}
    if kind == "two atoms":
        a, b = rng.choice(len(frame), 2, replace=False)
        swapped = forces.copy()
        swapped[[a, b]] = forces[[b, a]]
        made = {k: relabelled(frame, forces=swapped)}
    if kind == "two frames":
        others = [j for j, f in enumerate(frames) if j != k and np.array_equal(f.structure.numbers, frame.structure.numbers)]
        j = int(rng.choice(others)) if others else k
        made = {k: relabelled(frame, forces=frames[j].labels.forces), j: relabelled(frames[j], forces=forces)}
    changed = min(np.abs(made[i].labels.forces - frames[i].labels.forces).max() for i in made)
    return made if changed >= LEAST else {}


def plant(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, dict[int, str]]:
    """The set with a share of its frames mislabelled, and which fault each has; kinds in turn."""
    rng = np.random.default_rng(seed)
    frames, planted, wanted, faults = list(dataset), {}, max(6, round(share * len(dataset))), 0
    for k in rng.permutation(len(frames)).tolist():
        kind = KINDS[faults % len(KINDS)]
        made = fault(kind, list(dataset), k, rng) if k not in planted and not is_isolated_atom(frames[k]) else {}
        if made and not planted.keys() & made.keys() and len(planted) < wanted:
            faults += 1
            for j, frame in made.items():
                frames[j], planted[j] = frame, kind
    return Dataset(tuple(frames)), planted


def train(name: str, dataset: Dataset, seed: int) -> tuple[Any, float]:
    """A small potential trained on the set as it is, and the seconds it took."""
    _, epochs, batch = SETS[name]
    config = {
        "seed": seed,
        "data": {"valid": 0.1, "allow": ["energy-outlier", "large-force", "force-unit", "energy-forces"]},
        "model": MODEL,
        "ensemble": {"members": 1},
        "loss": {"energy": 1000, "forces": 10, "huber": 0.1},
        "optimizer": {"learning_rate": 0.005},
        "training": {"epochs": epochs, "batch_size": batch},
    }
    began = time.perf_counter()
    return fit(FitConfig.model_validate(config), dataset), time.perf_counter() - began


def judge(found: Any, planted: dict[int, str]) -> dict[str, Any]:
    """Precision and recall, recall by kind, how often the kind was named, and which sound frames were suspected."""
    codes = {s.frame: {r.code for r in s.reasons} for s in found.suspects}
    hits = codes.keys() & planted.keys()
    kinds = {kind: [k for k, planted_kind in planted.items() if planted_kind == kind] for kind in KINDS}
    return {
        "found": len(hits),
        "suspects": len(codes),
        "planted": len(planted),
        "precision": len(hits) / max(len(codes), 1),
        "recall": len(hits) / len(planted),
        "recall_by_kind": {kind: [len(hits & set(rows)), len(rows)] for kind, rows in kinds.items()},
        "named_by_kind": {kind: sum(bool(codes.get(k, set()) & EXPECTED[kind]) for k in rows) for kind, rows in kinds.items()},
        "false": [{"frame": s.frame, "score": s.score, "reason": s.reasons[0].text} for s in found.suspects if s.frame not in planted],
    }


def one(name: str, seed: int) -> dict[str, Any]:
    """Plant, look, train, look again."""
    clean = read(SETS[name][0])
    dirty, planted = plant(clean, 0.05, seed)
    began = time.perf_counter()
    without = examine(dirty)
    seconds = time.perf_counter() - began
    rest = dirty[np.setdiff1d(np.arange(len(dirty)), without.frames)]
    potential, training = train(name, rest, seed)
    began = time.perf_counter()
    found = examine(dirty, potential)
    errors = evaluate(potential, [f for f in clean if not is_isolated_atom(f)]).summary()
    shifts = {k: dirty[k].labels.energy - clean[k].labels.energy for k, kind in planted.items() if kind == "energy"}
    row = {
        "set": name,
        "seed": seed,
        "frames": len(clean),
        "atoms": float(np.mean([len(f) for f in clean])),
        "wrong_in_training": sum(k not in set(without.frames.tolist()) for k in planted),
        "without_potential": judge(without, planted),
        "with_potential": judge(found, planted),
        "energy_shifts_eV": [
            [round(v, 4), k in set(found.frames.tolist())] for k, v in sorted(shifts.items(), key=lambda item: abs(item[1]))
        ],
        "errors_against_clean_labels": {n: errors[n]["rmse"] for n in ("energy_per_atom", "forces")},
        "seconds": {"without_potential": seconds, "training": training, "with_potential": time.perf_counter() - began},
    }
    for when in ("without_potential", "with_potential"):
        print(name, seed, when, {k: row[when][k] for k in ("precision", "recall", "recall_by_kind")}, flush=True)
    print(row["energy_shifts_eV"], row["errors_against_clean_labels"], row["seconds"], flush=True)
    return row


def total(rows: list[dict[str, Any]], when: str) -> dict[str, Any]:
    """All faults of several runs together."""
    found, suspects, planted = (sum(row[when][n] for row in rows) for n in ("found", "suspects", "planted"))
    kinds = {k: [sum(row[when]["recall_by_kind"][k][n] for row in rows) for n in (0, 1)] for k in KINDS}
    return {"precision": found / max(suspects, 1), "recall": found / planted, "recall_by_kind": kinds}


def main() -> None:
    """All sets and seeds; totals per set and of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    totals: dict[str, dict[str, dict[str, Any]]] = {}
    stages = ("without_potential", "with_potential")
    for seed in options.seeds:
        for name in options.sets:
            rows.append(one(name, seed))
            parts = {n: [r for r in rows if r["set"] == n] for n in options.sets} | {"all": rows}
            totals = {n: {when: total(part, when) for when in stages} for n, part in parts.items() if part}
            write("hygiene", {"share_planted": 0.05, "model": MODEL, "totals": totals, "runs": rows})
    table("planted faults that are found", [{"set": n, "how": w} | found[w] for n, found in totals.items() for w in stages])


if __name__ == "__main__":
    main()
