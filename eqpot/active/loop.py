"""The loop of active learning: learn, sample, ask, and again, until a rule says enough.

    found = active(config, "runs/ethanol")
    found.potential, found.why, found.uncertain

A round is: train (or go on training) the ensemble on all labels, let it sample, judge what was sampled, ask the oracle about some of it, write down
what was asked, why and what came. All of it depends on the configuration and on what the folder holds; a driver that was killed at any moment and started
again comes to the same ledger, and no label is paid for twice.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqpot.active.label_output import provenance
from eqpot.active.label_record import label_key, settings_hash
from eqpot.active.labelling import MakesExecutor, label
from eqpot.active.learner import FILE, Learned, digest, learn
from eqpot.active.ledger import Ledger, open_ledger
from eqpot.active.loop_config import EXTENDABLE, ActiveConfig
from eqpot.active.loop_data import (
    AUDIT,
    HELD,
    TRAIN,
    Asked,
    Collected,
    collected,
    first_frames,
    first_structures,
    identity,
    labelled_before,
    load_teacher,
    new_ones,
    split_start,
)
from eqpot.active.loop_question import Question, choose
from eqpot.active.query import Band, audited, band, bounds, judge, still_uncertain
from eqpot.active.sampler_base import Sampled, Start
from eqpot.active.stopping import levels, nothing_left, verdict
from eqpot.core.config import build, load_yaml
from eqpot.core.elements import symbol
from eqpot.core.errors import ConfigError, DataError
from eqpot.data import is_isolated_atom, read, write_extxyz
from eqpot.graph.structure import Frame, Structure
from eqpot.oracles import Failure
from eqpot.potential import Potential

QUESTION = "question.json"
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
    with open_ledger(folder, identity(config, loop.level, loop.structures, loop.before), EXTENDABLE) as ledger:
        return loop.run(ledger)


class _Loop:
    """One run: what it needs in every round."""

    def __init__(self, config: ActiveConfig, folder: Path, observe: Observer, executor: Executor | MakesExecutor | None) -> None:
        self.config, self.folder, self.observe, self.executor = config, folder, observe, executor
        self.oracle, self.alternatives = load_teacher(config.oracle)
        self.structures = first_structures(config.start)
        self.before = labelled_before(config.start, self.oracle)
        self.level = settings_hash(self.oracle.settings)
        self.moving = tuple(s for s in self.structures if not is_isolated_atom(Frame(s)))
        elements = {symbol(int(z)) for s in self.structures for z in s.numbers} | set(self.before.elements)
        for sampler in config.samplers:
            sampler.check(self.moving, elements)

    def run(self, ledger: Ledger) -> Outcome:
        """Rounds until a rule says enough."""
        if not ledger.records:
            self._begin(ledger)
        while True:
            rounds = [r for r in ledger.records if r["kind"] == "round"]
            have = collected(self.folder / "labels", self.oracle, self.alternatives, ledger.records, self.before)
            learned = self._learn(len(rounds), have)
            now = self._bounds(learned.potential, have.audits)
            why = verdict(self.config.stop, rounds, have.calls, now)
            if rounds and not rounds[-1]["asked"]:
                why = why or nothing_left(rounds[-1]["sampled"])
            if why is not None:
                return self._end(ledger, why, learned, rounds, have, now)
            ledger.append(self._round(len(rounds), learned, have))
            self.observe("round", ledger.records[-1])

    def _begin(self, ledger: Ledger) -> None:
        """Label what the first training learns from."""
        path = self.folder / QUESTION
        question = Question.read(path)
        if question is None or question.record["ledger"] != ledger.head:
            made = first_frames(self.config.start, self.structures, self.before, self.config.seed)
            if len(made) > (left := self._calls_left(0)):
                raise ConfigError(f"stop: found a budget of {left} calls, expected at least the {len(made)} that start asks about")
            question = Question({"kind": "start", "ledger": ledger.head}, tuple(Asked(f, TRAIN, "start") for f in made))
            question.write(path)
        asked, found = self._label(question.asked)
        labelled = [(row, f) for row, f in zip(asked, found, strict=True) if isinstance(f, Frame)]
        roles = split_start([f for _, f in labelled], self.before, self.config.start.hold_out, self.config.seed)
        for (row, _), role in zip(labelled, roles, strict=True):
            row["role"] = role
        if HELD not in roles or (TRAIN not in roles and not len(self.before)):
            reasons = "; ".join(sorted({row["reason"] for row in asked if row["status"] != "labelled"})) or "there are too few"
            raise DataError(
                f"start: {roles.count(TRAIN)} structures to train on and {roles.count(HELD)} to hold out were labelled of {len(asked)}, expected "
                f"at least one of each ({reasons}); give more start structures, more than one with each element, or change start.generate"
            )
        ledger.append({"kind": "start", "asked": asked})

    def _learn(self, number: int, have: Collected) -> Learned:
        began = time.monotonic()
        folder = self._place(number)
        previous = self._place(number - 1) / FILE if number else None
        if (question := Question.read(folder / QUESTION)) and (folder / FILE).exists():  # it was asked by this potential, to the bit
            return Learned(Potential.load(folder / FILE), **question.record["learner"])

        def report(epoch: Any) -> None:
            self.observe("epoch", {"round": number, "report": epoch})

        learned = learn(
            self.config.fitting, self.config.learner, folder, number, have.train, have.held, self._newest(have.audits), previous, report
        )
        self._time(number, "train", began)
        return learned

    def _round(self, number: int, learned: Learned, have: Collected) -> dict[str, Any]:
        """Sample, judge, ask: the record of a round."""
        path = self._place(number) / QUESTION
        question = Question.read(path)
        if question is None or question.record["potential"] != digest(learned.potential):
            question = self._question(number, learned, have)
            question.write(path)
        asked, found = self._label(question.asked, number)
        fresh = [f for row, f in zip(asked, found, strict=True) if row["role"] == AUDIT and isinstance(f, Frame)]
        errors = audited(learned.potential, fresh) | {"bounds_eV_A": self._bounds(learned.potential, (*have.audits, *fresh))}
        return {**question.record, "asked": asked, "errors": errors, "calls": have.calls + len(asked)}

    def _question(self, number: int, learned: Learned, have: Collected) -> Question:
        """Sample, judge, choose."""
        potential, query = learned.potential, self.config.query
        edges = band(potential, have.train, have.held, query)
        sampled = self._sample(number, potential, edges)
        new = new_ones([f for part in sampled for f in part.frames], have.asked)
        judged = judge(potential, [f for f in new if label_key(f.structure, self.level) not in have.keys])
        left = self._calls_left(have.calls)
        asked, selection = choose(potential, judged, edges, query, have.train, left, (self.config.seed, number))
        notes = [note for part in sampled for note in part.notes]
        summary = judged.summary(edges) | {
            "broken": sum(part.broken for part in sampled),
            "lost": sum(part.lost for part in sampled),
            "observables": self._observables(sampled),
            "notes": notes + ([f"{judged.foreign} structures could not be judged: {judged.fault}"] if judged.foreign else []),
        }
        record = {
            "kind": "round",
            "round": number,
            "potential": digest(potential),
            "calibrated": potential.trust.calibration is not None,
            "learner": {"start": learned.start, "why": learned.why},
            "train": len(have.train),
            "held_out": len(have.held),
            "band_eV_A": {"low": round(edges.low, 6), "high": round(edges.high, 6)},
            "sampled": summary,
            "selection": selection,
        }
        return Question(record, tuple(asked))

    def _observables(self, sampled: Sequence[Sampled]) -> dict[str, Any]:
        """Of all samplers, by names that say which it was where there are several of a kind."""
        kinds = [sampler.kind for sampler in self.config.samplers]
        marks = [f", sampler {k}" if kinds.count(kind) > 1 else "" for k, kind in enumerate(kinds)]
        return {name + mark: value for part, mark in zip(sampled, marks, strict=True) for name, value in part.observables.items()}

    def _sample(self, number: int, potential: Potential, edges: Band) -> list[Sampled]:
        """What the samplers bring; kept in the folder, as where their walkers go on is needed in the next round."""
        began, found = time.monotonic(), []

        def report(what: str, done: float) -> None:
            self.observe("sample", {"round": number, "what": what, "done": done})

        for k, sampler in enumerate(self.config.samplers):
            seed = int.from_bytes(hashlib.sha256(f"{self.config.seed} {number} {k}".encode()).digest()[:4], "big")
            start = Start(self.moving, self._ends(number - 1, k), seed, edges)
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

    def _newest(self, audits: Sequence[Frame]) -> Sequence[Frame]:
        """As many as bounds are made from: more for levels that need more."""
        return audits[-max(MOST_AUDITS, *(math.ceil(1 / (1 - level)) for level in levels(self.config.stop))) :]

    def _bounds(self, potential: Potential, audits: Sequence[Frame]) -> dict[str, float | None]:
        return bounds(potential, self._newest(audits), levels(self.config.stop))

    def _end(
        self, ledger: Ledger, why: str, learned: Learned, rounds: Sequence[Mapping[str, Any]], have: Collected, now: Mapping[str, Any]
    ) -> Outcome:
        potential = learned.potential
        doubts = still_uncertain(rounds[-1]) if rounds else "nothing was sampled"
        if ledger.records[-1]["kind"] != "end":
            ledger.append(
                {
                    "kind": "end",
                    "why": why,
                    "uncertain": doubts,
                    "potential": digest(potential),
                    "calls": have.calls,
                    "train": len(have.train),
                    "bounds_eV_A": now,
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
