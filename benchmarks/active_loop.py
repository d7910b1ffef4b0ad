"""How many labels active learning needs: the loop against random choice from the oracle's own dynamics, with the same training.

python -m benchmarks.active_loop ethanol silicon zero [--seeds 0 1 2] [--folder runs/benchmarks]

ethanol: GFN2-xTB, dynamics at 300 to 800 K, tested on the oracle's dynamics at 800 K. silicon: Stillinger–Weber, 64 atoms, dynamics at 300 to 2,500 K of
the perfect crystal and of one with a vacancy; tested on the oracle's dynamics of both at 1,200 K and of the crystal at 2,500 K; then 20 ps at 2,000 K, g(r)
beside the oracle's. zero: ethanol from 16 structures until the loop's own rule says enough, and whether the bound that it states holds on fresh labels.

Both ways are the same program: the passive one chooses at random from a pool of the oracle's dynamics at the same temperatures. All calls of the oracle
count, audits too, and random choice has twice as many as the loop. Trainings within the loop are short; what the labels are worth is therefore also measured
by long trainings from random parameters, with equally many steps, on half and on all of the random labels and on all of the loop's: between the first two the
error is taken for a power of the number of labels, which says how many random ones the loop's are worth (at most all of them: beyond is not measured, and the
ratio is an upper bound). What is cut short goes on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write as write_atoms

from benchmarks.common import table, write
from eqpot.active import ActiveConfig, Outcome, active, label, md_frames
from eqpot.active.active_report import read_entries
from eqpot.active.learner import FILE
from eqpot.active.loop_data import load_teacher
from eqpot.active.observables import pair_distribution
from eqpot.active.query import force_errors
from eqpot.active.stopping import change
from eqpot.core.cache import use_compilation_cache
from eqpot.core.config import build
from eqpot.data import Dataset, read, write_extxyz
from eqpot.graph import Frame
from eqpot.md import Langevin, simulate_many
from eqpot.potential import Potential
from eqpot.training import fit

SW = {"kind": "ase", "calculator": "benchmarks.stillinger_weber.StillingerWeber", "method": "Stillinger-Weber"}
CASES: dict[str, dict[str, Any]] = {
    "ethanol": {
        "oracle": "gfn2",
        "temperatures": (300.0, 450.0, 600.0, 800.0),
        "test": ((800.0, 120),),
        "timestep_fs": 0.5,
        "interval_fs": 10.0,
        "frames": 250,
        "start": [{"method": "rattle", "n": 15, "temperature_K": 300}],
        "model": {"cutoff": 4.5, "hidden": "16x0e + 16x1o", "l_max": 2, "correlation": 2, "radial_hidden": [16, 16]},
        "training": {"epochs": 120, "batch_size": 8, "validate_every": 10},
        "epochs": 50,
        "query": {"n": 14, "audit": 4},
        "calls": {"passive": 320, "active": 160},
        "sampler": {"walkers": 4, "time_ps": 0.5},
        "long": {"steps": 6000, "members": 3},
    },
    "silicon": {
        "oracle": SW,
        "temperatures": (300.0, 1200.0, 2000.0, 2500.0),
        "test": ((1200.0, 20), (2500.0, 40)),
        "timestep_fs": 1.0,
        "interval_fs": 25.0,
        "frames": 40,
        "start": [{"method": "rattle", "n": 3, "temperature_K": 600}, {"method": "strain", "n": 1}],
        "model": {"cutoff": 4.2, "hidden": "16x0e + 16x1o", "l_max": 2, "correlation": 2, "radial_hidden": [16, 16]},
        "training": {"epochs": 150, "batch_size": 2, "validate_every": 30},
        "epochs": 30,
        "query": {"n": 8, "audit": 2},
        "passive_query": {"n": 16, "audit": 4},  # random choice asks nothing of the potential of the round before
        "calls": {"passive": 140, "active": 70},
        "sampler": {"time_ps": 0.5},
        "long": {"steps": 9000, "members": 1},
    },
}
ENOUGH = [
    {"bound": {"force_error_eV_A": 0.2, "level": 0.9}, "candidates": {"sigma_eV_A": 0.3, "below": 0.05, "rounds": 2}},
    {"calls": 400},
]
"""When the loop from zero ends: its own rule, or (which would be a failure) a budget."""


def start_atoms(case: str) -> list[Atoms]:
    """What all begins with."""
    if case == "ethanol":
        return [molecule("CH3CH2OH")]
    crystal = bulk("Si", "diamond", a=5.431, cubic=True).repeat(2)
    return [crystal, crystal[1:]]


def main() -> None:
    """Run both ways for each seed, and print what each needed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=[*CASES, "zero"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    use_compilation_cache()
    for case in options.cases:
        if case == "zero":
            from_zero(options.seeds, options.folder)
            continue
        home = options.folder / f"active_{case}"
        home.mkdir(parents=True, exist_ok=True)
        test = prepare(case, home)
        rows = []
        for seed in options.seeds:
            for way in ("passive", "active"):
                rows.append(one_run(case, way, seed, home, test))
                print({k: v for k, v in rows[-1].items() if k != "curve"}, flush=True)
            write(f"active_{case}", {"case": case, "settings": CASES[case], "runs": rows, "needed": needed(rows)})
        table(
            f"{case}: force RMSE on the oracle's own structures [meV/Å]", [{k: v for k, v in row.items() if k != "curve"} for row in rows]
        )
        table("labels that the loop needs for the last error of random choice", needed(rows))


def prepare(case: str, home: Path) -> Dataset:
    """The start, the passive pool and the test set, all from the oracle's own dynamics; made once."""
    chosen, starts = CASES[case], start_atoms(case)
    write_atoms(home / "start.xyz", starts)
    oracle = load_teacher(chosen["oracle"])[0]
    run = {"interval_fs": chosen["interval_fs"], "timestep_fs": chosen["timestep_fs"], "oracle": oracle, "friction_per_fs": 0.02}
    if not (home / "pool.extxyz").exists():
        pool = [md_frames(s, temperature_K=chosen["temperatures"], n=chosen["frames"], seed=11 + k, **run) for k, s in enumerate(starts)]
        write_extxyz(home / "pool.extxyz", [m.frame() for part in pool for m in part], overwrite=True)
    if not (home / "test.extxyz").exists():
        frames = [m.frame() for T, n in chosen["test"] for m in md_frames(starts[0], temperature_K=T, n=n, seed=99, **run)]
        frames += [m.frame() for s in starts[1:] for m in md_frames(s, temperature_K=1200.0, n=20, seed=98, **run)]
        write_extxyz(home / "test.extxyz", list(label(oracle, frames, home / "test-labels").frames), overwrite=True)
    return read(str(home / "test.extxyz"))


def settings(case: str, way: str, seed: int, home: Path) -> dict[str, Any]:
    """The configuration of one run; the two ways differ in where structures come from and how they are chosen."""
    chosen = CASES[case]
    start = str(home / "start.xyz")
    ladder = {"kind": "md", "temperature_K": list(chosen["temperatures"]), "timestep_fs": chosen["timestep_fs"]}
    ladder |= {"interval_fs": chosen["interval_fs"]} | chosen["sampler"]
    samplers = [ladder] if way == "active" else [{"kind": "pool", "files": str(home / "pool.extxyz")}]
    query = chosen["query"]
    if way == "passive":
        query = chosen.get("passive_query", query) | {"absurd": 1.0, "method": "random", "high_eV_A": 1e6}
    loss = {"energy": 1000, "forces": 10} | ({"stress": 100} if case == "silicon" else {})
    fit = {"model": chosen["model"], "ensemble": {"members": 3}, "training": chosen["training"], "loss": loss, "seed": seed}
    fit["optimizer"] = {"name": "muon"}
    return {
        "seed": seed,
        "oracle": chosen["oracle"],
        "start": {"structures": start, "generate": chosen["start"]},
        "samplers": samplers,
        "query": query,
        "fit": fit,
        "learner": {"epochs": chosen["epochs"]},
        "stop": [{"calls": chosen["calls"][way]}],
    }


def one_run(case: str, way: str, seed: int, home: Path, test: Dataset) -> dict[str, Any]:
    """One run and its learning curve on the test set."""
    folder = home / f"{way}-{seed}"
    outcome = active(settings(case, way, seed, home), folder, _say)
    calls = [len(outcome.records[0]["asked"]), *(r["calls"] for r in outcome.records if r["kind"] == "round")]
    curve = [{"calls": n, "force_rmse_meV_A": test_error(folder / f"round-{k:03d}" / FILE, test)} for k, n in enumerate(calls)]
    row = {"case": case, "way": way, "seed": seed, "calls": calls[-1], "force_rmse_meV_A": curve[-1]["force_rmse_meV_A"], "curve": curve}
    most = CASES[case]["calls"][way]
    for labels in (most // 2, most) if way == "passive" else (most,):
        row[f"trained_long_on_{labels}"] = trained_long(case, seed, outcome, labels, test)
    if way == "active":
        row |= fresh_coverage(case, seed, outcome.potential, outcome.records[-1]["bounds_eV_A"]["0.9"], folder)
        row |= stability(outcome.potential, home, seed) if case == "silicon" else {}
    return row


def from_zero(seeds: Sequence[int], parent: Path) -> None:
    """Ethanol from one structure and fifteen copies, until the rule of the loop itself says enough."""
    home, rows = parent / "active_zero", []
    home.mkdir(parents=True, exist_ok=True)
    write_atoms(home / "start.xyz", start_atoms("ethanol"))
    for seed in seeds:
        config = settings("ethanol", "active", seed, home) | {"stop": ENOUGH}
        outcome = active(config, home / f"seed-{seed}", _say)
        end = outcome.records[-1]
        rows.append({"seed": seed, "calls": end["calls"], "rounds": len(outcome.records) - 2, "why": end["why"]})
        rows[-1] |= fresh_coverage("ethanol", seed, outcome.potential, end["bounds_eV_A"]["0.9"], home / f"seed-{seed}")
        print(rows[-1], flush=True)
        write("active_zero", {"settings": CASES["ethanol"] | {"stop": ENOUGH}, "runs": rows})
    table("from 16 structures to the loop's own end; share of fresh force errors within the stated 90 % bound", rows)


def stability(potential: Potential, home: Path, seed: int) -> dict[str, Any]:
    """20 ps of the crystal at 2,000 K: whether it came to the end, and how far its g(r) is from that of the oracle's own dynamics, in standard errors."""
    atoms = start_atoms("silicon")[0]
    if not (home / "oracle-2000K.extxyz").exists():
        oracle = load_teacher(SW)[0]
        made = md_frames(
            atoms, temperature_K=2000.0, n=800, interval_fs=25.0, timestep_fs=1.0, oracle=oracle, friction_per_fs=0.02, seed=55
        )
        write_extxyz(home / "oracle-2000K.extxyz", [m.frame() for m in made], overwrite=True)
    theirs = [f.structure for f in read(str(home / "oracle-2000K.extxyz"))]
    (run,) = simulate_many(potential, [atoms], Langevin(2000.0, timestep_fs=1.0, friction_per_fs=0.02), 20_000, every=25, seed=seed)
    found = {"stable_ps": run.n_steps / 1000, "largest_sigma_eV_A": round(float(run.max_atom_std.max()), 3)}
    if run.status:
        return found | {"stopped": run.status.text}
    first = len(run) // 4
    ours, reference = (
        pair_distribution([(np.array(x), np.array(cells), theirs[0])])
        for x, cells in ((run.positions[first:], run.cell[first:]), zip(*((s.positions, s.cell) for s in theirs[200:]), strict=True))
    )
    return found | {"g_r_change": round(change({"g(r)": reference}, {"g(r)": ours}), 2), "g_r": {"oracle": reference, "potential": ours}}


def trained_long(case: str, seed: int, outcome: Outcome, calls: int, test: Dataset) -> float:
    """Error of a training of so many steps and members, from random parameters, on the labels of the first calls."""
    long = CASES[case]["long"]
    kept = [row for record in outcome.records for row in record.get("asked", ())][:calls]
    entries, _ = read_entries(outcome.folder / "labels" / "labels.jsonl")
    frames: dict[bool, list[Frame]] = {True: [], False: []}
    for row in kept:
        if row["status"] == "labelled":
            entry = entries[row["key"]]
            frames[row["role"] == "train"].append(Frame(entry.structure, entry.labels, origin=row["origin"]))
    config = build(ActiveConfig, settings(case, "active", seed, Path())).fitting
    epochs = round(long["steps"] * config.training.batch_size / len(frames[True]))
    training = config.training.model_copy(update={"epochs": epochs, "validate_every": max(1, epochs // 15)})
    ensemble = config.ensemble.model_copy(update={"members": long["members"]})
    folder = outcome.folder / f"long-{calls}-{long['steps']}"
    fit(
        config.model_copy(update={"training": training, "ensemble": ensemble}),
        Dataset(tuple(frames[True])),
        Dataset(tuple(frames[False])),
        folder=folder,
    )
    return test_error(folder / FILE, test)


def test_error(path: Path, test: Dataset) -> float:
    """Root mean square error of force components [meV/Å]."""
    lengths = np.concatenate(list(force_errors(Potential.load(path), list(test)).values()))
    return round(1e3 * float(np.sqrt((lengths**2).mean() / 3)), 2)


def fresh_coverage(case: str, seed: int, potential: Potential, bound: float | None, folder: Path) -> dict[str, Any]:
    """Whether the bound that was stated at the end holds on structures that nobody saw: a new run of the potential, labelled by the oracle."""
    chosen = CASES[case]
    ladder = [Langevin(T, timestep_fs=chosen["timestep_fs"]) for T in chosen["temperatures"]]
    every = round(chosen["interval_fs"] * 2 / chosen["timestep_fs"])
    walkers = [(atoms, ensemble) for atoms in start_atoms(case) for ensemble in ladder]
    runs = simulate_many(potential, [w[0] for w in walkers], [w[1] for w in walkers], every * 50, every=every, seed=1000 + seed)
    made = []
    for (atoms, _), run in zip(walkers, runs, strict=True):
        for positions in run.positions[1:]:
            copy = atoms.copy()
            copy.positions = positions
            made.append(copy)
    found = label(load_teacher(chosen["oracle"])[0], made, folder / "fresh-labels").frames
    if bound is None:
        return {"bound_eV_A": None, "coverage": None}
    inside = [float((e <= bound).mean()) for e in force_errors(potential, list(found)).values()]
    return {
        "bound_eV_A": round(bound, 4),
        "coverage": round(float(np.mean(inside)), 3),
        "fresh": len(found),
        "failed": len(made) - len(found),
    }


def needed(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each seed: labels that the loop needs for the last error of random choice, by interpolation, and the ratio after long trainings with its median."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        pair = {row["way"]: row for row in rows if row["seed"] == seed}
        if len(pair) < 2:
            continue
        passive, loop = pair["passive"], pair["active"]
        goal, spent = passive["force_rmse_meV_A"], passive["calls"]
        calls, errors = (np.log([p[key] for p in loop["curve"]]) for key in ("calls", "force_rmse_meV_A"))
        best = np.minimum.accumulate(errors)
        reached = np.flatnonzero(best <= np.log(goal))
        labels = None
        if len(reached):
            k = max(1, int(reached[0]))
            share = (best[k - 1] - np.log(goal)) / max(best[k - 1] - best[k], 1e-12)
            labels = float(np.exp(calls[k - 1] + np.clip(share, 0, 1) * (calls[k] - calls[k - 1])))
        half, whole, own = (row[f"trained_long_on_{n}"] for row, n in ((passive, spent // 2), (passive, spent), (loop, loop["calls"])))
        worth = None  # where more labels did not help, a power says nothing; beyond all of them nothing was measured
        if whole < half:
            worth = min(spent, spent / 2 * (half / own) ** (np.log(2) / np.log(half / whole)))
        found.append(
            {
                "seed": seed,
                "passive_labels": spent,
                "active_labels": labels and round(labels, 1),
                "ratio": labels and round(labels / spent, 3),
                "ratio_trained_long": worth and round(loop["calls"] / worth, 3),
            }
        )
    if ratios := [row["ratio_trained_long"] for row in found if row["ratio_trained_long"]]:
        found.append({"seed": "median", "ratio_trained_long": round(float(np.median(ratios)), 3)})
    return found


def _say(what: str, values: Any) -> None:
    if what == "round":
        from eqpot.cli.active import round_line

        print("  ", round_line(values), flush=True)


if __name__ == "__main__":
    main()
