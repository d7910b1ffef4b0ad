"""The training loop: `fit` turns labelled structures into a potential."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqpot.core.errors import TrainingError
from eqpot.data import Frames
from eqpot.potential import Potential
from eqpot.training import schedule
from eqpot.training.batches import Batches, bootstrap_weights, group_weights, structures_per_batch
from eqpot.training.checkpoint import Checkpoints
from eqpot.training.config import FitConfig, as_config, require_batches
from eqpot.training.folder import BEST, LAST, RunFolder, flatten_config
from eqpot.training.interrupts import Abandoned, late_interrupts
from eqpot.training.metrics import Evaluation
from eqpot.training.outcome import describe, know_itself, require_enough, wrong_labels
from eqpot.training.parallel import MEMBERS, REPLICATED, anywhere, is_first, make_layout, on_first
from eqpot.training.progress import EpochReport, Memory, Observer
from eqpot.training.ridge import solve_members
from eqpot.training.setup import Problem, load_data, make_problem
from eqpot.training.step import TrainState, compiled_programs, init_state, train_step
from eqpot.training.validation import validation_loss


def fit(
    config: FitConfig | Mapping[str, Any] | str | Path | None = None,
    train: Frames | None = None,
    valid: Frames | None = None,
    *,
    folder: str | Path | None = None,
    overwrite: bool = False,
    on_start: Callable[[Problem, Batches], None] | None = None,
    on_epoch: Observer | None = None,
) -> Potential:
    """Train a potential.

    A run that was cut short, even by a crash, continues when it is started again with the same configuration, data and folder, and ends with the
    very numbers of an uninterrupted one. A finished run gives its result at once.

    Args:
        config: a `FitConfig`, a mapping of its keys, or a YAML file; defaults otherwise.
        train: training frames; by default read from `config.data`.
        valid: validation frames; by default read, or held out from the training frames.
        folder: where checkpoints, log and the potential are written; nothing is written without one.
        overwrite: start anew in a folder that holds a run, which is moved into previous/.
        on_start: called once with the problem and the batches before training.
        on_epoch: called after each validated epoch.

    Returns:
        the averaged parameters of the epoch with the lowest validation loss (of the second stage, if there is one).

    Raises:
        ConfigError, DataError, StructureError: for input that cannot be used, before anything is compiled.
        CheckpointError: when the folder holds another run, or a checkpoint cannot be read or written.
        TrainingError: when the loss is no longer finite, the last good state is in the newest checkpoint; when no validation loss ever was.
        KeyboardInterrupt: passed on after a checkpoint was written.
    """
    config = as_config(config)
    parts = load_data(config, train, valid)
    require_enough(parts.calibrate)
    problem = make_problem(config, *parts)
    with jax.enable_x64(config.training.dtype == "float64"):
        run = _Run(config, problem, RunFolder(folder, is_first()) if folder else None, overwrite, parts.calibrate)
        return run.train(on_start or (lambda *_: None), on_epoch or (lambda _: None))


class _Run:
    """One run of the loop and its folder."""

    def __init__(self, config: FitConfig, problem: Problem, folder: RunFolder | None, overwrite: bool, calibrate: Frames | None) -> None:
        self.config, self.problem, self.folder, self.calibrate = config, problem, folder, calibrate
        self.memory, members = Memory(), config.ensemble.members
        self.compiles, self.compile_seconds = 0, 0.0
        t = config.training
        self.layout = make_layout(members, structures_per_batch(problem.train, t.batch_size, t.batch_atoms))
        weights = bootstrap_weights(members, len(problem.train), config.seed, config.ensemble.bootstrap)
        weights = weights * group_weights(problem.frames, config.loss.groups)
        self.batches = Batches(problem.train, t.batch_size, weights, t.dtype, t.batch_atoms, self.layout.shards, t.workers)
        require_batches(config, self.batches.steps_per_epoch)
        params = problem.initial or problem.spec.init_members([config.seed * 1009 + k for k in range(members)])
        params = jax.tree.map(lambda x: np.asarray(x, t.dtype), params)
        state = init_state(params, problem.spec, config.loss, config.optimizer, problem.with_stress)
        self.state: TrainState = self.layout.place(state, MEMBERS)
        self.best = self.layout.fetch(self.state.average)
        self.checkpoints: Checkpoints | None = None
        if folder:
            identity = self._identity()
            on_first(lambda: folder.claim(identity, overwrite))
            folder.require_same(identity)
            self.checkpoints = Checkpoints(folder.path / "checkpoints")
            self._restore()

    def train(self, on_start: Callable[[Problem, Batches], None], on_epoch: Observer) -> Potential:
        """Do all epochs that are left."""
        memory, limits = self.memory, self.config.training
        on_start(self.problem, self.batches)
        try:
            with late_interrupts() as interrupted:
                while memory.batch or not self._is_over():  # an epoch that was begun is finished
                    self._epoch(interrupted) if self.config.optimizer.name != "ridge" else self._solve()
                    if memory.epoch % limits.validate_every == 0 or memory.epoch == self.config.epochs:
                        on_epoch(self._report())
                    if memory.epoch % limits.checkpoint_every == 0:
                        self._save()
                    if anywhere(interrupted()):
                        raise KeyboardInterrupt
                if memory.sums:  # epochs since the last validation
                    on_epoch(self._report())
            self._save()
            return self._finish()
        except Abandoned:
            raise
        except (KeyboardInterrupt, TrainingError):
            self._save()
            raise
        finally:
            self.batches.close()
            if self.checkpoints:
                self.checkpoints.close()
            if self.folder:
                self.folder.release()

    def _is_over(self) -> bool:
        """Whether epochs, time or patience are spent; all processes ask together, and none goes on without the others."""
        limits, memory = self.config.training, self.memory
        if memory.epoch >= self.config.epochs:
            return True
        late = limits.max_minutes is not None and memory.seconds > 60 * limits.max_minutes
        stale = self._is_stale() and (self.config.stage_two is None or memory.stage_step is not None)
        return anywhere(late or stale)

    def _is_stale(self) -> bool:
        """Whether the last validation was `patience` epochs or more after the best one of this stage."""
        patience, memory = self.config.training.patience, self.memory
        return patience is not None and bool(memory.history) and memory.history[-1]["epoch"] - memory.best_epoch >= patience

    def _epoch(self, interrupted: Callable[[], bool]) -> None:
        """The rest of the current epoch. While a step runs, the next batch is made; its numbers are looked at before the next one starts."""
        config, memory, began = self.config, self.memory, time.monotonic()
        if memory.stage_step is None and schedule.in_stage_two(config, memory.epoch, memory.stage_epoch):
            self._begin_stage_two()
        every, running = config.training.checkpoint_steps, None
        try:
            for chosen, graph, targets in self.batches.epoch(config.seed, memory.epoch, memory.batch, self.layout.local):
                done, running = running, None
                self._look_at(done)
                if due := bool(every and memory.batch and memory.batch % every == 0):
                    self._save()
                if (due or jax.process_count() == 1) and anywhere(interrupted()):
                    raise KeyboardInterrupt
                running = self._step(graph, targets), chosen
        finally:
            self._look_at(running)
            memory.seconds += time.monotonic() - began
        memory.epoch, memory.batch = memory.epoch + 1, 0

    def _solve(self) -> None:
        """The whole training in place of an epoch, where the best parameters have a closed form."""
        memory, began, state = self.memory, time.monotonic(), self.layout.fetch(self.state)
        params, losses = solve_members(self.problem, self.config, self.batches.weights)
        params = jax.tree.map(lambda x: np.asarray(x, self.config.training.dtype), params)
        self.state = self.layout.place(replace(state, params=params, average=params), MEMBERS)
        memory.sums = {"steps": 1.0, "loss": float(np.mean(losses))}
        memory.epoch, memory.step = memory.epoch + 1, memory.step + 1
        memory.seconds += time.monotonic() - began

    def _step(self, graph: Any, targets: Any) -> Any:
        config, memory = self.config, self.memory
        done = memory.epoch + min(1.0, memory.batch / self.batches.steps_per_epoch)
        knobs = schedule.knobs(config, done, memory.epoch, memory.step, memory.stage_step, memory.scale, memory.stage_epoch)
        static = (self.problem.spec, config.loss, config.optimizer, self.layout, self.problem.with_stress)
        dynamic = *self.layout.place_batch(graph, targets), self.layout.place(knobs, REPLICATED)
        programs, began = compiled_programs(), time.monotonic()
        self.state, info = train_step(*static, self.state, *dynamic)
        if compiled_programs() > programs:  # a call that need not compile returns before its step is done
            self.compiles, self.compile_seconds = self.compiles + 1, self.compile_seconds + time.monotonic() - began
        return info

    def _look_at(self, done: tuple[Any, list[int]] | None) -> None:
        """Wait for a step and book it.

        Raises:
            TrainingError: when a number is not finite.
        """
        if done is None:
            return
        memory, (info, chosen) = self.memory, done
        info = jax.device_get(info)
        if not info.finite.all():
            bad = [name for name, value in info.terms.items() if not np.isfinite(value).all()] or ["gradient"]
            where = self._culprit(chosen)
            kept = f"; the last good state is kept in {self.folder.path}" if self.folder else ""
            raise TrainingError(
                f"epoch {memory.epoch + 1}: the {bad[0]} term is no longer finite {where}; "
                f"lower optimizer.learning_rate or inspect the data there{kept}"
            )
        for name, value in {
            "steps": 1.0,
            "loss": float(np.mean(info.loss)),
            **{n: float(np.mean(v)) for n, v in info.terms.items()},
        }.items():
            memory.sums[name] = memory.sums.get(name, 0.0) + value
        memory.batch, memory.step = memory.batch + 1, memory.step + 1

    def _culprit(self, chosen: list[int]) -> str:
        """Where a number stopped being finite: in the frame whose prediction is not, else somewhere in the batch."""
        samples = [self.problem.train[k] for k in chosen]
        results = self._potential(self.layout.fetch(self.state.params), {}).predict_hosts([s.host for s in samples])
        names = [s.frame.origin or f"frame {k}" for k, s in zip(chosen, samples, strict=True)]
        alone = [n for n, r in zip(names, results, strict=True) if not (np.isfinite(r.energy) and np.isfinite(r.forces).all())]
        if alone and len(alone) < len(names):
            return f"for {', '.join(alone[:4])}"
        return f"in the batch of {', '.join(names[:4])}" + (" …" if len(names) > 4 else "")

    def _begin_stage_two(self) -> None:
        """From here on other weights count, so what was best so far is kept in a file of its own and the search begins anew."""
        memory = self.memory
        memory.stage_step = memory.step
        if memory.best_epoch:
            self._write(self._potential(self.best, self._metadata()), "stage_one.safetensors")
        memory.best_loss, memory.best_epoch = float("inf"), memory.epoch

    def _report(self) -> EpochReport:
        """Validate the averaged parameters and remember them if they are the best."""
        config, memory, began = self.config, self.memory, time.monotonic()
        average = self.layout.fetch(self.state.average)
        frames = tuple(s.frame for s in self.problem.valid)
        predicted = self._potential(average, {}).predict_hosts([s.host for s in self.problem.valid])
        evaluation = Evaluation(frames, tuple(predicted))
        valid_loss = validation_loss(config.loss, schedule.weights(config, memory.epoch - 1, early=memory.stage_epoch), evaluation)
        if better := valid_loss < memory.best_loss:
            memory.best_loss, memory.best_epoch, self.best = valid_loss, memory.epoch, average
        if memory.epoch - max(memory.best_epoch, memory.lowered) >= config.optimizer.plateau_patience:
            memory.scale, memory.lowered = memory.scale * config.optimizer.plateau_factor, memory.epoch
        steps = memory.sums.pop("steps")
        means = {name: total / steps for name, total in memory.sums.items()}
        memory.sums = {}
        rate = schedule.rate(config, memory.epoch - 1e-9, memory.scale, memory.stage_epoch)
        noise = {name: float(np.exp(value).mean()) for name, value in self.layout.fetch(self.state.noise).items()}
        memory.seconds += time.monotonic() - began
        summary = evaluation.summary()
        report = EpochReport(
            memory.epoch, config.epochs, means.pop("loss"), means, summary, valid_loss, better, rate, memory.seconds, noise
        )
        memory.history.append(vars(report))
        if config.stage_two and self._is_stale() and not schedule.in_stage_two(config, memory.epoch, memory.stage_epoch):
            memory.stage_epoch = memory.epoch
        if self.folder:
            self.folder.log(vars(report))
        return report

    def _potential(self, params: Any, metadata: dict[str, Any]) -> Potential:
        return Potential(self.problem.spec, params, self.problem.reference_energies, metadata, self.config.training.dtype)

    def _identity(self) -> dict[str, Any]:
        hashes = {f"hash of {name} data": value for name, value in self.problem.hashes.items()}
        hashes["hash of weights of frames"] = hashlib.sha256(self.batches.weights.tobytes()).hexdigest()
        return flatten_config(self.config.model_dump(mode="json")) | hashes

    def _save(self) -> None:
        """Keep the state of the last finished step."""
        if self.checkpoints and self.memory.step:
            self.checkpoints.save(self.memory.step, self.layout.fetch((self.state, self.best)), vars(self.memory))

    def _restore(self) -> None:
        assert self.checkpoints and self.folder
        found = self.checkpoints.restore(self.layout.fetch((self.state, self.best)))
        if found:
            (state, best), memory = jax.tree.map(np.asarray, found[0]), found[1]
            self.state, self.best, self.memory = self.layout.place(state, MEMBERS), best, Memory(**memory)
        self.folder.rewrite_log(self.memory.history)

    def _finish(self) -> Potential:
        """The potential of the best epoch with all that it knows of itself; without that it is saved first. The last file says that all are there."""
        before = self.folder.result(self.memory.step) if self.folder else None
        if not anywhere(before is None):
            assert before is not None
            return before
        metadata = self._metadata()
        last = self._potential(self.layout.fetch(self.state.params), metadata)
        if not np.isfinite(self.memory.best_loss):
            self._write(last, LAST)
            kept = f"; the last parameters are in {self.folder.path / LAST}" if self.folder else ""
            raise TrainingError(
                f"no validation loss was finite in {self.memory.epoch} epochs, so there is no best one: inspect the validation frames, or lower "
                f"optimizer.learning_rate{kept}"
            )
        best = self._potential(self.best, metadata)
        self._write(best, BEST)
        if self.config.data.hygiene:
            file = self.folder.path / "suspicious.extxyz" if self.folder and self.folder.writes else None
            warnings = [*metadata["warnings"], *wrong_labels(self.problem, best, file)]
            best = self._potential(self.best, {**metadata, "warnings": warnings})
        best = know_itself(best, self.config.ensemble, self.problem, self.calibrate)
        self._write(best, BEST)
        self._write(last, LAST)
        return best

    def _write(self, potential: Potential, name: str) -> None:
        if self.folder and self.folder.writes:
            potential.save(self.folder.path / name)

    def _metadata(self) -> dict[str, Any]:
        found = describe(self.config, self.problem, self.memory, self.batches, self.layout, (self.compiles, self.compile_seconds))
        if self.state.noise:
            found["noise"] = {name: float(np.sqrt(np.exp(2 * v).mean())) for name, v in self.layout.fetch(self.state.noise).items()}
        return found
