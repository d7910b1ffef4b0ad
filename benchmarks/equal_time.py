"""What is learned in equal time: eqpot and mace-torch, equal architecture, each on one core of the same machine at the same time.

    python -m benchmarks.equal_time --mace PYTHON --frames 50 --minutes 20

PYTHON is that of an environment with mace-torch. Both train on the same frames with their own recipe (MACE: its defaults with EMA, AMSGrad and
stage two; eqpot: train/recipes/rmd17_50.yaml or rmd17.yaml), for as many epochs as a short trial says will fill the time. `--hidden` gives both
other features.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.common import write
from eqpot.core.config import build, load_yaml, override
from eqpot.data import Dataset, is_isolated_atom, read, write_extxyz
from eqpot.training import FitConfig, evaluate
from eqpot.training.setup import load_data

STARTUP = 45.0
"""Seconds allowed for start and compilation, of either."""
HIDDEN = "64x0e + 64x1o"
CORES = {"eqpot": 0, "mace-torch": 1}


def eqpot_settings(hidden: str, frames: int, epochs: int) -> FitConfig:
    """Its recipe with the architecture of the comparison."""
    recipe = "train/recipes/rmd17_50.yaml" if frames <= 100 else "train/recipes/rmd17.yaml"
    molecule = "ethanol"
    files = [f"../shared/data/rmd17/{name}.extxyz.gz" for name in (f"{molecule}_train_01", "isolated_atoms")]
    test = f"../shared/data/rmd17/{molecule}_test_01.extxyz.gz"
    changes = [f"data.train=[{','.join(files)}]", f"data.test={test}", f'model.hidden="{hidden}"', f"training.epochs={epochs}"]
    changes += [
        f"data.max_train={frames}",
        "data.valid=50",
        f"training.validate_every={validate_every(frames)}",
        "training.checkpoint_every=100000",
    ]
    return build(FitConfig, override(load_yaml(recipe), [*changes, "name=equal_time"]))


def validate_every(frames: int) -> int:
    """Epochs between validations, so that they cost little."""
    return 20 if frames <= 100 else 2


def mace_command(python: str, hidden: str, folder: Path, frames: int, epochs: int, energies: dict[int, float]) -> list[str]:
    """Training with MACE's own recipe."""
    options = {
        "name": "mace",
        "work_dir": folder,
        "train_file": folder / "train.xyz",
        "valid_file": folder / "valid.xyz",
        "E0s": json.dumps(energies).replace('"', ""),
        "model": "MACE",
        "hidden_irreps": hidden,
        "r_max": 5.0,
        "max_ell": 3,
        "correlation": 3,
        "num_interactions": 2,
        "batch_size": 5,
        "valid_batch_size": 50,
        "default_dtype": "float32",
        "device": "cpu",
        "max_num_epochs": epochs,
        "eval_interval": validate_every(frames),
        "seed": 1,
        "ema_decay": 0.99,
        "start_swa": max(1, int(0.75 * epochs)),
        "patience": 100000,
    }
    program = Path(python).parent / "mace_run_train"
    return [str(program), "--ema", "--amsgrad", "--swa", *[f"--{name}={value}" for name, value in options.items()]]


def on_core(name: str, command: Sequence[str], log: Path) -> subprocess.Popen:
    """Start a program on its core."""
    threads = ["env", "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1", "JAX_NUM_CPU_DEVICES=1"]
    return subprocess.Popen(["taskset", "-c", str(CORES[name]), *threads, *command], stdout=log.open("w"), stderr=subprocess.STDOUT)


def mace_seconds_per_epoch(log: Path) -> float:
    """From the times at which its log reports validations."""
    found = re.findall(r"^(\S+ \S+) INFO: Epoch (\d+):", log.read_text(), re.M)
    (first, a), (last, b) = found[0], found[-1]
    moments = [datetime.strptime(t, "%Y-%m-%d %H:%M:%S.%f") for t in (first, last)]
    return (moments[1] - moments[0]).total_seconds() / (int(b) - int(a))


def write_for_mace(path: Path, frames: Dataset) -> None:
    """Extended XYZ with the names that MACE looks for."""
    write_extxyz(path, [f for f in frames if not is_isolated_atom(f)], overwrite=True)
    text = path.read_text().replace(" energy=", " REF_energy=").replace(":forces:R:3", ":REF_forces:R:3")
    path.write_text(text)


