"""Compiled programs kept on disk."""

import os
import sys
from pathlib import Path

SECONDS = 0.5
"""Programs that took less time to compile are not worth a file."""


def use_compilation_cache(folder: str | os.PathLike | None = None) -> Path:
    """Keep compiled programs on disk, so that the next process starts in a second or two instead of compiling again.

    The commands of `eqpot` do this; in Python, call it before the first computation. A program is found by a hash of what was compiled, for which
    versions and which device, so the folder can be shared and deleted at will. Called before JAX is imported, it also silences XLA, which calls every
    program from the cache suspicious, for two flags that are no features of a machine (TF_CPP_MIN_LOG_LEVEL=2 would show it).

    Args:
        folder: where; by default JAX_COMPILATION_CACHE_DIR, or eqpot/xla in the user's cache folder (XDG_CACHE_HOME).

    Returns:
        the folder.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = Path(folder or os.environ.get("JAX_COMPILATION_CACHE_DIR") or home / "eqpot" / "xla").absolute()
    settings = {"jax_compilation_cache_dir": str(chosen), "jax_persistent_cache_min_compile_time_secs": SECONDS}
    if "jax" in sys.modules:
        for name, value in settings.items():
            sys.modules["jax"].config.update(name, value)
    else:  # JAX reads these when it is imported, and stays unimported until it is needed
        os.environ.update({name.upper(): str(value) for name, value in settings.items()})
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return chosen
