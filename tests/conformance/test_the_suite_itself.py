"""The suite must catch what it is there to catch: models broken on purpose in one place each."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest

from eqpot.models import AtomOutputs
from eqpot.potential import ModelSpec
from eqpot.testing import MODEL_CHECKS, POTENTIAL_CHECKS, TOLERANCES, check_model
from eqpot.testing.checks import applies


@dataclass(frozen=True)
class Toy(ModelSpec):
    """Pair energies z_i Σ_j u(r_ij) z_j, right unless a fault is named."""

    fault: str = ""

    def describe(self, graph):
        vectors, mask, fault, rc = graph.edge_vectors(), graph.edge_mask, self.fault, self.config.cutoff
        number = lambda x: jnp.asarray(x, graph.positions.dtype)  # noqa: E731
        if fault == "cell":
            vectors = graph.positions[graph.neighbors] - graph.of_receivers(graph.positions)[:, None]
        if fault == "mask":
            mask = jnp.ones_like(mask)
        square = jnp.sum(vectors**2, -1)
        if fault != "root":  # the right place for the mask: before the root
            square = jnp.where(mask, square, number(rc * rc))
        x = jnp.sqrt(square + number(1e-30 if fault == "mask" else 0)) / number(rc)
        order = {"jump": 0, "kink": 1, "slope": 2}.get(fault, 3)
        pair = jnp.where((x < 1) & mask, jnp.maximum(1 - x, number(0.0)) ** order, number(0.0))
        if fault == "frame":
            pair = pair * (1 + vectors[..., 0] ** 2)
        if fault == "detached":
            pair = jax.lax.stop_gradient(pair)
        return pair, number(1e-3) * graph.positions[:, 0]

    def evaluate(self, params, graph, geometry):
        pair, height = geometry
        number, fault = (lambda x: jnp.asarray(x, pair.dtype)), self.fault
        charge = params["charge"][graph.species]
        rows = jnp.sum(pair * charge[graph.neighbors], -1)
        last_row_wins = fault == "rows" and graph.receivers is not None
        energy = charge * (jnp.zeros_like(charge).at[graph.receivers].set(rows) if last_row_wins else graph.sum_rows(rows))
        change = {
            "origin": lambda: energy + height,
            "nan": lambda: energy * number(jnp.nan),
            "bias": lambda: energy + number(0.1),
            "order": lambda: energy * (1 + number(0.01) * jnp.arange(len(energy), dtype=pair.dtype)),
            "slots": lambda: energy * (1 + number(0.01) * graph.sum_rows(pair[:, 0])),
            "company": lambda: energy * (1 + number(1e-3) * jnp.sum(pair)),
            "far": lambda: energy * (1 + number(1e-3) * graph.sum_atoms(graph.sum_rows(jnp.sum(pair, -1)))[graph.graph_index]),
        }
        energy = jnp.where(graph.atom_mask, change.get(fault, lambda: energy)(), number(0.0))
        features = energy[:, None]
        features = features.astype("float32") if fault == "dtype" else features
        return AtomOutputs(
            energy,
            features,
            force_noise=self.noise(graph, energy),
            energy_noise=self.noise(graph, energy),
            charges=self.charges(graph, energy),
        )

    def noise(self, graph, energy):
        """1 + E², which in padding is one."""
        faults = {"negative": lambda: -energy, "uneven": lambda: 1 + graph.positions[:, 0] ** 2, "silent": lambda: energy**2}
        return jnp.where(graph.atom_mask, faults.get(self.fault, lambda: 1 + energy**2)(), jnp.ones_like(energy))

    def charges(self, graph, energy):
        charges = graph.positions[:, 0] if self.fault == "uneven" else energy
        share = (graph.charge - graph.sum_atoms(charges)) / jnp.maximum(graph.sum_atoms(jnp.ones_like(charges)), 1)
        if self.fault == "leak":  # all structures share what is missing
            share = jnp.full_like(share, jnp.mean(share))
        neutral = self.fault == "neutral"
        return jnp.where(graph.atom_mask, charges + (0 if neutral else share[graph.graph_index]), 0)


@pytest.fixture(scope="module")
def toy(make_spec):
    spec = make_spec(tiny=True, noise=True, charges=True)
    return Toy(spec.config, spec.elements, spec.normalization), {"charge": jnp.asarray([0.8, 1.0, 1.3])}


def test_a_sound_toy_passes(toy):
    report = check_model(*toy, skip=("hessian",))
    assert set(report) >= {"rotation", "forces", "stress", "extensivity", "parameter_gradient"}
    assert "rotation" in str(report) and "float64" in str(report)


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("mask", "padding"),
        ("cell", "stress"),
        ("root", "parameter_gradient"),
        ("jump", "cutoff_energy"),
        ("kink", "cutoff_force"),
        ("slope", "cutoff_slope"),
        ("frame", "rotation"),
        ("origin", "net_force"),
        ("origin", "translation"),
        ("jump", "work"),
        ("bias", "isolated_atom"),
        ("order", "permutation"),
        ("slots", "edge_order"),
        ("rows", "layout"),
        ("company", "batch"),
        ("far", "fragments"),
        ("dtype", "dtype"),
        ("detached", "forces"),
        ("detached", "stress"),
        ("far", "reach"),
        ("cell", "extensivity"),
        ("far", "extensivity"),
        ("neutral", "charges"),
        ("leak", "charges"),
        ("uneven", "charges"),
        ("uneven", "dipole"),
        ("uneven", "noise"),
        ("negative", "noise"),
        ("silent", "parameter_gradient"),
    ],
)
def test_each_fault_is_caught(toy, fault, law):
    spec, params = toy
    with pytest.raises(AssertionError, match=f"{law}: measured"):
        check_model(replace(spec, fault=fault), params, only=(law,))


LAWS_OF_NUMBERS = set(MODEL_CHECKS) - {"precision", "hessian", "recompilation", "dtype"}


@pytest.mark.parametrize("law", sorted(LAWS_OF_NUMBERS))
def test_nan_passes_no_law(toy, law):
    """max(0.0, nan) is 0.0 in Python: a suite written with it would call a model of NaNs sound."""
    spec, params = toy
    with pytest.raises(AssertionError, match=f"{law}: "):
        check_model(replace(spec, fault="nan"), params, only=(law,))


def test_a_specification_that_hashes_by_identity_recompiles(toy):
    class ByIdentity(Toy):
        __hash__ = object.__hash__

        def __eq__(self, other):
            return self is other

    spec, params = toy
    with pytest.raises(AssertionError, match="recompilation"):
        check_model(ByIdentity(spec.config, spec.elements, spec.normalization), params, only=("recompilation",))


def test_only_laws_that_apply_are_asked(make_spec, draw):
    """No laws of derivatives where there are none, no laws of outputs that a model does not have."""
    everything = set(MODEL_CHECKS)
    plain, direct, charged = (make_spec(tiny=True, **keys) for keys in ({}, {"direct_forces": True}, {"charges": True}))
    assert {law for law in everything if applies(law, plain)} == everything - {"charges", "dipole", "noise"}
    assert {law for law in everything if applies(law, charged)} == everything - {"noise"}
    missing = {"net_force", "stress_symmetry", "forces", "stress", "work", "hessian"}
    assert {law for law in everything if applies(law, direct)} == everything - missing - {"charges", "dipole", "noise"}
    assert not check_model(direct, draw(direct, 0), only=sorted(missing))


def test_names_are_checked_and_every_law_has_a_bound(toy):
    assert set(TOLERANCES) == {*MODEL_CHECKS, *POTENTIAL_CHECKS}
    assert all(t.reason for t in TOLERANCES.values())
    with pytest.raises(AssertionError, match="no such check: rotatoin"):
        check_model(*toy, only=("rotatoin",))
