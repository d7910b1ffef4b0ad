"""What a finished run says of itself: the metadata of its potential, what it knows of its own errors, and a look at its own training labels."""

import hashlib
import json
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqpot.core.errors import DataError
from eqpot.data import Dataset, Frames
from eqpot.data.hygiene import write_suspects
from eqpot.nn import choose_backend
from eqpot.potential import Potential
from eqpot.training.batches import Batches
from eqpot.training.config import EnsembleConfig, FitConfig
from eqpot.training.hygiene import examine
from eqpot.training.parallel import Layout
from eqpot.training.progress import Memory
from eqpot.training.setup import KNOWN_FRAMES, Problem
from eqpot.uncertainty import calibrate, fit_domain, fit_last_layer
from eqpot.uncertainty.calibrate import FEWEST, remember
from eqpot.uncertainty.domain import MOST_FRAMES

MENTIONED = 5
"""Suspicious frames that are named in the report; the others are in their file."""
PACKAGES = ("eqpot", "jax", "jaxlib", "flax", "optax", "numpy")


def describe(
    config: FitConfig, problem: Problem, memory: Memory, batches: Batches, layout: Layout, compiles: tuple[int, float]
) -> dict[str, Any]:
    """Metadata of the potential; JSON-able. `compiles`: how many forms of a step were compiled, and the time [s] that it took."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    best = next((row["valid"] for row in memory.history if row["epoch"] == memory.best_epoch), {})
    return {
        "name": config.name,
        "data": {**problem.hashes, "train_frames": len(problem.train)} | {f"{name}_frames": count for name, count in problem.held.items()},
        "config": json.loads(text),
        "config_hash": hashlib.sha256(text.encode()).hexdigest(),
        "reference_energies": {"source": problem.reference.source, "message": problem.reference.message},
        "validation": best,
        "epochs": memory.epoch,
        "best_epoch": memory.best_epoch,
        "seconds": round(memory.seconds, 1),
        "warnings": list(problem.warnings),
        "run": {
            "device": f"{jax.device_count()} × {jax.devices()[0].device_kind} in {_counted(jax.process_count(), 'process', 'es')}",
            "kernels": f"{choose_backend(problem.spec.backend)}, products in {problem.spec.products}",
            "batches": f"{batches.steps_per_epoch} per epoch in {_counted(layout.shards, 'shard')}",
            "padding": dict(zip(("atoms", "neighbour slots"), batches.padding, strict=True)),
            "compiles": compiles[0],
            "compile_seconds": round(compiles[1], 1),
            "steps": memory.step,
            "peak_memory_GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20), 2),
        },
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
    }


def _counted(count: int, name: str, many: str = "s") -> str:
    return f"{count} {name}{many if count != 1 else ''}"


def require_enough(frames: Frames | None) -> None:
    """Raise a DataError before the training when there are too few frames, or labels, to calibrate with after it."""
    if frames is None:
        return
    if len(frames) < FEWEST:
        raise DataError(f"data.calibrate: found {len(frames)} frames, expected at least {FEWEST}")
    counts = frames.label_counts()
    if max(counts[name] for name in ("energy", "forces", "stress")) < FEWEST:
        raise DataError(f"data.calibrate: found no energy, forces or stress in at least {FEWEST} frames; name their keys in data.keys")


def know_itself(potential: Potential, config: EnsembleConfig, problem: Problem, calibration: Frames | None) -> Potential:
    """The potential with the domain of its training frames and, where it was asked for, a last layer and a calibration."""
    chosen = np.linspace(0, len(problem.train) - 1, min(len(problem.train), MOST_FRAMES)).astype(int).tolist()
    known = [problem.train[k].frame for k in chosen]
    if config.last_layer:
        potential = fit_last_layer(potential, known, config.last_layer, config.readouts, config.readout_forces)
    if calibration is not None:
        potential = calibrate(potential, calibration, check_units=False)
    return fit_domain(remember(potential, problem.frames, problem.seen), known)


def wrong_labels(problem: Problem, potential: Potential, file: Path | None) -> list[str]:
    """What the potential says about its own training frames (of a store, the first `KNOWN_FRAMES`); all that is suspicious goes to `file`."""
    frames = Dataset(tuple(problem.train[k].frame for k in range(min(len(problem.train), KNOWN_FRAMES))))
    found = examine(frames, potential)
    if found.suspects and file:
        write_suspects(file, frames.frames, found.suspects, overwrite=True)
    lines = [f"{s.origin}: {s.reasons[0].text}" for s in found.suspects[:MENTIONED]]
    more = len(found.suspects) - len(lines)
    return [*lines, f"and {more} more suspicious frames: see suspicious.extxyz"] if more else lines
