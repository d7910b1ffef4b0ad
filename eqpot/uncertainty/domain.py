"""Fit of a potential's domain to the structures that it was trained on; see `eqpot.potential.domain` for what it is.

The covariance of an element's descriptors is shrunk towards independence, by the intensity that minimises the expected squared error (O. Ledoit,
M. Wolf, J. Multivar. Anal. 88, 365 (2004)), after each descriptor was divided by its standard deviation: descriptors that never vary then count little,
and few atoms do not pretend to know many directions.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from eqpot.core.elements import atomic_number
from eqpot.core.errors import DataError
from eqpot.graph import Frame
from eqpot.potential import Domain, Potential
from eqpot.potential.domain import FAR

Kind = Literal["mahalanobis", "mixture", "landmarks"]
Limit = Literal["quantile", "chi2"]
MOST_FRAMES = 2000
"""Training structures that are looked at; of more, evenly spaced ones."""
SIGMA_QUANTILE = 0.99
ROUNDS = 50


def fit_domain(
    potential: Potential,
    frames: Iterable[Frame],
    kind: Kind = "mahalanobis",
    limit: Limit = "quantile",
    level: float = 0.99,
    centers: int = 1,
    seed: int = 0,
) -> Potential:
    """The same potential, which from now on knows how far an atom's surroundings are from those of `frames`.

    Args:
        frames: what the potential was trained on; labels are not needed.
        kind: 'mahalanobis'; 'mixture' of `centers` Gaussians per element; or distance to the nearest of `centers` 'landmarks' per element, chosen by
            farthest-point sampling in the whitened space (Y. Eldar et al., IEEE Trans. Image Process. 6, 1305 (1997)).
        limit: 'quantile': the share `level` of these atoms lies inside; 'chi2': the distance inside which that share of a normal distribution of as many
            descriptors lies (for a Mahalanobis distance only).
        level: between 0 and 1.
        centers: of mixtures and landmarks; at most the number of atoms of an element.
        seed: of the first centres of a mixture.

    Raises:
        DataError: without frames, or when options do not fit together.
        StructureError: naming a frame that the potential cannot judge.
    """
    frames = tuple(frames)
    _require(frames, kind, limit, level, centers)
    frames = tuple(frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).astype(int)))
    features = np.concatenate(potential.descriptors([f.structure for f in frames]))
    numbers = np.concatenate([f.structure.numbers for f in frames])
    rng = np.random.default_rng(seed)
    parts = []
    for element in potential.elements:
        rows = features[numbers == atomic_number(element)]
        parts.append(_fit_element(rows if len(rows) else np.zeros((1, features.shape[1])), kind, limit, level, centers, rng))
    whitening, middles, distances = (list(x) for x in zip(*parts, strict=True))
    rule = f"{100 * level:g} % of {'χ²' if limit == 'chi2' else 'the atoms trained on'}"
    sigma = _sigma_limit(potential, frames)
    domain = Domain(_stack(whitening), _stack(middles), np.array(distances, np.float32), sigma, kind, rule)
    return replace(potential, trust=replace(potential.trust, domain=domain))


def _require(frames: tuple[Frame, ...], kind: str, limit: str, level: float, centers: int) -> None:
    if not frames:
        raise DataError("fit_domain: found no frames, expected the structures that the potential was trained on")
    if kind not in get_args(Kind) or limit not in get_args(Limit):
        raise DataError(f"fit_domain: found kind '{kind}' and limit '{limit}', expected one of {get_args(Kind)} and of {get_args(Limit)}")
    if not 0 < level < 1 or centers < 1:
        raise DataError(
            f"fit_domain: found level {level:g} and {centers} centers, expected a level between 0 and 1 and at least one center"
        )
    if (kind == "mahalanobis") != (centers == 1) and kind != "landmarks":
        raise DataError(f"fit_domain: found kind '{kind}' with {centers} centers; a mixture has several, a Mahalanobis distance one")
    if limit == "chi2" and kind != "mahalanobis":
        raise DataError(f"fit_domain: χ² is the distribution of Mahalanobis distances, found kind '{kind}'; expected limit 'quantile'")


def _fit_element(
    rows: Float[np.ndarray, "n f"], kind: Kind, limit: Limit, level: float, centers: int, rng: np.random.Generator
) -> tuple[Any, Any, float]:
    """Whitening [G, F, F], centres [G, C, F] and limit of one element."""
    centers = min(centers, len(rows))
    groups = [rows[own] for own in clusters(rows, centers, rng)] if kind == "mixture" else [rows]
    pairs = [_whiten(group) for group in groups]
    whitening, middles = np.stack([w for _, w in pairs]), np.stack([(m @ w)[None] for m, w in pairs])
    if kind == "landmarks":
        white = rows @ whitening[0]
        middles = white[farthest_points(white, centers)][None]
    distance = np.sqrt(np.min([apart(rows @ w, m).min(1) for w, m in zip(whitening, middles, strict=True)], 0))
    edge = _chi(level, rows.shape[1]) if limit == "chi2" else float(np.quantile(distance, level))
    return whitening.astype(np.float32), middles.astype(np.float32), max(edge, 1e-6)


def _whiten(rows: Float[np.ndarray, "n f"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and W with W Wᵀ the inverse of the shrunk covariance: ‖(x − mean) W‖ is the Mahalanobis distance."""
    mean, size = rows.mean(0), rows.std(0)
    size = np.where(size > 1e-6 * max(size.max(), 1e-6), size, max(size.max(), 1e-6))
    white = (rows - mean) / size
    values, vectors = np.linalg.eigh(shrunk_correlation(white))
    return mean, vectors / np.sqrt(values) / size[:, None]


