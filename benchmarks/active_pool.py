"""What choosing is worth: errors after training on structures that were chosen from a labelled pool, against as many random ones.

python -m benchmarks.active_pool                                   trains what is missing in runs/active_pool/, then shows and writes the table
python -m benchmarks.active_pool --collect                         only the table, of what is there

20 random structures, then five rounds of 20 chosen ones: the potential of each round chooses for the next. Training goes on from the potential of the
round before, on all structures together, with the same number of steps and the same schedule whatever was chosen; a small ensemble of a small
network. A label is looked at only when its structure was chosen, but for the method 'error', which takes the largest true errors (root mean
square over the forces of a structure) and so tells what a perfect σ would be worth. Tests hold no frame of the pool. A finished training is a line
in results.jsonl of the home, and is not made again.

- aspirin: rMD17, the 1,000 training frames of split 01; tested on 200 frames of its test set. All is one trajectory at one temperature.
- 3bpa: the training set of mixed temperatures without what is tested: 50 frames each of 300, 600 and 1,200 K, drawn once. A third of the pool is hot.
- 3bpa_rare: the same and the training set of 300 K: an eighth of the pool is hot, as where most of what was sampled is ordinary.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.common import SHARED, table, write
from eqpot.active.selection import select
from eqpot.core.config import build
from eqpot.data import Dataset, is_isolated_atom, read
from eqpot.potential import Potential
from eqpot.training import FitConfig, evaluate, fit
from eqpot.training.setup import make_problem

FIRST, BATCH, ROUNDS, MEMBERS = 20, 20, 5, 2
STEPS, STEP = (3000, 1500), 2
"""Steps of the first training and of each that goes on from it, and structures per step."""
MODEL = {"cutoff": 4.0, "hidden": "16x0e + 16x1o", "l_max": 2, "correlation": 2, "radial_hidden": (16, 16)}
METHODS = ("random", "uncertainty", "uncertainty-diversity", "error")
GOAL = 0.85
"""Error over that of a random choice that is aimed at."""


class Case(NamedTuple):
    """Frames by what they are for."""

    pool: Dataset
    valid: Dataset
    tests: dict[str, Dataset]


def aspirin() -> Case:
    """One molecule at 500 K."""
    pool, test = (read(str(SHARED / f"rmd17/aspirin_{part}_01.extxyz.gz")) for part in ("train", "test"))
    test = test.shuffle(0)
    return Case(pool, test[200:220], {"test": test[:200]})


def three_bpa() -> Case:
    """A flexible molecule at three temperatures, which follow each other in the file."""
    read_all = read(str(SHARED / "3bpa/train_mixedT.extxyz.gz"))
    frames = Dataset(tuple(f for f in read_all if not is_isolated_atom(f)))
    rng = np.random.default_rng(0)
    tests, valid, pool = {}, [], []
    for name, first, last in (("300K", 0, 167), ("600K", 167, 334), ("1200K", 334, 500)):
        order = rng.permutation(np.arange(first, last))
        tests[name] = frames[np.sort(order[:50])]
        valid += order[50:57].tolist()
        pool += order[57:].tolist()
    return Case(frames[np.sort(pool)], frames[np.array(valid)], tests)


def rare() -> Case:
    """Few hot structures among many at room temperature, of which none is tested."""
    case, more = three_bpa(), read(str(SHARED / "3bpa/train_300K.extxyz.gz"))
    cold = Dataset(tuple(f for f in more if not is_isolated_atom(f)))
    seen = np.concatenate([cold.overlap(part) for part in (case.pool, case.valid, *case.tests.values())])
    return case._replace(pool=case.pool + cold[np.setdiff1d(np.arange(len(cold)), seen)])


CASES = {"aspirin": aspirin, "3bpa": three_bpa, "3bpa_rare": rare}


def start(home: Path, name: str, case: Case, seed: int) -> Path:
    """An untrained potential: its constants are those of the first random frames of seed 0, its parameters random, so that each case compiles once."""
    path = home / f"{name}_start_{seed}.safetensors"
    if not path.exists():
        first = case.pool[np.random.default_rng(0).permutation(len(case.pool))[:FIRST]]
        problem = make_problem(build(FitConfig, {"model": MODEL}), first, case.valid)
        params = jax.device_get(problem.spec.init_members([1009 * seed + k for k in range(MEMBERS)]))
        Potential(problem.spec, params, problem.reference_energies).save(path)
    return path


def settings(base: Path, seed: int, frames: int) -> FitConfig:
    """The same number of steps for any number of frames."""
    epochs = round(STEPS[frames > FIRST] * STEP / frames)
    return build(
        FitConfig,
        {
            "seed": seed,
            "finetune": {"base": str(base), "allow_disagreement": True},
            "ensemble": {"members": MEMBERS},
            "loss": {"energy": 10, "forces": 10},
            "optimizer": {"learning_rate": 0.005},
            "training": {"epochs": epochs, "batch_size": STEP, "validate_every": epochs, "checkpoint_every": 10**6},
        },
    )


def errors(potential: Potential, tests: dict[str, Dataset]) -> dict[str, float]:
    """Errors of forces [meV/Å] and energies [meV/atom] on all tests together, and of the forces on each."""
    every = evaluate(potential, Dataset(tuple(f for test in tests.values() for f in test)))
    difference = np.concatenate([np.abs(p - y).ravel() for _, p, y in every.pairs("forces")])
    assert every.energy_per_atom
    found = {
        "F RMSE": np.sqrt((difference**2).mean()),
        "F MAE": difference.mean(),
        "F largest": difference.max(),
        "E RMSE": every.energy_per_atom.rmse,
    }
    for name, test in tests.items() if len(tests) > 1 else ():
        one = evaluate(potential, test).forces
        assert one
        found[f"F RMSE {name}"] = one.rmse
    return {key: round(1000 * float(value), 3) for key, value in found.items()}


def grow(home: Path, name: str, case: Case, seed: int, method: str, done: dict[tuple, dict[str, Any]]) -> None:
    """All rounds of one method from the first frames of one seed; what is done already is read."""
    base = start(home, name, case, seed)
    chosen = np.random.default_rng(seed).permutation(len(case.pool))[:FIRST].tolist()
    potential = None
    for total in range(FIRST, FIRST + (ROUNDS + 1) * BATCH, BATCH):
        label = "first" if total == FIRST else method
        key, path = (name, seed, label, total), home / f"{name}_{seed}_{label}_{total}.safetensors"
        if key in done and path.exists():
            chosen, potential, base = done[key]["chosen"], Potential.load(path), path
            continue
        if potential is not None:
            chosen = chosen + ask(potential, case.pool, chosen, method, seed)
        potential = fit(settings(base, seed, total), case.pool[chosen], case.valid)
        base = potential.save(path)
        row = {"case": name, "seed": seed, "method": label, "frames": total, "chosen": chosen, "errors": errors(potential, case.tests)}
        done[key] = row | {"seconds": round(potential.metadata["seconds"], 1)}
        with (home / "results.jsonl").open("a") as out:
            out.write(json.dumps(done[key]) + "\n")
        print(name, seed, label, total, row["errors"], done[key]["seconds"], flush=True)


def ask(potential: Potential, pool: Dataset, chosen: list[int], method: str, seed: int) -> list[int]:
    """Indices of the next structures; labels are not passed on, but for 'error'."""
    rest = np.setdiff1d(np.arange(len(pool)), chosen)
    if method == "error":
        true = [np.square(p - y).mean() for _, p, y in evaluate(potential, pool[rest]).pairs("forces")]
        return rest[np.argsort(true)[: -BATCH - 1 : -1]].tolist()
    bare = [pool[int(k)].replace(labels=type(pool[0].labels)()) for k in rest]
    known = [pool[k] for k in chosen]
    found = select(potential, bare, BATCH, known=known, method=method, seed=1000 * seed + len(chosen))
    return [int(rest[k]) for k in found.chosen]


def read_results(home: Path) -> dict[tuple, dict[str, Any]]:
    """Finished trainings by case, seed, method and number of frames."""
    path = home / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {(r["case"], r["seed"], r["method"], r["frames"]): r for r in rows}


def compare(done: dict[tuple, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Mean errors over seeds for each method and number of frames, and their ratio to those of a random choice of the same seeds."""
    rows = []
    for total in sorted({k[3] for k in done if k[0] == name}):
        for method in dict.fromkeys(k[2] for k in done if k[0] == name and k[3] == total):
            seeds = sorted(k[1] for k in done if k[0] == name and k[2:] == (method, total))
            own = [done[name, s, method, total]["errors"] for s in seeds]
            row: dict[str, Any] = {"frames": total, "method": method, "seeds": len(seeds)}
            row |= {key: round(float(np.mean([e[key] for e in own])), 2) for key in own[0]}
            if paired := [s for s in seeds if method != "random" and (name, s, "random", total) in done]:
                ratios = [_ratio(done, name, s, method, total, "F RMSE") for s in paired]
                row |= {"ratio": round(float(np.mean(ratios)), 3), "±": round(float(np.std(ratios)), 3)}
                row["ratio largest"] = round(float(np.mean([_ratio(done, name, s, method, total, "F largest") for s in paired])), 3)
            rows.append(row)
    return rows


