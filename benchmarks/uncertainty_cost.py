"""What uncertainty costs: energies, forces and σ of one structure beside those of a plain member.

OMP_NUM_THREADS=1 JAX_NUM_CPU_DEVICES=1 taskset -c 0 python -m benchmarks.uncertainty_cost

The network is that of train/recipes/3bpa.yaml on a CPU (32 channels, vectors, two layers), untrained: only the time counts.
"""

import statistics

import jax
import numpy as np
from ase.build import bulk, molecule

from benchmarks.common import interleaved, table, write
from eqpot.graph import Frame, Labels, Structure
from eqpot.models import EquivariantConfig, Normalization
from eqpot.potential import ModelSpec, Potential, place_members
from eqpot.potential.passes import judged_prediction
from eqpot.uncertainty import calibrate, fit_domain, fit_last_layer


def main() -> None:
    """Time all ways, taking turns."""
    systems = {
        "ethanol": molecule("CH3CH2OH"),
        "silicon, 64 atoms": bulk("Si", cubic=True) * 2,
        "silicon, 512 atoms": bulk("Si", cubic=True) * 4,
    }
    rows = []
    for name, atoms in systems.items():
        rng, elements = np.random.default_rng(0), tuple(dict.fromkeys(atoms.get_chemical_symbols()))
        spec = ModelSpec(EquivariantConfig(hidden="32x0e + 32x1o"), elements, Normalization(20.0, 1.0, (0.0,) * len(elements)))
        small = molecule("CH3CH2OH") if name == "ethanol" else bulk("Si", cubic=True)
        structures = [
            Structure(small.numbers, small.positions + rng.normal(0, 0.05, (len(small), 3)), small.cell[:], small.pbc) for _ in range(12)
        ]
        four = Potential(spec, jax.device_get(spec.init_members([0, 1, 2, 3])), (0.0,) * len(elements))
        frames = [
            Frame(s, Labels(energy=r.energy, forces=r.forces + 0.1)) for s, r in zip(structures, four.predict(structures), strict=True)
        ]
        one = four.member(0)
        ways = {
            "one member": one,
            "one, domain": fit_domain(one, frames),
            "one, rigidity": fit_last_layer(one, frames),
            "one, rigidity, calibrated, domain": fit_domain(calibrate(fit_last_layer(one, frames), frames), frames),
            "one, 16 readouts with forces": fit_last_layer(one, frames, "bootstrap", forces=True),
            "four members": four,
            "four members, calibrated, domain": fit_domain(calibrate(four, frames), frames),
        }
        host = one.prepare(Structure.from_atoms(atoms))
        calls = {}
        for way, potential in ways.items():
            ((_, graph),) = potential.batches([host])
            arguments = (potential.spec, place_members(potential.params), potential.judge, graph, bool(atoms.pbc.all()))
            calls[way] = lambda a=arguments: judged_prediction(*a)
        times = interleaved(calls, 15)
        plain = times["one member"]
        for way, found in times.items():
            ratio = statistics.median(t / p for t, p in zip(found, plain, strict=True))
            rows.append({"system": name, "way": way, "ms": round(1e3 * statistics.median(found), 3), "times one member": round(ratio, 3)})
        table(name, rows[-len(ways) :])
    write("uncertainty_cost", rows)


if __name__ == "__main__":
    main()
