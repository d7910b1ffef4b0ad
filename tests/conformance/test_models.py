"""Every model that the package ships passes the public suite, in both precisions."""

from dataclasses import replace

import pytest

from eqpot.testing import POTENTIAL_CHECKS, check_model, check_potential

SECOND = ("hessian", "parameter_gradient")
MODELS = {
    "pairs, scalars": {"correlation": 1, "l_max": 1, "hidden": "4x0e"},
    "pairs, one layer, l_max 0": {"correlation": 1, "l_max": 0, "hidden": "4x0e", "n_layers": 1},
    "triples, scalars, three layers": {"correlation": 2, "l_max": 2, "hidden": "4x0e", "n_layers": 3},
    "triples, tensors": {"correlation": 2, "l_max": 2, "hidden": "4x0e + 4x1o + 4x2e"},
    "quadruples, one element": {"correlation": 3, "l_max": 2, "hidden": "4x0e", "elements": ("Si",), "cutoff": 5.0, "n_layers": 1},
    "quadruples, vectors, l_max 3": {"correlation": 3, "l_max": 3, "hidden": "4x0e + 4x1o"},
    "quintuples, vectors": {"correlation": 4, "l_max": 2, "hidden": "4x0e + 4x1o"},
    "degree radial, triples": {"radial": "degree", "correlation": 2, "l_max": 3, "hidden": "4x0e + 4x1o"},
    "grid, cubes": {"update": "grid", "correlation": 3, "l_max": 2, "hidden": "4x0e + 4x1o"},
    "gate, scalars": {"update": "gate", "correlation": 1, "l_max": 1, "hidden": "4x0e"},
    "gate, tensors": {"update": "gate", "correlation": 1, "l_max": 2, "hidden": "4x0e + 4x1o + 4x2e", "cutoff": 5.0},
    "direct forces, triples": {"correlation": 2, "l_max": 2, "hidden": "4x0e + 4x1o", "direct_forces": True, "charges": True},
    "direct forces, gate, one layer": {
        "update": "gate",
        "correlation": 1,
        "l_max": 1,
        "hidden": "4x0e",
        "n_layers": 1,
        "direct_forces": True,
    },
}
DEEP = {
    "quadruples, vectors": {"correlation": 3},
    "gate, vectors": {"update": "gate", "correlation": 1, "envelope_order": 3},
    "noise, charges, heads": {"correlation": 2, "l_max": 1, "hidden": "4x0e", "noise": True, "charges": True, "heads": ("low", "high")},
}


COSTLY = (
    "triples, scalars, three layers",
    "quintuples, vectors",
    "quadruples, vectors, l_max 3",
    "degree radial, triples",
    "gate, scalars",
    "grid, cubes",
)
"""Up to half a minute of compilation each; others of their kind are left, here or among `DEEP`."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name for name in MODELS])
def test_first_derivatives(name, make_spec, draw):
    spec = make_spec(**MODELS[name])
    print(f"\n{name}:", check_model(spec, draw(spec, 0), dtype="float64", skip=SECOND))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name != "noise, charges, heads" else name for name in DEEP])
def test_all_laws(name, make_spec, draw):
    spec = make_spec(**DEEP[name])
    print(f"\n{name}:", check_model(spec, draw(spec, 1), dtype="float64"))


def test_single_precision(make_spec, draw):
    spec = make_spec(**MODELS["triples, tensors"])
    print("\n", check_model(spec, draw(spec, 1), dtype="float32", skip=SECOND))


def test_laws_do_not_depend_on_the_backend(make_spec, draw):
    spec = replace(make_spec(correlation=2, l_max=2, radial="degree"), backend="dense")
    check_model(spec, draw(spec, 0), dtype="float64", only=("rotation", "forces", "stress", "layout", "parameter_gradient"))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*MODELS, *DEEP])
def test_every_law_of_every_model(name, dtype, make_spec, draw):
    spec = make_spec(**{**MODELS, **DEEP}[name])
    print(f"\n{name}:", check_model(spec, draw(spec, 2), dtype=dtype))


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [1, 2, 3])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_grid_of_architectures(correlation, degree, make_spec, draw):
    hidden = " + ".join(f"4x{l}{'eo'[l % 2]}" for l in range(degree + 1))
    spec = make_spec(correlation=correlation, hidden=hidden, l_max=3)
    for dtype in ("float64", "float32"):
        print(check_model(spec, draw(spec, 3), dtype=dtype, skip=SECOND))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("contraction", "float32"), *(pytest.param(kind, "float64", marks=pytest.mark.slow) for kind in ("gate", "outputs"))],
)
def test_ensembles(kind, dtype, gate_potential, make_potential, structures):
    outputs = {"noise": True, "charges": True, "direct_forces": True, "heads": ("low", "high")} if kind == "outputs" else {}
    ensemble = gate_potential if kind == "gate" else make_potential(members=3, tiny=True, **outputs)
    print("\n", check_potential(ensemble.astype(dtype), structures[:2], only=tuple(POTENTIAL_CHECKS)))
