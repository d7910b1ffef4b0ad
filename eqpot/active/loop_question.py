"""What a round asks the oracle: chosen once, and written down before the first answer is paid for.

A driver that is started again asks what was chosen, also where the same computation would not come out the same to the bit: on an accelerator, or with
other versions.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.active.label_record import canonical, structure_document
from eqpot.active.loop_data import AUDIT, TRAIN, Asked
from eqpot.active.query import ABSURD, CANDIDATE, Band, Judged, QueryConfig
from eqpot.active.selection import select
from eqpot.core.errors import DataError
from eqpot.core.files import replace_file
from eqpot.data import Dataset
from eqpot.graph.structure import Frame, Structure
from eqpot.potential import Potential


@dataclass(frozen=True, eq=False)
class Question:
    """What a round asks.

    Attributes:
        record: what the ledger will say about the round, but for what was asked and what came of it.
        asked: structures with their roles.
    """

    record: Mapping[str, Any]
    asked: tuple[Asked, ...]

    def write(self, path: Path) -> None:
        """Keep it; on return it is on the disk."""
        rows = [
            {"structure": structure_document(a.frame.structure), "origin": a.frame.origin, "group": a.frame.group}
            | {"role": a.role, "why": a.why, "sigma": a.sigma, "score": a.score}
            for a in self.asked
        ]
        replace_file(path, canonical({"record": dict(self.record), "asked": rows}))

    @classmethod
    def read(cls, path: Path) -> "Question | None":
        """What was written there, or None.

        Raises:
            DataError: for a file that was changed or damaged.
        """
        if not path.exists():
            return None
        try:
            document = json.loads(path.read_bytes())
            asked = []
            for row in document["asked"]:
                frame = Frame(Structure(**row["structure"]), origin=row["origin"], group=row["group"])
                asked.append(Asked(frame, row["role"], row["why"], row["sigma"], row["score"]))
            return cls(document["record"], tuple(asked))
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: cannot be read as the question of a round; remove it, and the round samples anew") from None


def choose(
    potential: Potential, judged: Judged, band: Band, query: QueryConfig, train: Dataset, left: int, seed: tuple[int, int]
) -> tuple[list[Asked], dict[str, Any]]:
    """An audit at random from all that is not absurd, and the best of the rest; with what the selection says about itself.

    Args:
        train: what is known already.
        left: largest number of structures.
        seed: of the run, and the round.
    """
    kinds = np.array(judged.kinds(band))
    rng = np.random.default_rng(seed)
    believable = rng.permutation(np.flatnonzero(kinds != ABSURD))
    audit = believable[: min(query.audit, left)]
    asked = [Asked(judged.frames[k], AUDIT, "drawn at random", float(judged.sigma[k])) for k in audit]
    open_to = np.setdiff1d(believable if query.method == "random" else np.flatnonzero(kinds == CANDIDATE), audit)
    wanted = min(query.n, left - len(audit))
    if not len(open_to) or wanted <= 0:
        return asked, {}
    choice = select(
        potential,
        [judged.frames[k] for k in open_to],
        wanted,
        known=[*train, *(judged.frames[k] for k in audit)],
        seed=int(rng.integers(2**31)),
        **{name: getattr(query, name) for name in ("method", "exploration", "min_novelty_distance", "balance", "max_atoms")},
    )
    for k, why, score in zip(choice.chosen, choice.reasons, choice.scores, strict=True):
        asked.append(Asked(judged.frames[open_to[k]], TRAIN, why, float(judged.sigma[open_to[k]]), float(score)))
    return asked, {"candidates": len(open_to), "left_out": dict(choice.left_out), "note": choice.note}
