"""What an ensemble costs: K members against one, for an energy+force call and for a training step.

On a CPU one member shares its atoms among all devices, so a second baseline is one member on one device, in a process of its own.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from ase.build import molecule

from benchmarks.speed.clocks import in_fresh_process, seconds_of, take_turns
from benchmarks.speed.structures import silicon
from eqpot.graph import Frame, Labels, Structure, collate
from eqpot.models import EquivariantConfig
from eqpot.potential import ModelSpec, place_members, predict_members
from eqpot.training.batches import Batches
from eqpot.training.config import FitConfig
from eqpot.training.parallel import MEMBERS as MEMBER_AXIS
from eqpot.training.parallel import REPLICATED, make_layout
from eqpot.training.samples import make_samples
from eqpot.training.schedule import knobs
from eqpot.training.setup import normalization
from eqpot.training.step import init_state, train_step

CASES = {
    "ethanol, batch 8, 32x0e+32x1o, l_max 2": (molecule("CH3CH2OH"), 8, {"hidden": "32x0e + 32x1o", "l_max": 2, "radial_hidden": (32, 32)}),
    "Si64, batch 1, 64x0e+64x1o, l_max 3": (silicon(2), 1, {"hidden": "64x0e + 64x1o", "l_max": 3}),
}
MEMBERS = (1, 4)
SECONDS = 5.0


def frames(atoms, count: int) -> list[Frame]:
    """Rattled copies with labels of the right shape."""
    rng = np.random.default_rng(0)
    result = []
    for _ in range(count):
        structure = Structure(atoms.numbers, atoms.positions + rng.normal(0, 0.05, (len(atoms), 3)), atoms.cell.array, atoms.pbc)
        result.append(Frame(structure, Labels(energy=0.0, forces=rng.normal(0, 1, (len(atoms), 3)))))
    return result


def functions(case: str, numbers: tuple[int, ...]) -> dict[str, dict]:
    """Calls to time: {kind: {members: function}}."""
    atoms, batch, settings = CASES[case]
    elements = tuple(sorted(set(atoms.get_chemical_symbols())))
    config = EquivariantConfig(**settings)
    samples = make_samples(frames(atoms, batch), elements, config.cutoff, np.zeros(len(elements)))
    spec = ModelSpec(config, elements, normalization(samples, len(elements)))
    calls: dict[str, dict] = {"energy+forces": {}, "training step": {}}
    predict = jax.jit(partial(predict_members, spec))
    for members in numbers:
        params, placed = place_members(spec.init_members(list(range(members))), collate([s.host for s in samples]))
        calls["energy+forces"][members] = partial(predict, params, placed)
        calls["training step"][members] = trainer(spec, samples, members)
    return calls


def trainer(spec: ModelSpec, samples: list, members: int):
    """A function that takes one training step and keeps the state."""
    config = FitConfig()
    layout = make_layout(members, len(samples))
    _, graph, targets = next(Batches(samples, len(samples), np.ones((members, len(samples))), shards=layout.shards).epoch(0, 0))
    placed = layout.place_batch(graph, targets)
    params = spec.init_members(list(range(members)))
    state = [layout.place(init_state(params, spec, config.loss, config.optimizer, False), MEMBER_AXIS)]
    settings = layout.place(knobs(config, 1.0, 1, 10, None, 1.0), REPLICATED)

    def step():
        state[0], info = train_step(spec, config.loss, config.optimizer, layout, False, state[0], *placed, settings)
        return info

    return step


def measure(case: str, numbers: tuple[int, ...], seconds: float) -> dict[str, dict]:
    """Times of each kind of call for each number of members, in this process."""
    results = {}
    for kind, calls in functions(case, numbers).items():
        for call in calls.values():
            seconds_of(call), seconds_of(call)
        results[kind] = take_turns(calls, seconds, most=60)
    return results


def table(quick: bool) -> list[dict[str, Any]]:
    """Members together, and one on one device."""
    rows, seconds, cpu = [], 0.5 if quick else SECONDS, jax.default_backend() == "cpu"
    print(f"{'case':42s} {'call':14s} {'1 member':>11s} {'1, one device':>13s} {'4 members':>11s} {'4 / 1':>6s} {'one device':>11s}")
    for case in list(CASES)[: 1 if quick else None]:
        together = in_fresh_process(measure, case, MEMBERS, seconds)
        alone = in_fresh_process(measure, case, (1,), seconds, JAX_NUM_CPU_DEVICES="1") if cpu else together
        for kind, times in together.items():
            one, four, single = times[1]["wall_ms"], times[4]["wall_ms"], alone[kind][1]["wall_ms"]
            row = {"case": case, "call": kind, "ms_1": one, "ms_4": four, "ms_1_one_device": single}
            rows.append(row | {"ratio": four / one, "ratio_to_one_device": four / single})
            print(
                f"{case:42s} {kind:14s} {one:8.1f} ms {single:10.1f} ms {four:8.1f} ms {four / one:6.2f} {four / single:11.2f}", flush=True
            )
    return rows