def mace_errors(python: str, folder: Path, test: Dataset) -> dict:
    """Errors of its last model on the test frames."""
    model = next(iter(sorted(folder.glob("mace_stagetwo.model")) + sorted(folder.glob("mace.model"))))
    out = folder / "predicted.xyz"
    program = Path(python).parent / "mace_eval_configs"
    options = [
        f"--configs={folder / 'test.xyz'}",
        f"--model={model}",
        f"--output={out}",
        "--device=cpu",
        "--default_dtype=float32",
        "--batch_size=50",
    ]
    subprocess.run([str(program), *options], check=True, capture_output=True)
    from ase.io import read as ase_read

    predicted = ase_read(out, ":")
    energy = np.array([a.info["MACE_energy"] - f.labels.energy for a, f in zip(predicted, test, strict=True)])
    forces = np.concatenate([(a.arrays["MACE_forces"] - f.labels.forces).ravel() for a, f in zip(predicted, test, strict=True)])
    return {
        name: {"mae": float(np.abs(e).mean()), "rmse": float(np.sqrt((e**2).mean()))}
        for name, e in (("energy", energy), ("forces", forces))
    }


def run_eqpot(config: Path, out: Path) -> None:
    """The part of eqpot, in a process of its own."""
    from eqpot.training import fit

    settings = FitConfig.model_validate_json(config.read_text())
    moments: list[tuple[int, float]] = []
    potential = fit(settings, on_epoch=lambda r: moments.append((r.epoch, time.time())))
    potential.save(out / "potential.safetensors")
    (out / "moments.json").write_text(json.dumps(moments))


def main() -> None:
    """Trial, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mace", help="Python of an environment with mace-torch")
    parser.add_argument("--hidden", default=HIDDEN, help="features of both")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--only-eqpot", nargs=2, metavar=("CONFIG", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_eqpot:
        run_eqpot(Path(options.only_eqpot[0]), Path(options.only_eqpot[1]))
        return
    with TemporaryDirectory() as made:
        folder = Path(made)
        train, valid, test, _ = load_data(eqpot_settings(options.hidden, options.frames, 1))
        assert test is not None
        for name, frames in (("train", train), ("valid", valid), ("test", test)):
            write_for_mace(folder / f"{name}.xyz", frames)
        alone = {int(f.structure.numbers[0]): f.labels.energy for f in read("../shared/data/rmd17/isolated_atoms.extxyz.gz")}
        zero = {z: e for z, e in alone.items() if z in test[0].structure.numbers}
        trial = 4 * validate_every(options.frames)
        seconds = both(options, folder / "trial", folder, {"eqpot": trial, "mace-torch": trial}, zero)
        budget = 60 * options.minutes - STARTUP
        epochs = {name: int(budget / s) for name, s in seconds.items()}
        print(f"seconds per epoch {seconds}, epochs {epochs}", flush=True)
        began = time.time()
        both(options, folder / "run", folder, epochs, zero)
        from eqpot.potential import Potential

        potential = Potential.load(folder / "run" / "potential.safetensors")
        found = {"eqpot": evaluate(potential, test).summary(), "mace-torch": mace_errors(options.mace, folder / "run", test)}
    rows = {
        "hidden": options.hidden,
        "parameters of eqpot": potential.n_parameters,
        "frames": options.frames,
        "minutes": options.minutes,
        "wall minutes of both": round((time.time() - began) / 60, 1),
        "epochs": epochs,
    }
    for quantity in ("energy", "forces"):
        mine, theirs = (1e3 * found[name][quantity]["mae"] for name in CORES)
        print(f"{quantity:8s} MAE  eqpot {mine:8.2f}  mace-torch {theirs:8.2f}  ratio {mine / theirs:.2f}  (meV, meV/Å)")
        rows[quantity] = {"eqpot": found["eqpot"][quantity], "mace-torch": found["mace-torch"][quantity], "ratio": mine / theirs}
    write(f"equal_time_{options.frames}" + ("" if options.hidden == HIDDEN else "_" + re.sub(r"\W+", "_", options.hidden)), rows)


def both(options: argparse.Namespace, folder: Path, data: Path, epochs: dict[str, int], zero: dict[int, float]) -> dict[str, float]:
    """Train both at once; seconds per epoch."""
    folder.mkdir()
    for name in ("train", "valid", "test"):
        (folder / f"{name}.xyz").symlink_to(data / f"{name}.xyz")
    config = folder / "config.json"
    config.write_text(eqpot_settings(options.hidden, options.frames, epochs["eqpot"]).model_dump_json(exclude_unset=True))
    mine = [sys.executable, "-m", "benchmarks.equal_time", "--only-eqpot", str(config), str(folder)]
    started = {
        "eqpot": on_core("eqpot", mine, folder / "eqpot.log"),
        "mace-torch": on_core(
            "mace-torch",
            mace_command(options.mace, options.hidden, folder, options.frames, epochs["mace-torch"], zero),
            folder / "mace.log",
        ),
    }
    for name, process in started.items():
        if process.wait():
            sys.exit(f"{name} failed:\n" + (folder / f"{name.split('-')[0]}.log").read_text()[-2000:])
    (first, a), *_, (last, b) = json.loads((folder / "moments.json").read_text())
    return {"eqpot": (b - a) / (last - first), "mace-torch": mace_seconds_per_epoch(folder / "mace.log")}


if __name__ == "__main__":
    main()
