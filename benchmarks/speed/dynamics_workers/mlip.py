"""mlip: its JAX-MD engine at constant energy, one episode per turn after a first one that compiles."""

import sys
import time

import numpy as np
from ase import Atoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from mlip.data.chemical_system import ChemicalSystem
from mlip.data.dataset_info import DatasetInfo
from mlip.graph import Graph
from mlip.models import ForceField, Mace
from mlip.simulation.enums import MDIntegrator
from mlip.simulation.jax_md import JaxMDSimulationEngine

SETTINGS = {"num_channels": 64, "node_symmetry": 1, "l_max": 3, "correlation": 3, "radial_mlp_hidden": [64, 64, 64]}
EPISODES = 8
structure, steps = np.load(sys.argv[2]), int(sys.argv[3])
atoms = Atoms(structure["numbers"], structure["positions"], cell=structure["cell"], pbc=True)
MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
system = ChemicalSystem(atomic_numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=(True,) * 3)
graph = Graph.from_chemical_system(system, 5.0)
info = DatasetInfo(atomic_energies_map={14: 0.0}, graph_cutoff_angstrom=5.0, avg_num_neighbors=len(graph.senders) / len(atoms))
field = ForceField.from_mlip_network(Mace(Mace.Config(**SETTINGS), info))
config = JaxMDSimulationEngine.Config(
    num_steps=EPISODES * steps,
    num_episodes=EPISODES,
    snapshot_interval=steps,
    log_interval=steps,
    md_integrator=MDIntegrator.NVE_VELOCITY_VERLET,
    timestep_fs=1.0,
    temperature_kelvin=300.0,
)
engine = JaxMDSimulationEngine(atoms, field, config)
clock = [time.perf_counter()]


def report(state):
    """Called after each episode: say how long it took, and wait for the next turn."""
    print("seconds", time.perf_counter() - clock[0], flush=True)
    if not sys.stdin.readline():
        sys.exit()
    clock[0] = time.perf_counter()


engine.attach_logger(report)
sys.stdin.readline()
clock[0] = time.perf_counter()
engine.run()
