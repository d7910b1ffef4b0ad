"""A calibration: the σ that a potential stands by, made of the σ that it computes, and intervals that hold.

`eqpot.uncertainty.calibrate` fits it to structures that no member was trained on; here it is only applied. It travels with the potential.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from eqpot.core.errors import EqpotError

LEVELS = (*(k / 100 for k in range(1, 100)), 0.995)
"""Coverages for which an interval is kept; one in between gets that of the next higher, which is never too narrow."""
ANY = "*"
"""Key of what holds for every element that has no entry of its own."""


@dataclass(frozen=True)
class SigmaMap:
    """σ → σ', growing with σ: log σ' is piecewise linear in log σ between the knots, and σ'/σ is constant outside of them.

    Attributes:
        raw, calibrated: σ and σ' at the knots, growing; a single knot is a factor.
    """

    raw: tuple[float, ...]
    calibrated: tuple[float, ...]

    @classmethod
    def factor(cls, value: float) -> "SigmaMap":
        """The map σ' = value·σ."""
        return cls((1.0,), (float(value),))

    def __call__(self, sigma: Any) -> Any:
        """σ' of an array of σ; zero stays zero."""
        return stretch(np, np.log(self.raw), np.log(self.calibrated), np.asarray(sigma, float))


def stretch(xp: ModuleType, raw: Any, calibrated: Any, sigma: Any) -> Any:
    """`SigmaMap` for logarithms of its knots, by NumPy or jax.numpy."""
    x = xp.log(xp.where(sigma > 0, sigma, 1))
    y = xp.interp(x, raw, calibrated) + x - xp.clip(x, raw[0], raw[-1])
    return xp.where(sigma > 0, xp.exp(y), 0)


@dataclass(frozen=True)
class QuantityCalibration:
    """Calibration of one predicted quantity.

    Attributes:
        maps: σ' of σ, by element; energies and stresses have only `ANY`.
        radii: for the levels of `LEVELS` that so many structures allow, the multiple of σ' inside which that share of the errors of a number
            lies, by element. For forces and stress σ' of a number is the root mean square over the components of the vector or tensor.
        vector_radii: the same for the length of a force error, in units of the σ' of the vector; empty for other quantities.
        structures: how many were used.
    """

    maps: Mapping[str, SigmaMap]
    radii: Mapping[str, tuple[float, ...]]
    vector_radii: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    structures: int = 0

    def sigma(self, raw: Any, symbols: list[str] | None = None) -> np.ndarray:
        """Calibrated σ' of raw σ, one element symbol for each if they matter."""
        raw = np.asarray(raw, float)
        if symbols is None:
            return self.maps[ANY](raw)
        names = np.array([s if s in self.maps else ANY for s in symbols])
        result = np.zeros(len(raw))
        for name in set(names.tolist()):
            result[names == name] = self.maps[name](raw[names == name])
        return result

    def radius(self, level: float, symbols: list[str] | None = None, vector: bool = False) -> Any:
        """Multiple of σ' for a level, one for each symbol if they matter.

        Raises:
            EqpotError: for a level that so few calibration structures cannot vouch for.
        """
        table = self.vector_radii if vector else self.radii
        place = int(np.searchsorted(np.array(LEVELS), level - 1e-9))
        if not 0 < level < 1 or place >= len(table[ANY]):
            largest = LEVELS[len(table[ANY]) - 1] if table[ANY] else 0
            raise EqpotError(
                f"interval: found level {level:g}, expected one above 0 and at most {largest:g}, which is what {self.structures} "
                f"calibration structures can vouch for; calibrate with more than {np.ceil(level / max(1 - level, 1e-9)):.0f}"
            )
        if symbols is None:
            return table[ANY][place]
        return np.array([(table[s] if len(table.get(s, ())) > place else table[ANY])[place] for s in symbols])


@dataclass(frozen=True)
class Calibration:
    """How far to trust the σ of a potential; made by `eqpot.uncertainty.calibrate`.

    Attributes:
        method: 'scale' or 'isotonic'.
        quantities: 'energy', 'forces', 'stress' where they were labelled.
        fault: why the potential does not call itself calibrated; empty when it does.
        checks: scores by cross-validation over structures, and where the structures came from; JSON-able.
    """

    method: str
    quantities: Mapping[str, QuantityCalibration]
    fault: str = ""
    checks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Whether it stood its own test."""
        return not self.fault

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Calibration":
        """Inverse of `to_json`."""
        quantities = {}
        for name, q in values["quantities"].items():
            maps = {key: SigmaMap(tuple(m["raw"]), tuple(m["calibrated"])) for key, m in q["maps"].items()}
            radii, vectors = ({key: tuple(row) for key, row in q[table].items()} for table in ("radii", "vector_radii"))
            quantities[name] = QuantityCalibration(maps, radii, vectors, q["structures"])
        return cls(values["method"], quantities, values["fault"], values["checks"])