def shrunk_correlation(white: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "f f"]:
    """(1 − s)·S + s·I of rows of mean zero and unit variance, with the intensity s of Ledoit and Wolf (2004), lemma 3.2 and eq. 14."""
    n, f = white.shape
    sample = white.T @ white / n
    off = ((sample - np.eye(f)) ** 2).sum()
    noise = ((white**2).sum(1) ** 2).sum() / n**2 - (sample**2).sum() / n
    shrink = 1.0 if off == 0 else float(np.clip(noise / off, 1e-6, 1))
    return (1 - shrink) * sample + shrink * np.eye(f)


def clusters(rows: Float[np.ndarray, "n f"], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks of k-means clusters of standardised rows; a cluster too small for a covariance of its own joins the nearest."""
    size = rows.std(0)
    white = (rows - rows.mean(0)) / np.where(size > 0, size, 1)
    middles = white[farthest_points(white, count, first=int(rng.integers(len(white))))]
    for _ in range(ROUNDS):
        own = apart(white, middles).argmin(1)
        kept = [k for k in range(len(middles)) if (own == k).sum() >= max(2, len(rows) // (10 * count))]
        moved = np.stack([white[own == k].mean(0) for k in kept])
        if moved.shape == middles.shape and np.allclose(moved, middles):
            break
        middles = moved
    own = apart(white, middles).argmin(1)
    return [own == k for k in range(len(middles)) if (own == k).any()]


def apart(rows: Float[np.ndarray, "n f"], centers: Float[np.ndarray, "c f"]) -> Float[np.ndarray, "n c"]:
    """Squared distances; one centre after the other, as all differences at once would not fit in memory."""
    return np.stack([((rows - center) ** 2).sum(1) for center in centers], 1)


def farthest_points(points: Float[np.ndarray, "n f"], count: int, first: int | None = None) -> np.ndarray:
    """Indices of points, each the farthest from those before it; the first is the one nearest to the mean, unless given."""
    start = ((points - points.mean(0)) ** 2).sum(1).argmin() if first is None else first
    chosen = [int(start)]
    nearest = ((points - points[start]) ** 2).sum(1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)


def _chi(level: float, dimensions: int) -> float:
    from scipy.special import gammaincinv

    return float(np.sqrt(2 * gammaincinv(dimensions / 2, level)))


def _sigma_limit(potential: Potential, frames: tuple[Frame, ...]) -> np.ndarray:
    """σ, not calibrated, below which the share `SIGMA_QUANTILE` of an element's atoms trained on lie; `FAR` without σ."""
    potential = replace(potential, trust=replace(potential.trust, calibration=None))
    results = potential.predict([f.structure for f in frames[:: max(1, len(frames) // 200)]])
    sigma, numbers = np.concatenate([r.atom_std for r in results]), np.concatenate([r.numbers for r in results])
    own = [sigma[numbers == atomic_number(e)] for e in potential.elements]
    limits = [np.quantile(s, SIGMA_QUANTILE) if len(s) else 0.0 for s in own]
    return np.array([limit if limit > 0 else FAR for limit in limits], np.float32)


def _stack(parts: list[np.ndarray]) -> np.ndarray:
    """Arrays of elements that have groups or centres more or less than others, filled up with ones that are far from everything."""
    shape = np.max([p.shape for p in parts], 0)
    result = np.full((len(parts), *shape), FAR, np.float32)
    for k, part in enumerate(parts):
        result[(k, *(slice(n) for n in part.shape))] = part
    return result
