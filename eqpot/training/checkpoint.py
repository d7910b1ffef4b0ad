"""Checkpoints to resume from: orbax for the arrays, a small JSON for the rest, both committed together or not at all.

A checkpoint holds the whole train state, the best average so far, and what the loop remembers.
"""

import json
from pathlib import Path
from typing import Any

import jax

from eqpot.core.errors import CheckpointError


class Checkpoints:
    """The checkpoints of one run; all processes of a run take part in each call.

    Args:
        folder: where they live; made when first written to.
    """

    def __init__(self, folder: str | Path) -> None:
        import orbax.checkpoint as ocp

        self.folder = Path(folder).resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._args = ocp.args

    def save(self, step: int, arrays: Any, memory: dict[str, Any]) -> None:
        """Write the state after `step` steps, unless it is there; on return it is on disk. The previous checkpoint stays until then.

        Raises:
            CheckpointError: when the folder cannot be written; the previous checkpoint is intact.
        """
        if step in self._manager.all_steps():
            return
        memory = json.loads(json.dumps(memory))
        try:
            self._manager.save(step, args=self._args.Composite(arrays=self._args.StandardSave(arrays), memory=self._args.JsonSave(memory)))
            self._manager.wait_until_finished()
        except Exception as error:  # a full disk comes as OSError or, from the arrays' own writer, as ValueError
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({_reason(error)}); is the disk full? Earlier ones are kept"
            ) from None

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest complete checkpoint as (arrays, memory), or None when there is none.

        Raises:
            CheckpointError: when it cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        try:
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
            parts = self._args.Composite(arrays=self._args.StandardRestore(shapes), memory=self._args.JsonRestore())
            found = self._manager.restore(step, args=parts)
        except Exception as error:
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} cannot be read ({_reason(error)}); delete that folder to fall back to the one before"
            ) from None
        return found["arrays"], found["memory"]

    def close(self) -> None:
        """Release the folder."""
        self._manager.close()


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