def _ratio(done: dict[tuple, dict[str, Any]], name: str, seed: int, method: str, total: int, key: str) -> float:
    return done[name, seed, method, total]["errors"][key] / done[name, seed, "random", total]["errors"][key]


def collect(home: Path) -> None:
    """The tables, and a file with all that went into them."""
    done = read_results(home)
    tables = {name: compare(done, name) for name in CASES if any(k[0] == name for k in done)}
    for name, rows in tables.items():
        table(f"{name}: forces [meV/Å], energies [meV/atom]; ratio of F RMSE to a random choice (goal {GOAL})", rows)
    how = {
        "first": FIRST,
        "batch": BATCH,
        "rounds": ROUNDS,
        "steps": STEPS,
        "members": MEMBERS,
        "model": MODEL,
        "goal": GOAL,
    }
    write("active_pool", {"settings": how, "tables": tables, "trainings": list(done.values())})


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="by default all")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--home", type=Path, default=Path("runs/active_pool"), help="where results.jsonl and the potentials are")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    options.home.mkdir(parents=True, exist_ok=True)
    done = read_results(options.home)
    for seed in options.seeds if not options.collect else ():
        for name in options.cases or CASES:
            case = CASES[name]()
            for method in options.methods:
                grow(options.home, name, case, seed, method, done)
    collect(options.home)


if __name__ == "__main__":
    main()
