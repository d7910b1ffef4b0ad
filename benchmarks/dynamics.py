"""What dynamics costs beside the potential: per step, per frame, per member, per atom, and against ASE.

    python -m benchmarks.dynamics [step] [host] [members] [ase] [scaling] [--largest ATOMS]

Silicon with random weights (the quickstart's architecture, 32x0e + 32x1o), Langevin at 300 K, all of one process on one core unless JAX_NUM_CPU_DEVICES says
otherwise. `step` is the ratio of a step to the energy and forces of the same structure (as it is after some steps) by the same potential, which take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.common import write
from benchmarks.speed.structures import silicon
from eqpot.graph import collate
from eqpot.graph.batching import bucket
from eqpot.md import Langevin
from eqpot.md.run import open_session
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential, predict_members

CONFIG = EquivariantConfig(hidden="32x0e + 32x1o", l_max=3, correlation=3)
ENSEMBLE = Langevin(300.0, timestep_fs=1.0, friction_per_fs=0.01)


def potential(members: int = 1) -> Potential:
    """Random weights whose forces are small, so that the crystal stays one."""
    spec = ModelSpec(CONFIG, ("Si",), Normalization(28.0, 0.05, (0.0,)))
    return Potential(spec, spec.init_members(list(range(members))), (0.0,))


def stepper(model: Potential, atoms: Any, spread_every: int = 1) -> tuple[Callable[[int], float], Any]:
    """A function that takes a number of steps and says how long that took [s], compiled and warm; and its session."""
    session = open_session(model, [atoms], [ENSEMBLE], 10**6, None, every=20, spread_every=spread_every)
    driver, at = session.driver, [0]
    with session.precision():
        driver.advance([0])

    def take(n: int) -> float:
        began, compiled = time.perf_counter(), driver.compile_seconds
        with session.precision():
            driver.advance([at[0] + n])
        at[0] += n
        return time.perf_counter() - began - (driver.compile_seconds - compiled)

    take(5)
    return take, session


def call(model: Potential, atoms: Any) -> Callable[[], float]:
    """A function that computes energy and forces and says how long that took [s]."""
    host = model.prepare(atoms)
    graph = jax.device_put(collate([host], bucket([host], fine=True)))
    compute = jax.jit(lambda params, graph: predict_members(model.spec, params, graph))
    jax.block_until_ready(compute(model._placed, graph))

    def once() -> float:
        began = time.perf_counter()
        jax.block_until_ready(compute(model._placed, graph))
        return time.perf_counter() - began

    return once


def step(_: Any) -> list[dict[str, Any]]:
    """Step against call."""
    rows = []
    for cells in (2, 4, 5):
        atoms, model = silicon(cells), potential()
        take, session = stepper(model, atoms)
        n = 60 if cells == 2 else 20
        take(2 * n)  # the hot crystal has more neighbours than the one that it began with
        with session.precision():
            once = call(model, session.final(0))
        times = [(take(n) / n, statistics.median(once() for _ in range(5))) for _ in range(7)]
        ms, calls = (1e3 * statistics.median(t[k] for t in times) for k in range(2))
        ratio = statistics.median(a / b for a, b in times)
        made = int(session.driver.motion.searches)
        slots = session.driver.sizes.slots
        rows.append(
            {"atoms": len(atoms), "step_ms": ms, "call_ms": calls, "ratio": ratio, "steps": 9 * n + 5, "lists": made, "slots": slots}
        )
        print(f"{len(atoms):6d} atoms  step {ms:8.2f} ms  energy and forces {calls:8.2f} ms  ratio {ratio:.3f}  lists {made}", flush=True)
    return rows


def host(_: Any) -> list[dict[str, Any]]:
    """Wall time outside of the compiled program in a run of 10 000 steps with a frame every 10, kept and written."""
    import tempfile
    from pathlib import Path

    from eqpot.md import simulate

    rows = []
    for suffix in (None, ".extxyz", ".h5"):
        with tempfile.TemporaryDirectory() as folder:
            path = None if suffix is None else Path(folder) / f"run{suffix}"
            run = simulate(potential(4), silicon(1), ENSEMBLE, 10_000, trajectory=path)
        rows.append(
            {"atoms": 8, "members": 4, "file": suffix, "steps": run.n_steps, "seconds": run.seconds, "host_fraction": run.host_fraction}
        )
        print(f"8 atoms, 10 000 steps, file {suffix}: {run.seconds:.1f} s, host {100 * run.host_fraction:.2f} %", flush=True)
    return rows


def members(_: Any) -> list[dict[str, Any]]:
    """Four members with σ, at every step and at every few, against one member."""
    rows = []
    for cells in (2, 3):
        atoms, strides = silicon(cells), (1, 2, 4)
        one, _ = stepper(potential(1), atoms)
        four = [stepper(potential(4), atoms, k)[0] for k in strides]
        times = [[take(20) / 20 for take in (one, *four)] for _ in range(7)]
        ms = [1e3 * statistics.median(t) for t in zip(*times, strict=True)]
        ratios = {k: statistics.median(t[n + 1] / t[0] for t in times) for n, k in enumerate(strides)}
        rows.append({"atoms": len(atoms), "ms": ms, "ratio by spread_every": ratios, "devices": jax.local_device_count()})
        text = "  ".join(f"every {k}: {ratio:.2f}" for k, ratio in ratios.items())
        print(f"{len(atoms):6d} atoms  1 member {ms[0]:8.2f} ms  4 members, σ {text} times as long", flush=True)
    return rows


def ase(_: Any) -> list[dict[str, Any]]:
    """The same potential driven by ASE's Langevin."""
    from ase import units
    from ase.md.langevin import Langevin as AseLangevin

    rows = []
    for cells in (1, 2, 3):
        atoms, model = silicon(cells), potential()
        take, _ = stepper(model, atoms)
        driven = atoms.copy()
        driven.calc = model.calculator()
        dynamics = AseLangevin(driven, 1.0 * units.fs, temperature_K=300, friction=0.01 / units.fs)
        dynamics.run(5)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            dynamics.run(20)
            times.append((take(20) / 20, (time.perf_counter() - began) / 20))
        ratio = statistics.median(b / a for a, b in times)
        ms = [1e3 * statistics.median(t[k] for t in times) for k in range(2)]
        rows.append({"atoms": len(atoms), "eqpot_ms": ms[0], "ase_ms": ms[1], "speedup": ratio})
        print(f"{len(atoms):6d} atoms  eqpot {ms[0]:8.2f} ms  ASE {ms[1]:8.2f} ms  {ratio:.2f} times as fast", flush=True)
    return rows


