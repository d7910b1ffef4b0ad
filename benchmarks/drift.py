"""Energy conservation: NVE with a potential after equilibration, in each precision.

python -m benchmarks.drift runs/quickstart/potential.safetensors train/data/ethanol_gfn2.extxyz.xz --index 10
"""

import argparse

from benchmarks.common import write
from eqpot.data import read
from eqpot.md import NVE, NVT, simulate
from eqpot.potential import Potential


def main() -> None:
    """Equilibrate, run, fit the slope of the total energy, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential")
    parser.add_argument("structure")
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    potential = Potential.load(options.potential)
    start = read(options.structure)[options.index].structure
    warm = simulate(potential, start, NVT(temperature_K=300), 2000, seed=1, every=100).final
    rows = []
    for precision in ("float32", "mixed", "float64"):
        model = potential.astype("float64") if precision == "float64" else potential
        run = simulate(model, warm, NVE(timestep_fs=0.5), options.steps, every=10, precision=precision)
        rows.append(
            {
                "precision": precision,
                "timestep_fs": 0.5,
                "ps": options.steps * 0.5e-3,
                "temperature_K": float(run.temperature_K.mean()),
                "drift_meV_per_atom_per_ps": run.drift(),
                "total_energy_std_meV_per_atom": 1e3 * float(run.total_energy.std()) / len(start),
                "ns_per_day": run.ns_per_day,
            }
        )
        print({k: round(v, 5) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    write(
        "drift", {"potential": potential.metadata.get("name", ""), "members": potential.n_members, "formula": start.formula, "runs": rows}
    )


if __name__ == "__main__":
    main()
