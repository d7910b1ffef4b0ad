"""The public conformance suite: what every energy model, sum of models, archive and converted checkpoint must hold.

    from eqpot.testing import check_model, check_potential

    print(check_model(spec, params, dtype="float64"))     # raises AssertionError naming the law, the measured error and its bound
    print(check_potential(Potential.load("mine.safetensors")))

`spec` needs what `eqpot.potential.ModelSpec` has: `describe(graph)`, `evaluate(params, graph, geometry)`, `elements` and `config.cutoff`;
it must be hashable by value. Keys of `config` that are true (`charges`, `noise`, `heads`) bring the laws of those outputs, and `conservative = False`
leaves out the laws of derivatives. Each law is a function of its own in `symmetry`, `derivatives`, `locality`, `padding`, `outputs` and `ensembles`, and may
be called alone with a `Subject`. All bounds stand in one table, `eqpot.testing.tolerances`.
"""

from eqpot.testing.checks import MODEL_CHECKS, POTENTIAL_CHECKS, Report, check_model, check_potential
from eqpot.testing.subject import Subject
from eqpot.testing.tolerances import TOLERANCES, Tolerance

__all__ = ["MODEL_CHECKS", "POTENTIAL_CHECKS", "TOLERANCES", "Report", "Subject", "Tolerance", "check_model", "check_potential"]
