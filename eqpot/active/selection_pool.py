"""Candidates before any is chosen: what is known or occurs twice is left out, and the order is that of their geometries and not the caller's."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from eqpot.active.selection_twins import OF_CHOSEN, OF_KNOWN
from eqpot.core.errors import StructureError
from eqpot.data.dataset import structure_key
from eqpot.graph import Frame

NOT_JUDGED, TOO_LARGE = "not judged", "more than max_atoms atoms"
"""Reasons to leave a candidate out, besides those of `selection_twins`."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Candidates that may be chosen.

    Attributes:
        frames, indices, keys: of each: the frame, what the caller knows it by, and the digest of its geometry by which they are ordered.
        left_out: how many others were left out, by reason.
        faults: what is wrong with those that have no meaning or cannot be judged.
    """

    frames: list[Frame]
    indices: list[int]
    keys: list[bytes]
    left_out: Counter[str]
    faults: list[str]

    def only(self, rows: Sequence[int], fault: str) -> "Pool":
        """Some of them, the others not being judged for a fault like this."""
        left_out = self.left_out + Counter({NOT_JUDGED: len(self.frames) - len(rows)})
        faults = [*self.faults, fault] if fault else self.faults
        return Pool([self.frames[k] for k in rows], [self.indices[k] for k in rows], [self.keys[k] for k in rows], left_out, faults)

    def draws(self, seed: int) -> Float[np.ndarray, " N"]:
        """A number between 0 and 1 for each candidate, drawn by its own geometry and the seed."""
        digests = [hashlib.sha256(key + int(seed).to_bytes(16, "big")).digest()[:8] for key in self.keys]
        return np.array([int.from_bytes(d, "big") / 2**64 for d in digests], np.float64)


def admit(candidates: Sequence[Frame], known: Sequence[Frame], max_atoms: int | None) -> Pool:
    """Candidates that are not known, differ from each other and are not too large; of equal ones the first."""
    have = {structure_key(f.structure): OF_KNOWN for f in known}
    pool = Pool([], [], [], Counter(), [])
    for key, k in sorted((structure_key(f.structure), k) for k, f in enumerate(candidates)):
        reason = have.get(key) or (TOO_LARGE if max_atoms is not None and len(candidates[k]) > max_atoms else "")
        try:
            candidates[k].structure.check()
        except StructureError as error:
            reason = NOT_JUDGED
            pool.faults.append(f"candidate {k}: {error}")
        if reason:
            pool.left_out[reason] += 1
            continue
        have[key] = OF_CHOSEN
        pool.frames.append(candidates[k])
        pool.indices.append(k)
        pool.keys.append(key)
    return pool
