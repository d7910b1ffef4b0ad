"""Replica exchange: copies of a system at several temperatures that trade places, so that the cold ones cross barriers that the hot ones can climb."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from eqpot.core.errors import SimulationError
from eqpot.core.units import KB
from eqpot.graph import Structure
from eqpot.md.driver import Driver
from eqpot.md.ensembles import Ensemble
from eqpot.md.run import open_session, require_integer
from eqpot.potential import Potential


@dataclass(frozen=True, eq=False)
class Exchange:
    """What came of a replica exchange; sorted by temperature, not by replica.

    Attributes:
        temperatures_K: ascending, [T].
        energies: energy at each temperature just before each attempt, that of the potential and of `biases`, [attempts, T] in eV.
        positions: at each temperature at that time, [attempts, T, atoms, 3] in Å.
        replicas: which replica was at each temperature, [attempts + 1, T].
        acceptance: part of the attempts that succeeded between neighbouring temperatures, [T − 1].
        final: last state of each temperature, as `ase.Atoms`.
    """

    temperatures_K: Float[np.ndarray, " T"]
    energies: Float[np.ndarray, "A T"]
    positions: Float[np.ndarray, "A T N 3"]
    replicas: Int[np.ndarray, "B T"]
    acceptance: Float[np.ndarray, " P"]
    final: list[Any]

    @property
    def round_trips(self) -> int:
        """How often a replica went from the coldest to the hottest place and back."""
        count = 0
        for replica in range(self.replicas.shape[1]):
            places = np.argmax(self.replicas == replica, axis=1)
            ends = [p for p in places if p in (0, self.replicas.shape[1] - 1)]
            turns = [b for a, b in zip([None, *ends], ends, strict=False) if a != b]
            count += max(0, (len(turns) - 1) // 2)
        return count


def replica_exchange(
    potential: Potential,
    atoms: Any,
    ensembles: Sequence[Ensemble],
    n_attempts: int,
    *,
    steps_between: int = 100,
    seed: int = 0,
    **options: Any,
) -> Exchange:
    """Parallel tempering.

        result = replica_exchange(potential, atoms, [CSVR(T) for T in (300, 380, 480, 600)], n_attempts=200)

    All replicas run in one compiled program. After each `steps_between` steps neighbouring temperatures (the even pairs, then the odd ones) trade their
    configurations with probability min(1, exp((1/k_BT_i − 1/k_BT_j)·(E_i − E_j))), E with the energy of biases; momenta are rescaled by √(T_new/T_old).

    Args:
        potential: see `simulate`.
        atoms: the start of all replicas, or a sequence with one for each.
        ensembles: with a constant temperature each, ascending; all of one kind without memory of their own (`CSVR` or `Langevin`).
        n_attempts: number of exchanges attempted, at least 1.
        steps_between: steps before each.
        seed: of everything random.
        options: of `simulate`, but for trajectories.

    Raises:
        SimulationError: see `simulate`; for temperatures that do not ascend, other ensembles, starts of unlike systems, or when a replica breaks, naming it.

    Reference: Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999).
    """
    temperatures = _temperatures(ensembles)
    for name, value in (("n_attempts", n_attempts), ("steps_between", steps_between)):
        require_integer(name, value, 1, 2**31)
    if useless := {"trajectory", "resume", "overwrite", "every", "keep", "progress"} & options.keys():
        raise SimulationError(f"replica_exchange: found {', '.join(sorted(useless))}, which it has no use for")
    starts = list(atoms) if isinstance(atoms, list | tuple) else [atoms] * len(ensembles)
    _require_alike([Structure.from_atoms(start) for start in starts])
    session = open_session(potential, starts, list(ensembles), n_attempts * steps_between, None, seed=seed, every=steps_between, **options)
    with session.precision():
        return _exchange(session.driver, temperatures, n_attempts, steps_between, np.random.default_rng(seed), session.final)


def _exchange(
    driver: Driver, kelvin: np.ndarray, n_attempts: int, steps: int, rng: np.random.Generator, final: Callable[[int], Any]
) -> Exchange:
    places, tried, done = np.arange(len(kelvin)), np.zeros(len(kelvin) - 1), np.zeros(len(kelvin) - 1)
    energies, positions, replicas = [], [], [places.copy()]
    for attempt in range(n_attempts):
        frames = driver.advance([(attempt + 1) * steps])[0]
        for k, status in enumerate(driver.statuses):
            if status:
                raise SimulationError(f"the replica at {kelvin[k]:g} K stopped at step {driver.steps[k]}: {status.text}")
        energies.append([frame.potential_energy + frame.bias_energy for frame in frames if frame])
        positions.append([frame.positions for frame in frames if frame])
        order = np.arange(len(kelvin))
        for low in range(attempt % 2, len(kelvin) - 1, 2):
            tried[low] += 1
            gain = (1 / kelvin[low] - 1 / kelvin[low + 1]) / KB * (energies[-1][low] - energies[-1][low + 1])
            if np.log(rng.random()) < gain:
                done[low] += 1
                order[[low, low + 1]] = order[[low + 1, low]]
        driver.permute(order, np.sqrt(kelvin / kelvin[order]))
        places = places[order]
        replicas.append(places.copy())
    states = [final(k) for k in range(len(kelvin))]
    return Exchange(kelvin, np.array(energies), np.array(positions), np.array(replicas), done / np.maximum(tried, 1), states)


def _temperatures(ensembles: Sequence[Ensemble]) -> np.ndarray:
    found = [getattr(e, "temperature_K", None) for e in ensembles]
    if len(found) < 2 or not all(isinstance(t, float) for t in found) or sorted(set(found)) != found:  # type: ignore[type-var]
        raise SimulationError(f"temperatures: found {found}, expected at least two constant ones that ascend")
    for ensemble in ensembles:
        if ensemble.chain_length or ensemble.flexible:
            why = "whose cell has a work of its own" if ensemble.flexible else "whose thermostats have momenta of their own"
            raise SimulationError(f"replica_exchange: found {type(ensemble).__name__}, {why}; expected CSVR or Langevin")
    return np.array(found, float)


def _require_alike(starts: Sequence[Structure]) -> None:
    """Replicas trade places: they must be copies of one system, in one cell."""
    first = starts[0]
    for number, other in enumerate(starts):
        same = {
            "atoms": np.array_equal(first.numbers, other.numbers),
            "cells": np.allclose(first.cell, other.cell) and np.array_equal(first.pbc, other.pbc),
            "total charges": first.charge == other.charge,
        }
        if different := [name for name, equal in same.items() if not equal]:
            raise SimulationError(f"replica_exchange: starts 0 and {number} have different {different[0]}, expected copies of one system")
