"""Everything a potential carries to judge its own predictions: calibration, domain, last layer.

On the device it is a `Judge`, arrays that ride along in the compiled pass; on disk a part of the potential's file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree, vmap
from jaxtyping import Array, Float, Int

from eqpot.core.errors import ArchiveError
from eqpot.core.tree import record
from eqpot.graph import Graph
from eqpot.potential.calibration import ANY, Calibration, SigmaMap, stretch
from eqpot.potential.domain import Domain, novelty
from eqpot.potential.last_layer import LastLayer, energy_doubt, force_doubt
from eqpot.potential.spec import ModelSpec, Params

KNOTS = 16
"""Room for knots of a map of σ comes in steps of so many."""
PREFIX = "trust/"
"""Of the names of its tensors in the file of a potential, which have no dots and no other slash before it."""


@record
class Judge:
    """What the compiled pass needs; None for what the potential does not have.

    Attributes:
        domain, last_layer: as in `Trust`.
        energy_knots: log σ and log σ' of the energy's map [2, B].
        force_knots: of the map of each element [2, Z, B].
        noise: variance of labels that is the same everywhere: of the energy per atom [eV²] and of a force component [(eV/Å)²], [2].
    """

    domain: Domain | None = None
    last_layer: LastLayer | None = None
    energy_knots: Any = None
    force_knots: Any = None
    noise: Any = None

    def atom_std(self, raw: Float[Array, "*S N"], species: Int[Array, "*S N"]) -> Float[Array, "*S N"]:
        """Calibrated σ of the forces on atoms."""
        if self.force_knots is None:
            return raw
        knots = jnp.asarray(self.force_knots, raw.dtype)[:, species.reshape(-1)]  # [2, N, B]
        return _stretch_rows(knots[0], knots[1], raw.reshape(-1)).reshape(raw.shape)

    def energy_std(self, raw: Float[Array, "*S"], sizes: Float[Array, "*S"]) -> Float[Array, "*S"]:
        """Calibrated σ of energies of structures with so many atoms."""
        if self.energy_knots is None:
            return raw
        knots = jnp.asarray(self.energy_knots, raw.dtype)
        return stretch(jnp, knots[0], knots[1], raw / sizes) * sizes


@record
class Judgement:
    """What a `Judge` finds in a batch; None for what it cannot know.

    Attributes:
        novelty: of each atom, see `Domain` [N].
        energy: σ of each structure by the last layer [eV], [G].
        forces: σ of each force component by the last layer [eV/Å], [N, 3].
    """

    novelty: Float[Array, " N"] | None = None
    energy: Float[Array, " G"] | None = None
    forces: Float[Array, "N 3"] | None = None


def pass_judgement(judge: Judge, spec: ModelSpec, params: Params, graph: Graph, features: Float[Array, "K N F"]) -> Judgement:
    """Judge a batch by the descriptors of its first member; `params` have a member axis."""
    found = Judgement()
    if judge.domain is not None:
        found = replace(found, novelty=novelty(judge.domain, features[0], graph.species))
    if judge.last_layer is not None:
        energy, atoms = energy_doubt(judge.last_layer, features[0], graph)
        forces = jnp.broadcast_to(atoms[:, None] / np.sqrt(3).astype(atoms.dtype), (len(atoms), 3))
        if judge.last_layer.forces:
            forces = force_doubt(spec, tree.map(lambda leaf: leaf[0], params), judge.last_layer, graph)
        found = replace(found, energy=energy, forces=forces)
    return found


def _stretch_rows(raw: Float[Array, "N B"], calibrated: Float[Array, "N B"], sigma: Float[Array, " N"]) -> Float[Array, " N"]:
    return vmap(lambda r, c, s: stretch(jnp, r, c, s))(raw, calibrated, sigma)


@dataclass(frozen=True, eq=False)
class Trust:
    """What a potential knows about itself; all None when nothing was fitted.

    Attributes:
        calibration: of σ; see `Calibration`.
        domain: surroundings that were seen; see `Domain`.
        last_layer: σ of a single member; see `LastLayer`.
        seen: 64 bits (in older files 32) of the key of each structure that the potential was trained on, so that it is not judged by them; [structures].
    """

    calibration: Calibration | None = None
    domain: Domain | None = None
    last_layer: LastLayer | None = None
    seen: np.ndarray | None = None

    def judge(self, elements: tuple[str, ...], noise: Mapping[str, float]) -> Judge:
        """The arrays of the compiled pass; `noise` is `Potential.label_noise`."""
        energy = forces = None
        if self.calibration and "energy" in self.calibration.quantities:
            energy = _knots([self.calibration.quantities["energy"].maps[ANY]])[:, 0]
        if self.calibration and "forces" in self.calibration.quantities:
            maps = self.calibration.quantities["forces"].maps
            forces = _knots([maps.get(element, maps[ANY]) for element in elements])
        variances = np.square([noise.get("energy", 0.0), noise.get("forces", 0.0)]) if noise else None
        return Judge(self.domain, self.last_layer, energy, forces, variances)

    def archived(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Header entry and tensors for the potential's file."""
        header: dict[str, Any] = {} if self.calibration is None else {"calibration": self.calibration.to_json()}
        tensors: dict[str, np.ndarray] = {}
        for name, part in (("domain", self.domain), ("last_layer", self.last_layer)):
            if part is not None:
                arrays = {f.name for f in fields(part) if not f.metadata.get("static")}
                header[name] = {f.name: getattr(part, f.name) for f in fields(part) if f.name not in arrays}
                tensors |= {f"{PREFIX}{name}/{a}": np.ascontiguousarray(getattr(part, a), np.float32) for a in arrays}
        return header, tensors if self.seen is None else tensors | {f"{PREFIX}seen": self.seen}

    @classmethod
    def from_archive(cls, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], elements: int) -> "Trust":
        """Inverse of `archived`.

        Raises:
            ArchiveError: when a part is missing or does not fit the potential.
        """
        try:
            calibration = Calibration.from_json(header["calibration"]) if "calibration" in header else None
            parts: dict[str, Any] = {}
            for name, kind in (("domain", Domain), ("last_layer", LastLayer)):
                if name in header:
                    own = {f.name: tensors[f"{PREFIX}{name}/{f.name}"] for f in fields(kind) if not f.metadata.get("static")}  # type: ignore[arg-type]
                    parts[name] = kind(**own, **header[name])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArchiveError(f"what the file says of its uncertainty is not readable ({type(error).__name__}: {error})") from None
        if "domain" in parts and len(parts["domain"].limit) != elements:
            raise ArchiveError(f"the domain in the file is of {len(parts['domain'].limit)} elements, expected {elements}")
        return cls(calibration, **parts, seen=tensors.get(f"{PREFIX}seen"))


def _knots(maps: list[SigmaMap]) -> np.ndarray:
    """Logarithms of the knots of some maps, [2, maps, B]; short ones repeat their last knot a little further on, with slope one.

    B is a multiple of `KNOTS`: a program that was compiled for one calibration serves another.
    """
    longest = -(-max(len(m.raw) for m in maps) // KNOTS) * KNOTS

    def padded(m: SigmaMap) -> np.ndarray:
        more = np.arange(1, longest - len(m.raw) + 1)
        return np.array([np.append(np.log(v), np.log(v[-1]) + more) for v in (m.raw, m.calibrated)])

    return np.stack([padded(m) for m in maps], 1)
