"""The training loop: `fit` turns labelled structures into a potential."""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eqpot.core.config import build, load_yaml
from eqpot.core.errors import ConfigError, TrainingError
from eqpot.data import Dataset
from eqpot.potential import Potential
from eqpot.training.batches import Batches, bootstrap_weights
from eqpot.training.checkpoint import Checkpoints, flatten_config
from eqpot.training.config import FitConfig
from eqpot.training.metrics import Evaluation
from eqpot.training.setup import Problem, load_data, make_problem
from eqpot.training.step import TrainState, init_state, learning_rate, place, train_step


@dataclass(frozen=True)
class EpochReport:
    """What an epoch tells: losses, validation errors of the ensemble mean, and time.

    Attributes:
        epoch: number of finished epochs, of `epochs`.
        loss: mean training loss over members and batches.
        terms: its unweighted terms.
        valid: mean absolute and root mean square errors on the validation frames (of averaged parameters).
        valid_loss: the loss made of them.
        best: whether this is the best so far.
        rate: learning rate at the end of the epoch.
        seconds: since the start of the run, earlier sessions included.
    """

    epoch: int
    epochs: int
    loss: float
    terms: dict[str, float]
    valid: dict[str, Any]
    valid_loss: float
    best: bool
    rate: float
    seconds: float


@dataclass
class Memory:
    """What the loop remembers between epochs, JSON-able."""

    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


Observer = Callable[[EpochReport], None]


def fit(
    config: FitConfig | Mapping[str, Any] | str | Path | None = None,
    train: Dataset | None = None,
    valid: Dataset | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_start: Callable[[Problem, Batches], None] | None = None,
    on_epoch: Observer | None = None,
) -> Potential:
    """Train a potential.

    Args:
        config: a `FitConfig`, a mapping of its keys, or a YAML file; defaults otherwise.
        train: training frames; by default read from `config.data`.
        valid: validation frames; by default read, or held out from the training frames.
        folder: where checkpoints, log and the potential are written; nothing is written without one.
        resume: continue the run in `folder` from its newest checkpoint; the result is that of an uninterrupted run.
        overwrite: start anew in a folder that holds a run.
        on_start: called once with the problem and the batches before training.
        on_epoch: called after each epoch.

    Returns:
        the averaged parameters of the epoch with the lowest validation loss.

    Raises:
        ConfigError, DataError, StructureError, CheckpointError: for input that cannot be used, before anything is compiled.
        TrainingError: when the loss is no longer finite; the last good state is in the newest checkpoint.
        KeyboardInterrupt: passed on after a checkpoint was written.
    """
    config = _as_config(config)
    run = _Run(config, folder, resume, overwrite)
    frames, held_out, _ = load_data(config, train, valid)
    problem = make_problem(config, frames, held_out)
    with jax.enable_x64(config.training.dtype == "float64"):
        return run.train(problem, on_start or (lambda *_: None), on_epoch or (lambda _: None))


def _as_config(config: FitConfig | Mapping[str, Any] | str | Path | None) -> FitConfig:
    if isinstance(config, FitConfig):
        return config
    if isinstance(config, str | Path):
        return build(FitConfig, load_yaml(config), where=str(config))
    return build(FitConfig, config or {})


