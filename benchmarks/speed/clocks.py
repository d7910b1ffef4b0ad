"""Time and memory: calls that take turns, work in a fresh process, and the most memory that a call holds."""

import ctypes
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax

from benchmarks.speed.workers.serve import peak_mb

Times = dict[str, float]
"""Medians "wall_ms" and "cpu_ms" (of all threads), and the number of "calls"."""


def take_turns(functions: Mapping[Any, Callable[[], Any]], seconds: float, most: int = 30, least: int = 3) -> dict[Any, Times]:
    """Time functions that were called before; they take turns for about so many seconds, so that a busy machine slows all alike."""
    clocks: dict[Any, tuple[list[float], list[float]]] = {name: ([], []) for name in functions}
    end, turns = time.perf_counter() + seconds, 0
    while turns < least or (turns < most and time.perf_counter() < end):
        for name, function in functions.items():
            began = time.perf_counter(), time.process_time()
            jax.block_until_ready(function())
            for times, now, then in zip(clocks[name], (time.perf_counter(), time.process_time()), began, strict=True):
                times.append(1e3 * (now - then))
        turns += 1
    return {name: {"wall_ms": statistics.median(w), "cpu_ms": statistics.median(c), "calls": turns} for name, (w, c) in clocks.items()}


def seconds_of(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - began


def in_fresh_process(function: Callable[..., Any], *arguments: Any, one_core: bool = False, **environment: str) -> Any:
    """function(*arguments) in a process of its own; function and result must pickle.

    Args:
        function: of a module; it must not have started JAX when it is imported.
        arguments: its arguments.
        one_core: pin the process to the first core and let JAX see one device, if that is a CPU.
        environment: variables of that process.
    """
    cores, before = os.sched_getaffinity(0), dict(os.environ)
    if one_core and jax.default_backend() == "cpu":
        os.sched_setaffinity(0, {min(cores)})
        environment["JAX_NUM_CPU_DEVICES"] = "1"
    os.environ.update(environment)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    finally:
        os.sched_setaffinity(0, cores)
        os.environ.clear()
        os.environ.update(before)


def peak_of(call: Callable[[], Any]) -> float:
    """Most memory [MB] that a call holds beyond what was held before it.

    On a CPU that is this process's memory: what the compiler left is given back, and the high-water mark put down to what is held.
    """
    if jax.default_backend() != "cpu":  # the peak since the process started: the call should be its largest
        device = jax.local_devices()[0]
        held = device.memory_stats()["bytes_in_use"]
        jax.block_until_ready(call())
        return (device.memory_stats()["peak_bytes_in_use"] - held) / 1e6
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    held = peak_mb()
    jax.block_until_ready(call())
    return peak_mb() - held
