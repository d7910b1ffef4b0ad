"""Proper scores, which no σ but the true one makes small, and how sharp σ is. They take σ as that of an isotropic Gaussian."""

import numpy as np
from jaxtyping import Float

from eqpot.uncertainty.errors_pairs import pairs


def nll(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"], dimensions: int = 3) -> float:
    """Negative log-likelihood of one component of the errors under N(0, σ²/d).

    NLL = ⟨½ ln(2πσ²/d) + ε²/(2σ²)⟩. It depends on the unit (a thousand times larger numbers add ln 1000), so only differences mean
    something. Multiplied with `calibration_factor`, σ makes it as small as any factor can.

    Args:
        errors, sigmas: lengths, as in the head of `eqpot.uncertainty.scores`.
        dimensions: components of an error, d.

    Returns:
        nats per component; NaN without a pair of positive σ.

    Reference: T. Gneiting, A. E. Raftery, J. Am. Stat. Assoc. 102, 359 (2007), section 4.1.
    """
    errors, sigmas = pairs(errors, sigmas, positive=True)
    if not len(errors):
        return float("nan")
    return float(np.mean(np.log(2 * np.pi * sigmas**2 / dimensions) / 2 + (errors / sigmas) ** 2 / 2))


def crps(errors: Float[np.ndarray, " n"], sigmas: Float[np.ndarray, " n"], dimensions: int = 3) -> float:
    """Continuous ranked probability score of one component of the errors under N(0, σ²/d), in the unit of the errors.

    For a number, CRPS = ∫ (Φ(x/σ) − [x ≥ e])² dx. Of a vector it is that of its components, each with σ/√d, averaged over all directions
    of the axes, since a score must not depend on how a molecule is turned. Only the length of the error is then needed:

        CRPS = ⟨ σ/√(πd) · (√2·₁F₁(−½; d/2; −d ε²/(2σ²)) − 1) ⟩,

    for d = 1 the usual closed form. It is the energy score E|X−e| − ½E|X−X'| times Γ(d/2)/(√π Γ((d+1)/2)), the mean |x| of a direction
    (½ in three dimensions). For σ → 0 it becomes the mean absolute error of a component, and large errors weigh less than in the NLL.

    Returns:
        the mean; NaN without a pair of positive σ.

    Reference: T. Gneiting, A. E. Raftery, J. Am. Stat. Assoc. 102, 359 (2007), sections 4.2 and 4.3.
    """
    from scipy.special import hyp1f1

    errors, sigmas = pairs(errors, sigmas, positive=True)
    if not len(errors):
        return float("nan")
    reach = hyp1f1(-0.5, dimensions / 2, -dimensions * (errors / sigmas) ** 2 / 2)
    return float(np.mean(sigmas * (np.sqrt(2) * reach - 1)) / np.sqrt(np.pi * dimensions))


def sharpness(sigmas: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """How small σ is, and how much it differs from point to point.

    Of two calibrated predictions the sharper one is better: √⟨σ²⟩ is then its expected error. A σ that is the same everywhere may be
    calibrated and still says nothing about where errors are; the coefficient of variation std(σ)/⟨σ⟩ tells.

    Returns:
        (√⟨σ²⟩ in the unit of σ, std(σ)/⟨σ⟩); NaN without a finite σ, the second also when all are zero.

    Reference: T. Gneiting, F. Balabdaoui, A. E. Raftery, J. R. Stat. Soc. B 69, 243 (2007); D. Levi et al., Sensors 22, 5540 (2022).
    """
    sigmas, _ = pairs(sigmas, sigmas)
    if not len(sigmas):
        return float("nan"), float("nan")
    mean = sigmas.mean()
    return float(np.sqrt(np.mean(sigmas**2))), float(sigmas.std() / mean) if mean > 0 else float("nan")
