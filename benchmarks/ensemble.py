"""What an ensemble costs: K members against one, for an energy+force call and for a training step.

python -m benchmarks.ensemble
"""

from functools import partial

import jax
import numpy as np
from ase.build import bulk, molecule

from benchmarks.common import interleaved, median_ms, write
from eqpot.graph import Frame, Labels, Structure
from eqpot.models import EquivariantConfig
from eqpot.potential import ModelSpec, place_members, predict_members
from eqpot.training.batches import Batches, make_samples
from eqpot.training.config import LossConfig, OptimizerConfig
from eqpot.training.setup import normalization
from eqpot.training.step import init_state, train_step

CASES = {
    "ethanol, batch 8, 32x0e+32x1o, l_max 2": (molecule("CH3CH2OH"), 8, {"hidden": "32x0e + 32x1o", "l_max": 2, "radial_hidden": (32, 32)}),
    "Si64, batch 1, 64x0e+64x1o, l_max 3": (bulk("Si", cubic=True) * (2, 2, 2), 1, {"hidden": "64x0e + 64x1o", "l_max": 3}),
}
MEMBERS = (1, 4)


def frames(atoms, count: int) -> list[Frame]:
    """Rattled copies with labels of the right shape."""
    rng = np.random.default_rng(0)
    result = []
    for _ in range(count):
        structure = Structure(atoms.numbers, atoms.positions + rng.normal(0, 0.05, (len(atoms), 3)), atoms.cell.array, atoms.pbc)
        result.append(Frame(structure, Labels(energy=0.0, forces=rng.normal(0, 1, (len(atoms), 3)))))
    return result


def functions(atoms, batch: int, settings: dict) -> dict[str, dict]:
    """Calls to time: {kind: {members: function}}."""
    elements = tuple(sorted(set(atoms.get_chemical_symbols())))
    config = EquivariantConfig(**settings)
    samples = make_samples(frames(atoms, batch), elements, config.cutoff, np.zeros(len(elements)))
    spec = ModelSpec(config, elements, normalization(samples, len(elements)))
    calls: dict[str, dict] = {"energy+forces": {}, "training step": {}}
    predict = jax.jit(partial(predict_members, spec))
    for members in MEMBERS:
        _, graph, targets = next(Batches(samples, batch, np.ones((members, batch))).epoch(0, 0))
        graph = jax.device_put(graph)
        params = place_members(spec.init_members(list(range(members))))
        calls["energy+forces"][members] = partial(predict, params, graph)
        calls["training step"][members] = trainer(spec, params, graph, targets)
    return calls


def trainer(spec, params, graph, targets):
    """A function that takes one training step and keeps the state."""
    optimizer, state = OptimizerConfig(), [init_state(params, OptimizerConfig(), 1000)]

    def step():
        state[0], info = train_step(spec, LossConfig(), optimizer, 1000, False, state[0], graph, targets)
        return info

    return step


def main() -> None:
    """Time, print, write."""
    rows = []
    print(f"{'case':42s} {'call':14s} {'1 member':>9s} {'4 members':>10s} {'ratio':>6s}")
    for name, case in CASES.items():
        for kind, calls in functions(*case).items():
            times = interleaved({str(k): call for k, call in calls.items()}, repeats=40)
            one, four = (median_ms(times[str(k)]) for k in MEMBERS)
            rows.append({"case": name, "call": kind, "ms_1": one, "ms_4": four, "ratio": four / one})
            print(f"{name:42s} {kind:14s} {one:6.1f} ms {four:7.1f} ms {four / one:6.2f}", flush=True)
    write("ensemble", rows)


if __name__ == "__main__":
    main()
