"""One table of tolerances, each with its reason; none is from trial.

Errors of energies are relative to the RMS atomic energy, of forces to the RMS force, of stress to the largest stress (see `subject.Scale`),
so that the bounds hold for a model of any size. One unit in the last place is 6e-8 in float32 and 1.1e-16 in float64.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """Bounds of one law; `None` where the law cannot be measured in that precision.

    Attributes:
        float32: bound when the model computes in float32.
        float64: bound when the model computes in float64.
        reason: why these.
    """

    float32: float | None
    float64: float | None
    reason: str

    def bound(self, dtype: str) -> float | None:
        """The bound in a precision."""
        return {"float32": self.float32, "float64": self.float64}[dtype]


_ROUNDING = "sums of some hundred terms of either sign, each rounded once: 100 to 200 units in the last place, and room for large networks"
_EXACT = "the same numbers are added in the same or another order"

TOLERANCES: dict[str, Tolerance] = {
    "rotation": Tolerance(1e-5, 1e-10, _ROUNDING),
    "inversion": Tolerance(1e-5, 1e-10, _ROUNDING),
    "translation": Tolerance(1e-5, 1e-10, "positions are wrapped in float64 before they are rounded; 1000 Å costs 1e-13 Å in float64"),
    "permutation": Tolerance(1e-5, 1e-10, _EXACT),
    "net_force": Tolerance(1e-5, 1e-10, "each pair's force is subtracted from one atom and added to another"),
    "stress_symmetry": Tolerance(1e-5, 1e-10, "the strain is symmetrised before it is applied"),
    "forces": Tolerance(None, 1e-6, "five-point differences, h = 1e-4 Å: rounding E·1e-16/h ~ 1e-11 remains; hopeless in float32"),
    "stress": Tolerance(None, 1e-6, "as the forces, with strains of 1e-4 Å/r_c"),
    "precision": Tolerance(1e-4, None, "float32 against float64: rounding, amplified by derivatives of the highest Bessel function"),
    "hessian": Tolerance(None, 1e-6, "differences of analytic forces, as exact as those of energies"),
    "cutoff_energy": Tolerance(1e-5, 1e-10, "crossing r_c by 1e-6 Å, linear term removed: only rounding and curvature·h² = 1e-12 remain"),
    "cutoff_force": Tolerance(1e-5, 1e-7, "as before, for forces; second differences leave F″h² = 1e-12 and rounding"),
    "cutoff_slope": Tolerance(None, 1e-4, "jump of the force's slope, extrapolated to no distance: F‴h² ~ 1e-5 remains"),
    "work": Tolerance(1e-5, 1e-8, "Gauss-Legendre with 32 points is exact to 1e-10 for smooth forces; a jump anywhere shows"),
    "fragments": Tolerance(1e-5, 1e-10, _EXACT),
    "reach": Tolerance(1e-6, 1e-12, "an atom outside the receptive field enters no term"),
    "isolated_atom": Tolerance(0.0, 0.0, "no neighbour, no term: exactly the reference energy and exactly no force"),
    "extensivity": Tolerance(1e-5, 1e-10, _EXACT),
    "padding": Tolerance(1e-5, 1e-10, _EXACT),
    "batch": Tolerance(1e-5, 1e-10, _EXACT),
    "edge_order": Tolerance(1e-5, 1e-10, _EXACT),
    "layout": Tolerance(1e-5, 1e-10, _EXACT),
    "special_sites": Tolerance(1e-5, 1e-10, "forces that symmetry forbids: what is left of a cancellation of rounded terms"),
    "charges": Tolerance(1e-5, 1e-10, "what is missing is shared out once, in the precision of the charges"),
    "dipole": Tolerance(1e-5, 1e-10, _ROUNDING),
    "noise": Tolerance(1e-5, 1e-10, _ROUNDING),
    "parameter_gradient": Tolerance(0.0, 0.0, "number of parameters whose gradient is not finite"),
    "recompilation": Tolerance(0.0, 0.0, "number of compilations for other structures of the same shape, or an equal specification"),
    "dtype": Tolerance(0.0, 0.0, "number of outputs in another precision than the input"),
    "archive": Tolerance(0.0, 0.0, "a file holds every bit of every parameter, and the same program runs on them"),
    "member": Tolerance(1e-6, 1e-12, "the same operations, but vectorised over members elsewhere than on a CPU"),
    "spread": Tolerance(1e-6, 1e-12, "standard deviation over members with n − 1, computed in float64 from the members' own numbers"),
    "heads": Tolerance(1e-5, 1e-10, "the same network; readouts of one column and of several round differently"),
    "reference": Tolerance(1e-6, 1e-12, "reference energies are added in float64"),
    "calculator": Tolerance(1e-5, 1e-10, "the same numbers through ASE's door, padded otherwise"),
}
