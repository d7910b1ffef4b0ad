"""Run the whole suite, or parts of it, and see the numbers."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import jax

from eqpot.graph import Structure
from eqpot.potential import Potential
from eqpot.potential.derivatives import is_conservative
from eqpot.testing import derivatives, ensembles, locality, outputs, padding, samples, symmetry
from eqpot.testing.subject import Subject
from eqpot.testing.tolerances import TOLERANCES

MODEL_CHECKS: dict[str, Callable[[Subject, Sequence[Structure]], float]] = {
    "rotation": symmetry.rotation,
    "inversion": symmetry.inversion,
    "translation": symmetry.translation,
    "permutation": symmetry.permutation,
    "net_force": symmetry.net_force,
    "stress_symmetry": symmetry.stress_symmetry,
    "forces": derivatives.forces,
    "stress": derivatives.stress,
    "precision": derivatives.precision,
    "special_sites": lambda subject, _: derivatives.special_sites(subject),
    "cutoff_energy": lambda subject, _: locality.cutoff_energy(subject),
    "cutoff_force": lambda subject, _: locality.cutoff_force(subject),
    "cutoff_slope": lambda subject, _: locality.cutoff_slope(subject),
    "work": lambda subject, _: locality.work(subject),
    "fragments": locality.fragments,
    "reach": lambda subject, _: locality.reach(subject),
    "isolated_atom": lambda subject, _: locality.isolated_atom(subject),
    "extensivity": locality.extensivity,
    "padding": padding.padding,
    "batch": padding.batch,
    "edge_order": padding.edge_order,
    "layout": padding.layout,
    "recompilation": padding.recompilation,
    "dtype": padding.dtype,
    "charges": outputs.charges,
    "dipole": outputs.dipole,
    "noise": outputs.noise,
    "hessian": derivatives.hessian,
    "parameter_gradient": derivatives.parameter_gradient,
}
"""The laws of an energy model, by name. `hessian` and `parameter_gradient` compile second derivatives and take longest."""

POTENTIAL_CHECKS: dict[str, Callable[[Potential, Sequence[Structure]], float]] = {
    "archive": ensembles.archive,
    "member": ensembles.member,
    "spread": ensembles.spread,
    "heads": ensembles.heads,
    "reference": lambda potential, _: ensembles.reference(potential),
    "calculator": ensembles.calculator,
}
"""The laws of a potential beyond those of its model."""

OF_DERIVATIVES = ("net_force", "stress_symmetry", "forces", "stress", "work", "hessian")
"""Laws that forces obey because they are derivatives of an energy; direct forces are asked for all others."""
OF_OUTPUTS = {"charges": "charges", "dipole": "charges", "noise": "noise", "heads": "heads"}
"""Laws of an output, and the key of the configuration that switches it on."""
OF_A_RANGE = ("fragments", "reach")
"""Laws of models whose atoms do not see farther than their receptive field, where there is one."""


class Report(dict[str, float]):
    """Name of each law → measured error; prints as a table with the bounds."""

    def __init__(self, dtype: str, measured: dict[str, float]) -> None:
        super().__init__(measured)
        self.dtype = dtype

    def __str__(self) -> str:
        rows = [f"{law:<20} {value:>10.2e}   ≤ {TOLERANCES[law].bound(self.dtype):.0e}" for law, value in self.items()]
        return "\n".join([f"conformance in {self.dtype}", *rows])


def applies(law: str, spec: Any) -> bool:
    """Whether a law says anything about a model."""
    if law in OF_DERIVATIVES:
        return is_conservative(spec)
    if law in OF_A_RANGE:
        return isfinite(getattr(spec.config, "receptive_field", 0.0))
    return law not in OF_OUTPUTS or bool(getattr(spec.config, OF_OUTPUTS[law], False))


def _names(known: Sequence[str], only: Sequence[str] | None, skip: Sequence[str]) -> list[str]:
    unknown = sorted({*(only or ()), *skip} - {*MODEL_CHECKS, *POTENTIAL_CHECKS})
    assert not unknown, f"no such check: {', '.join(unknown)}; known: {', '.join((*MODEL_CHECKS, *POTENTIAL_CHECKS))}"
    return [n for n in known if (only is None or n in only) and n not in skip]


def check_model(
    spec: Any,
    params: Any,
    structures: Sequence[Structure] | None = None,
    dtype: str = "float64",
    *,
    only: Sequence[str] | None = None,
    skip: Sequence[str] = (),
) -> Report:
    """Check an energy model with the parameters of one member; laws of what it does not predict are left out.

    Args:
        spec: hashable by value, with `describe`, `evaluate`, `elements` and `config.cutoff`, such as `eqpot.potential.ModelSpec`.
        params: parameters of one member, in any precision.
        structures: a few small structures, a molecule and a crystal among them; by default made for the cutoff and the elements.
        dtype: 'float32' or 'float64'.
        only: names of the checks to run; see `MODEL_CHECKS`.
        skip: names of checks to leave out.

    Returns:
        the measured errors; laws that do not apply, or cannot be measured in this precision, are absent.

    Raises:
        AssertionError: at the first law that is broken, with the measured error and its bound.
    """
    subject = Subject(spec, params, dtype)
    structures = samples.general(spec.elements, subject.cutoff) if structures is None else list(structures)
    names = [n for n in _names(list(MODEL_CHECKS), only, skip) if TOLERANCES[n].bound(dtype) is not None and applies(n, spec)]
    return Report(dtype, {name: MODEL_CHECKS[name](subject, structures) for name in names})


def check_potential(
    potential: Potential,
    structures: Sequence[Structure] | None = None,
    *,
    only: Sequence[str] | None = None,
    skip: Sequence[str] = (),
) -> Report:
    """Check a potential: its first member as a model, then its file, members, spread, heads, reference energies and ASE calculator.

    Arguments, result and errors are those of `check_model`.
    """
    chosen = samples.general(potential.elements, potential.cutoff) if structures is None else list(structures)
    first = jax.tree.map(lambda leaf: leaf[0], potential.params)
    report = check_model(potential.spec, first, chosen, potential.dtype, only=only, skip=skip)
    names = [n for n in _names(list(POTENTIAL_CHECKS), only, skip) if applies(n, potential.spec)]
    return Report(potential.dtype, {**report, **{name: POTENTIAL_CHECKS[name](potential, chosen) for name in names}})
