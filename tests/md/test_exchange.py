"""Replica exchange samples each temperature as it should, and gets over a barrier that one temperature alone does not."""

import numpy as np
import pytest
from ase import Atoms
from morse import cluster, crystal, morse

from eqpot.core.errors import SimulationError
from eqpot.core.units import KB
from eqpot.md import CSVR, NPT, NVT, HarmonicRestraint, Langevin, replica_exchange

TEMPERATURES = [200.0, 300.0, 450.0]


def _langevin(kelvin):
    return Langevin(kelvin, timestep_fs=4.0, friction_per_fs=0.02)


@pytest.fixture(scope="module")
def dimer():
    """A Morse pair in a spherical box of phase space: only its bond matters."""
    pair = Atoms("Cu2", [[0, 0, 0], [2.8, 0, 0]])
    return replica_exchange(morse(depth=1.0), pair, [_langevin(t) for t in TEMPERATURES], 300, steps_between=25, seed=3)


def test_each_temperature_has_its_own_energy(dimer):
    """⟨E⟩ of a stiff bond is ½k_BT and a little more above its minimum; exchanges must not mix the temperatures."""
    kelvin = np.array(TEMPERATURES)
    bonds = [Atoms("Cu2", [[0, 0, 0], [x, 0, 0]]) for x in np.linspace(2.2, 3.2, 200)]
    lowest = min(result.energy for result in morse(depth=1.0).predict(bonds))
    assert dimer.energies[50:].mean(0) - lowest == pytest.approx(KB * kelvin / 2, rel=0.25)
    assert dimer.acceptance.shape == (2,)
    assert (dimer.acceptance > 0.5).all()


def test_replicas_travel(dimer):
    assert dimer.replicas.shape == (301, 3)
    assert (np.sort(dimer.replicas, axis=1) == np.arange(3)).all()
    assert dimer.round_trips > 5
    assert dimer.temperatures_K.tolist() == TEMPERATURES
    assert np.linalg.norm(np.diff(dimer.positions, axis=2), axis=-1) == pytest.approx(2.6, abs=0.8)


def test_biases_take_part_in_the_exchange():
    """Two atoms that hardly feel each other, each held by ½k|r − c|²: ⟨E⟩ is 3k_BT at every temperature, and places are not traded for nothing."""
    kelvin = np.array([300.0, 1200.0])
    pair = Atoms("Cu2", [[0, 0, 0], [20.0, 0, 0]])
    hold = HarmonicRestraint([0, 1], pair.positions, 1.0)
    ensembles = [Langevin(t, timestep_fs=8.0, friction_per_fs=0.02) for t in kelvin]
    found = replica_exchange(morse(), pair, ensembles, 400, steps_between=10, seed=1, biases=[hold])
    alone = 2 * morse().reference_energies[0]
    assert found.energies[40:].mean(0) - alone == pytest.approx(3 * KB * kelvin, rel=0.15)
    assert 0.05 < found.acceptance[0] < 0.6


def test_replicas_are_copies_of_one_system():
    for other, what in ((cluster()[:5], "atoms"), (crystal(1), "atoms"), (_charged(cluster()), "total charges")):
        with pytest.raises(SimulationError, match=f"starts 0 and 1 have different {what}"):
            replica_exchange(morse(), [cluster(), other], [CSVR(300.0), CSVR(400.0)], 1)


def _charged(atoms):
    atoms.info["total_charge"] = 1.0
    return atoms


@pytest.mark.slow
def test_what_is_accepted_follows_from_the_energies():
    """With temperatures far apart next to nothing is accepted."""
    result = replica_exchange(morse(), crystal(), [CSVR(t, timestep_fs=2.0) for t in (100.0, 800.0)], 20, steps_between=20)
    assert result.acceptance[0] < 0.2


@pytest.mark.parametrize(
    ("ensembles", "options", "reason"),
    [
        ([CSVR(300.0)], {}, "at least two"),
        ([CSVR(300.0), CSVR(200.0)], {}, "that ascend"),
        ([NVT(300.0), NVT(400.0)], {}, "momenta of their own"),
        ([NPT(300.0), NPT(400.0)], {}, "found NPT, whose cell has a work of its own"),
        ([CSVR(300.0), CSVR(400.0)], {"trajectory": "x.extxyz"}, "no use for"),
        ([CSVR(300.0), CSVR(400.0)], {"steps_between": 0}, "steps_between: found 0"),
    ],
)
def test_what_makes_no_sense_is_refused(ensembles, options, reason):
    with pytest.raises(SimulationError, match=reason):
        replica_exchange(morse(), cluster(), ensembles, 5, **options)
