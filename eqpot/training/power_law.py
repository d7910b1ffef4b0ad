"""The law by which an error falls with the number of training frames."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from eqpot.core.errors import DataError


@dataclass(frozen=True)
class PowerLaw:
    """error = a·N^(−b).

    Attributes:
        a: error at one frame, in the unit of the errors.
        b: exponent; 0.5 means that four times the frames halve the error.
        b_error: standard error of b; NaN from two points, which a line always meets.
        b_low, b_high: 95 % confidence interval of b.
        a_error: standard error of log a.
        covariance: of log a and b.
        points: number of errors that were fitted.
    """

    a: float
    b: float
    b_error: float
    b_low: float
    b_high: float
    a_error: float
    covariance: float
    points: int

    def __call__(self, sizes: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Errors that the law gives for numbers of frames."""
        return self.a * sizes**-self.b

    def spread(self, sizes: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Factor by which the law is uncertain at numbers of frames: one standard error of its logarithm, as a ratio ≥ 1."""
        x = np.log(sizes)
        return np.exp(np.sqrt(np.maximum(self.a_error**2 - 2 * x * self.covariance + x**2 * self.b_error**2, 0)))


def fit_power_law(sizes: Float[np.ndarray, " n"], errors: Float[np.ndarray, " n"]) -> PowerLaw:
    """Ordinary least squares of log error = log a − b·log N over all points, those of several seeds included.

    The errors scatter about the law by a factor that is the same at all sizes: s² = Σ residual²/(n − 2) in logarithms. Then
    var b = s²/Σ(x − x̄)² with x = log N, and b ± t₀.₉₇₅(n − 2)·√(var b) is the 95 % interval, exact for log-normal scatter. A seed that lies
    above or below the others at all sizes makes the interval wider than it need be.

    Args:
        sizes: numbers of training frames, at least two different ones.
        errors: positive and finite, one for each size.

    Raises:
        DataError: for fewer than two sizes, or errors that have no logarithm.

    Reference: N. R. Draper and H. Smith, Applied Regression Analysis, 3rd ed. (1998), ch. 1.
    """
    from scipy.special import stdtrit

    if sizes.shape != errors.shape or len(np.unique(sizes)) < 2:
        raise DataError(f"power law: found {len(np.unique(sizes))} sizes for {len(errors)} errors, expected at least two different sizes")
    if not (np.isfinite(errors) & (errors > 0)).all() or (sizes <= 0).any():
        raise DataError(f"power law: found errors {errors.tolist()}, expected positive finite numbers; leave the others out")
    x, y, n = np.log(sizes), np.log(errors), len(sizes)
    width = float(((x - x.mean()) ** 2).sum())
    b = -float(((x - x.mean()) * (y - y.mean())).sum()) / width
    log_a = float(y.mean() + b * x.mean())
    variance = float(((y - log_a + b * x) ** 2).sum()) / (n - 2) if n > 2 else np.nan
    error = float(np.sqrt(variance / width))
    reach = float(stdtrit(n - 2, 0.975)) * error if n > 2 else np.nan
    a_error = float(np.sqrt(variance * (1 / n + x.mean() ** 2 / width)))
    return PowerLaw(float(np.exp(log_a)), b, error, b - reach, b + reach, a_error, variance * float(x.mean()) / width, n)
