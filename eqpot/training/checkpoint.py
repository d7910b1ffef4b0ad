"""Checkpoints to resume from: orbax for the arrays, a small JSON for the rest, both committed together or not at all.

A checkpoint holds the whole train state, the best average so far, and what the loop remembers. It belongs to one configuration and one data set;
resuming with others is refused with the difference named.
"""

import json
from pathlib import Path
from typing import Any

import jax

from eqpot.core.errors import CheckpointError

EXTENDABLE = ("training.max_minutes", "training.checkpoint_every", "training.patience", "name")
"""Keys that may change when a run is resumed; all others would change what is being trained."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they live; made when first written to.
        identity: flat mapping that must be equal on resume, `EXTENDABLE` aside.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any]) -> None:
        import orbax.checkpoint as ocp

        self.folder, self.identity = Path(folder).resolve(), identity
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._args = ocp.args

    def save(self, epoch: int, arrays: Any, memory: dict[str, Any]) -> None:
        """Write the state after `epoch`; on return it is on disk. The previous checkpoint stays until then.

        Raises:
            CheckpointError: when the folder cannot be written; the previous checkpoint is intact.
        """
        meta = json.loads(json.dumps({"memory": memory, "identity": self.identity}))
        try:
            self._manager.save(epoch, args=self._args.Composite(arrays=self._args.StandardSave(arrays), meta=self._args.JsonSave(meta)))
            self._manager.wait_until_finished()
        except OSError as error:
            raise CheckpointError(
                f"{self.folder}: the checkpoint of epoch {epoch} cannot be written ({error.strerror}); earlier ones are kept"
            ) from None

    def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest complete checkpoint as (epoch, arrays, memory), or None when there is none.

        Raises:
            CheckpointError: when it belongs to another configuration or data set, or cannot be read.
        """
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        try:
            meta = self._manager.restore(epoch, args=self._args.Composite(meta=self._args.JsonRestore()))["meta"]
            self._require_same(meta["identity"])
            shapes = jax.tree.map(_abstract, like)
            arrays = self._manager.restore(epoch, args=self._args.Composite(arrays=self._args.StandardRestore(shapes)))["arrays"]
        except CheckpointError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise CheckpointError(
                f"{self.folder}: the checkpoint of epoch {epoch} cannot be read ({reason}); delete that folder to fall back to the one before"
            ) from None
        return epoch, arrays, meta["memory"]

    def _require_same(self, found: dict[str, Any]) -> None:
        now = json.loads(json.dumps(self.identity))
        for key in sorted(
            now.keys() | found.keys(), key=lambda key: (key.startswith("hash of"), key)
        ):  # a changed setting may be why data differ
            if now.get(key) != found.get(key) and key not in EXTENDABLE:
                raise CheckpointError(
                    f"{self.folder}: belongs to another run: {key} was {found.get(key)!r}, now {now.get(key)!r}; "
                    "restore the old setting to resume, or start anew in another folder or with overwrite"
                )

    def newest(self) -> int | None:
        """Epoch of the newest complete checkpoint."""
        return self._manager.latest_step()

    def close(self) -> None:
        """Release the folder."""
        self._manager.close()


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def flatten_config(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping → {'section.key': value}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten_config(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
