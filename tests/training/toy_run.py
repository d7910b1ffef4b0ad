"""A fit of the toy problem as a program of its own, for tests that need several processes or one that dies.

    python toy_run.py '{"folder": …, "settings": {…}, "die_at_step": n, "die_in_save": [n, seconds], "full_at_save": n,
                        "second_stops_at_step": n, "second_has_no_clock": true}'

Prints one JSON line per validated epoch, and at the end a hash of the final parameters.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))


def die() -> None:
    """What kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Fit, and die on the way if told so."""
    task = json.loads(sys.argv[1])
    if "JAX_PROCESS_ID" in os.environ:
        from eqpot.training.parallel import join_processes

        join_processes()

    import jax
    import numpy as np
    from conftest import SETTINGS, toy_frames

    import eqpot
    from eqpot.training import loop
    from eqpot.training.checkpoint import Checkpoints

    steps, saves, step, save = [0], [0], loop.train_step, Checkpoints.save

    def counted_step(*args):
        steps[0] += 1
        if steps[0] == task.get("die_at_step"):
            die()
        if steps[0] == task.get("second_stops_at_step") and jax.process_index() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    def counted_save(self, *args):
        saves[0] += 1
        number, seconds = task.get("die_in_save", (None, 0))
        if saves[0] == number:
            threading.Thread(target=lambda: (time.sleep(seconds), die()), daemon=True).start()
        if saves[0] == task.get("full_at_save"):  # from here on no file can grow: what a full disk does
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        save(self, *args)

    loop.train_step, Checkpoints.save = counted_step, counted_save
    if task.get("second_has_no_clock") and jax.process_index() == 1:
        loop.time = SimpleNamespace(monotonic=lambda: 0.0)
    potential = eqpot.fit(
        {**SETTINGS, **task.get("settings", {})},
        toy_frames(),
        folder=task.get("folder"),
        on_epoch=lambda r: print(json.dumps({"epoch": r.epoch, "loss": r.loss, "valid": r.valid_loss, "terms": r.terms}), flush=True),
    )
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(potential.params):
        digest.update(np.asarray(leaf).tobytes())
    print(json.dumps({"hash": digest.hexdigest(), "devices": jax.device_count()}), flush=True)


if __name__ == "__main__":
    main()