def scaling(options: argparse.Namespace) -> dict[str, Any]:
    """Time and memory per step against size."""
    rows = []
    for cells in (2, 5, 11, 23, 50):
        atoms = silicon(cells)
        if len(atoms) > options.largest:
            break
        take, session = stepper(potential(), atoms)
        n = 3 if cells > 11 else 10
        ms = 1e3 * statistics.median(take(n) / n for _ in range(3))
        state = sum(x.nbytes for x in jax.tree.leaves(session.driver.motion)) / len(atoms)
        rows.append({"atoms": len(atoms), "ms": ms, "us_per_atom": 1e3 * ms / len(atoms), "state_bytes_per_atom": state})
        print(
            f"{len(atoms):8d} atoms  {ms:10.1f} ms  {1e3 * ms / len(atoms):7.1f} µs per atom  state {state:.0f} bytes per atom", flush=True
        )
    slope = float(np.polyfit(np.log([r["atoms"] for r in rows]), np.log([r["ms"] for r in rows]), 1)[0])
    print(f"time grows with size to the power {slope:.3f}")
    return {"rows": rows, "exponent": slope}


TABLES = {"step": step, "host": host, "members": members, "ase": ase, "scaling": scaling}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], metavar="TABLE", help=f"{', '.join(TABLES)}; all by default")
    parser.add_argument("--largest", type=int, default=100_000, metavar="ATOMS")
    options = parser.parse_args()
    for name in options.tables or TABLES:
        print(f"\n{name}", flush=True)
        write(f"dynamics_{name}", {"devices": jax.local_device_count(), "result": TABLES[name](options)})


if __name__ == "__main__":
    main()
