"""How eqpot uses the cores of a CPU.

One member of an ensemble on a small system cannot keep two cores busy; two members on two cores can. JAX runs programs side by side only on different
devices, so eqpot asks for one CPU device per core, at its first use and only if JAX has not started yet.
"""

import os

import jax

MAX_CPU_DEVICES = 8


def use_cores() -> None:
    """Ask for one CPU device per core, at most `MAX_CPU_DEVICES`; without effect once JAX has started.

    The environment variable JAX_NUM_CPU_DEVICES, or `jax.config.update("jax_num_cpu_devices", n)` before, has the last word.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or getattr(jax.config, "jax_num_cpu_devices", -1) > 0:
        return
    try:
        jax.config.update("jax_num_cpu_devices", min(_cores(), MAX_CPU_DEVICES))
    except RuntimeError:  # the back end runs already: members will take turns
        return


def _cores() -> int:
    """Cores that this process may use; where the system does not say (macOS), all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