class _Run:
    """One run of the loop and its folder."""

    def __init__(self, config: FitConfig, folder: str | Path | None, resume: bool, overwrite: bool) -> None:
        self.config, self.folder, self.resume = config, Path(folder) if folder else None, resume
        self.memory, self.started = Memory(), time.monotonic()
        if resume and not self.folder:
            raise ConfigError("resume needs the folder of the run")
        self.overwrite = overwrite
        if self.folder:
            _refuse_taken(self.folder, resume, overwrite)

    def train(self, problem: Problem, on_start: Callable[[Problem, Batches], None], on_epoch: Observer) -> Potential:
        """Run all epochs that are left."""
        if self.folder:
            _claim(self.folder, self.overwrite and not self.resume)
        config, members = self.config, self.config.ensemble.members
        weights = bootstrap_weights(members, len(problem.train), config.seed, config.ensemble.bootstrap)
        batches = Batches(problem.train, config.training.batch_size, weights, config.training.dtype)
        self.problem, self.batches = problem, batches
        self.total = config.training.epochs * batches.steps_per_epoch
        params = problem.spec.init_members([config.seed * 1009 + k for k in range(members)])
        params = jax.tree.map(lambda x: x.astype(config.training.dtype), params)
        self.state = place(init_state(params, config.optimizer, self.total))
        self.best = jax.tree.map(np.asarray, self.state.average)
        self._open_checkpoints()
        on_start(problem, batches)
        try:
            while self.memory.epoch < config.training.epochs and not self._should_stop():
                on_epoch(self._epoch())
                if self.memory.epoch % config.training.checkpoint_every == 0:
                    self._save()
            self._save()
        except (KeyboardInterrupt, TrainingError):
            self._save()
            raise
        finally:
            if self.checkpoints:
                self.checkpoints.close()
        return self._finish()

    def _should_stop(self) -> bool:
        limits, memory = self.config.training, self.memory
        late = limits.max_minutes is not None and memory.seconds > 60 * limits.max_minutes
        stale = limits.patience is not None and memory.epoch - memory.best_epoch >= limits.patience
        return late or stale

    def _epoch(self) -> EpochReport:
        config, problem, began = self.config, self.problem, time.monotonic()
        state, infos, chosen = jax.tree.map(jnp.copy, self.state), [], []  # steps use up their argument; the epoch may yet be cut short
        for frames, graph, targets in self.batches.epoch(config.seed, self.memory.epoch):
            static = (problem.spec, config.loss, config.optimizer, self.total, problem.with_stress)
            state, info = train_step(*static, state, graph, targets)
            infos.append(info)
            chosen.append(frames)
        infos = jax.device_get(infos)
        self._require_finite(infos, chosen)
        self.state = state
        evaluation = self._validate(state)
        valid_loss = validation_loss(config, evaluation)
        memory = self.memory
        memory.epoch += 1
        if better := valid_loss < memory.best_loss:
            memory.best_loss, memory.best_epoch = valid_loss, memory.epoch
            self.best = jax.tree.map(np.asarray, state.average)
        memory.seconds += time.monotonic() - began
        terms = {name: float(np.mean([i.terms[name] for i in infos])) for name in infos[0].terms}
        rate = float(np.asarray(learning_rate(config.optimizer, self.total)(int(state.step))))
        loss = float(np.mean([i.loss for i in infos]))
        report = EpochReport(
            memory.epoch, config.training.epochs, loss, terms, evaluation.summary(), valid_loss, better, rate, memory.seconds
        )
        memory.history.append(vars(report))
        self._log(vars(report))
        return report

    def _require_finite(self, infos: list[Any], chosen: list[list[int]]) -> None:
        for info, frames in zip(infos, chosen, strict=True):
            if not info.finite:
                origins = ", ".join(self.problem.train[k].frame.origin or f"frame {k}" for k in frames[:4])
                bad = [name for name, value in info.terms.items() if not np.isfinite(value).all()] or ["gradient"]
                kept = f"; the state after epoch {self.memory.epoch} is kept in {self.folder}" if self.folder and self.memory.epoch else ""
                raise TrainingError(
                    f"epoch {self.memory.epoch + 1}: the {bad[0]} term is no longer finite in the batch of {origins}; "
                    f"lower optimizer.learning_rate or inspect these frames{kept}"
                )

    def _validate(self, state: TrainState) -> Evaluation:
        frames = tuple(s.frame for s in self.problem.valid)
        potential = self._potential(state.average, {})
        return Evaluation(frames, tuple(potential.predict_hosts([s.host for s in self.problem.valid])))

    def _potential(self, params: Any, metadata: dict[str, Any]) -> Potential:
        reference = tuple(self.problem.reference.values[e] for e in self.problem.spec.elements)
        return Potential(self.problem.spec, params, reference, metadata, self.config.training.dtype)

    def _identity(self) -> dict[str, Any]:
        return flatten_config(self.config.model_dump(mode="json")) | {f"hash of {k} data": v for k, v in self.problem.hashes.items()}

    def _open_checkpoints(self) -> None:
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self._identity()) if self.folder else None
        found = self.checkpoints.restore((self.state, self.best)) if self.checkpoints and self.resume else None
        if found:
            _, (state, best), memory = found
            self.state = place(jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, state)))
            self.best = jax.tree.map(np.asarray, best)
            self.memory = Memory(**memory)
        if self.folder:
            _rewrite_log(self.folder / "log.jsonl", self.memory.history)

    def _save(self) -> None:
        """Keep the state of the last finished epoch (an epoch cut short is done again)."""
        if self.checkpoints and self.memory.epoch and self.checkpoints.newest() != self.memory.epoch:
            self.checkpoints.save(self.memory.epoch, (self.state, self.best), vars(self.memory))

    def _log(self, row: dict[str, Any]) -> None:
        if self.folder:
            with (self.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def _finish(self) -> Potential:
        potential = self._potential(jax.tree.map(np.asarray, self.best), self._metadata())
        if self.folder:
            potential.save(self.folder / "potential.safetensors")
        return potential

    def _metadata(self) -> dict[str, Any]:
        problem, memory = self.problem, self.memory
        config = json.dumps(self.config.model_dump(mode="json"), sort_keys=True)
        best = memory.history[memory.best_epoch - 1]["valid"] if memory.best_epoch else {}
        return {
            "name": self.config.name,
            "data": {**problem.hashes, "train_frames": len(problem.train), "valid_frames": len(problem.valid)},
            "config": json.loads(config),
            "config_hash": hashlib.sha256(config.encode()).hexdigest(),
            "reference_energies": {"source": problem.reference.source, "message": problem.reference.message},
            "validation": best,
            "epochs": memory.epoch,
            "best_epoch": memory.best_epoch,
            "seconds": round(memory.seconds, 1),
            "versions": {"python": platform.python_version(), **{p: version(p) for p in ("jax", "jaxlib", "flax", "optax", "numpy")}},
        }


def validation_loss(config: FitConfig, evaluation: Evaluation) -> float:
    """The loss made of mean squared validation errors."""
    rows = {"energy": evaluation.energy_per_atom, "forces": evaluation.forces, "stress": evaluation.stress}
    return sum(getattr(config.loss, name) * row.rmse**2 for name, row in rows.items() if row)


MADE = ("checkpoints", "log.jsonl", "report.html", "potential.safetensors")
"""What a run leaves in its folder."""


def _refuse_taken(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that holds another run, or on resume holds none; touches nothing."""
    taken = [name for name in MADE if (folder / name).exists()]
    if resume and not (folder / "checkpoints").is_dir():
        raise ConfigError(f"{folder}: nothing to resume here, there are no checkpoints")
    if taken and not (resume or overwrite):
        raise ConfigError(
            f"{folder}: holds a run already ({', '.join(taken)}); use resume to continue it, overwrite to start anew, or another name"
        )


def _claim(folder: Path, anew: bool) -> None:
    """Make the folder of a run; starting anew moves what an earlier one left into previous/<n>."""
    taken = [name for name in MADE if (folder / name).exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if anew and taken:
            _set_aside(folder, taken)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror})") from None


def _set_aside(folder: Path, names: list[str]) -> None:
    """Nothing that a user made is ever lost."""
    home = folder / "previous"
    number = 1 + max((int(p.name) for p in home.glob("*") if p.name.isdigit()), default=0)
    target = home / str(number)
    target.mkdir(parents=True)
    for name in names:
        (folder / name).rename(target / name)


def _rewrite_log(path: Path, history: list[dict[str, Any]]) -> None:
    """Make the log agree with the checkpoint: rows of epochs that will be done again are dropped."""
    path.write_text("".join(json.dumps(row) + "\n" for row in history))
