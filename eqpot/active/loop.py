"""The loop of active learning: learn, sample, ask, and again, until a rule says enough.

    found = active(config, "runs/ethanol")
    found.potential, found.why, found.uncertain

A round is: train (or go on training) the ensemble on all labels, let it sample, judge what was sampled, ask the oracle about some of it, write down
what was asked, why and what came. All of it depends on the configuration and the ledger alone; a driver that was killed at any moment and started
again comes to the same ledger, and no label is paid for twice.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.active.label_output import provenance
from eqpot.active.label_record import canonical, label_key, settings_hash
from eqpot.active.labelling import MakesExecutor, label
from eqpot.active.learner import FILE, Learned, digest, learn
from eqpot.active.ledger import Ledger, open_ledger
from eqpot.active.loop_config import EXTENDABLE, ActiveConfig
from eqpot.active.loop_data import AUDIT, TRAIN, Asked, Collected, collected, first_structures, labelled_before, load_teacher, new_ones
from eqpot.active.query import ABSURD, CANDIDATE, Band, Judged, band, bounds, coverage, judge, still_uncertain
from eqpot.active.samplers import PoolSampler, Sampled, Start
from eqpot.active.selection import select
from eqpot.active.stopping import levels, verdict
from eqpot.core.config import build, load_yaml
from eqpot.core.errors import DataError
from eqpot.data import read, write_extxyz
from eqpot.data.dataset import structure_key
from eqpot.graph.structure import Frame, Structure
from eqpot.oracles import Failure
from eqpot.potential import Potential
from eqpot.training import Evaluation
from eqpot.training.folder import flatten_config

MOST_AUDITS = 40
"""The newest structures of the audit, from which bounds and calibration are made: older ones were drawn by worse potentials."""
Observer = Callable[[str, Mapping[str, Any]], Any]
"""Called with what happens: 'label', 'epoch', 'sample' (progress), 'round' and 'end' (records of the ledger), and their values."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a loop came to.

    Attributes:
        potential: trained on all labels.
        why: why it stopped, in words.
        uncertain: what it still doubts, in words.
        records: of the ledger.
        folder: where all of it is.
    """

    potential: Potential
    why: str
    uncertain: str
    records: tuple[dict[str, Any], ...]
    folder: Path


def active(
    config: ActiveConfig | Mapping[str, Any] | str | Path,
    folder: str | Path | None = None,
    on_event: Observer | None = None,
    executor: Executor | MakesExecutor | None = None,
) -> Outcome:
    """Learn actively, or go on where a run in this folder was cut short; a finished one gives its outcome at once.

    Args:
        config: an `ActiveConfig`, a mapping of its keys, or a YAML file.
        folder: of the run; by default runs/<name>.
        on_event: see `Observer`.
        executor: what carries the labels instead of local processes, such as one of Parsl or Dask; see `label`.

    Raises:
        ConfigError, DataError, StructureError: for input that cannot be used, a ledger of another run or one that was changed, another driver at
            work in the folder, and an oracle that labels nothing.
        KeyboardInterrupt: passed on; all that was finished is kept.
    """
    if isinstance(config, str | Path):
        config = build(ActiveConfig, load_yaml(config), str(config))
    elif not isinstance(config, ActiveConfig):
        config = build(ActiveConfig, config)
    folder = Path(folder or f"runs/{config.name}")
    loop = _Loop(config, folder, on_event or (lambda *_: None), executor)
    with open_ledger(folder, loop.identity(), EXTENDABLE) as ledger:
        return loop.run(ledger)


class _Loop:
    """One run: what it needs in every round."""

    def __init__(self, config: ActiveConfig, folder: Path, observe: Observer, executor: Executor | MakesExecutor | None) -> None:
        self.config, self.folder, self.observe, self.executor = config, folder, observe, executor
        self.oracle, self.alternatives = load_teacher(config.oracle)
        self.structures = first_structures(config.start)
        self.before = labelled_before(config.start, self.oracle)
        self.level = settings_hash(self.oracle.settings)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to be continued."""
        starts = [label_key(s, "") for s in self.structures]
        pools = [sampler.read() for sampler in self.config.samplers if isinstance(sampler, PoolSampler)]
        hashes = {
            "oracle settings": self.level,
            "start structures": hashlib.sha256(canonical(starts)).hexdigest(),
            "start data": self.before.content_hash if len(self.before) else "",
            "pools": [pool.content_hash for pool in pools],
        }
        return flatten_config(self.config.model_dump(mode="json")) | {f"hash of {name}": value for name, value in hashes.items()}

    def run(self, ledger: Ledger) -> Outcome:
        """Rounds until a rule says enough."""
        if not ledger.records:
            self._begin(ledger)
        while True:
            rounds = [r for r in ledger.records if r["kind"] == "round"]
            have = collected(self.folder / "labels", self.oracle, self.alternatives, ledger.records, self.before)
            why = verdict(self.config.stop, rounds, have.calls)
            if ledger.records[-1]["kind"] == "round" and not ledger.records[-1]["asked"]:
                why = why or "nothing is left to ask"
            learned = self._learn(len(rounds), have)
            if why is not None:
                return self._end(ledger, why, learned, rounds, have)
            ledger.append(self._round(len(rounds), learned, have))
            self.observe("round", ledger.records[-1])

    def _begin(self, ledger: Ledger) -> None:
        """Label what the first training learns from."""
        from eqpot.active.generate_structures import generate

        made = [Frame(s, origin=f"start {k}", group="start") for k, s in enumerate(self.structures)]
        if self.config.start.generate:
            settings = {"seed": self.config.seed, "methods": list(self.config.start.generate)}
            made += [m.frame() for m in generate(settings, list(self.structures))]
        made = new_ones(made, frozenset(structure_key(f.structure) for f in self.before))
        held = max(2, round(self.config.start.hold_out * len(made))) if len(made) > 2 or len(self.before) else 0
        order = np.random.default_rng(self.config.seed).permutation(len(made))
        roles = ["" if k not in set(order[:held].tolist()) else "held" for k in range(len(made))]
        asked, _ = self._label([Asked(f, role or TRAIN, "start") for f, role in zip(made, roles, strict=True)])
        good = {role: sum(row["status"] == "labelled" for row in asked if row["role"] == role) for role in (TRAIN, "held")}
        if good["held"] < 1 or good[TRAIN] + len(self.before) < 1:
            reasons = "; ".join(sorted({row["reason"] for row in asked if row["status"] != "labelled"})) or "there are too few"
            raise DataError(
                f"start: {good[TRAIN]} structures to train on and {good['held']} to hold out were labelled of {len(made)}, expected at least one "
                f"of each ({reasons}); give more start structures or change start.generate"
            )
        ledger.append({"kind": "start", "asked": asked})

    def _learn(self, number: int, have: Collected) -> Learned:
        began = time.monotonic()
        folder = self._place(number)
        previous = self._place(number - 1) / FILE if number else None
        audits = have.audits[-MOST_AUDITS:]

        def report(epoch: Any) -> None:
            self.observe("epoch", {"round": number, "report": epoch})

        learned = learn(self.config.fitting, self.config.learner, folder, number, have.train, have.held, audits, previous, report)
        self._time(number, "train", began)
        return learned

    def _round(self, number: int, learned: Learned, have: Collected) -> dict[str, Any]:
        """Sample, judge, ask: the record of a round."""
        potential, config = learned.potential, self.config
        edges = band(potential, have.train, have.held, config.query)
        sampled = self._sample(number, potential, edges)
        judged = judge(potential, new_ones([f for part in sampled for f in part.frames], have.asked))
        asked, found = self._label(self._choose(number, potential, judged, edges, have), number)
        fresh = [f for row, f in zip(asked, found, strict=True) if row["role"] == AUDIT and isinstance(f, Frame)]
        summary = judged.summary(edges) | {
            "broken": sum(part.broken for part in sampled),
            "observables": {name: value for part in sampled for name, value in part.observables.items()},
            "notes": [note for part in sampled for note in part.notes],
        }
        return {
            "kind": "round",
            "round": number,
            "potential": digest(potential),
            "learner": {"start": learned.start, "why": learned.why},
            "train": len(have.train),
            "held_out": len(have.held),
            "band_eV_A": {"low": round(edges.low, 6), "high": round(edges.high, 6)},
            "sampled": summary,
            "asked": asked,
            "errors": self._errors(potential, fresh, (*have.audits, *fresh)[-MOST_AUDITS:]),
            "calls": have.calls + len(asked),
        }

    def _sample(self, number: int, potential: Potential, edges: Band) -> list[Sampled]:
        """What the samplers bring; kept in the folder, as where their walkers go on is needed in the next round."""
        began, found = time.monotonic(), []

        def report(what: str, done: float) -> None:
            self.observe("sample", {"round": number, "what": what, "done": done})

        for k, sampler in enumerate(self.config.samplers):
            seed = int.from_bytes(hashlib.sha256(f"{self.config.seed} {number} {k}".encode()).digest()[:4], "big")
            start = Start(tuple(self.structures), self._ends(number - 1, k), seed, edges)
            part = sampler.sample(potential, start, report)
            if part.ends:
                ends = [Frame(s, origin=f"walker {i}") for i, s in enumerate(part.ends)]
                write_extxyz(self._place(number) / f"ends-{k}.extxyz", ends, overwrite=True)
            found.append(part)
        self._time(number, "sample", began)
        return found

    def _ends(self, number: int, sampler: int) -> tuple[Structure, ...]:
        path = self._place(number) / f"ends-{sampler}.extxyz"
        return tuple(f.structure for f in read(str(path))) if number >= 0 and path.exists() else ()

    def _choose(self, number: int, potential: Potential, judged: Judged, edges: Band, have: Collected) -> list[Asked]:
        """An audit at random from all that is not absurd, and the best of the rest."""
        query = self.config.query
        kinds = np.array(judged.kinds(edges))
        rng = np.random.default_rng([self.config.seed, number])
        believable = rng.permutation(np.flatnonzero(kinds != ABSURD))
        left = self._calls_left(have.calls)
        audit = believable[: min(query.audit, left)]
        asked = [Asked(judged.frames[k], AUDIT, "drawn at random", float(judged.sigma[k])) for k in audit]
        open_to = np.setdiff1d(believable if query.method == "random" else np.flatnonzero(kinds == CANDIDATE), audit)
        wanted = min(query.n, left - len(audit))
        if len(open_to) and wanted > 0:
            known = [*have.train, *(judged.frames[k] for k in audit)]
            choice = select(
                potential,
                [judged.frames[k] for k in open_to],
                wanted,
                known=known,
                method=query.method,
                seed=int(rng.integers(2**31)),
                exploration=query.exploration,
            )
            for k, why in zip(choice.chosen, choice.reasons, strict=True):
                asked.append(Asked(judged.frames[open_to[k]], TRAIN, why, float(judged.sigma[open_to[k]])))
        return asked

    def _calls_left(self, calls: int) -> int:
        budgets = [rule.calls for rule in self.config.stop if rule.asked == ("calls",) and rule.calls]
        return max(0, min(budgets) - calls) if budgets else 2**31

    def _label(self, asked: Sequence[Asked], number: int = -1) -> tuple[list[dict[str, Any]], tuple[Frame | Failure, ...]]:
        """Ask the oracle: rows of the ledger, and the answers."""
        began = time.monotonic()
        if not asked:
            return [], ()
        found = label(
            self.oracle,
            [a.frame for a in asked],
            self.folder / "labels",
            alternatives=self.alternatives,
            executor=self.executor,
            on_progress=lambda done, total, failed: self.observe(
                "label", {"round": number, "done": done, "total": total, "failed": failed}
            ),
            **self.config.labelling.model_dump(),
        )
        self._time(number, "label", began)
        rows = [a.row(label_key(a.frame.structure, self.level), result) for a, result in zip(asked, found.results, strict=True)]
        return rows, found.results

    def _errors(self, potential: Potential, fresh: Sequence[Frame], audits: Sequence[Frame]) -> dict[str, Any]:
        """What the audit says of a potential that has not seen it."""
        found: dict[str, Any] = {"audit": len(fresh), "bounds_eV_A": bounds(potential, audits, levels(self.config.stop))}
        if fresh:
            audit = Evaluation(tuple(fresh), tuple(potential.predict_frames(fresh)))
            force, energy = audit.forces, audit.energy_per_atom
            found |= {"force_rmse_eV_A": force.rmse if force else None, "energy_rmse_eV_atom": energy.rmse if energy else None}
            found["coverage"] = coverage(audit)
        return found

    def _end(self, ledger: Ledger, why: str, learned: Learned, rounds: Sequence[Mapping[str, Any]], have: Collected) -> Outcome:
        potential = learned.potential
        doubts = still_uncertain(rounds[-1]) if rounds else "nothing was sampled"
        if ledger.records[-1]["kind"] != "end":
            known = bounds(potential, have.audits[-MOST_AUDITS:], levels(self.config.stop))
            ledger.append(
                {
                    "kind": "end",
                    "why": why,
                    "uncertain": doubts,
                    "potential": digest(potential),
                    "calls": have.calls,
                    "train": len(have.train),
                    "bounds_eV_A": known,
                }
            )
        potential.save(self.folder / FILE)
        for name, frames in (("train.extxyz", have.train), ("held_out.extxyz", have.held)):
            info = [provenance(self.oracle.settings, have.alternatives.get(id(f))) for f in frames]
            write_extxyz(self.folder / name, list(frames), info=info, overwrite=True)
        self.observe("end", ledger.records[-1])
        return Outcome(potential, ledger.records[-1]["why"], ledger.records[-1]["uncertain"], tuple(ledger.records), self.folder)

    def _place(self, number: int) -> Path:
        return self.folder / f"round-{number:03d}"

    def _time(self, number: int, what: str, began: float) -> None:
        """Wall times are kept beside the ledger, which must not depend on the clock."""
        with (self.folder / "times.jsonl").open("a") as file:
            file.write(json.dumps({"round": number, "what": what, "seconds": round(time.monotonic() - began, 2)}) + "\n")
